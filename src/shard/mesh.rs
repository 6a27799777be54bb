//! What shards say to each other: questions with one answer each, and notices.
//!
//! Every key of a cache entry or a limit has one owner among the shards; who needs it asks there.
//!
//! * [`ask`] sends a question and gives an [`Asking`], whose [`Asking::answer`] waits for what
//!   comes back, up to a limit. `None` is no answer, as [`Answer::Failed`] is none: the owner has
//!   ended, or it took too long. What that means is the asker's to say (a miss, a refusal).
//! * [`tell`] sends a notice, which nobody answers.
//! * While a ring is full, or too many questions are open at a peer, what is for it is kept and
//!   sent later, in order.
//! * [`reply`] is for an owner that answers a question later than it came.
//! * [`listen`] takes what the others say; `shard/accept.rs` calls it on every turn.
//!
//! **An answer that nobody took**, because its asker was dropped, gave up or has ended, comes to
//! `unclaimed`. Where the owner has set something aside for the asker, that gives it back.
//!
//! **Another subject** than the cache gets a variant of [`Question`], [`Answer`] and [`Notice`], and
//! an arm in each of `answer`, `unclaimed` and `hear`. What is large goes behind an `Arc` or a `Box`.
//!
//! A question for the asker's own shard takes the same way without a ring. Nothing here waits but
//! the asker's own task; wakers never leave their thread. A message that its reader makes a panic
//! of is counted like any other panic, and its asker still hears an answer.

mod tickets;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use self::tickets::Tickets;
use super::{Shard, cache, clock::Deadline, ledger::post as ledger};
use crate::handoff::{
    counters::Plain,
    mesh::{MeshEnd, Unsent},
};

/// What goes through a ring.
#[derive(Debug)]
pub enum Message {
    /// A question, which is answered once.
    Ask {
        /// Names the question in its answer.
        ticket: u64,
        /// What is asked.
        question: Question,
    },
    /// The answer to a question.
    Answer {
        /// The question's ticket.
        ticket: u64,
        /// What came of it.
        answer: Answer,
    },
    /// A notice.
    Tell(Notice),
}

/// Rings are made of messages: what does not fit belongs behind an `Arc`.
const MESSAGE_BYTES_MAX: usize = 64;
const _: () = assert!(size_of::<Message>() <= MESSAGE_BYTES_MAX);

/// What a shard asks of an owner.
#[derive(Debug)]
pub enum Question {
    /// About a cached answer.
    Cache(cache::Question),
}

/// What an owner answers.
#[derive(Debug)]
pub enum Answer {
    /// To a [`Question::Cache`].
    Cache(cache::Answer),
    /// The owner failed over the question.
    Failed,
}

/// What a shard tells another.
#[derive(Debug)]
pub enum Notice {
    /// About a cached answer, to its owner.
    Cache(cache::Notice),
    /// About limits.
    Ledger(ledger::Notice),
    /// A further answer to a question that was answered with a promise of it.
    Later {
        /// The question's ticket.
        ticket: u64,
        /// What came of it.
        answer: Answer,
    },
}

/// Who asked, as an owner keeps it to answer later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asker {
    /// The shard.
    pub shard: usize,
    /// The ticket of its question.
    pub ticket: u64,
}

/// One shard's part in the mesh.
pub struct Mesh {
    /// `None` once the shard has ended.
    end: RefCell<Option<MeshEnd<Message>>>,
    shards: usize,
    /// Questions that may be open at one peer.
    open_max: usize,
    /// Questions open at each peer.
    open: RefCell<Vec<usize>>,
    tickets: RefCell<Tickets>,
    /// Questions and notices that found their ring full, in order.
    unsent: RefCell<VecDeque<(usize, Message)>>,
    /// Notices of the shard to itself, in order, and whether somebody is at them.
    own: RefCell<VecDeque<Notice>>,
    hearing: Cell<bool>,
    counts: Cell<MeshCounts>,
}

/// What a shard counts of its part in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeshCounts {
    /// Questions sent through a ring.
    pub asked: u64,
    /// Questions that were not sent: the owner had ended, or too many waited.
    pub unasked: u64,
    /// Answers that came after their asker had given up.
    pub late: u64,
    /// Notices that were lost: their reader had ended, or too many waited.
    pub lost: u64,
}

/// Messages that wait for room: what a burst comes to that ends the waiting of thousands. More than
/// this means a peer that takes nothing.
const UNSENT_MAX: usize = 32 * 1024;

impl Mesh {
    /// A part in the mesh that `end` belongs to.
    pub fn new(end: MeshEnd<Message>) -> Self {
        Self {
            shards: end.shards(),
            open_max: end.replies_max(),
            open: RefCell::new(vec![0; end.shards()]),
            end: RefCell::new(Some(end)),
            tickets: RefCell::default(),
            unsent: RefCell::default(),
            own: RefCell::default(),
            hearing: Cell::new(false),
            counts: Cell::default(),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// What it has counted.
    pub fn counts(&self) -> MeshCounts {
        self.counts.get()
    }

    /// Says whether nobody has said anything that was not listened to.
    pub fn is_quiet(&self) -> bool {
        let end = self.end.borrow();
        end.as_ref().is_none_or(MeshEnd::is_empty)
    }

    /// Says whether nothing waits for room.
    pub fn has_sent_all(&self) -> bool {
        self.unsent.borrow().is_empty()
    }

    /// Says that the shard has nobody left to serve; true once no shard has.
    pub fn leave(&self) -> bool {
        let mut end = self.end.borrow_mut();
        let Some(end) = end.as_mut() else {
            return true;
        };
        end.leave();
        end.all_have_left()
    }

    /// Wakes the shards that were sent something.
    pub fn ring(&self) {
        if let Some(end) = self.end.borrow_mut().as_mut() {
            end.ring();
        }
    }

    /// Ends the shard's part: the others' questions come back to them at once.
    pub fn close(&self) {
        // Called on the way out of a panic too, which may have left it borrowed.
        if let Ok(mut end) = self.end.try_borrow_mut() {
            drop(end.take());
        }
    }

    fn count(&self, change: impl FnOnce(&mut MeshCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Puts a question or a notice into its ring, if that has room for it now.
    fn send(&self, to: usize, message: Message) -> Result<(), Unsent<Message>> {
        let mut end = self.end.borrow_mut();
        let mut open = self.open.borrow_mut();
        let (Some(end), Some(open)) = (end.as_mut(), open.get_mut(to)) else {
            return Err(Unsent::Gone(message));
        };
        if !matches!(message, Message::Ask { .. }) {
            return end.offer(to, message);
        }
        if *open >= self.open_max {
            return Err(Unsent::Full(message));
        }
        end.offer(to, message)?;
        *open += 1;
        self.count(|counts| counts.asked += 1);
        Ok(())
    }
}

/// Asks the shard `to`, which may be this one, and wakes it if it sleeps.
pub fn ask(shard: &Rc<Shard>, to: usize, question: Question) -> Asking {
    let mesh = &shard.mesh;
    let ticket = mesh.tickets.borrow_mut().open();
    // From here on the ticket is closed whatever happens.
    let asking = Asking {
        shard: Rc::clone(shard),
        to,
        ticket,
        deadline: None,
    };
    if to == shard.number {
        let asker = Asker { shard: to, ticket };
        if let Some(answer) = answer(shard, asker, question) {
            deliver(shard, to, ticket, answer);
        }
    } else {
        say(shard, to, Message::Ask { ticket, question });
    }
    asking
}

/// A question on its way. Dropped, it is forgotten, and what still comes is dropped too.
#[must_use = "nobody hears the answer otherwise"]
pub struct Asking {
    shard: Rc<Shard>,
    to: usize,
    ticket: u64,
    deadline: Option<Deadline>,
}

impl Asking {
    /// Who asks: what an owner knows it by.
    pub fn asker(&self) -> Asker {
        Asker {
            shard: self.shard.number,
            ticket: self.ticket,
        }
    }

    /// Waits for the next answer: the one to the question, or one that it promised. `None` after
    /// `limit`, which is looked at on the shard's tick.
    pub async fn answer(&mut self, limit: Duration) -> Option<Answer> {
        let tickets = &self.shard.mesh.tickets;
        if let Some(answer) = tickets.borrow_mut().take(self.ticket) {
            return Some(answer);
        }
        let open = || self.shard.deadlines.open();
        let deadline = &*self.deadline.get_or_insert_with(open);
        deadline.set(Some(self.shard.clock.now().after(limit)));
        let shard = &self.shard;
        let ticket = self.ticket;
        let answer = poll_fn(|cx| {
            let mut tickets = tickets.borrow_mut();
            if let Some(answer) = tickets.take(ticket) {
                return Poll::Ready(Some(answer));
            }
            if deadline.is_past(shard.clock.now(), cx) {
                return Poll::Ready(None);
            }
            tickets.wake(ticket, cx.waker());
            Poll::Pending
        })
        .await;
        deadline.set(None);
        answer
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Ok(mut tickets) = self.shard.mesh.tickets.try_borrow_mut() else {
            return;
        };
        let left = tickets.close(self.ticket);
        drop(tickets);
        if let Some(answer) = left {
            unclaimed(&self.shard, self.to, answer);
        }
    }
}

/// Tells the shard `to`, which may be this one.
pub fn tell(shard: &Rc<Shard>, to: usize, notice: Notice) {
    if to == shard.number {
        return tell_own(shard, notice);
    }
    say(shard, to, Message::Tell(notice));
}

/// Sends a question or a notice to another shard: now, or behind what waits for room already.
fn say(shard: &Rc<Shard>, to: usize, message: Message) {
    let mesh = &shard.mesh;
    let waiting = mesh.unsent.borrow().len();
    let refused = match waiting {
        0 => mesh.send(to, message).err(),
        _ => Some(Unsent::Full(message)),
    };
    match refused {
        None => ring_soon(shard),
        Some(Unsent::Full(message)) if waiting < UNSENT_MAX => {
            mesh.unsent.borrow_mut().push_back((to, message));
        }
        Some(unsent) => lose(shard, to, unsent.into_inner()),
    }
}

/// Has those woken who were sent something, once everybody had his turn: a shard that is woken for each
/// message finds one, and sleeps again.
fn ring_soon(shard: &Shard) {
    if !shard.outbox.call() {
        shard.mesh.ring();
    }
}

/// A message that does not reach the shard `to`.
fn lose(shard: &Rc<Shard>, to: usize, message: Message) {
    if let Message::Ask { ticket, .. } = message {
        shard.mesh.count(|counts| counts.unasked += 1);
        return deliver(shard, to, ticket, Answer::Failed);
    }
    shard.mesh.count(|counts| counts.lost += 1);
    match message {
        Message::Answer { answer, .. } | Message::Tell(Notice::Later { answer, .. }) => {
            unclaimed(shard, shard.number, answer);
        }
        Message::Tell(Notice::Ledger(notice)) => ledger::lost(shard, notice),
        Message::Tell(Notice::Cache(_)) | Message::Ask { .. } => {}
    }
}

/// Sends what found its ring full, as far as there is room now. Called once a turn and once a tick, each
/// time before [`Mesh::ring`].
pub fn retry(shard: &Rc<Shard>) {
    let mesh = &shard.mesh;
    let mut full = Vec::new();
    let waiting = mesh.unsent.borrow().len();
    if waiting == 0 {
        return;
    }
    for _ in 0..waiting {
        let Some((to, message)) = mesh.unsent.borrow_mut().pop_front() else {
            return;
        };
        if let Message::Ask { ticket, .. } = message
            && !mesh.tickets.borrow().is_open(ticket)
        {
            // Its asker has given up.
            continue;
        }
        let refused = if full.contains(&to) {
            // What is for one peer stays in order.
            Some(Unsent::Full(message))
        } else {
            mesh.send(to, message).err()
        };
        match refused {
            None => {}
            Some(Unsent::Gone(message)) => lose(shard, to, message),
            Some(Unsent::Full(message)) => {
                full.push(to);
                mesh.unsent.borrow_mut().push_back((to, message));
            }
        }
    }
}

/// Answers a question that was not answered when it came. Exactly once for each question.
pub fn reply(shard: &Rc<Shard>, asker: Asker, answer: Answer) {
    let Asker { shard: to, ticket } = asker;
    if to == shard.number {
        return deliver(shard, to, ticket, answer);
    }
    let message = Message::Answer { ticket, answer };
    let mut end = shard.mesh.end.borrow_mut();
    let sent = end.as_mut().map(|end| end.reply(to, message));
    drop(end);
    match sent {
        Some(Ok(())) => ring_soon(shard),
        Some(Err(unsent)) => lose(shard, to, unsent.into_inner()),
        None => {}
    }
}

/// Takes what other shards say, at most `most` messages; says how many there were.
pub fn listen(shard: &Rc<Shard>, most: usize) -> usize {
    for taken in 0..most {
        let mut end = shard.mesh.end.borrow_mut();
        let Some((from, message)) = end.as_mut().and_then(MeshEnd::take) else {
            return taken;
        };
        drop(end);
        let asker = match &message {
            Message::Ask { ticket, .. } => Some(Asker {
                shard: from,
                ticket: *ticket,
            }),
            Message::Answer { .. } | Message::Tell(_) => None,
        };
        let heard = catch_unwind(AssertUnwindSafe(|| receive(shard, from, message)));
        if heard.is_err() {
            if let Ok(mut counters) = shard.counters.try_borrow_mut() {
                counters.bump(Plain::Panics);
            }
            if let Some(asker) = asker {
                reply(shard, asker, Answer::Failed);
            }
        }
    }
    most
}

fn receive(shard: &Rc<Shard>, from: usize, message: Message) {
    match message {
        Message::Ask { ticket, question } => {
            let asker = Asker {
                shard: from,
                ticket,
            };
            if let Some(answer) = answer(shard, asker, question) {
                reply(shard, asker, answer);
            }
        }
        Message::Answer { ticket, answer } => {
            if let Some(open) = shard.mesh.open.borrow_mut().get_mut(from) {
                *open = open.saturating_sub(1);
            }
            deliver(shard, from, ticket, answer);
        }
        Message::Tell(notice) => hear(shard, from, notice),
    }
}

/// Answers a question, here at its owner. `None`: it is answered later, by [`reply`].
#[expect(
    clippy::unnecessary_wraps,
    reason = "an owner that has to wait for something answers later"
)]
fn answer(shard: &Rc<Shard>, asker: Asker, question: Question) -> Option<Answer> {
    match question {
        Question::Cache(question) => {
            let answer = cache::answer(shard, asker, &question);
            Some(Answer::Cache(answer))
        }
    }
}

fn hear(shard: &Rc<Shard>, from: usize, notice: Notice) {
    match notice {
        Notice::Cache(notice) => cache::hear(shard, notice),
        Notice::Ledger(notice) => ledger::hear(shard, notice),
        Notice::Later { ticket, answer } => deliver(shard, from, ticket, answer),
    }
}

/// Hears what the shard tells itself: in a loop, since what is heard may be answered by more.
fn tell_own(shard: &Rc<Shard>, notice: Notice) {
    /// Ends the hearing also where it ends in a panic.
    struct Hearing<'a>(&'a Cell<bool>);
    impl Drop for Hearing<'_> {
        fn drop(&mut self) {
            self.0.set(false);
        }
    }
    let mesh = &shard.mesh;
    if mesh.hearing.replace(true) {
        mesh.own.borrow_mut().push_back(notice);
        return;
    }
    let _hearing = Hearing(&mesh.hearing);
    let mut own = mesh.own.borrow_mut();
    let mut next = if own.is_empty() {
        Some(notice)
    } else {
        // What a panic left comes first.
        own.push_back(notice);
        own.pop_front()
    };
    drop(own);
    while let Some(notice) = next {
        hear(shard, shard.number, notice);
        next = mesh.own.borrow_mut().pop_front();
    }
}

/// Gives an answer to who asked, if it still waits.
fn deliver(shard: &Rc<Shard>, from: usize, ticket: u64, answer: Answer) {
    let undelivered = shard.mesh.tickets.borrow_mut().deliver(ticket, answer);
    if let Err(answer) = undelivered {
        shard.mesh.count(|counts| counts.late += 1);
        unclaimed(shard, from, answer);
    }
}

/// An answer of the shard `from` that nobody took. Some were a charge that has to be given back.
fn unclaimed(shard: &Rc<Shard>, from: usize, answer: Answer) {
    match answer {
        Answer::Cache(answer) => cache::unclaimed(shard, from, &answer),
        Answer::Failed => {}
    }
}

#[cfg(test)]
pub(super) mod tests;
