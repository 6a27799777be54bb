//! One request on one screen: the stages below, in order. What it asks of a provider, and how often, is
//! in `step`; several steps one after another in `steps`; the answer's way to the caller in `answer`; many
//! requests over one WebSocket in `socket`.

use std::{rc::Rc, time::Duration};

mod answer;
mod cached;
mod key_turn;
mod limits;
mod resume;
mod socket;
mod step;
mod steps;

use self::step::Step;
use super::{
    Shard,
    authenticate::{self, Caller},
    body::{self, Body, BodyError, Bounds},
    clock::Moment,
    connection::Downstream,
    ledger::post,
    management,
    parse::{self, Call, Face, Place, Wishes},
    record::Draft,
    relay::After,
    remembered::Planned,
    reply::{self, Refusal},
    route::{self, Route},
};
use crate::{
    domain::{outcome::Outcome, record::flag},
    handoff::counters::Plain,
    http::{
        head::{Method, RequestFraming, RequestHead, parse_request},
        header::FieldName,
        target::has_dot_segment,
    },
    provider::scanner::RequestScan,
    snapshot::{Gateway, Snapshot},
};

/// How an exchange ended.
struct Ended {
    outcome: Outcome,
    after: After,
}

/// Why an exchange ended without an answer of the provider's.
enum Stopped {
    /// tidegate says no.
    Refused(Box<Refusal>),
    /// The caller went away.
    Gone,
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// Carries one request from its head to its end, and says what becomes of the connection.
/// `same_head`: the head is the one before's, but for the length of its body.
pub async fn carry(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    head: Vec<u8>,
    same_head: bool,
) -> After {
    let received = shard.clock.now();
    let in_flight = shard.in_flight();
    let known = if same_head {
        peer.memo.read(&head)
    } else {
        None
    };
    peer.remembered.begin(known.is_some());
    let parsed;
    let request = if let Some(request) = &known {
        Ok(request)
    } else {
        parsed = parse_request(&head);
        if let Ok(request) = &parsed {
            peer.memo.keep(&head, request);
        }
        parsed.as_ref()
    };
    let after = match request {
        Ok(request) => match answer(shard, peer, request, received).await {
            After::Socket => {
                // From here on the requests that come over it are in flight, not it.
                drop(in_flight);
                Box::pin(socket::serve(shard, peer, request)).await
            }
            after => after,
        },
        Err(error) => {
            shard.count_malformed();
            let _ = peer
                .writer
                .send(&reply::bare(&Refusal::malformed(error)))
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
        // What comes over it is recorded, the switch itself is not.
        Ok(ended) if ended.after == After::Socket => return After::Socket,
        Ok(ended) => ended,
        Err(Stopped::Gone) => {
            "the caller went away before the answer".clone_into(&mut draft.error);
            Ended {
                outcome: Outcome::Cancelled,
                after: After::Drop,
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
            }
        }
    };
    draft.close(shard, ended.outcome);
    if shard.ledger.desk.owes() {
        // An exchange that was cut short gave its leave back by being dropped.
        post::pump(shard);
    }
    match ended.after {
        After::Keep if !head.keep_alive || shard.is_draining() => After::Close,
        after => after,
    }
}

/// Longest time for a caller to take a refusal.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// The parties of an exchange: who serves it, who asks, and by which rules.
struct Errand<'e, 'a> {
    shard: &'e Rc<Shard>,
    peer: &'e mut Downstream,
    snapshot: &'a Snapshot,
    gateway: &'a Gateway,
    /// The request as the caller sent it.
    request: &'a RequestHead<'a>,
    /// Limits on requests have counted it.
    admitted: bool,
}

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
    let (place, call) = place_and_call(snapshot, face, draft)?;
    let gateway = find_gateway(snapshot, place.gateway)?;
    let provider = call.and_then(|call| snapshot.providers.find(call.provider));
    let caller = authenticate::authenticate(
        snapshot,
        gateway,
        provider.map(|provider| &provider.kind),
        head,
        call.map_or(&[], |call| call.rest),
        peer.loopback,
        &mut peer.remembered,
    )?;
    if gateway.implied {
        shard.note_implied(place.gateway);
    }
    let wishes = Wishes::read(head);
    open_draft(gateway, &caller, place, head, &wishes, draft);
    if snapshot.log_required && draft.logged && shard.health.refuses_records() {
        return Err(Refusal::log_unavailable().into());
    }
    let mut errand = Errand {
        shard,
        peer,
        snapshot,
        gateway,
        request: head,
        admitted: false,
    };
    let Some(call) = call else {
        if socket::is_asked_for(head) {
            return Box::pin(socket::open(&mut errand, &caller, draft)).await;
        }
        return Box::pin(steps::carry(
            &mut errand,
            &caller,
            &wishes,
            place,
            draft,
            body_read,
        ))
        .await;
    };
    let provider = provider.ok_or_else(|| Refusal::unknown_provider(call.provider))?;
    draft.provider = &provider.slug;
    if parse::is_probe(head.method, &call) {
        return probe(errand.peer, draft).await;
    }
    let planned = if let Some(known) = errand.peer.remembered.route(snapshot) {
        Planned::Known(known)
    } else {
        let route = route::plan(
            snapshot,
            gateway,
            provider,
            &caller,
            &call,
            &wishes,
            head,
            errand.peer.loopback,
        )?;
        errand.peer.remembered.keep_route(snapshot, route)
    };
    let route = planned.route();
    note_route(route, draft);
    let mut body = read_body(&mut errand, route, draft).await?;
    *body_read = matches!(body, Body::Whole(_));
    scan_body(route, &body, head, draft);
    let step = Step {
        number: 0,
        last: true,
        account: place.account,
        provider,
        head,
        caller: &caller,
        wishes: &wishes,
        route,
        known: planned.known(),
    };
    let ended = step::run(&mut errand, &step, &mut body, draft, body_read).await?;
    ended.ok_or_else(|| Refusal::internal("the only step had another one after it").into())
}

/// Where a request leads: an account and a gateway, and a provider unless its body names one.
fn place_and_call<'a>(
    snapshot: &Snapshot,
    face: Face<'a>,
    draft: &mut Draft<'a>,
) -> Result<(Place<'a>, Option<Call<'a>>), Refusal> {
    let (place, call) = match face {
        Face::Provider(call) => (call.place, Some(call)),
        Face::Universal(place) | Face::Unified(place) => (place, None),
        Face::Health | Face::Management | Face::None => return Err(Refusal::no_route()),
    };
    if !snapshot.knows_account(place.account) {
        return Err(Refusal::unknown_account());
    }
    draft.gateway = place.gateway;
    if matches!(face, Face::Unified(_)) {
        return Err(Refusal::not_yet("the unified endpoint"));
    }
    Ok((place, call))
}

fn note_route(route: &Route<'_>, draft: &mut Draft<'_>) {
    draft.path.clone_from(&route.recorded_path);
    if route.stored_credential {
        draft.flags |= flag::STORED_CREDENTIAL;
    }
}

fn find_gateway<'s>(snapshot: &'s Snapshot, id: &str) -> Result<&'s Gateway, Refusal> {
    snapshot
        .gateway(id)
        .ok_or_else(|| Refusal::unknown_gateway(id))
}

/// From here on the exchange is somebody's: it gets a record, if one is wanted.
fn open_draft<'a>(
    gateway: &Gateway,
    caller: &Caller<'a>,
    place: Place<'a>,
    head: &RequestHead<'a>,
    wishes: &Wishes<'a>,
    draft: &mut Draft<'a>,
) {
    draft.gateway = place.gateway;
    draft.event_id = wishes.event_id;
    draft.user_agent = head.field(FieldName::UserAgent).unwrap_or_default();
    draft.request_type = head.field(FieldName::ContentType).unwrap_or_default();
    if let Some(key) = caller.key {
        draft.key = &key.name;
        draft.flags |= flag::AUTHENTICATED;
    }
    draft.counted = true;
    note_wishes(gateway, wishes, draft);
}

/// Whether and how a request, or one step of it, is recorded.
fn note_wishes(gateway: &Gateway, wishes: &Wishes<'_>, draft: &mut Draft<'_>) {
    draft.metadata.clone_from(&wishes.metadata);
    draft.logged = wishes.collect_log.unwrap_or(gateway.collect_logs);
    if draft.logged && wishes.collect_payload.unwrap_or(true) {
        draft.store_bodies();
    } else {
        draft.leave_bodies();
    }
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
    errand: &mut Errand<'_, '_>,
    route: &Route<'_>,
    draft: &mut Draft<'_>,
) -> Result<Body, Stopped> {
    if route.upgrade.is_some() {
        return Ok(Body::Whole(Vec::new()));
    }
    let body = gather_body(errand, draft).await?;
    match &body {
        Body::Whole(bytes) => draft.request_piece(errand.shard, bytes),
        Body::Passing { first, .. } => {
            draft.drop_request_body();
            draft.request_piece(errand.shard, first);
        }
    }
    Ok(body)
}

async fn gather_body(errand: &mut Errand<'_, '_>, draft: &mut Draft<'_>) -> Result<Body, Stopped> {
    let Errand {
        shard,
        peer,
        snapshot,
        request,
        ..
    } = errand;
    let started = shard.clock.now();
    if request.expects_continue && peer.inlet.input().is_empty() {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        peer.writer.send(go_on).await.map_err(|_| Stopped::Gone)?;
    }
    let bounds = bounds(snapshot);
    let body = body::gather(peer, &shard.clock, &shard.buffers, request.framing, &bounds).await;
    draft.waited_micros += shard.clock.now().micros_since(started);
    body.map_err(|error| match error {
        BodyError::Refused(refusal) => refusal.into(),
        BodyError::Gone => Stopped::Gone,
    })
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
    let content_type = head.field(FieldName::ContentType).unwrap_or_default();
    if matches!(body, Body::Whole(_)) {
        return draft.note_facts(RequestScan::whole(content_type, bytes));
    }
    let mut scan = RequestScan::of_content_type(content_type);
    scan.feed(bytes);
    draft.scan = Some(scan);
}
