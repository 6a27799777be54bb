//! An answer on its way to the caller: its head written anew, its body relayed, what it used and
//! what that costs.

use std::rc::Rc;

use super::{
    Errand, Stopped,
    cached::{self, Keep, Keeping},
    resume,
    step::Step,
};
use crate::{
    domain::{money::parse_dollars, record::flag},
    http::{
        head::{ResponseFraming, ResponseHead, parse_response},
        header::FieldName,
    },
    provider::{
        dialect::{Dialect, Shape},
        meter::{Encoding, Meter},
    },
    shard::{
        Shard,
        body::Body,
        cache::run::{self, RunHead},
        emit::{self, DownstreamHead, Framing},
        models::Known,
        parse::Wishes,
        record::Draft,
        relay::{
            self, After, Pace, Passage,
            shared::{self, Fetch, Fetched, Stays},
        },
        reply::Refusal,
        route::Route,
        track::{self, Track},
        tunnel,
        upstream::{
            attempt::{Answer, Carrier},
            connect::Connection,
        },
    },
    snapshot::OnDisconnect,
};

/// How the relay of an answer ended.
pub(super) struct Answered {
    /// How it ended for the caller.
    pub relayed: relay::Relayed,
    /// The connection, if it can carry another exchange.
    pub host_keeps: Option<Box<Connection>>,
    /// What was metered.
    pub meter: Option<Box<Meter>>,
}

/// Relays an answer to the caller of `errand`. What may be kept of it goes into `keeping`.
#[expect(
    clippy::too_many_lines,
    reason = "head, body and end of one answer, in order"
)]
#[expect(
    clippy::too_many_arguments,
    reason = "the parties of a relay, each once"
)]
pub(super) async fn relay_answer(
    errand: &mut Errand<'_, '_>,
    step: &Step<'_, '_>,
    body: &Body,
    answer: Answer,
    pace: &Pace,
    draft: &mut Draft<'_>,
    body_read: bool,
    keep_leave: Option<Keep>,
    keeping: &mut Option<Keeping>,
) -> Result<Answered, Stopped> {
    let (shard, request, route) = (errand.shard, errand.request, step.route);
    let Answer {
        mut carrier,
        buffer,
        head_bytes,
        request_whole,
    } = answer;
    let bytes = buffer.get(..head_bytes).unwrap_or_default();
    let head = parse_response(bytes, request.method).map_err(|error| {
        Refusal::upstream_failed(&format_args!(
            "the provider answered with a malformed head: {error}"
        ))
    })?;
    if head.status == 101 && route.upgrade.is_none() {
        let why = "the provider switched protocols without being asked to";
        return Err(Refusal::upstream_failed(&why).into());
    }
    let (passage, framing) = Passage::of(head.framing, request.version);
    let keep = request.keep_alive && body_read && framing != Framing::Close && !shard.is_draining();
    let mut out = shard.buffers.small();
    emit::response(
        &mut out,
        &head,
        request.method,
        &DownstreamHead {
            framing,
            keep,
            ids: draft.ids(),
            limits: draft.limits.as_deref(),
            overhead_micros: shard
                .clock
                .now()
                .micros_since(draft.received)
                .saturating_sub(draft.waited_micros),
            subprotocol: route.subprotocol(&head),
        },
    );
    let keep_alive = head.keep_alive;
    let upgraded = head.upgrade.is_some();
    let mut meter = note_answer(shard, route, &head, draft);
    *keeping = keep_leave.and_then(|leave| leave.begin(shard, step, body, &head, draft));
    if upgraded && let Carrier::Http1(connection) = &mut carrier {
        draft.flags |= flag::WEB_SOCKET;
        let relayed = Box::pin(tunnel::tunnel(
            shard,
            &mut *errand.peer,
            connection,
            out,
            buffer,
            head_bytes,
            draft,
            pace.idle,
        ))
        .await;
        return Ok(Answered {
            relayed,
            host_keeps: None,
            meter: None,
        });
    }
    let _stream = (draft.flags & flag::STREAM != 0).then(|| shard.stream_open());
    let behind = buffer.len().saturating_sub(head_bytes) as u64;
    let sharing = share(
        errand,
        step,
        &head,
        behind,
        request_whole,
        keeping.as_mut(),
        draft,
    );
    let relayed = if let Some(sharing) = sharing {
        let from = head_bytes;
        // Boxed, like everything rare.
        Box::pin(sharing.relay(
            errand,
            &mut carrier,
            passage,
            (buffer, from),
            (out, framing),
            &mut meter,
            draft,
            pace,
            keeping.as_mut(),
        ))
        .await
    } else {
        if let Some(keeping) = keeping.as_mut() {
            keeping.gather(shard, draft);
        }
        let peer = &mut *errand.peer;
        relay::relay(
            shard,
            peer,
            &mut carrier,
            passage,
            out,
            buffer,
            head_bytes,
            &mut meter,
            draft,
            pace,
        )
        .await?
    };
    let clean = relayed.upstream_clean && keep_alive && request_whole;
    let after = match relayed.after {
        After::Keep if !keep => After::Close,
        after => after,
    };
    Ok(Answered {
        relayed: relay::Relayed { after, ..relayed },
        host_keeps: carrier.finish(shard, clean),
        meter,
    })
}

/// An answer that is fetched into a track.
struct Sharing {
    writer: track::Writer,
    /// Of the exchange's own caller.
    reader: track::Reader,
    /// The track, where others read it along.
    led: Option<Track>,
    stays: Stays,
    /// What it can be resumed by. Dropped at the end, so that its time begins.
    run: Option<run::Open>,
}

impl Sharing {
    /// Fetches the answer, of which `input` was read behind `from`, and sends it to its caller behind
    /// `head`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parties of a relay, each once"
    )]
    async fn relay(
        self,
        errand: &mut Errand<'_, '_>,
        upstream: &mut Carrier,
        passage: Passage,
        (input, from): (Vec<u8>, usize),
        (mut head, framing): (Vec<u8>, Framing),
        meter: &mut Option<Box<Meter>>,
        draft: &mut Draft<'_>,
        pace: &Pace,
        keeping: Option<&mut Keeping>,
    ) -> relay::Relayed {
        if let Some(run) = &self.run {
            emit::add_field(&mut head, "cf-aig-run-id", &run.id().to_string());
        }
        let fetch = Fetch {
            upstream,
            passage,
            input,
            from,
            writer: self.writer,
            stays: self.stays,
        };
        let (shard, peer) = (errand.shard, &mut *errand.peer);
        let (relayed, fetched) = shared::run(
            shard,
            peer,
            fetch,
            self.reader,
            head,
            framing,
            meter,
            draft,
            pace,
        )
        .await;
        if let Some(keeping) = keeping {
            let cached = errand.gateway.on_disconnect == OnDisconnect::Cache;
            let fetched = match fetched {
                Fetched::Unread if cached => Fetched::Whole,
                fetched => fetched,
            };
            keeping.fetched(self.led, fetched);
        }
        relayed
    }
}

/// Decides whether an answer is fetched into a track: others may read along, it can be resumed, or it is read
/// on when its caller hangs up. One that is here already, `behind` bytes of it, is sent at once;
/// who asks next finds it in the cache.
fn share(
    errand: &Errand<'_, '_>,
    step: &Step<'_, '_>,
    head: &ResponseHead<'_>,
    behind: u64,
    request_whole: bool,
    keeping: Option<&mut Keeping>,
    draft: &mut Draft<'_>,
) -> Option<Sharing> {
    let (shard, gateway) = (errand.shard, errand.gateway);
    let is_here = !errand.peer.inlet.has_left()
        && match head.framing {
            ResponseFraming::None => true,
            ResponseFraming::Length(bytes) => bytes <= behind,
            ResponseFraming::Chunked | ResponseFraming::Close => false,
        };
    if is_here {
        return None;
    }
    let stays = request_whole && gateway.on_disconnect != OnDisconnect::Cancel;
    let resumable = !gateway.resume_for.is_zero()
        && shard.cache.is_on()
        && request_whole
        && draft.flags & flag::STREAM != 0
        && (200..300).contains(&head.status);
    let live = keeping
        .as_ref()
        .and_then(|keeping| keeping.go_live(head, draft));
    let is_led = live.is_some();
    if !is_led && !stays && !resumable {
        return None;
    }
    let (writer, track) = live.unwrap_or_else(|| shard.cache.lives.tracks.open());
    // A new track can be read.
    let reader = track.join(0).ok()?;
    let run = if resumable {
        let mut fields = Vec::new();
        emit::kept_fields(&mut fields, head, errand.request.method);
        let run_head = RunHead {
            whose: resume::whose(errand, step, draft),
            live: cached::live_head(&[], &fields, head, draft),
        };
        run::open(shard, run_head, &track, gateway.resume_for)
    } else {
        None
    };
    if !is_led {
        if run.is_none() {
            // Nobody else reads it, and what was read is not kept there.
            track.close();
        }
        if let Some(keeping) = keeping {
            keeping.gather(shard, draft);
        }
    }
    let stays = match &run {
        _ if stays => Stays::ToTheEnd,
        Some(_) => Stays::For(gateway.resume_for),
        None => Stays::No,
    };
    Some(Sharing {
        writer,
        reader,
        led: is_led.then_some(track),
        stays,
        run,
    })
}

/// Notes what the answer's head says, and opens the meter if there may be something to meter.
fn note_answer(
    shard: &Shard,
    route: &Route<'_>,
    head: &ResponseHead<'_>,
    draft: &mut Draft<'_>,
) -> Option<Box<Meter>> {
    draft.status = head.status;
    let mut encoding = Encoding::Identity;
    let mut shape = Shape::Opaque;
    for field in &head.fields {
        match field.id {
            FieldName::ContentType => {
                draft.response_type.extend_from_slice(field.value);
                shape = Shape::of_content_type(field.value);
            }
            FieldName::ContentEncoding => {
                draft.response_encoding.extend_from_slice(field.value);
                encoding = Encoding::of_header(field.value);
            }
            FieldName::XRequestId | FieldName::RequestId | FieldName::XAmznRequestId => {
                draft.upstream_id.clear();
                draft.upstream_id.extend_from_slice(field.value);
            }
            _ => {}
        }
    }
    if matches!(shape, Shape::EventStream | Shape::AmazonEventStream) {
        draft.flags |= flag::STREAM;
    }
    if route.dialect == Dialect::Unknown || !(200..300).contains(&head.status) {
        return None;
    }
    let mut meter = shard.meters.take(route.dialect, shape, encoding);
    for field in &head.fields {
        if matches!(
            field.id,
            FieldName::XAmznBedrockInputTokenCount | FieldName::XAmznBedrockOutputTokenCount
        ) {
            meter.note_header(field.name, field.value);
        }
    }
    Some(meter)
}

/// Notes what the exchange used, and what that costs.
pub(super) fn note_cost(
    errand: &Errand<'_, '_>,
    slug: &str,
    wishes: &Wishes<'_>,
    draft: &mut Draft<'_>,
    meter: Option<Box<Meter>>,
) {
    let (shard, prices) = (errand.shard, &errand.snapshot.prices);
    let cost = &mut draft.cost;
    if let Some(mut meter) = meter {
        cost.metered = meter.finish();
        shard.meters.give_back(meter);
    }
    let metered = &cost.metered;
    let raw = match &metered.model {
        Some(reported) if draft.model.is_empty() => reported.as_bytes(),
        _ => &draft.model,
    };
    let model = shard.models.find(prices, slug, raw);
    let listed = || prices.cost_at(model.price?, &metered.usage);
    if let Some(custom) = &wishes.custom_cost {
        cost.cost = custom.of(&metered.usage).map(|cost| cost.0);
        cost.flags |= flag::CUSTOM_COST;
    } else if let Some(reported) = metered.cost_reported.as_deref().and_then(parse_dollars) {
        // The provider's own bill is better than any table.
        cost.cost = Some(reported.0);
    } else if !metered.usage.is_unknown()
        && let Some((key, listed)) = listed()
    {
        cost.cost = listed.map(|cost| cost.0);
        cost.price_key = key.into();
        cost.price_table = prices.hash();
    }
    cost.model = Some(model);
}

/// The model that was asked for.
pub(super) fn model(errand: &Errand<'_, '_>, slug: &str, draft: &Draft<'_>) -> Rc<Known> {
    let prices = &errand.snapshot.prices;
    errand.shard.models.find(prices, slug, &draft.model)
}
