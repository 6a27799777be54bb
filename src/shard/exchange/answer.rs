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
        body::Body,
        cache::run::{self, RunHead},
        emit::{self, DownstreamHead, Framing},
        models::Known,
        parse::Wishes,
        record::{Costed, Draft},
        relay::{
            self, After, Pace, Passage,
            shared::{self, Fetch, Fetched, Stays},
        },
        reply::Refusal,
        route::Route,
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
    pub host_keeps: Option<Connection>,
    /// What was metered.
    pub meter: Option<Box<Meter>>,
}

/// Relays an answer to the caller of `errand`. What may be kept of it goes into `keeping`.
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
    let peer = &mut *errand.peer;
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
    let mut meter = note_answer(route, &head, draft);
    *keeping = keep_leave.and_then(|leave| leave.begin(request.method, &head, draft));
    if upgraded && let Carrier::Http1(connection) = &mut carrier {
        draft.flags |= flag::WEB_SOCKET;
        let relayed = Box::pin(tunnel::tunnel(
            shard, peer, connection, out, buffer, head_bytes, draft, pace.idle,
        ))
        .await;
        return Ok(Answered {
            relayed,
            host_keeps: None,
            meter: None,
        });
    }
    let _stream = (draft.flags & flag::STREAM != 0).then(|| shard.stream_open());
    // An answer that is here already is sent at once; who asks next finds it in the cache.
    let behind = buffer.len().saturating_sub(head_bytes) as u64;
    let is_here = !peer.inlet.has_left()
        && match head.framing {
            ResponseFraming::None => true,
            ResponseFraming::Length(bytes) => bytes <= behind,
            ResponseFraming::Chunked | ResponseFraming::Close => false,
        };
    let stays = request_whole && errand.gateway.on_disconnect != OnDisconnect::Cancel;
    let live = match keeping {
        Some(keeping) if !is_here => keeping.go_live(step, body, &head, draft),
        _ => None,
    };
    let resumable = !errand.gateway.resume_for.is_zero()
        && shard.cache.is_on()
        && request_whole
        && draft.flags & flag::STREAM != 0
        && (200..300).contains(&head.status);
    let alone = live.is_none() && (stays || resumable) && !is_here;
    let live = match live {
        None if alone => Some(shard.cache.lives.tracks.open()),
        live => live,
    };
    let relayed = if let Some((writer, track)) = live {
        let reader = track.join(0);
        let reader = reader.map_err(|_| Refusal::internal("a new track cannot be read"))?;
        let mut out = out;
        let run = if resumable {
            let run_head = RunHead {
                whose: resume::whose(errand, step, draft),
                live: cached::live_head(Box::default(), &head, request.method, draft),
            };
            run::open(shard, run_head, &track, errand.gateway.resume_for)
        } else {
            None
        };
        if let Some(run) = &run {
            emit::add_field(&mut out, "cf-aig-run-id", &run.id().to_string());
        }
        let peer = &mut *errand.peer;
        if alone {
            if run.is_none() {
                // Nobody else reads it, and what was read is not kept there.
                track.close();
            }
            if let Some(keeping) = keeping {
                keeping.gather(shard, draft);
            }
        }
        let fetch = Fetch {
            upstream: &mut carrier,
            passage,
            input: buffer,
            from: head_bytes,
            writer,
            stays: match (stays, &run) {
                (true, _) => Stays::ToTheEnd,
                (false, Some(_)) => Stays::For(errand.gateway.resume_for),
                (false, None) => Stays::No,
            },
        };
        // Boxed, like everything rare.
        let (relayed, fetched) = Box::pin(shared::run(
            shard, peer, fetch, reader, out, framing, &mut meter, draft, pace,
        ))
        .await;
        if let Some(keeping) = keeping {
            let cached = errand.gateway.on_disconnect == OnDisconnect::Cache;
            let fetched = match fetched {
                Fetched::Unread if cached => Fetched::Whole,
                fetched => fetched,
            };
            keeping.fetched((!alone).then_some(track), fetched);
        }
        relayed
    } else {
        if let Some(keeping) = keeping {
            keeping.gather(shard, draft);
        }
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

/// Notes what the answer's head says, and opens the meter if there may be something to meter.
fn note_answer(
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
    let mut meter = Box::new(Meter::new(route.dialect, shape, encoding));
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

/// What the exchange used, and what that costs.
pub(super) fn cost(
    errand: &Errand<'_, '_>,
    slug: &str,
    wishes: &Wishes<'_>,
    draft: &Draft<'_>,
    meter: Option<Box<Meter>>,
) -> Costed {
    let (shard, snapshot) = (errand.shard, errand.snapshot);
    let metered = meter.map(|mut meter| meter.finish()).unwrap_or_default();
    let raw = match &metered.model {
        Some(reported) if draft.model.is_empty() => reported.as_bytes(),
        _ => &draft.model,
    };
    let mut cost = Costed {
        model: Some(shard.models.find(&snapshot.prices, slug, raw)),
        ..Costed::default()
    };
    let priced = || {
        let place = cost.model.as_ref()?.price?;
        snapshot.prices.at(place, &metered.usage)
    };
    if let Some(custom) = &wishes.custom_cost {
        cost.cost = custom.of(&metered.usage).map(|cost| cost.0);
        cost.flags |= flag::CUSTOM_COST;
    } else if let Some(reported) = metered.cost_reported.as_deref().and_then(parse_dollars) {
        // The provider's own bill is better than any table.
        cost.cost = Some(reported.0);
    } else if !metered.usage.is_unknown()
        && let Some(priced) = priced()
    {
        cost.cost = priced.prices.cost(&metered.usage).map(|cost| cost.0);
        cost.price_key = priced.key.into();
        cost.price_table = snapshot.prices.hash();
    }
    cost.metered = metered;
    cost
}

/// The model that was asked for.
pub(super) fn model(errand: &Errand<'_, '_>, slug: &str, draft: &Draft<'_>) -> Rc<Known> {
    let prices = &errand.snapshot.prices;
    errand.shard.models.find(prices, slug, &draft.model)
}
