//! One step of an exchange: asked as often as its settings allow, until an answer is relayed.
//!
//! Each attempt has a record of its own; what follows an attempt that failed begins a new one under
//! the same event. Nothing is repeated once a byte of an answer went to the caller.

use std::{
    cell::{Cell, OnceCell},
    future::pending,
    rc::Rc,
    time::Duration,
};

use super::{
    Ended, Errand, Stopped,
    answer::{self, Answered},
    cached::{self, Keep, Looked},
    key_turn::KeyTurn,
    limits::{self, Leave},
};
use crate::{
    domain::outcome::Outcome,
    http::{
        head::{Field, RequestFraming, RequestHead, ResponseHead, Version, parse_response},
        header::FieldName,
    },
    shard::{
        authenticate::Caller,
        body::{self, Body, Bounds},
        connection::{Downstream, Interrupt},
        emit::{self, Framing, UpstreamHead},
        parse::Wishes,
        record::Draft,
        relay::{self, Pace, Passage},
        remembered::KnownRoute,
        reply::Refusal,
        retry::{self, Tries},
        route::{self, Route},
        upstream::{
            attempt::{self, Answer, Ask, AttemptError},
            host::Host,
            keys::is_of_key,
        },
    },
    snapshot::{OnDisconnect, Provider},
};

/// What one step asks, and of whom.
pub(super) struct Step<'s, 'a> {
    /// Its place among the steps of the exchange, from 0.
    pub number: u8,
    /// No other step follows it.
    pub last: bool,
    /// The account of the path.
    pub account: &'s str,
    /// Whom it asks.
    pub provider: &'a Provider,
    /// Its head, as a request of its own would have it.
    pub head: &'s RequestHead<'s>,
    /// Who asks, and with which of the head's fields.
    pub caller: &'s Caller<'a>,
    /// What it asks of the gateway.
    pub wishes: &'s Wishes<'s>,
    /// Where it goes.
    pub route: &'s Route<'s>,
    /// What is kept of it for others that have the same head.
    pub known: Option<&'s KnownRoute>,
}

/// Asks until there is an answer that goes to the caller, whatever it says. `None`: it failed, and
/// another step follows; the draft is that step's then.
pub(super) async fn run<'a>(
    errand: &mut Errand<'_, 'a>,
    step: &Step<'_, 'a>,
    body: &mut Body,
    draft: &mut Draft<'a>,
    body_read: &mut bool,
) -> Result<Option<Ended>, Stopped> {
    let shard = errand.shard;
    let Step {
        provider, route, ..
    } = *step;
    let bounds = super::bounds(errand.snapshot);
    let keep = match cached::look(errand, step, body, draft, *body_read).await? {
        Looked::Ended(ended) => return Ok(Some(ended)),
        Looked::Miss(keep) => keep,
    };
    let mut leave = limits::reserve(errand, step, body, draft).await?;
    let repeatable = matches!(body, Body::Whole(_)) && route.upgrade.is_none();
    let tries = Tries::of(step.wishes, &errand.gateway.retry, repeatable);
    let host = shard.hosts.find(&route.origin, shard.clock.now());
    let mut out = shard.buffers.small();
    let mut turn = KeyTurn::of(shard, route, draft);
    write_request(&mut out, step, &host.authority, turn.place(), body);
    let total = provider.total_timeout;
    let end = (!total.is_zero()).then(|| draft.received.after(total));
    let mut number = 0;
    loop {
        let last_try = number + 1 >= tries.max;
        let limit = tries.limit(number, step.last);
        let own_end = limit.map(|limit| shard.clock.now().after(limit));
        let ask = Ask {
            end: earlier(end, own_end),
            at_risk: leave.as_ref().map(Leave::at_risk),
            ..ask(errand, step, &out, &bounds, limit)
        };
        let stays = stays(errand, body, keep.as_ref());
        errand.peer.inlet.go_on(stays);
        let answer = attempt::attempt(shard, errand.peer, &host, &ask, body, draft).await;
        errand.peer.inlet.go_on(None);
        draft.end_scan();
        if let (Err(error), Some(leave)) = (&answer, &leave)
            && !error.may_have_worked()
        {
            leave.nothing_used();
        }
        turn.note(shard, step, &answer);
        let failed = if last_try && step.last {
            Err(answer.map_err(stopped)?)
        } else {
            // Boxed, like everything rare.
            let facts = TryFacts {
                number,
                leave: leave.as_ref(),
                other_key: turn.has_other(shard),
            };
            Box::pin(judge(errand, step, &tries, &facts, answer, draft)).await?
        };
        let failed = match failed {
            Ok(failed) => failed,
            Err(answer) => {
                shard.buffers.give_back(out);
                let pace = Pace {
                    idle: provider.idle_timeout,
                    end,
                };
                return relay_and_settle(
                    errand, step, body, answer, &pace, draft, body_read, keep, leave, &host,
                )
                .await
                .map(Some);
            }
        };
        draft.ended = Some(shard.clock.now());
        let Some(wait) = failed.wait.filter(|_| !last_try) else {
            shard.buffers.give_back(out);
            draft.cost.model = Some(answer::model(errand, &provider.slug, draft));
            draft.pass_on(shard, failed.outcome, (step.number + 1, 0));
            if let Some(keep) = keep {
                keep.failed();
            }
            if let Some(leave) = leave {
                leave.end(errand);
            }
            return Ok(None);
        };
        Box::pin(pause(errand, wait)).await?;
        number += 1;
        draft.cost.model = Some(answer::model(errand, &provider.slug, draft));
        draft.pass_on(shard, failed.outcome, (step.number, number));
        // The request's body goes into the record of each attempt.
        if let Body::Whole(bytes) = body {
            draft.request_piece(shard, bytes);
        }
        if turn.next(shard, draft) {
            out.clear();
            write_request(&mut out, step, &host.authority, turn.place(), body);
        }
        if leave.as_ref().is_some_and(Leave::is_at_risk) {
            // What the last attempt may have used stays reserved; this one needs leave of its own.
            if let Some(leave) = leave.take() {
                leave.end(errand);
            }
            leave = Box::pin(limits::reserve(errand, step, body, draft)).await?;
        }
    }
}

/// What one attempt asks. `limit`: how long it may wait for the first byte.
fn ask<'s>(
    errand: &Errand<'_, '_>,
    step: &'s Step<'_, '_>,
    head: &'s [u8],
    bounds: &'s Bounds,
    limit: Option<Duration>,
) -> Ask<'s> {
    let Step {
        provider, route, ..
    } = *step;
    let limited = |usual: Duration| limit.map_or(usual, |limit| limit.min(usual));
    Ask {
        method: step.head.method,
        head,
        http2: provider.http2 && route.upgrade.is_none(),
        connect: limited(provider.connect_timeout),
        patient: limit.is_none_or(|limit| limit >= provider.connect_timeout),
        first_byte: limited(provider.first_byte_timeout),
        end: None,
        bounds,
        interim: errand.request.version == Version::Http11,
        at_risk: None,
    }
}

/// Relays an answer, and settles what it used.
#[expect(clippy::too_many_arguments, reason = "what an answer ends, each once")]
async fn relay_and_settle<'a>(
    errand: &mut Errand<'_, 'a>,
    step: &Step<'_, 'a>,
    body: &mut Body,
    answer: Answer,
    pace: &Pace,
    draft: &mut Draft<'a>,
    body_read: &mut bool,
    keep: Option<Keep>,
    leave: Option<Leave>,
    host: &Host,
) -> Result<Ended, Stopped> {
    // The body is part of the key of what is kept.
    if keep.is_none()
        && let Body::Whole(body) = body
    {
        errand.shard.buffers.give_back(std::mem::take(body));
    }
    *body_read |= answer.request_whole;
    let mut keeping = None;
    let answered = answer::relay_answer(
        errand,
        step,
        body,
        answer,
        pace,
        draft,
        *body_read,
        keep,
        &mut keeping,
    )
    .await?;
    let ended = ended(errand, step, answered, host, draft);
    if let Some(leave) = leave {
        leave.settle(errand, step, draft);
    }
    if let Some(keeping) = keeping {
        keeping.end(draft, ended.outcome);
    }
    Ok(ended)
}

/// What an attempt is judged by besides its answer.
struct TryFacts<'l> {
    /// Its number, from 0.
    number: u8,
    leave: Option<&'l Leave>,
    /// The provider has another key that may be better off.
    other_key: bool,
}

/// What says whether an attempt goes on though its caller has gone: others wait for its answer, or the gateway
/// wants it so. A body that is still on its way from the caller ends with him.
fn stays(errand: &Errand<'_, '_>, body: &Body, keep: Option<&Keep>) -> Option<Rc<Cell<bool>>> {
    if matches!(body, Body::Passing { .. }) {
        return None;
    }
    match errand.gateway.on_disconnect {
        OnDisconnect::Cancel => keep?.followed(),
        OnDisconnect::Drain | OnDisconnect::Cache => Some(Rc::new(Cell::new(true))),
    }
}

/// An attempt that came to nothing.
struct Failed {
    outcome: Outcome,
    /// How long to wait before another one; `None`: the same place is not asked again.
    wait: Option<Duration>,
}

/// Says whether an attempt after which another one can follow has failed; else its answer is to be
/// relayed (the inner error).
async fn judge(
    errand: &mut Errand<'_, '_>,
    step: &Step<'_, '_>,
    tries: &Tries,
    facts: &TryFacts<'_>,
    answer: Result<Answer, AttemptError>,
    draft: &mut Draft<'_>,
) -> Result<Result<Failed, Answer>, Stopped> {
    let shard = errand.shard;
    let number = facts.number;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error @ (AttemptError::Gone | AttemptError::Body(_))) => return Err(stopped(error)),
        Err(error) => {
            let refusal = refusal(&error);
            draft.status = refusal.status;
            draft.error = refusal.description.into_owned();
            return Ok(Ok(Failed {
                outcome: refusal.outcome,
                wait: tries.wait(number, None),
            }));
        }
    };
    let bytes = answer.buffer.get(..answer.head_bytes).unwrap_or_default();
    let head = match parse_response(bytes, step.head.method) {
        Ok(head) => head,
        Err(error) => {
            draft.status = 502;
            draft.error = format!("the provider answered with a malformed head: {error}");
            return Ok(Ok(Failed {
                outcome: Outcome::UpstreamFailed,
                wait: tries.wait(number, None),
            }));
        }
    };
    let seconds = shard.clock.unix_micros(shard.clock.now()) / 1_000_000;
    // What is about a key is not about the next one: that is tried, and does not wait for this one.
    let next_key = facts.other_key && is_of_key(head.status);
    let asked = retry::asked_wait(&head, seconds).filter(|_| !next_key);
    let wait = (next_key || retry::is_retried(head.status))
        .then(|| tries.wait(number, asked))
        .flatten();
    let again = number + 1 < tries.max && wait.is_some();
    let onwards = !step.last && retry::is_failure(head.status);
    if !again && !onwards {
        return Ok(Err(answer));
    }
    let status = head.status;
    draft.status = status;
    draft.error = format!("the provider answered with status {status}");
    note_head(&head, draft);
    if let Some(leave) = facts.leave {
        leave.nothing_used();
    }
    let (passage, _) = Passage::of(head.framing, Version::Http11);
    let keep_alive = head.keep_alive && answer.request_whole;
    take_in(errand, step, answer, passage, keep_alive, draft).await?;
    Ok(Ok(Failed {
        outcome: Outcome::of_status(status),
        wait,
    }))
}

fn note_head(head: &ResponseHead<'_>, draft: &mut Draft<'_>) {
    for (name, text) in [
        (FieldName::ContentType, &mut draft.response_type),
        (FieldName::ContentEncoding, &mut draft.response_encoding),
    ] {
        text.extend_from_slice(head.field(name).unwrap_or_default());
    }
}

/// Reads an answer that goes to nobody, for its record and for the sake of its connection.
async fn take_in(
    errand: &mut Errand<'_, '_>,
    step: &Step<'_, '_>,
    answer: Answer,
    passage: Passage,
    keep_alive: bool,
    draft: &mut Draft<'_>,
) -> Result<(), Stopped> {
    let shard = errand.shard;
    let Answer {
        mut carrier,
        buffer,
        head_bytes,
        ..
    } = answer;
    let clean = relay::take_in(
        shard,
        errand.peer,
        &mut carrier,
        passage,
        buffer,
        head_bytes,
        draft,
    )
    .await
    .map_err(|_gone| Stopped::Gone)?;
    if let Some(connection) = carrier.finish(shard, clean && keep_alive) {
        let host = shard.hosts.find(&step.route.origin, shard.clock.now());
        host.keep(connection, shard.buffers.small(), shard.clock.now());
    }
    Ok(())
}

/// Waits, unless the caller goes away.
async fn pause(errand: &mut Errand<'_, '_>, wait: Duration) -> Result<(), Stopped> {
    if wait.is_zero() {
        return Ok(());
    }
    let Errand { shard, peer, .. } = errand;
    peer.limit(&shard.clock, wait);
    let nothing = pending::<()>();
    let waited =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, nothing)
            .await;
    match waited {
        Err(Interrupt::Late) | Ok(()) => Ok(()),
        Err(Interrupt::Gone) => Err(Stopped::Gone),
    }
}

fn ended(
    errand: &Errand<'_, '_>,
    step: &Step<'_, '_>,
    answered: Answered,
    host: &Host,
    draft: &mut Draft<'_>,
) -> Ended {
    let Answered {
        relayed,
        host_keeps,
        meter,
    } = answered;
    let shard = errand.shard;
    if let Some(connection) = host_keeps {
        host.keep(connection, shard.buffers.small(), shard.clock.now());
    }
    let slug = &step.provider.slug;
    answer::note_cost(errand, slug, step.wishes, draft, meter);
    Ended {
        outcome: relayed
            .outcome
            .unwrap_or_else(|| Outcome::of_status(draft.status)),
        after: relayed.after,
    }
}

fn earlier<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Writes the head into `out`, which is empty.
fn write_request(out: &mut Vec<u8>, step: &Step<'_, '_>, authority: &str, key: usize, body: &Body) {
    let kept = step.known.map(|known| &known.front);
    if let Some(front) = kept.and_then(OnceCell::get) {
        out.extend_from_slice(front);
    } else {
        write_front(out, step, authority, key);
        if let Some(kept) = kept {
            // It was empty.
            let _ = kept.set(out.as_slice().into());
        }
    }
    let upgrade = step.route.upgrade.as_ref();
    let upgrade = upgrade.map(route::UpgradeRoute::as_emit);
    emit::request_end(out, framing(step.head, body), upgrade.as_ref());
}

/// How the body is framed on its way upstream.
fn framing(head: &RequestHead<'_>, body: &Body) -> Framing {
    match (body, head.framing) {
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
    }
}

fn write_front(out: &mut Vec<u8>, step: &Step<'_, '_>, authority: &str, key: usize) {
    let Step {
        head,
        route,
        caller,
        ..
    } = *step;
    let added = route.added_with(key);
    let upstream = UpstreamHead {
        path: &route.path,
        authority,
        added: &added,
    };
    let keep = |field: &Field<'_>| {
        // A field's place tells whether it held a token of ours.
        let place = head
            .fields
            .iter()
            .position(|other| std::ptr::eq(other, field));
        place.is_some_and(|place| !caller.is_token(place)) && !route.replaces(field)
    };
    emit::request_front(out, head, &upstream, &keep);
}

fn refusal(error: &AttemptError) -> Refusal {
    match error {
        AttemptError::Timeout { .. } => Refusal::upstream_timeout(error),
        AttemptError::Connect(connect) if connect.is_timeout() => Refusal::upstream_timeout(error),
        error => Refusal::upstream_failed(error),
    }
}

fn stopped(error: AttemptError) -> Stopped {
    match error {
        AttemptError::Gone => Stopped::Gone,
        AttemptError::Body(refusal) => Stopped::Refused(refusal),
        error => refusal(&error).into(),
    }
}
