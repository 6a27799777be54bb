//! The universal endpoint over a WebSocket (contract `data-plane.md` section 15.1).
//!
//! Each `universal.create` becomes the request that the same steps would have been over HTTP, with
//! the header fields of the handshake, and goes the whole way of an exchange as a task of its own:
//! only where its answer goes is different (`answer`). So limits, cache, steps, retries and records
//! are those of any other request. What all requests of one socket share is in `hub`; what a frame
//! of the caller's says in `asked`, and how one of ours looks in `frame`. The task of the connection
//! reads messages and sends what lies ready, each without waiting for the other.
//!
//! Bounds: so many requests at a time, and so many bytes of theirs; past either the socket is not
//! read. What waits to be sent is bounded too: past that answers wait, and with them their providers.

use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Duration};

mod answer;
mod asked;
mod frame;
mod hub;

use self::{
    answer::Answer,
    asked::Asked,
    hub::{Hub, Place},
};
use super::{Ended, Errand, Stopped, carry};
use crate::{
    domain::outcome::Outcome,
    http::{
        head::{Method, RequestFraming, RequestHead},
        header::FieldName,
        websocket::{self, GOING_AWAY, Messages, POLICY, Received},
    },
    provider::credential,
    shard::{
        Shard, accept,
        authenticate::Caller,
        clock::{self, Deadline},
        connection::{Door, Downstream, Inlet, Interrupt},
        record::Draft,
        relay::After,
        reply::Refusal,
        stream::{Stream, Writer},
    },
};

/// How often a socket on which nothing happens is looked at.
const LOOK: Duration = Duration::from_mins(10);

/// Longest time for the caller to take the answer to its handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Says whether a request to the universal endpoint asks for a WebSocket.
pub(super) fn is_asked_for(head: &RequestHead<'_>) -> bool {
    head.method == Method::Get
        && head
            .upgrade
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// Answers the handshake. A token must have been proved, whether the gateway asks for one or not: any
/// page may open a WebSocket, and no rule of the browser's stands between.
pub(super) async fn open(
    errand: &mut Errand<'_, '_>,
    caller: &Caller<'_>,
    draft: &mut Draft<'_>,
) -> Result<Ended, Stopped> {
    let head = errand.request;
    if caller.key.is_none() {
        // A stranger, who leaves no record.
        draft.logged = false;
        draft.counted = false;
        return Err(Refusal::socket_unauthorized().into());
    }
    let only = |name: FieldName| {
        let mut values = head.values(name);
        values.next().filter(|_| values.next().is_none())
    };
    if only(FieldName::SecWebSocketVersion) != Some(b"13") {
        return Err(Refusal::socket_version().into());
    }
    let has_body = !matches!(
        head.framing,
        RequestFraming::None | RequestFraming::Length(0)
    );
    let proof = only(FieldName::SecWebSocketKey).and_then(websocket::accept);
    let Some(proof) = proof.filter(|_| !has_body) else {
        return Err(Refusal::socket_key().into());
    };
    let mut out = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ".to_vec();
    out.extend_from_slice(proof.as_bytes());
    let offer = credential::read_offer(head.values(FieldName::SecWebSocketProtocol));
    if let Some(protocol) = offer.echo {
        out.extend_from_slice(b"\r\nsec-websocket-protocol: ");
        out.extend_from_slice(protocol);
    }
    out.extend_from_slice(b"\r\n\r\n");
    let (shard, peer) = (errand.shard, &mut *errand.peer);
    peer.limit(&shard.clock, HANDSHAKE_LIMIT);
    let send = peer.writer.send(&out);
    let sent =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send).await;
    match sent {
        Ok(Ok(())) => Ok(Ended {
            outcome: Outcome::Ok,
            after: After::Socket,
        }),
        Ok(Err(_)) | Err(Interrupt::Gone | Interrupt::Late) => Err(Stopped::Gone),
    }
}

/// Serves a socket to its end, and all that came over it. `head` is its handshake.
pub(super) async fn serve(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    head: &RequestHead<'_>,
) -> After {
    let limits = shard.snapshot().limits.clone();
    let door = Door {
        loopback: peer.loopback,
        admin: peer.admin,
    };
    let hub = Rc::new(Hub::default());
    let socket = Socket {
        shard,
        hub: &hub,
        door,
        handshake: asked::handshake(head),
        pause: limits.body_timeout,
    };
    let message_bytes = limits.body_bytes.min(limits.gather_bytes);
    let messages = Messages::new(usize::try_from(message_bytes).unwrap_or(usize::MAX));
    let after = {
        let Downstream {
            inlet,
            writer,
            deadline,
            ..
        } = peer;
        let mut up = pin!(socket.up(inlet, deadline, messages));
        let mut down = pin!(socket.down(writer, limits.idle_timeout));
        let mut reads = true;
        poll_fn(|cx| {
            // First, because what it takes makes room, of which nobody else tells the other one.
            if let Poll::Ready(after) = down.as_mut().poll(cx) {
                return Poll::Ready(after);
            }
            if reads && let Poll::Ready(end) = up.as_mut().poll(cx) {
                reads = false;
                match end {
                    End::Gone => return Poll::Ready(After::Drop),
                    End::Close(code, reason) => {
                        hub.hang_up();
                        hub.close(code, &reason);
                    }
                }
            }
            Poll::Pending
        })
        .await
    };
    hub.hang_up();
    // What goes on without its caller belongs to this connection all the same.
    poll_fn(|cx| hub.poll_empty(cx)).await;
    after
}

/// Why no more is read.
enum End {
    /// The caller went away.
    Gone,
    /// The socket is closed, with a code unless the caller gave none, and a reason.
    Close(Option<u16>, String),
}

impl End {
    fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close(Some(code), reason.into())
    }

    fn draining() -> Self {
        Self::close(GOING_AWAY, "the server is going down")
    }
}

/// A socket, as both its directions know it.
struct Socket<'s> {
    shard: &'s Rc<Shard>,
    hub: &'s Rc<Hub>,
    door: Door,
    /// The fields that every request of this socket has.
    handshake: Vec<u8>,
    /// Longest pause within a message.
    pause: Duration,
}

impl Socket<'_> {
    /// From the caller: reads messages as long as there is room for what they ask.
    async fn up(&self, inlet: &mut Inlet, deadline: &Deadline, mut messages: Messages) -> End {
        let shard = self.shard;
        loop {
            // A drain is seen because every deadline is looked at then.
            deadline.set(Some(shard.clock.coarse().after(LOOK)));
            if self.wait_for_room(inlet, deadline).await.is_err() {
                return End::Gone;
            }
            if shard.is_draining() {
                return End::draining();
            }
            let fed = match messages.feed(inlet.input()) {
                Ok(fed) => fed,
                Err(violation) => return End::close(violation.code(), violation.to_string()),
            };
            inlet.consume(fed.consumed);
            match fed.received {
                Some(Received::Text(text)) => self.begin(&text),
                Some(Received::Ping(payload)) => self.hub.pong(&payload),
                Some(Received::Pong) => {}
                Some(Received::Close(code)) => {
                    return End::Close(code, String::new());
                }
                None => {
                    let whole = messages.is_between();
                    let limit = if whole { LOOK } else { self.pause };
                    deadline.set(Some(shard.clock.coarse().after(limit)));
                    match self.wait_for_more(inlet, deadline, whole).await {
                        Ok(()) => {}
                        Err(end) => return end,
                    }
                }
            }
        }
    }

    /// Waits until another message may be read; while the server drains, until none is in flight.
    async fn wait_for_room(&self, inlet: &mut Inlet, deadline: &Deadline) -> Result<(), Interrupt> {
        let clock = &self.shard.clock;
        poll_fn(|cx| {
            let is_ready = if self.shard.is_draining() {
                self.hub.is_empty()
            } else {
                self.hub.has_room()
            };
            if is_ready {
                return Poll::Ready(Ok(()));
            }
            if inlet.is_gone(deadline, clock, cx) {
                return Poll::Ready(Err(Interrupt::Gone));
            }
            if deadline.is_past(clock.coarse(), cx) {
                deadline.set(Some(clock.coarse().after(LOOK)));
                // Registers for the next one.
                let _ = deadline.is_past(clock.coarse(), cx);
            }
            self.hub.watch(cx);
            Poll::Pending
        })
        .await
    }

    /// Waits for more of what the caller sends. `whole`: it is not in the middle of a message.
    async fn wait_for_more(
        &self,
        inlet: &mut Inlet,
        deadline: &Deadline,
        whole: bool,
    ) -> Result<(), End> {
        let clock = &self.shard.clock;
        poll_fn(|cx| match inlet.poll_more(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(End::Gone)),
            // What is in flight is waited for where the next message would be.
            Poll::Pending if self.shard.is_draining() => Poll::Ready(Ok(())),
            Poll::Pending if !deadline.is_past(clock.coarse(), cx) => Poll::Pending,
            Poll::Pending if whole => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Ready(Err(End::close(
                POLICY,
                "the rest of a message did not arrive in time",
            ))),
        })
        .await
    }

    /// To the caller: sends what lies ready, until the socket has closed.
    async fn down(&self, writer: &mut Writer, limit: Duration) -> After {
        let clock = &self.shard.clock;
        let deadline = self.shard.deadlines.open();
        let mut out = Vec::new();
        while let Some(ready) = poll_fn(|cx| self.hub.poll_ready(&mut out, cx)).await {
            let sent = clock::in_time(&deadline, clock, limit, writer.send(&ready)).await;
            if !matches!(sent, Some(Ok(()))) {
                return After::Drop;
            }
            out = ready;
        }
        After::Close
    }

    /// Does what a message asks for: begins a request, or says why not.
    fn begin(&self, text: &str) {
        let asked = asked::read(text).and_then(|asked| match &asked.event_id {
            Some(id) if self.hub.knows(id) => Err(asked.refuse(Refusal::bad_body(
                &"a request with this eventId is in flight on this socket, and the frames of both could not be told apart: choose another id, or wait for its universal.done",
            ))),
            _ => Ok(asked),
        });
        match asked {
            Ok(asked) => {
                let place = Hub::enter(self.hub, asked.event_id.clone(), asked.body.len());
                let head = asked::head(&self.handshake, &asked);
                let shard = Rc::clone(self.shard);
                accept::spawn(self.shard, run(shard, place, self.door, head, asked));
            }
            Err(rejected) => {
                let mut out = Vec::new();
                frame::rejected(&mut out, rejected.event_id.as_deref(), &rejected.refusal);
                self.hub.push(&out);
            }
        }
    }
}

/// Carries one request.
async fn run(shard: Rc<Shard>, place: Place, door: Door, head: Vec<u8>, asked: Asked) {
    let Asked { event_id, body } = asked;
    let answer = Rc::new(Answer::new(place, event_id));
    // Were this task to end in a panic, the caller would hear of it all the same.
    let _ending = Ending(Rc::clone(&answer));
    let sink = Rc::clone(&answer);
    let mut peer = Downstream::new(&shard, Stream::within(sink), body, door);
    carry(&shard, &mut peer, head, false).await;
}

/// Ends an answer, however its request ended.
struct Ending(Rc<Answer>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}
