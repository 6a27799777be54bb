//! What all requests of one socket share: their places, what waits to be sent, and the news that
//! the caller has gone.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::http::websocket;

/// Requests in flight on one socket. Past it the socket is not read until one has ended.
const IN_FLIGHT_MAX: usize = 32;

/// Bytes of the requests in flight. A request that is larger than what is left goes all the same,
/// and is then the last.
const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that wait to be sent. Past it answers wait, each with what it has at hand.
const READY_BYTES_MAX: usize = 256 * 1024;

/// Greatest buffer that is used again.
const SPARE_BYTES_MAX: usize = 16 * 1024;

/// The meeting point of a socket's task and those of its requests.
#[derive(Default)]
pub(super) struct Hub {
    /// Frames on their way to the caller.
    ready: RefCell<Vec<u8>>,
    /// Nothing goes behind the close frame.
    closed: Cell<bool>,
    /// The caller has gone, or is about to be left.
    gone: Cell<bool>,
    requests: RefCell<Vec<Option<Request>>>,
    in_flight: Cell<usize>,
    bytes: Cell<usize>,
    /// An answer holds more than its share.
    large: Cell<bool>,
    socket: RefCell<Option<Waker>>,
}

struct Request {
    event_id: Option<Box<str>>,
    bytes: usize,
    waker: Option<Waker>,
}

impl Hub {
    /// Gives a request its place.
    pub(super) fn enter(hub: &Rc<Self>, event_id: Option<String>, bytes: usize) -> Place {
        let request = Request {
            event_id: event_id.map(String::into_boxed_str),
            bytes,
            waker: None,
        };
        let mut requests = hub.requests.borrow_mut();
        let free = requests.iter().position(Option::is_none);
        let number = free.unwrap_or(requests.len());
        match requests.get_mut(number) {
            Some(place) => *place = Some(request),
            None => requests.push(Some(request)),
        }
        hub.in_flight.set(hub.in_flight.get() + 1);
        hub.bytes.set(hub.bytes.get() + bytes);
        Place {
            hub: Rc::clone(hub),
            number,
            holds_large: Cell::new(false),
        }
    }

    /// Says whether a request of that name is in flight.
    pub(super) fn knows(&self, event_id: &str) -> bool {
        let requests = self.requests.borrow();
        let mut ids = requests.iter().flatten();
        ids.any(|request| request.event_id.as_deref() == Some(event_id))
    }

    /// Says whether another request may come.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.get() < IN_FLIGHT_MAX
            && self.bytes.get() < IN_FLIGHT_BYTES_MAX
            && self.has_room_to_send()
    }

    fn has_room_to_send(&self) -> bool {
        self.ready.borrow().len() < READY_BYTES_MAX
    }

    /// Says whether none is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.get() == 0
    }

    /// Ready when none is in flight.
    pub(super) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_empty() {
            return Poll::Ready(());
        }
        self.watch(cx);
        Poll::Pending
    }

    /// Wakes the socket's task when something has changed.
    pub(super) fn watch(&self, cx: &mut Context<'_>) {
        let mut socket = self.socket.borrow_mut();
        if !socket
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *socket = Some(cx.waker().clone());
        }
    }

    fn wake_socket(&self) {
        if let Some(waker) = self.socket.borrow_mut().take() {
            waker.wake();
        }
    }

    fn wake_requests(&self) {
        for request in self.requests.borrow_mut().iter_mut().flatten() {
            if let Some(waker) = request.waker.take() {
                waker.wake();
            }
        }
    }

    /// Puts whole frames behind those that wait to be sent.
    pub(super) fn push(&self, frames: &[u8]) {
        if !self.closed.get() {
            self.ready.borrow_mut().extend_from_slice(frames);
            self.wake_socket();
        }
    }

    /// Answers a ping.
    pub(super) fn pong(&self, payload: &[u8]) {
        let mut frame = Vec::new();
        websocket::write_pong(&mut frame, payload);
        self.push(&frame);
    }

    /// Puts the close frame behind what waits to be sent, and nothing behind it.
    pub(super) fn close(&self, code: Option<u16>, reason: &str) {
        let mut frame = Vec::new();
        websocket::write_close(&mut frame, code, reason);
        self.push(&frame);
        self.closed.set(true);
    }

    /// Ready with what is to be sent, or `None` after the last of it. `spare` is a buffer to go on
    /// with.
    pub(super) fn poll_ready(
        &self,
        spare: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Vec<u8>>> {
        let mut ready = self.ready.borrow_mut();
        if ready.is_empty() {
            drop(ready);
            if self.closed.get() {
                return Poll::Ready(None);
            }
            self.watch(cx);
            return Poll::Pending;
        }
        let mut next = std::mem::take(spare);
        next.clear();
        // What one great answer took is not kept by a socket that may be idle from here on.
        if next.capacity() > SPARE_BYTES_MAX {
            next = Vec::new();
        }
        let ready = std::mem::replace(&mut *ready, next);
        self.wake_requests();
        Poll::Ready(Some(ready))
    }

    /// Tells every request that its caller has gone.
    pub(super) fn hang_up(&self) {
        self.gone.set(true);
        self.wake_requests();
    }
}

/// A request's place on its socket, until it is dropped.
pub(super) struct Place {
    hub: Rc<Hub>,
    number: usize,
    /// This is the answer that holds more than its share.
    holds_large: Cell<bool>,
}

impl Place {
    /// Says whether the caller has gone; if not, the task is woken when it goes, or when there may
    /// be room.
    pub(super) fn is_gone(&self, cx: &mut Context<'_>) -> bool {
        if self.hub.gone.get() {
            return true;
        }
        self.watch(cx);
        false
    }

    /// Says whether a piece of the answer may be taken; if not, the task is woken when it may.
    pub(super) fn has_room(&self, cx: &mut Context<'_>) -> bool {
        let has_room = self.hub.has_room_to_send();
        if !has_room {
            self.watch(cx);
        }
        has_room
    }

    /// Asks to hold more than an answer's share, which one answer of a socket at a time may; if
    /// another does, the task is woken when that has ended.
    pub(super) fn may_be_large(&self, cx: &mut Context<'_>) -> bool {
        if self.holds_large.get() {
            return true;
        }
        if self.hub.large.get() {
            self.watch(cx);
            return false;
        }
        self.hub.large.set(true);
        self.holds_large.set(true);
        true
    }

    /// Says that the answer holds no more than its share.
    pub(super) fn be_small(&self) {
        if self.holds_large.replace(false) {
            self.hub.large.set(false);
            self.hub.wake_requests();
        }
    }

    /// Puts whole frames behind those that wait to be sent.
    pub(super) fn push(&self, frames: &[u8]) {
        self.hub.push(frames);
    }

    fn watch(&self, cx: &mut Context<'_>) {
        let mut requests = self.hub.requests.borrow_mut();
        if let Some(Some(request)) = requests.get_mut(self.number)
            && !request
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            request.waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let hub = &self.hub;
        let mut requests = hub.requests.borrow_mut();
        let request = requests.get_mut(self.number).and_then(Option::take);
        drop(requests);
        let bytes = request.map_or(0, |request| request.bytes);
        hub.bytes.set(hub.bytes.get().saturating_sub(bytes));
        hub.in_flight.set(hub.in_flight.get().saturating_sub(1));
        hub.wake_socket();
        self.be_small();
    }
}
