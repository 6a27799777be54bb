//! A response in progress: frames that are only ever added to, and any number of readers.
//!
//! The call to the provider is a task of its own, which has the [`Writer`]; each exchange that gets
//! its answer has a [`Reader`], at any offset. Readers catch up with what is there and then follow
//! live. All of them are on the shard of the call.
//!
//! * **Pace.** Before each read from the provider the writer awaits [`Writer::may_go_on`]: until
//!   one reader has passed on everything, which is the fastest one. A reader says that it has passed
//!   a frame on by asking for the next. With nobody left the writer is told, and goes on or not.
//! * **Memory.** A track keeps what it has, so that others can join, up to [`TRACK_BYTES_MAX`] and a
//!   total for all tracks of a shard. Past that the oldest frames go and nobody may join any more;
//!   a reader that still wanted them is cut. The newest frame stays for readers that keep up.
//! * **The end.** [`Writer::end`] is the only clean end. A writer that is dropped has aborted, and a
//!   reader that is cut or aborted gets an error, after what it could still be given: never an end
//!   that a caller could take for the whole.
//!
//! How an exchange uses it: [`Tracks::open`] gives writer and track; [`Track::join`] a reader for
//! itself and for each follower, at offset 0 or where a caller wants to go on; the relay sends what
//! [`Reader::next`] gives. After a clean end [`Track::whole`] is what the cache keeps.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::cache::cached::Frame;
use crate::domain::{cache::ANSWER_BYTES_MAX, usage::Usage};

/// Greatest track: what could be cached at its end.
pub const TRACK_BYTES_MAX: u64 = ANSWER_BYTES_MAX;

/// The tracks of one shard.
#[derive(Debug)]
pub struct Tracks {
    held: Rc<Held>,
}

/// Bytes that all tracks of a shard hold, and may hold.
#[derive(Debug)]
struct Held {
    bytes: Cell<u64>,
    max: u64,
}

/// One response, as its readers know it.
#[derive(Debug, Clone)]
pub struct Track(Rc<RefCell<State>>);

/// Adds to a track. Dropped without [`Writer::end`], it aborts it.
#[derive(Debug)]
pub struct Writer(Rc<RefCell<State>>);

/// Reads a track from some offset on.
#[derive(Debug)]
pub struct Reader {
    state: Rc<RefCell<State>>,
    place: usize,
}

/// A piece of a response: what came in one read, or the rest of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    bytes: Arc<[u8]>,
    skipped: usize,
    /// Microseconds from the answer's head to its arrival.
    pub micros: u32,
}

impl Piece {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.skipped..).unwrap_or_default()
    }

    /// The bytes of the whole frame, for who reads from the beginning.
    pub fn into_frame(self) -> Arc<[u8]> {
        self.bytes
    }
}

/// Why a reader does not get the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The provider's answer ended early.
    #[error("the answer ended early")]
    Aborted,
    /// The reader was so slow that what it still wanted is no longer kept.
    #[error("the reader fell too far behind")]
    Behind,
}

/// Why nobody can read from an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The beginning is no longer kept.
    #[error("the answer is too large to be joined")]
    Closed,
    /// The answer has aborted.
    #[error("the answer ended early")]
    Aborted,
    /// There is no such offset yet.
    #[error("the answer has not come so far")]
    Beyond,
}

/// Whether a writer should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A reader wants more.
    Wanted,
    /// Nobody reads.
    Abandoned,
}

#[derive(Debug)]
struct State {
    held: Rc<Held>,
    frames: VecDeque<Kept>,
    /// Offset of the first frame that is kept, and of the end.
    start: u64,
    length: u64,
    /// Something is no longer kept.
    closed: bool,
    ending: Option<Ending>,
    /// What it used, where that is known at its end.
    usage: Usage,
    readers: Vec<Option<Place>>,
    free: Vec<usize>,
    writer: Option<Waker>,
}

/// How a track ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    Aborted,
}

#[derive(Debug)]
struct Kept {
    /// Offset of its first byte.
    start: u64,
    bytes: Arc<[u8]>,
    micros: u32,
}

impl Kept {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// Where a reader is.
#[derive(Debug)]
struct Place {
    /// What it has passed on.
    done: u64,
    /// What it was given.
    given: u64,
    waker: Option<Waker>,
}

impl Tracks {
    /// No tracks yet, which may hold so many bytes together.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            held: Rc::new(Held {
                bytes: Cell::new(0),
                max: bytes_max,
            }),
        }
    }

    /// Bytes that all tracks hold.
    pub fn bytes(&self) -> u64 {
        self.held.bytes.get()
    }

    /// Bytes that they may hold.
    pub fn bytes_max(&self) -> u64 {
        self.held.max
    }

    /// Opens a track.
    pub fn open(&self) -> (Writer, Track) {
        let state = Rc::new(RefCell::new(State {
            held: Rc::clone(&self.held),
            frames: VecDeque::new(),
            start: 0,
            length: 0,
            closed: false,
            ending: None,
            usage: Usage::UNKNOWN,
            readers: Vec::new(),
            free: Vec::new(),
            writer: None,
        }));
        (Writer(Rc::clone(&state)), Track(state))
    }
}

impl Track {
    /// Reads from `offset` on.
    pub fn join(&self, offset: u64) -> Result<Reader, JoinError> {
        let mut state = self.0.borrow_mut();
        if state.closed {
            return Err(JoinError::Closed);
        }
        if state.ending == Some(Ending::Aborted) {
            return Err(JoinError::Aborted);
        }
        if offset > state.length {
            return Err(JoinError::Beyond);
        }
        let reader = Place {
            done: offset,
            given: offset,
            waker: None,
        };
        let place = state.free.pop().unwrap_or_else(|| {
            state.readers.push(None);
            state.readers.len() - 1
        });
        if let Some(free) = state.readers.get_mut(place) {
            *free = Some(reader);
        }
        state.wake_writer();
        drop(state);
        Ok(Reader {
            state: Rc::clone(&self.0),
            place,
        })
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.0.borrow().length
    }

    /// Says whether somebody could read it from its beginning.
    pub fn is_joinable(&self) -> bool {
        let state = self.0.borrow();
        !state.closed && state.ending != Some(Ending::Aborted)
    }

    /// Lets nobody join any more, so that what all have read is not kept.
    pub fn close(&self) {
        let mut state = self.0.borrow_mut();
        state.closed = true;
        state.give_up();
    }

    /// What the response used, known from its clean end on.
    pub fn usage(&self) -> Usage {
        self.0.borrow().usage
    }

    /// How many readers there are.
    pub fn readers(&self) -> usize {
        let state = self.0.borrow();
        state.readers.len() - state.free.len()
    }

    /// Appends the whole response to `out`, once it has come to a clean end and if nothing of it was
    /// given up, and says how it came.
    pub fn whole(&self, out: &mut Vec<u8>) -> Option<Box<[Frame]>> {
        let state = self.0.borrow();
        if state.closed || state.ending != Some(Ending::Whole) {
            return None;
        }
        out.reserve_exact(usize::try_from(state.length).ok()?);
        let mut frames = Vec::with_capacity(state.frames.len());
        for kept in &state.frames {
            out.extend_from_slice(&kept.bytes);
            frames.push(Frame {
                end: u32::try_from(kept.end()).ok()?,
                micros: kept.micros,
            });
        }
        Some(frames.into_boxed_slice())
    }
}

impl Writer {
    /// Waits until a reader has passed on everything, or there is none.
    pub async fn may_go_on(&self) -> Pace {
        poll_fn(|cx| self.poll_may_go_on(cx)).await
    }

    fn poll_may_go_on(&self, cx: &Context<'_>) -> Poll<Pace> {
        let mut state = self.0.borrow_mut();
        let mut readers = state.readers.iter().flatten().peekable();
        if readers.peek().is_none() {
            return Poll::Ready(Pace::Abandoned);
        }
        if readers.any(|reader| reader.done == state.length) {
            return Poll::Ready(Pace::Wanted);
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Says whether anybody reads.
    pub fn is_read(&self) -> bool {
        self.0.borrow().readers.iter().flatten().next().is_some()
    }

    /// Runs `work`; `None`: before its end nobody read any more.
    pub async fn while_read<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let mut state = self.0.borrow_mut();
            if state.readers.iter().flatten().next().is_none() {
                return Poll::Ready(None);
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Adds what came in one read, `micros` after the answer's head.
    pub fn push(&self, bytes: &[u8], micros: u32) {
        self.push_frame(bytes.into(), micros);
    }

    /// The same, with bytes that are shared.
    pub fn push_frame(&self, bytes: Arc<[u8]>, micros: u32) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.0.borrow_mut();
        let added = bytes.len() as u64;
        let kept = Kept {
            start: state.length,
            bytes,
            micros,
        };
        state.frames.push_back(kept);
        state.length += added;
        state.held.add(added);
        state.give_up();
        state.wake_readers();
    }

    /// Says that the response is whole.
    pub fn end(self) {
        self.0.borrow_mut().finish(Ending::Whole);
    }

    /// Says that the response is whole, and what it used.
    pub fn end_used(self, usage: Usage) {
        self.0.borrow_mut().usage = usage;
        self.end();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.try_borrow_mut() {
            state.finish(Ending::Aborted);
        }
    }
}

impl Reader {
    /// The next piece, once there is one. `None` is the clean end. To ask is to say that the piece
    /// before was passed on.
    pub async fn next(&mut self) -> Result<Option<Piece>, Cut> {
        self.state.borrow_mut().passed_on(self.place);
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            state.poll_next(self.place, cx)
        })
        .await
    }

    /// Waits until [`Reader::next`] can say something.
    pub async fn ready(&mut self) -> Result<(), Cut> {
        poll_fn(|cx| self.state.borrow_mut().poll_ready(self.place, cx)).await
    }

    /// Says whether [`Reader::next`] would wait.
    pub fn would_wait(&self) -> bool {
        let state = self.state.borrow();
        let given = state.readers.get(self.place).and_then(Option::as_ref);
        given.is_some_and(|place| place.given == state.length) && state.ending.is_none()
    }

    /// What the response used, known from its clean end on.
    pub fn usage(&self) -> Usage {
        self.state.borrow().usage
    }

    /// Offset of what was passed on: where another reader could go on.
    pub fn offset(&self) -> u64 {
        let state = self.state.borrow();
        let place = state.readers.get(self.place);
        place.and_then(Option::as_ref).map_or(0, |place| place.done)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.try_borrow_mut() {
            if let Some(place) = state.readers.get_mut(self.place) {
                *place = None;
            }
            state.free.push(self.place);
            // It may have been the fastest, or the last.
            state.wake_writer();
        }
    }
}

impl State {
    /// Gives up the oldest frames while there is too much; and, when nobody can join any more,
    /// what every reader has been given.
    fn give_up(&mut self) {
        let kept = |state: &Self| state.length - state.start;
        while kept(self) > TRACK_BYTES_MAX || self.held.is_full() {
            self.closed = true;
            if self.is_just_what_is_wanted() || !self.drop_oldest() {
                break;
            }
        }
        if self.closed {
            let readers = self.readers.iter().flatten();
            let slowest = readers.map(|reader| reader.given).min();
            let slowest = slowest.unwrap_or(self.length);
            while self
                .frames
                .front()
                .is_some_and(|kept| kept.end() <= slowest)
            {
                self.drop_oldest();
            }
        }
    }

    /// Says whether only the newest frame is left, and somebody who keeps up waits for it: who is not
    /// slow is never cut, however full the shard is.
    fn is_just_what_is_wanted(&self) -> bool {
        let mut readers = self.readers.iter().flatten();
        match self.frames.front() {
            Some(only) if self.frames.len() == 1 => readers.any(|it| it.given == only.start),
            Some(_) | None => false,
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.frames.pop_front() else {
            return false;
        };
        self.start = oldest.end();
        self.held.take_off(oldest.bytes.len() as u64);
        true
    }

    fn finish(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            self.wake_readers();
        }
    }

    fn wake_readers(&mut self) {
        for reader in self.readers.iter_mut().flatten() {
            if let Some(waker) = reader.waker.take() {
                waker.wake();
            }
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn passed_on(&mut self, place: usize) {
        let length = self.length;
        if let Some(Some(reader)) = self.readers.get_mut(place) {
            reader.done = reader.given;
            if reader.done == length {
                self.wake_writer();
            }
        }
    }

    fn poll_ready(&mut self, place: usize, cx: &Context<'_>) -> Poll<Result<(), Cut>> {
        let Some(Some(reader)) = self.readers.get_mut(place) else {
            return Poll::Ready(Err(Cut::Behind));
        };
        if reader.given < self.length {
            return Poll::Ready(Ok(()));
        }
        match self.ending {
            Some(Ending::Whole) => Poll::Ready(Ok(())),
            Some(Ending::Aborted) => Poll::Ready(Err(Cut::Aborted)),
            None => {
                reader.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_next(&mut self, place: usize, cx: &Context<'_>) -> Poll<Result<Option<Piece>, Cut>> {
        let Some(Some(reader)) = self.readers.get_mut(place) else {
            return Poll::Ready(Err(Cut::Behind));
        };
        if reader.given < self.start {
            return Poll::Ready(Err(Cut::Behind));
        }
        if reader.given < self.length {
            let given = reader.given;
            let index = self.frames.partition_point(|kept| kept.end() <= given);
            let Some(kept) = self.frames.get(index) else {
                return Poll::Ready(Err(Cut::Behind));
            };
            reader.given = kept.end();
            let piece = Piece {
                bytes: Arc::clone(&kept.bytes),
                // Within a frame, whose length fits.
                skipped: usize::try_from(given - kept.start).unwrap_or(usize::MAX),
                micros: kept.micros,
            };
            return Poll::Ready(Ok(Some(piece)));
        }
        match self.ending {
            Some(Ending::Whole) => Poll::Ready(Ok(None)),
            Some(Ending::Aborted) => Poll::Ready(Err(Cut::Aborted)),
            None => {
                reader.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.held.take_off(self.length - self.start);
    }
}

impl Held {
    fn is_full(&self) -> bool {
        self.bytes.get() > self.max
    }

    fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn take_off(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }
}

#[cfg(test)]
mod tests;
