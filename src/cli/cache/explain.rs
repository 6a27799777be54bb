//! `cache explain`: why a request was answered from the cache or was not, from records alone.
//!
//! A record keeps a digest of each part of its request's key. The earlier record of the gateway
//! with the most parts alike shows what kept the two apart.

use std::path::Path;

use serde_json::Value;

use super::CacheError;
use crate::{
    cli::{
        listing::{NamedValues, print_one},
        logs::{
            Face, Output,
            row::{plain, time},
            table::printable,
        },
    },
    control::logs::{
        block::columns::Number,
        folder::LogDir,
        query::page,
        snapshot::{LogReader, LogSnapshot},
    },
    domain::{
        cache::{Part, PartDigests},
        id::RequestId,
        outcome::Outcome,
        record::{Record, Text, flag},
    },
};

/// Earlier records that are compared; those of a day on a busy server.
const COMPARED_MAX: u64 = 10_000_000;

/// What the cache did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Hit,
    Miss,
    NotAsked,
}

impl Did {
    fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::NotAsked => "not asked",
        }
    }
}

/// The earlier record that is most alike.
struct Nearest {
    record: Record,
    differing: Vec<Part>,
}

/// Explains the record with `id`.
pub(super) fn explain(
    id: RequestId,
    data_dir: &Path,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), CacheError> {
    let log = LogDir::of(data_dir);
    let snapshot = LogReader::new(log.clone()).snapshot()?;
    let (record, report) = page::find(&snapshot, id);
    for damage in &report.damages {
        writeln!(face.notes, "warning: {damage}")?;
    }
    let record = record.ok_or_else(|| CacheError::NotFound(id, log.path().into()))?;
    let digests: Option<PartDigests> = record.text(Text::CacheKey).parse().ok();
    let did = match digests {
        _ if record.has(flag::CACHED) => Did::Hit,
        Some(_) => Did::Miss,
        None => Did::NotAsked,
    };
    let nearest = match digests {
        Some(digests) => nearest(&snapshot, &record, &digests, did, face)?,
        None => None,
    };
    let why = match did {
        Did::Hit => why_hit(nearest.as_ref()),
        Did::Miss => why_miss(&record, nearest.as_ref()),
        Did::NotAsked => why_not_asked(&record),
    };
    let differs = nearest.as_ref().filter(|_| did == Did::Miss);
    let differs = differs.map(|near| near.differing.iter().map(|part| part.name().into()));
    let compared = nearest.as_ref().map(|near| &near.record);
    let row: NamedValues = vec![
        ("id", id.to_string().into()),
        ("gateway", record.text(Text::Gateway).into_owned().into()),
        ("cache", did.word().into()),
        ("why", why.into()),
        (
            "compared_with",
            compared.map(|near| near.id().to_string()).into(),
        ),
        (
            "compared_created_at",
            compared.map(|near| time(near.at_micros)).into(),
        ),
        (
            "differs",
            differs.map_or(Value::Null, |names| Value::Array(names.collect())),
        ),
    ];
    if output != Output::Table {
        return Ok(print_one(&row, output, face.out)?);
    }
    for (name, value) in &row {
        let text = match value {
            Value::Null => continue,
            Value::Array(parts) if parts.is_empty() => "nothing".to_owned(),
            Value::Array(parts) => parts.iter().map(plain).collect::<Vec<_>>().join(", "),
            value => plain(value),
        };
        writeln!(face.out, "{name:<20} {}", printable(&text))?;
    }
    Ok(())
}

/// Looks for the record before `record`, of the same gateway, whose key has the most parts alike;
/// of several the youngest. For a hit only one that fetched the same answer is of interest.
fn nearest(
    snapshot: &LogSnapshot,
    record: &Record,
    digests: &PartDigests,
    did: Did,
    face: &mut Face<'_>,
) -> Result<Option<Nearest>, CacheError> {
    let gateway = record.texts.get(Text::Gateway);
    let mut best: Option<(usize, u64, RequestId)> = None;
    let mut compared = 0;
    // The youngest first, as far as blocks are in order.
    for block in snapshot.blocks().rev() {
        if *block.micros().start() > record.at_micros {
            continue;
        }
        if compared >= COMPARED_MAX {
            writeln!(
                face.notes,
                "note: only the last {compared} records before it were compared"
            )?;
            break;
        }
        let Ok(open) = block.open() else { continue };
        let Ok(block) = open.block() else { continue };
        let (Ok(rows), Ok(ids), Ok(flags)) = (block.reader(), block.ids(), block.flags()) else {
            continue;
        };
        for (row, (id, flags)) in ids.iter().zip(flags).enumerate() {
            compared += 1;
            let at = rows.number(row, Number::At).unwrap_or(0);
            let earlier = (at, *id) < (record.at_micros, record.id);
            if !earlier || rows.text(row, Text::Gateway) != gateway {
                continue;
            }
            let text = rows.text(row, Text::CacheKey);
            let text = std::str::from_utf8(text).unwrap_or_default();
            let Ok(other) = text.parse() else { continue };
            let fetched = flags.to_native() & flag::CACHED == 0;
            let differing = digests.differing(&other).len();
            if did == Did::Hit && !(fetched && differing == 0) {
                continue;
            }
            let better = best.is_none_or(|(least, youngest, _)| {
                differing < least || differing == least && at >= youngest
            });
            if better {
                best = Some((differing, at, RequestId(*id)));
            }
        }
    }
    let Some((_, _, id)) = best else {
        return Ok(None);
    };
    let Some(other) = page::find(snapshot, id).0 else {
        return Ok(None);
    };
    let of_other: PartDigests = other.text(Text::CacheKey).parse().unwrap_or_default();
    Ok(Some(Nearest {
        differing: digests.differing(&of_other),
        record: other,
    }))
}

fn why_hit(origin: Option<&Nearest>) -> String {
    match origin {
        Some(_) => "the same request was answered before, and its answer was kept".to_owned(),
        None => "the answer was in the cache; the record of its first request is not here, or had no key".to_owned(),
    }
}

fn why_miss(record: &Record, nearest: Option<&Nearest>) -> String {
    let Some(near) = nearest else {
        return "no earlier request of this gateway with a key is on record: there was nothing to be found".to_owned();
    };
    if let [part] = near.differing.as_slice() {
        return format!(
            "the earlier request that is most alike differs in one part: {}",
            part.name()
        );
    }
    if !near.differing.is_empty() {
        return format!(
            "the earlier request that is most alike differs in {} parts",
            near.differing.len()
        );
    }
    let before = &near.record;
    let kept = "its answer was not kept:";
    match before.outcome() {
        Outcome::Ok if before.has(flag::CACHED) => "the same request was answered from the cache before; since then the answer's time ended, it was purged or gave way to others, or this request wanted a new one (cf-aig-skip-cache)".to_owned(),
        Outcome::Ok if before.at_micros + before.duration_micros > record.at_micros => "the same request was under way, and its answer could not be shared, or this request wanted a new one (cf-aig-skip-cache)".to_owned(),
        Outcome::Ok => "the same request was answered before; its answer's time ended, it was purged or gave way to others or is none that may be kept (set-cookie, no-store, too large), or this request wanted a new one (cf-aig-skip-cache)".to_owned(),
        outcome if before.status == 0 => format!("the same request came before; {kept} it ended as {}", outcome.word()),
        outcome => format!("the same request came before; {kept} it ended as {} with status {}", outcome.word(), before.status),
    }
}

fn why_not_asked(record: &Record) -> String {
    let method = record.text(Text::Method);
    if record.has(flag::WEB_SOCKET) {
        return "a WebSocket is no answer that could be kept".to_owned();
    }
    if record.status != 0 && record.texts.get(Text::Provider).is_empty() {
        return "the request was refused before it came to the cache".to_owned();
    }
    if !matches!(&*method, "POST" | "GET") {
        return format!("the cache does not concern requests with the method {method}");
    }
    if record.has(flag::STREAM) {
        return "either the cache was off (no cache_ttl of the gateway, no cf-aig-cache-ttl of the request), or the gateway does not keep streams (cache_streams)".to_owned();
    }
    if method == "GET" {
        return "a GET is looked up only if it asks for the cache itself (cf-aig-cache-ttl, cf-aig-cache-key)".to_owned();
    }
    "the cache was off (no cache_ttl of the gateway, no cf-aig-cache-ttl of the request, or cache_memory is 0), or the request is none that it concerns (a body that is not held whole, a condition or a range)".to_owned()
}
