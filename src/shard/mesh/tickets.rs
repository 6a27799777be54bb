//! The table of a shard's open questions.
//!
//! A ticket is a place in the table and how often that place was used, so that an answer to an old
//! question is none to a new one.

use std::task::Waker;

use super::Answer;

/// The open questions of one shard.
#[derive(Default)]
pub(super) struct Tickets {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Place {
    uses: u32,
    open: bool,
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Tickets {
    /// Opens a ticket.
    pub(super) fn open(&mut self) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            // A place is memory of an exchange; there are never 2³² at once.
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let uses = self.places.get_mut(index as usize).map_or(0, |place| {
            place.uses = place.uses.wrapping_add(1);
            place.open = true;
            place.uses
        });
        u64::from(uses) << 32 | u64::from(index)
    }

    /// Says whether somebody still waits for its answer.
    pub(super) fn is_open(&self, ticket: u64) -> bool {
        let (uses, index) = parts(ticket);
        let place = self.places.get(index);
        place.is_some_and(|place| place.open && place.uses == uses)
    }

    fn place(&mut self, ticket: u64) -> Option<&mut Place> {
        let (uses, index) = parts(ticket);
        let place = self.places.get_mut(index)?;
        (place.open && place.uses == uses).then_some(place)
    }

    /// Puts an answer to its ticket and wakes who waits; gives it back if nobody does. A promise
    /// that was not looked at yet gives way to what it promised.
    pub(super) fn deliver(&mut self, ticket: u64, answer: Answer) -> Result<(), Answer> {
        let Some(place) = self.place(ticket) else {
            return Err(answer);
        };
        place.answer = Some(answer);
        if let Some(waker) = place.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Takes the answer to a ticket, if it is there.
    pub(super) fn take(&mut self, ticket: u64) -> Option<Answer> {
        self.place(ticket)?.answer.take()
    }

    /// Has that task woken when an answer comes.
    pub(super) fn wake(&mut self, ticket: u64, waker: &Waker) {
        if let Some(place) = self.place(ticket)
            && !place.waker.as_ref().is_some_and(|old| old.will_wake(waker))
        {
            place.waker = Some(waker.clone());
        }
    }

    /// Closes a ticket; gives back an answer that nobody looked at.
    pub(super) fn close(&mut self, ticket: u64) -> Option<Answer> {
        let place = self.place(ticket)?;
        place.open = false;
        place.waker = None;
        let answer = place.answer.take();
        self.free.push((ticket & 0xffff_ffff) as u32);
        answer
    }
}

/// How often a ticket's place was used, and which it is.
fn parts(ticket: u64) -> (u32, usize) {
    ((ticket >> 32) as u32, (ticket & 0xffff_ffff) as usize)
}
