//! One exchange over a link: its request goes out as the provider has room for it, its answer
//! comes back frame by frame.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use monoio_http::h2::{Error, Reason, RecvStream, SendStream, client::ResponseFuture};

use super::Lease;

/// One exchange. Dropping it before its end cancels it: the provider gets a reset at once.
pub struct Call {
    /// The request's body, until all of it was handed over.
    send: Option<SendStream<Bytes>>,
    /// What is left of a request's body that was whole when the answer began.
    rest: Bytes,
    answer: Option<ResponseFuture>,
    head: Option<Result<Response<RecvStream>, Error>>,
    body: Option<RecvStream>,
    /// A frame, or what of it found no room in the last read.
    frame: Bytes,
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
        let refused = error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        if refused { Self::Refused } else { Self::Broken(error) }
    }
}

impl Call {
    /// Sends the head. `ends`: there is no body.
    pub fn start(lease: Lease, request: Request<()>, ends: bool) -> Result<Self, CallError> {
        // Nothing was sent where this fails: the link closed, or its stream numbers are used up.
        let mut sender = lease.sender().ok_or(CallError::Refused)?;
        let (answer, send) = sender.send_request(request, ends).map_err(|error| match error.reason() {
            None if !error.is_io() && lease.link.is_open() => CallError::Broken(error),
            _ => CallError::Refused,
        })?;
        Ok(Self {
            send: (!ends).then_some(send),
            rest: Bytes::new(),
            answer: Some(answer),
            head: None,
            body: None,
            frame: Bytes::new(),
            held: 0,
            buffer: None,
            lease,
        })
    }

    /// Hands over as much of `body` as the provider has room for, and takes it away. Ready when
    /// all of it was taken, or when no more is wanted: the answer's head then says why. `ends`:
    /// the request ends with it; it must not be empty then.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, body: &mut &[u8], ends: bool) -> Poll<()> {
        let Some(send) = &mut self.send else {
            return Poll::Ready(());
        };
        while !body.is_empty() {
            let Some(room) = ready!(poll_room(send, cx, body.len())) else {
                return Poll::Ready(());
            };
            let (now, later) = body.split_at(room.min(body.len()));
            let piece = Bytes::copy_from_slice(now);
            if send.send_data(piece, ends && later.is_empty()).is_err() {
                return Poll::Ready(());
            }
            *body = later;
        }
        if ends {
            self.send = None;
        }
        Poll::Ready(())
    }

    /// Says that the body, handed over so far, is whole.
    pub fn end_body(&mut self) {
        if let Some(mut send) = self.send.take() {
            // A stream that was reset meanwhile says so by its answer.
            let _ = send.send_data(Bytes::new(), true);
        }
    }

    /// Keeps what is left of a body: it is sent while the answer is being read.
    pub fn keep_rest(&mut self, body: &[u8]) {
        if self.send.is_some() {
            self.rest = Bytes::copy_from_slice(body);
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) {
        let Some(send) = &mut self.send else {
            return;
        };
        while !self.rest.is_empty() {
            let room = match poll_room(send, cx, self.rest.len()) {
                Poll::Ready(Some(room)) => room,
                Poll::Ready(None) => break,
                Poll::Pending => return,
            };
            let now = self.rest.split_to(room.min(self.rest.len()));
            let ends = self.rest.is_empty();
            if send.send_data(now, ends).is_err() {
                return;
            }
            if ends {
                self.send = None;
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
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<http::response::Parts, CallError>> {
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
                    let early = self.send.is_some() && error.is_remote() && error.is_reset() && error.reason() == Some(Reason::NO_ERROR);
                    if early {
                        return Poll::Ready(Ok(()));
                    }
                    self.lease.note_error(&error);
                    return Poll::Ready(Err(cut(&error)));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Time has run out for this call.
    pub fn note_timeout(&self) {
        self.lease.note_timeout();
    }
}

/// Room for some of the `wanted` bytes. `None`: the provider wants no more.
fn poll_room(send: &mut SendStream<Bytes>, cx: &mut Context<'_>, wanted: usize) -> Poll<Option<usize>> {
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
