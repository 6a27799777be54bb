//! One exchange over a link: its request goes out as the provider has room for it, its answer
//! comes back frame by frame.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use monoio_http::h2::{Error, Reason, RecvStream, SendStream, client::ResponseFuture};

use super::Lease;
use crate::shard::{Shard, accept};

/// Room that a provider gives a stream to begin with, unless it says otherwise (RFC 9113 section
/// 6.9.2): a body that fits has left.
const FIRST_WINDOW: usize = 65_535;

/// Longest time between an answer's last byte and its end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// One exchange. Dropping it before its end cancels it: the provider gets a reset at once.
pub struct Call {
    /// The stream; the request's body goes into it.
    stream: SendStream<Bytes>,
    /// The request is not whole yet.
    sending: bool,
    /// Bytes of its body handed over.
    handed: usize,
    /// What is left of a request's body that was whole when the answer began.
    rest: Bytes,
    answer: Option<ResponseFuture>,
    head: Option<Result<Response<RecvStream>, Error>>,
    body: Option<RecvStream>,
    /// A frame, or what of it found no room in the last read.
    frame: Bytes,
    /// The answer has come to its end.
    ended: bool,
    /// Bytes read whose room the provider has not been given back.
    held: usize,
    /// The buffer of the read in flight.
    buffer: Option<Vec<u8>>,
    /// Last: the link may end when it is given back.
    lease: Lease,
}

/// Why a call ended before its answer's head came.
#[derive(Debug)]
pub enum CallError {
    /// The provider did no work on it (RFC 9113 section 8.7), so it may be sent again.
    Refused,
    /// It broke.
    Broken(Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        // A GOAWAY reaches only those exchanges that were not begun.
        let refused = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        if refused {
            Self::Refused
        } else {
            Self::Broken(error)
        }
    }
}

impl Call {
    /// Sends the head. `ends`: there is no body.
    pub fn start(lease: Lease, request: Request<()>, ends: bool) -> Result<Self, CallError> {
        // Nothing was sent where this fails: the link closed, or its stream numbers are used up.
        let mut sender = lease.sender().ok_or(CallError::Refused)?;
        let (answer, stream) =
            sender
                .send_request(request, ends)
                .map_err(|error| match error.reason() {
                    None if !error.is_io() && lease.link.is_open() => CallError::Broken(error),
                    _ => CallError::Refused,
                })?;
        Ok(Self {
            stream,
            sending: !ends,
            handed: 0,
            rest: Bytes::new(),
            answer: Some(answer),
            head: None,
            body: None,
            frame: Bytes::new(),
            ended: false,
            held: 0,
            buffer: None,
            lease,
        })
    }

    /// Hands over as much of `body` as the provider has room for, and takes it away. Ready when
    /// all of it was taken, or when no more is wanted: the answer's head then says why. `ends`:
    /// the request ends with it; it must not be empty then.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, body: &mut &[u8], ends: bool) -> Poll<()> {
        while self.sending && !body.is_empty() {
            let Some(room) = ready!(poll_room(&mut self.stream, cx, body.len())) else {
                return Poll::Ready(());
            };
            let (now, later) = body.split_at(room.min(body.len()));
            if !self.hand_over(Bytes::copy_from_slice(now), ends && later.is_empty()) {
                return Poll::Ready(());
            }
            *body = later;
        }
        Poll::Ready(())
    }

    /// Says whether the stream took the piece.
    fn hand_over(&mut self, piece: Bytes, ends: bool) -> bool {
        self.handed = self.handed.saturating_add(piece.len());
        let taken = self.stream.send_data(piece, ends).is_ok();
        self.sending &= !(taken && ends);
        taken
    }

    /// Says that the body, handed over so far, is whole.
    pub fn end_body(&mut self) {
        // A stream that was reset meanwhile says so by its answer.
        self.hand_over(Bytes::new(), true);
    }

    /// Keeps what is left of a body: it is sent while the answer is being read.
    pub fn keep_rest(&mut self, body: &[u8]) {
        self.rest = Bytes::copy_from_slice(body);
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) {
        while self.sending && !self.rest.is_empty() {
            let Poll::Ready(Some(room)) = poll_room(&mut self.stream, cx, self.rest.len()) else {
                return;
            };
            let now = self.rest.split_to(room.min(self.rest.len()));
            let ends = self.rest.is_empty();
            if !self.hand_over(now, ends) {
                return;
            }
        }
    }

    /// Says whether the answer's head has come, or will never come.
    pub fn is_answered(&mut self, cx: &mut Context<'_>) -> bool {
        if self.head.is_none()
            && let Some(answer) = &mut self.answer
            && let Poll::Ready(head) = Pin::new(answer).poll(cx)
        {
            self.answer = None;
            self.head = Some(head);
        }
        self.head.is_some()
    }

    /// Polls for the answer's head, which comes once.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::response::Parts, CallError>> {
        if !self.is_answered(cx) {
            return Poll::Pending;
        }
        let Some(head) = self.head.take() else {
            return Poll::Pending;
        };
        match head {
            Ok(head) => {
                let (parts, body) = head.into_parts();
                self.body = Some(body);
                Poll::Ready(Ok(parts))
            }
            Err(error) => {
                self.lease.note_error(&error);
                Poll::Ready(Err(error.into()))
            }
        }
    }

    /// Starts a read of the answer's body that appends to `buffer`, at most up to its capacity.
    /// What was read before has been used by now: the provider gets its room back.
    pub fn arm(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.buffer.is_some() || buffer.len() == buffer.capacity() {
            return Some(buffer);
        }
        let held = std::mem::take(&mut self.held);
        if let Some(body) = &mut self.body
            && held > 0
        {
            // Only a stream that has ended can refuse it.
            let _ = body.flow_control().release_capacity(held);
        }
        self.buffer = Some(buffer);
        None
    }

    /// Polls the read in flight: whatever has arrived, nothing at the answer's end, an error
    /// where it was cut.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<(io::Result<usize>, Vec<u8>)> {
        let Some(mut buffer) = self.buffer.take() else {
            return Poll::Pending;
        };
        self.poll_rest(cx);
        let from = buffer.len();
        let result = self.take_frames(cx, &mut buffer);
        let read = buffer.len() - from;
        match result {
            // What came before the end, or the cut, goes out first.
            _ if read > 0 => {
                self.held += read;
                Poll::Ready((Ok(read), buffer))
            }
            Poll::Ready(Ok(())) => Poll::Ready((Ok(0), buffer)),
            Poll::Ready(Err(error)) => Poll::Ready((Err(error), buffer)),
            Poll::Pending => {
                self.buffer = Some(buffer);
                Poll::Pending
            }
        }
    }

    /// Gives the read in flight up; nothing is lost.
    pub fn disarm(&mut self) -> Option<Vec<u8>> {
        self.buffer.take()
    }

    fn take_frames(&mut self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Ok(()));
        };
        loop {
            let room = buffer.capacity() - buffer.len();
            let part = self.frame.split_to(self.frame.len().min(room));
            buffer.extend_from_slice(part.chunk());
            if buffer.len() == buffer.capacity() {
                return Poll::Pending;
            }
            match ready!(body.poll_data(cx)) {
                Some(Ok(frame)) => self.frame = frame,
                Some(Err(error)) => {
                    // The answer was whole and the provider does not want the rest of the
                    // request (RFC 9113 section 8.1).
                    let early = self.sending
                        && error.is_remote()
                        && error.is_reset()
                        && error.reason() == Some(Reason::NO_ERROR);
                    if early {
                        self.ended = true;
                        return Poll::Ready(Ok(()));
                    }
                    self.lease.note_error(&error);
                    return Poll::Ready(Err(cut(&error)));
                }
                None => {
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.ended || self.body.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    /// Lets a call whose answer is whole come to its end, which may arrive after the last byte.
    /// A reset in its place would look as if the exchange had been given up.
    pub fn finish(mut self: Box<Self>, shard: &Rc<Shard>) {
        if self.sending || self.has_ended() || self.arm(Vec::with_capacity(1)).is_some() {
            return;
        }
        let deadline = shard.deadlines.open();
        deadline.set(Some(shard.clock.now().after(END_LIMIT)));
        let clock = Rc::clone(shard);
        accept::spawn(shard, async move {
            poll_fn(|cx| match self.poll_read(cx) {
                Poll::Pending if deadline.is_past(clock.clock.now(), cx) => Poll::Ready(()),
                polled => polled.map(drop),
            })
            .await;
        });
    }

    /// Time has run out for this call.
    pub fn note_timeout(&self) {
        self.lease.note_timeout();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Said aloud always: the client's own way of giving a stream up hands out the room of
        // bodies that were not sent a second time, and later dies of it. Where both sides have
        // ended nothing is sent, but what still waits for room is let go.
        if self.sending || !self.has_ended() || self.handed > FIRST_WINDOW {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

/// Room for some of the `wanted` bytes. `None`: the provider wants no more.
fn poll_room(
    send: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
) -> Poll<Option<usize>> {
    send.reserve_capacity(wanted);
    loop {
        let room = send.capacity();
        if room > 0 {
            return Poll::Ready(Some(room));
        }
        match ready!(send.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(None),
        }
    }
}

fn cut(error: &Error) -> io::Error {
    match error.get_io() {
        Some(error) => io::Error::new(error.kind(), error.to_string()),
        None => io::Error::new(io::ErrorKind::ConnectionReset, error.to_string()),
    }
}
