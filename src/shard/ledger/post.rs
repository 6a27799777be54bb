//! The way between those who ask and the owners: through the mesh, and to the journal.
//!
//! * [`ask`] brings an [`Ask`] to the owner of its counters and waits for the answer.
//! * [`hear`] takes what the mesh brings, at the owner and at the asker.
//! * [`pump`] brings what ended to its owners, and what is to be written down to the journal; it is
//!   called after whatever gave cause, and on each tick.
//!
//! A notice of the mesh is kept while its ring is full. What is lost all the same, because its
//! reader has ended, ends here: an asker is refused, a permit is given back.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use super::{
    Answer, Ask, Permit, PermitId, Refusal, Standings, Why,
    book::Book,
    desk::{Desk, Ending, Waiting},
    estimate::Estimates,
    window::Now,
};
use crate::{
    handoff::{
        ledger::{Batch, Charge, Journalled},
        mailbox::Post,
    },
    shard::{Shard, mesh},
    snapshot::limits::{Claim, Measure, names::Names},
};

/// Longest wait for an owner's answer: that of the journal, and a shard that is busy. After it the
/// request is refused; what the owner may have granted is given back.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What a shard needs of the ledger.
pub struct Ledger {
    /// The counters that it owns.
    book: RefCell<Book>,
    /// What its exchanges ask and hold.
    pub desk: Rc<Desk>,
    /// What it has learnt of models.
    pub estimates: Estimates,
    /// The counters' names that it has worked out.
    pub names: RefCell<Names>,
    /// A list for the claims of the next question.
    claims: Cell<Vec<Claim>>,
    journal: Post<Batch>,
}

/// What a question comes to.
pub enum Asked {
    /// The owner is this shard, and has answered.
    Answered(Result<Permit, Refusal>),
    /// The answer comes later.
    Waiting(Waiting),
}

/// What goes through the mesh.
#[derive(Debug)]
pub enum Notice {
    /// To an owner: a request asks for leave.
    Ask(Box<Ask>),
    /// To an asker: its answer.
    Answer(Box<Answer>),
    /// To an owner: a permit has ended.
    End(PermitId, Ending),
}

impl Ledger {
    /// The ledger's part of shard `number`, which owns `charges` from before.
    pub fn new(
        number: usize,
        charges: impl IntoIterator<Item = Charge>,
        journal: Post<Batch>,
    ) -> Self {
        let mut book = Book::new(number);
        book.recover(charges);
        Self {
            book: RefCell::new(book),
            desk: Desk::new(number),
            estimates: Estimates::default(),
            names: RefCell::default(),
            claims: Cell::default(),
            journal,
        }
    }

    /// An empty list for the claims of a question.
    pub fn claims(&self) -> Vec<Claim> {
        let mut claims = self.claims.take();
        claims.clear();
        claims
    }

    /// How many permits of this owner are out, and how many pico-dollars they hold.
    pub fn outstanding(&self) -> (usize, u128) {
        let book = self.book.borrow();
        (book.outstanding(), book.held_cost())
    }
}

/// Asks the owner of the claims, which may be this shard. The claims of one question have one owner.
pub fn ask(shard: &Rc<Shard>, claims: Vec<Claim>, life: Duration, undoable: bool) -> Asked {
    let ledger = &shard.ledger;
    let owner = claims
        .first()
        .map_or(shard.number, |claim| claim.key.shard(shard.mesh.shards()));
    let ask = Ask {
        ticket: ledger.desk.ticket(),
        claims,
        life,
        undoable,
    };
    if owner == shard.number {
        let now = now(shard);
        let answer = ledger.book.borrow_mut().reserve(&ask, now);
        if let Some(answer) = answer {
            ledger.claims.set(ask.claims);
            return Asked::Answered(answer.result);
        }
        let waiting = ledger.desk.wait(ask.ticket);
        write_down(shard, now);
        return Asked::Waiting(waiting);
    }
    let waiting = ledger.desk.wait(ask.ticket);
    let notice = Notice::Ask(Box::new(ask));
    mesh::tell(shard, owner, mesh::Notice::Ledger(notice));
    Asked::Waiting(waiting)
}

/// Takes what the mesh brings.
pub fn hear(shard: &Rc<Shard>, notice: Notice) {
    match notice {
        Notice::Ask(ask) => reserve(shard, &ask),
        Notice::Answer(answer) => shard.ledger.desk.answered(&answer),
        Notice::End(permit, ending) => end(shard, permit, ending, now(shard)),
    }
    pump(shard);
}

/// A notice that reaches nobody.
pub fn lost(shard: &Rc<Shard>, notice: Notice) {
    match notice {
        Notice::Ask(ask) => {
            // Its asker is this shard.
            let answer = Answer {
                ticket: ask.ticket,
                result: Err(crowded()),
            };
            shard.ledger.desk.answered(&answer);
        }
        Notice::Answer(answer) => {
            if let Ok(Permit { id: Some(id), .. }) = answer.result {
                end(shard, id, Ending::Release, now(shard));
            }
        }
        // The counter went with its owner.
        Notice::End(..) => {}
    }
}

fn crowded() -> Refusal {
    Refusal {
        why: Why::Crowded,
        rule: 0,
        measure: Measure::Requests,
        wait_micros: None,
        standings: Standings::default(),
    }
}

fn reserve(shard: &Rc<Shard>, ask: &Ask) {
    let now = now(shard);
    let answer = shard.ledger.book.borrow_mut().reserve(ask, now);
    if let Some(answer) = answer {
        deliver(shard, answer);
    }
}

fn end(shard: &Rc<Shard>, permit: PermitId, ending: Ending, now: Now) {
    let mut book = shard.ledger.book.borrow_mut();
    match ending {
        Ending::Settle(actual) => book.settle(permit, actual, now),
        Ending::Release => book.release(permit, now),
    };
}

fn deliver(shard: &Rc<Shard>, answer: Answer) {
    let to = answer.ticket.shard;
    if to == shard.number {
        shard.ledger.desk.answered(&answer);
    } else {
        let notice = Notice::Answer(Box::new(answer));
        mesh::tell(shard, to, mesh::Notice::Ledger(notice));
    }
}

/// Brings on what is due: permits that ended to their owners, reservations to the journal.
pub fn pump(shard: &Rc<Shard>) {
    let now = now(shard);
    while let Some((permit, ending)) = shard.ledger.desk.take_end() {
        let owner = permit.shard();
        if owner == shard.number {
            end(shard, permit, ending, now);
        } else {
            let notice = Notice::End(permit, ending);
            mesh::tell(shard, owner, mesh::Notice::Ledger(notice));
        }
    }
    write_down(shard, now);
}

/// The journal answers.
pub fn journalled(shard: &Rc<Shard>, journalled: &Journalled) {
    let mut answers = Vec::new();
    let now = now(shard);
    let mut book = shard.ledger.book.borrow_mut();
    book.journalled(journalled, now, &mut answers);
    drop(book);
    for answer in answers {
        deliver(shard, answer);
    }
    write_down(shard, now);
}

/// Does what is due by time.
pub fn tick(shard: &Rc<Shard>) {
    let mut answers = Vec::new();
    let now = now(shard);
    shard.ledger.book.borrow_mut().tick(now, &mut answers);
    for answer in answers {
        deliver(shard, answer);
    }
    pump(shard);
}

/// Says whether nothing is on its way: no question is open, and no permit is out that this shard
/// owns or has to give back.
pub fn is_settled(shard: &Shard) -> bool {
    let ledger = &shard.ledger;
    ledger.desk.is_settled() && ledger.outstanding().0 == 0 && shard.mesh.has_sent_all()
}

/// Hands all that is left to the journal, due or not: at the end.
pub fn finish(shard: &Rc<Shard>) {
    pump(shard);
    let rest = shard.ledger.book.borrow_mut().take_rest();
    if let Some(batch) = rest {
        // A full queue at the end: reservations count as spent, charges of the last second are lost.
        let _ = shard.ledger.journal.send(batch);
    }
}

fn write_down(shard: &Rc<Shard>, now: Now) {
    let batch = shard.ledger.book.borrow_mut().take_batch(now);
    let Some(batch) = batch else {
        return;
    };
    if let Err(batch) = shard.ledger.journal.send(batch) {
        let mut answers = Vec::new();
        let mut book = shard.ledger.book.borrow_mut();
        book.take_back(batch, now, &mut answers);
        drop(book);
        for answer in answers {
            deliver(shard, answer);
        }
    }
}

fn now(shard: &Shard) -> Now {
    let moment = shard.clock.steady();
    Now::of_moment(&shard.clock, moment)
}
