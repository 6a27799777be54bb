//! The asker's side of a ledger: who waits for an answer, and what is owed for the permits that a
//! shard's exchanges hold.
//!
//! An exchange may be dropped at any moment, so nothing here depends on it to say goodbye: a
//! [`Waiting`] that is dropped gives back what comes for it, and a [`Hold`] that is dropped ends its
//! permit. What is owed lies in the [`Desk`] until the shard's loop takes it ([`Desk::take_end`]) to
//! the owner of the permit.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::{Actual, Answer, Permit, PermitId, Refusal, Ticket};

/// The questions and permits of one shard.
#[derive(Debug)]
pub struct Desk {
    shard: usize,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: HashMap<u64, Slot>,
    /// Questions that no answer has come to, whether or not anybody still waits for it.
    unanswered: usize,
    ends: VecDeque<(PermitId, Ending)>,
}

#[derive(Debug, Default)]
struct Slot {
    result: Option<Result<Permit, Refusal>>,
    waker: Option<Waker>,
}

/// How the owner is to end a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// [`Book::settle`](super::Book::settle).
    Settle(Actual),
    /// [`Book::release`](super::Book::release).
    Release,
}

impl Desk {
    /// The desk of a shard.
    pub fn new(shard: usize) -> Rc<Self> {
        Rc::new(Self {
            shard,
            inner: RefCell::default(),
        })
    }

    /// A ticket for a question. If it is not answered at once, it is to be waited for.
    pub fn ticket(&self) -> Ticket {
        let mut inner = self.inner.borrow_mut();
        let number = inner.next;
        inner.next += 1;
        Ticket {
            shard: self.shard,
            number,
        }
    }

    /// Waits for the answer to a question, which comes to [`Desk::answered`].
    pub fn wait(self: &Rc<Self>, ticket: Ticket) -> Waiting {
        let mut inner = self.inner.borrow_mut();
        let number = ticket.number;
        inner.unanswered += 1;
        inner.waiting.insert(number, Slot::default());
        Waiting {
            desk: Rc::clone(self),
            number,
        }
    }

    /// Opens a question. Its ticket goes to the owner, and its answer comes to
    /// [`Desk::answered`].
    pub fn ask(self: &Rc<Self>) -> Waiting {
        self.wait(self.ticket())
    }

    /// Hands an answer to who waits for it. What nobody waits for is given back.
    pub fn answered(&self, answer: &Answer) {
        let mut inner = self.inner.borrow_mut();
        inner.unanswered = inner.unanswered.saturating_sub(1);
        if let Some(slot) = inner.waiting.get_mut(&answer.ticket.number) {
            slot.result = Some(answer.result);
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
            return;
        }
        inner.give_back(Some(answer.result));
    }

    /// Takes a permit for an exchange, if anything is owed for it.
    pub fn hold(self: &Rc<Self>, permit: &Permit) -> Hold {
        Hold {
            desk: Rc::clone(self),
            permit: permit.id,
            stage: HoldStage::Granted,
        }
    }

    /// Says whether a permit has ended that its owner has not heard of.
    pub fn owes(&self) -> bool {
        !self.inner.borrow().ends.is_empty()
    }

    /// Says whether nothing is owed, and no answer is to come that may bring something.
    pub fn is_settled(&self) -> bool {
        let inner = self.inner.borrow();
        inner.unanswered == 0 && inner.ends.is_empty()
    }

    /// The next permit that has ended, for its owner ([`PermitId::shard`]).
    pub fn take_end(&self) -> Option<(PermitId, Ending)> {
        self.inner.borrow_mut().ends.pop_front()
    }

    /// Puts an end back that could not be passed on; it comes first the next time.
    pub fn put_back(&self, permit: PermitId, ending: Ending) {
        self.inner.borrow_mut().ends.push_front((permit, ending));
    }
}

impl Inner {
    fn give_back(&mut self, result: Option<Result<Permit, Refusal>>) {
        if let Some(Ok(Permit { id: Some(id), .. })) = result {
            self.ends.push_back((id, Ending::Release));
        }
    }
}

/// A question that is open.
#[derive(Debug)]
pub struct Waiting {
    desk: Rc<Desk>,
    number: u64,
}

impl Waiting {
    /// Names it to the owner.
    pub fn ticket(&self) -> Ticket {
        Ticket {
            shard: self.desk.shard,
            number: self.number,
        }
    }
}

impl Future for Waiting {
    type Output = Result<Permit, Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = self.desk.inner.borrow_mut();
        // It is there as long as the question is.
        let slot = inner.waiting.entry(self.number).or_default();
        if let Some(result) = slot.result.take() {
            return Poll::Ready(result);
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inner = self.desk.inner.borrow_mut();
        let slot = inner.waiting.remove(&self.number);
        inner.give_back(slot.and_then(|slot| slot.result));
    }
}

/// A permit in the hands of an exchange. Dropped, it ends: as if it had never been until the request
/// is admitted, as a request that used nothing until it is sent, and with unknown usage after that.
#[derive(Debug)]
pub struct Hold {
    desk: Rc<Desk>,
    /// `None`: nothing is owed.
    permit: Option<PermitId>,
    stage: HoldStage,
}

/// How far the request of a hold has come.
#[derive(Debug, Clone, Copy)]
enum HoldStage {
    /// Another owner may still refuse it.
    Granted,
    /// It counts as a request, whatever comes of it.
    Admitted,
    /// Something may have been used.
    Sent,
}

impl Hold {
    /// Notes that all owners have agreed: the request counts from here on.
    pub fn note_admitted(&mut self) {
        self.stage = HoldStage::Admitted;
    }

    /// Notes that something may be used from here on.
    pub fn note_sent(&mut self) {
        self.stage = HoldStage::Sent;
    }

    /// Ends it with what was used.
    pub fn settle(mut self, actual: Actual) {
        self.end(Ending::Settle(actual));
    }

    /// Ends it as if it had never been.
    pub fn release(mut self) {
        self.end(Ending::Release);
    }

    fn end(&mut self, ending: Ending) {
        if let Some(permit) = self.permit.take() {
            let mut inner = self.desk.inner.borrow_mut();
            inner.ends.push_back((permit, ending));
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end(match self.stage {
            HoldStage::Granted => Ending::Release,
            HoldStage::Admitted => Ending::Settle(Actual::NOTHING),
            HoldStage::Sent => Ending::Settle(Actual::default()),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;
    use crate::shard::ledger::Standings;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn permit(number: u64) -> Permit {
        Permit {
            id: Some(PermitId::new(2, number)),
            standings: Standings::default(),
        }
    }

    fn answer(ticket: Ticket, number: u64) -> Answer {
        Answer {
            ticket,
            result: Ok(permit(number)),
        }
    }

    fn ends(desk: &Desk) -> Vec<(PermitId, Ending)> {
        std::iter::from_fn(|| desk.take_end()).collect()
    }

    #[test]
    fn an_answer_wakes_who_waits_for_it() {
        let desk = Desk::new(1);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let (one, two) = (desk.ask(), desk.ask());
        let (first, second) = (one.ticket(), two.ticket());
        assert!(first != second && first.shard == 1);
        let (mut one, mut two) = (pin!(one), pin!(two));
        assert!(one.as_mut().poll(&mut cx).is_pending());
        assert!(two.as_mut().poll(&mut cx).is_pending());
        desk.answered(&answer(second, 7));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(one.as_mut().poll(&mut cx).is_pending());
        assert_eq!(two.as_mut().poll(&mut cx), Poll::Ready(Ok(permit(7))));
        assert_eq!(ends(&desk), []);
    }

    #[test]
    fn what_nobody_waits_for_is_given_back() {
        let desk = Desk::new(1);
        let gone = desk.ask();
        let ticket = gone.ticket();
        drop(gone);
        desk.answered(&answer(ticket, 1));
        // Answered, and dropped before it looked.
        let late = desk.ask();
        desk.answered(&answer(late.ticket(), 2));
        drop(late);
        // Nothing is owed for these.
        let free = Permit {
            id: None,
            ..permit(3)
        };
        let result = Ok(free);
        desk.answered(&Answer { ticket, result });
        drop(desk.hold(&free));
        assert!(!desk.is_settled());
        let released = [1, 2].map(|number| (PermitId::new(2, number), Ending::Release));
        assert_eq!(ends(&desk), released);
        assert!(desk.inner.borrow().waiting.is_empty());
        // All three questions were answered; the hold of nothing owes nothing.
        assert!(desk.is_settled());
    }

    #[test]
    fn a_hold_ends_once_however_it_ends() {
        let desk = Desk::new(1);
        let used = Actual {
            tokens: Some(5),
            ..Actual::default()
        };
        desk.hold(&permit(1)).settle(used);
        desk.hold(&permit(2)).release();
        drop(desk.hold(&permit(3)));
        let mut sent = desk.hold(&permit(4));
        sent.note_sent();
        drop(sent);
        let mut unsent = desk.hold(&permit(5));
        unsent.note_admitted();
        drop(unsent);
        let all = [
            (1, Ending::Settle(used)),
            (2, Ending::Release),
            (3, Ending::Release),
            (4, Ending::Settle(Actual::default())),
            (5, Ending::Settle(Actual::NOTHING)),
        ]
        .map(|(number, ending)| (PermitId::new(2, number), ending));
        assert_eq!(desk.take_end(), Some(all[0]));
        desk.put_back(all[0].0, all[0].1);
        assert_eq!(ends(&desk), all);
    }
}
