//! Management requests: read to their end here, answered by a side thread.

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use super::{
    Shard, authenticate,
    body::{self, Body, BodyError, Bounds},
    connection::Downstream,
    parse::Face,
    relay::After,
    reply::{self, Refusal},
};
use crate::{
    handoff::mailbox::{ApiAnswer, ApiCall, Question},
    http::{
        head::{Method, RequestFraming, RequestHead},
        header::FieldName,
    },
    snapshot::Snapshot,
};

/// Greatest body of a management request.
const BODY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest wait for the side thread's answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Answers a request to the management side or a health check.
pub async fn answer(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    snapshot: &Snapshot,
    head: &RequestHead<'_>,
    face: Face<'_>,
) -> After {
    let mut body_read = matches!(
        head.framing,
        RequestFraming::None | RequestFraming::Length(0)
    );
    let outcome = ask(shard, peer, snapshot, head, face, &mut body_read).await;
    let head_only = head.method == Method::Head;
    let keep = head.keep_alive && body_read && !shard.is_draining();
    let (bytes, keep) = match outcome {
        Ok(answer) => (response(&answer, keep, head_only), keep),
        Err(None) => return After::Drop,
        Err(Some(refusal)) => {
            let keep = keep && !refusal.close;
            let bytes = match face {
                Face::Management => reply::management(&refusal, keep, head_only),
                _ => reply::response(&refusal, None, keep, head_only),
            };
            (bytes, keep)
        }
    };
    peer.limit(&shard.clock, ANSWER_LIMIT);
    let send = peer.writer.send(&bytes);
    let sent =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send).await;
    match sent {
        Ok(Ok(())) if keep => After::Keep,
        Ok(Ok(())) => After::Close,
        _ => After::Drop,
    }
}

async fn ask(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    snapshot: &Snapshot,
    head: &RequestHead<'_>,
    face: Face<'_>,
    body_read: &mut bool,
) -> Result<ApiAnswer, Option<Refusal>> {
    let mut call = ApiCall {
        method: text(head.method.as_bytes()),
        target: text(head.path),
        host: text(head.host),
        content_type: text(head.field(FieldName::ContentType).unwrap_or_default()),
        body: Vec::new(),
        key: "".into(),
        read: false,
        edit: false,
    };
    if face == Face::Management {
        if !snapshot.management_here && !peer.admin {
            return Err(Some(Refusal::no_route()));
        }
        let key = authenticate::manager(snapshot, head).map_err(Some)?;
        if !key.read && !key.edit {
            return Err(Some(Refusal::forbidden()));
        }
        (call.read, call.edit) = (key.read, key.edit);
        call.key.clone_from(&key.name);
    }
    let bounds = Bounds {
        body_bytes: BODY_BYTES_MAX,
        gather_bytes: BODY_BYTES_MAX,
        pause: snapshot.limits.body_timeout,
    };
    if head.expects_continue {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        peer.writer.send(go_on).await.map_err(|_| None)?;
    }
    let body = body::gather(peer, &shard.clock, &shard.buffers, head.framing, &bounds).await;
    match body {
        Ok(Body::Whole(body)) => call.body = body,
        Ok(Body::Passing { .. }) => return Err(Some(Refusal::body_too_large(BODY_BYTES_MAX))),
        Err(BodyError::Refused(refusal)) => return Err(Some(refusal)),
        Err(BodyError::Gone) => return Err(None),
    }
    *body_read = true;
    let ticket = shard.open_ticket();
    let question = Question::Api {
        shard: shard.number,
        ticket,
        call: Box::new(call),
    };
    if shard.api.send(question).is_err() {
        shard.close_ticket(ticket);
        return Err(Some(Refusal::internal(
            "the management side is busy; try again",
        )));
    }
    peer.limit(&shard.clock, ANSWER_LIMIT);
    let answered = poll_fn(|cx| match shard.take_answer(ticket, cx) {
        Some(answer) => Poll::Ready(answer),
        None => Poll::Pending,
    });
    let answered =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, answered)
            .await;
    shard.close_ticket(ticket);
    answered.map_err(|_| {
        Some(Refusal::internal(
            "the management side does not answer; try again",
        ))
    })
}

fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}

fn response(answer: &ApiAnswer, keep: bool, head_only: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + answer.body.len());
    let reason = reply::reason(answer.status);
    let head = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    );
    out.extend_from_slice(head.as_bytes());
    for (name, value) in &answer.fields {
        // A value is ours, but may quote what a caller sent.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !keep {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(&answer.body);
    }
    out
}
