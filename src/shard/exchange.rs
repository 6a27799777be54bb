//! One request on one screen: the stages below, in order.

use std::{rc::Rc, time::Duration};

use super::{
    Shard,
    authenticate::{self, Caller},
    body::{self, Body, BodyError, Bounds},
    clock::Moment,
    connection::Downstream,
    emit::{self, DownstreamHead, Framing, UpstreamHead},
    management,
    parse::{self, Call, Face, Wishes},
    record::{Costed, Draft},
    relay::{self, After, Pace, Passage},
    reply::{self, Refusal},
    route::{self, Route},
    tunnel,
    upstream::attempt::{self, Answer, Ask, AttemptError, Carrier},
};
use crate::{
    domain::{money::parse_dollars, outcome::Outcome, record::flag},
    handoff::counters::Plain,
    http::{
        head::{
            Field, Method, RequestFraming, RequestHead, ResponseHead, Version, parse_request,
            parse_response,
        },
        header::FieldName,
        target::has_dot_segment,
    },
    provider::{
        dialect::{Dialect, Shape},
        meter::{Encoding, Meter},
        scanner::RequestScan,
    },
    snapshot::{Gateway, Snapshot},
};

/// How an exchange ended.
struct Ended {
    outcome: Outcome,
    after: After,
    cost: Costed,
}

/// Why an exchange ended without an answer of the provider's.
enum Stopped {
    /// tidegate says no.
    Refused(Refusal),
    /// The caller went away.
    Gone,
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Carries one request from its head to its end, and says what becomes of the connection.
pub async fn carry(shard: &Rc<Shard>, peer: &mut Downstream, head: Vec<u8>) -> After {
    let received = shard.clock.now();
    let _in_flight = shard.in_flight();
    let after = match parse_request(&head) {
        Ok(request) => answer(shard, peer, &request, received).await,
        Err(error) => {
            shard.count_malformed();
            let _ = peer
                .writer
                .send(&reply::bare(&Refusal::malformed(&error)))
                .await;
            After::Close
        }
    };
    shard.buffers.give_back(head);
    after
}

async fn answer(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    head: &RequestHead<'_>,
    received: Moment,
) -> After {
    let snapshot = shard.snapshot();
    let face = parse::face(head.path);
    if matches!(face, Face::Health | Face::Management) {
        // Boxed, like everything rare: an exchange's future is moved before it starts.
        return Box::pin(management::answer(shard, peer, &snapshot, head, face)).await;
    }
    let mut draft = Draft::open(shard, received);
    draft.method = head.method.as_bytes();
    let mut body_read = matches!(
        head.framing,
        RequestFraming::None | RequestFraming::Length(0)
    );
    let ended = match exchange(
        shard,
        peer,
        &snapshot,
        head,
        face,
        &mut draft,
        &mut body_read,
    )
    .await
    {
        Ok(ended) => ended,
        Err(Stopped::Gone) => {
            "the caller went away before the answer".clone_into(&mut draft.error);
            Ended {
                outcome: Outcome::Cancelled,
                after: After::Drop,
                cost: Costed::nothing(),
            }
        }
        Err(Stopped::Refused(refusal)) => {
            if refusal.outcome == Outcome::Unauthorized {
                shard.count(Plain::Unauthorized);
            }
            draft.status = refusal.status;
            draft.error = refusal.description.to_string();
            // What follows an unread body would be taken for a request.
            let keep = head.keep_alive && body_read && !refusal.close && !shard.is_draining();
            let head_only = head.method == Method::Head;
            let bytes = reply::response(&refusal, Some(draft.ids()), keep, head_only);
            peer.limit(&shard.clock, REPLY_LIMIT);
            let send = peer.writer.send(&bytes);
            let sent =
                Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send)
                    .await;
            Ended {
                outcome: refusal.outcome,
                after: match sent {
                    Ok(Ok(())) if keep => After::Keep,
                    Ok(Ok(())) => After::Close,
                    _ => After::Drop,
                },
                cost: Costed::nothing(),
            }
        }
    };
    draft.close(shard, ended.outcome, &ended.cost);
    match ended.after {
        After::Keep if !head.keep_alive || shard.is_draining() => After::Close,
        after => after,
    }
}

/// Longest time for a caller to take a refusal.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// One line, one stage. What a stage learns is noted in the draft, so that a refusal is as well
/// documented as an answer.
async fn exchange<'a>(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    snapshot: &'a Snapshot,
    head: &'a RequestHead<'a>,
    face: Face<'a>,
    draft: &mut Draft<'a>,
    body_read: &mut bool,
) -> Result<Ended, Stopped> {
    if has_dot_segment(head.path) {
        return Err(Refusal::dot_segments().into());
    }
    if peer.admin {
        return Err(Refusal::no_route().into());
    }
    let call = provider_call(snapshot, face, draft)?;
    let gateway = find_gateway(snapshot, &call)?;
    let provider = snapshot.providers.find(call.provider);
    let kind = provider.map(|provider| &provider.kind);
    let caller = authenticate::authenticate(
        snapshot,
        gateway,
        kind,
        head,
        call.rest,
        peer.loopback,
        &mut peer.proof,
    )?;
    if gateway.implied {
        shard.note_implied(call.place.gateway);
    }

    let wishes = open_draft(gateway, &caller, &call, head, draft);
    if snapshot.log_required && draft.logged && shard.health.refuses_records() {
        return Err(Refusal::log_unavailable().into());
    }
    let provider = provider.ok_or_else(|| Refusal::unknown_provider(call.provider))?;
    draft.provider = &provider.slug;
    if parse::is_probe(head.method, &call) {
        return probe(peer, draft).await;
    }
    let mut route = route::plan(
        snapshot,
        gateway,
        provider,
        &caller,
        &call,
        &wishes,
        head,
        peer.loopback,
    )?;
    draft.path = std::mem::take(&mut route.recorded_path);
    if route.stored_credential {
        draft.flags |= flag::STORED_CREDENTIAL;
    }

    let bounds = bounds(snapshot);
    let mut body = read_body(shard, peer, head, &route, &bounds, draft).await?;
    *body_read = matches!(body, Body::Whole(_));
    scan_body(&route, &body, head, draft);

    let host = shard.hosts.find(&route.origin, shard.clock.now());
    let mut out = shard.buffers.small();
    write_request(&mut out, head, &route, &host.authority, &caller, &body);
    let end =
        (!provider.total_timeout.is_zero()).then(|| draft.received.after(provider.total_timeout));
    let ask = Ask {
        method: head.method,
        head: &out,
        http2: provider.http2 && route.upgrade.is_none(),
        connect: provider.connect_timeout,
        first_byte: provider.first_byte_timeout,
        end,
        bounds: &bounds,
        interim: head.version == Version::Http11,
    };
    let answer = attempt::attempt(shard, peer, &host, &ask, &mut body, draft).await;
    draft.end_scan();
    let answer = answer.map_err(stopped)?;
    shard.buffers.give_back(out);
    if let Body::Whole(body) = body {
        shard.buffers.give_back(body);
    }
    let pace = Pace {
        idle: provider.idle_timeout,
        end,
    };
    *body_read |= answer.request_whole;
    let answered =
        relay_answer(shard, peer, head, &route, answer, &pace, draft, *body_read).await?;
    let Answered {
        relayed,
        host_keeps,
        meter,
    } = answered;
    if let Some(connection) = host_keeps {
        host.keep(connection, shard.clock.now());
    }
    let cost = cost(shard, snapshot, &provider.slug, &wishes, draft, meter);
    Ok(Ended {
        outcome: relayed
            .outcome
            .unwrap_or_else(|| Outcome::of_status(draft.status)),
        after: relayed.after,
        cost,
    })
}

fn provider_call<'a>(
    snapshot: &Snapshot,
    face: Face<'a>,
    draft: &mut Draft<'a>,
) -> Result<Call<'a>, Refusal> {
    let place = match face {
        Face::Provider(call) => call.place,
        Face::Universal(place) | Face::Unified(place) => place,
        Face::Health | Face::Management | Face::None => return Err(Refusal::no_route()),
    };
    if !snapshot.knows_account(place.account) {
        return Err(Refusal::unknown_account());
    }
    draft.gateway = place.gateway;
    match face {
        Face::Provider(call) => Ok(call),
        Face::Universal(_) => Err(Refusal::not_yet("the universal endpoint")),
        _ => Err(Refusal::not_yet("the unified endpoint")),
    }
}

fn find_gateway<'s>(snapshot: &'s Snapshot, call: &Call<'_>) -> Result<&'s Gateway, Refusal> {
    let id = call.place.gateway;
    snapshot
        .gateway(id)
        .ok_or_else(|| Refusal::unknown_gateway(id))
}

/// From here on the exchange is somebody's: it gets a record, if one is wanted.
fn open_draft<'a>(
    gateway: &Gateway,
    caller: &Caller<'a>,
    call: &Call<'a>,
    head: &RequestHead<'a>,
    draft: &mut Draft<'a>,
) -> Wishes<'a> {
    let mut wishes = Wishes::read(head);
    draft.gateway = call.place.gateway;
    draft.event_id = wishes.event_id;
    draft.metadata = std::mem::take(&mut wishes.metadata);
    draft.user_agent = head.field(FieldName::UserAgent).unwrap_or_default();
    draft.request_type = head.field(FieldName::ContentType).unwrap_or_default();
    if let Some(key) = caller.key {
        draft.key = &key.name;
        draft.flags |= flag::AUTHENTICATED;
    }
    draft.logged = wishes.collect_log.unwrap_or(gateway.collect_logs);
    draft.counted = true;
    if draft.logged && wishes.collect_payload.unwrap_or(true) {
        draft.store_bodies();
    }
    wishes
}

/// Some coding agents ask whether anybody is there before they send their first request.
async fn probe(peer: &mut Downstream, draft: &mut Draft<'_>) -> Result<Ended, Stopped> {
    draft.status = 200;
    draft.logged = false;
    draft.counted = false;
    let mut out = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n".to_vec();
    draft.ids().write(&mut out);
    out.extend_from_slice(b"\r\n");
    peer.writer.send(&out).await.map_err(|_| Stopped::Gone)?;
    Ok(Ended {
        outcome: Outcome::Ok,
        after: After::Keep,
        cost: Costed::nothing(),
    })
}

fn bounds(snapshot: &Snapshot) -> Bounds {
    Bounds {
        body_bytes: snapshot.limits.body_bytes,
        gather_bytes: snapshot.limits.gather_bytes,
        pause: snapshot.limits.body_timeout,
    }
}

async fn read_body(
    shard: &Shard,
    peer: &mut Downstream,
    head: &RequestHead<'_>,
    route: &Route<'_>,
    bounds: &Bounds,
    draft: &mut Draft<'_>,
) -> Result<Body, Stopped> {
    if route.upgrade.is_some() {
        return Ok(Body::Whole(Vec::new()));
    }
    let started = shard.clock.now();
    if head.expects_continue && peer.inlet.input().is_empty() {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        peer.writer.send(go_on).await.map_err(|_| Stopped::Gone)?;
    }
    let body = body::gather(peer, &shard.clock, &shard.buffers, head.framing, bounds).await;
    let body = body.map_err(|error| match error {
        BodyError::Refused(refusal) => Stopped::Refused(refusal),
        BodyError::Gone => Stopped::Gone,
    })?;
    draft.waited_micros += shard.clock.now().micros_since(started);
    match &body {
        Body::Whole(bytes) => draft.request_piece(shard, bytes),
        Body::Passing { first, .. } => {
            draft.drop_request_body();
            draft.request_piece(shard, first);
        }
    }
    Ok(body)
}

/// Notes the model by path, else by body. Of a body that passes through, what is here is scanned
/// here, and the rest as it passes.
fn scan_body(route: &Route<'_>, body: &Body, head: &RequestHead<'_>, draft: &mut Draft<'_>) {
    if let Some(model) = &route.model {
        draft.model.extend_from_slice(model.as_bytes());
    }
    let bytes = match body {
        Body::Whole(bytes) if bytes.is_empty() => return,
        Body::Whole(bytes) => bytes,
        Body::Passing { first, .. } => first,
    };
    if !draft.model.is_empty() {
        return;
    }
    let content_type = head.field(FieldName::ContentType).unwrap_or_default();
    let mut scan = RequestScan::of_content_type(content_type);
    scan.feed(bytes);
    draft.scan = Some(scan);
    if matches!(body, Body::Whole(_)) {
        draft.end_scan();
    }
}

fn write_request(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    route: &Route<'_>,
    authority: &str,
    caller: &Caller<'_>,
    body: &Body,
) {
    let framing = match (body, head.framing) {
        (Body::Whole(bytes), framing) if !bytes.is_empty() || framing != RequestFraming::None => {
            Framing::Length(bytes.len() as u64)
        }
        (Body::Whole(_), _) => Framing::None,
        (
            Body::Passing {
                rest: body::Rest::Length { total, .. },
                ..
            },
            _,
        ) => Framing::Length(*total),
        (Body::Passing { .. }, _) => Framing::Chunked,
    };
    let upstream = UpstreamHead {
        path: &route.path,
        authority,
        framing,
        added: &route.added,
        upgrade: route.upgrade.as_ref().map(route::UpgradeRoute::as_emit),
    };
    let keep = |field: &Field<'_>| {
        // A field's place tells whether it held a token of ours.
        let place = head
            .fields
            .iter()
            .position(|other| std::ptr::eq(other, field));
        place.is_some_and(|place| !caller.is_token(place)) && !route.replaces(field)
    };
    emit::request(out, head, &upstream, &keep);
}

fn stopped(error: AttemptError) -> Stopped {
    match error {
        AttemptError::Gone => Stopped::Gone,
        AttemptError::Body(refusal) => Stopped::Refused(refusal),
        AttemptError::Timeout { .. } => Stopped::Refused(Refusal::upstream_timeout(&error)),
        AttemptError::Connect(ref connect) if connect.is_timeout() => {
            Stopped::Refused(Refusal::upstream_timeout(&error))
        }
        error => Stopped::Refused(Refusal::upstream_failed(&error)),
    }
}

struct Answered {
    relayed: relay::Relayed,
    /// The connection, if it can carry another exchange.
    host_keeps: Option<super::upstream::connect::Connection>,
    meter: Option<Box<Meter>>,
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parties of a relay, each once"
)]
async fn relay_answer(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    request: &RequestHead<'_>,
    route: &Route<'_>,
    answer: Answer,
    pace: &Pace,
    draft: &mut Draft<'_>,
    body_read: bool,
) -> Result<Answered, Stopped> {
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
    let relayed = relay::relay(
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
    .await?;
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
fn cost(
    shard: &Shard,
    snapshot: &Snapshot,
    slug: &str,
    wishes: &Wishes<'_>,
    draft: &Draft<'_>,
    meter: Option<Box<Meter>>,
) -> Costed {
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
