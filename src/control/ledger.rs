//! The ledger's journal: what was reserved and spent under limits on cost, in
//! `data_dir/ledger.journal`.
//!
//! The owners of counters (shards) send what they grant and what becomes of it; this thread
//! writes it down and answers. A request under a hard limit goes out only after its
//! reservation's frame was taken by the system (`pwrite` returned), so a process that is killed
//! leaves behind at least what it let through: at the next start a reservation without a
//! settlement counts as spent in full. Reservations that wait share a frame. A write that fails
//! refuses those in it; settlements and charges of a failed write are kept in memory and written
//! with the next one that succeeds. There is no `fdatasync` for each frame: a power cut may take the last
//! moments.
//!
//! Frames are those of the log ([`frame`](super::logs::frame)), of kind 7, and hold steps
//! ([`step`]). The thread keeps what they come to ([`balance`]), in which charges of one counter
//! that leave its window at about the same time are one, and when the file has grown, writes that
//! into a new one which takes the name. So the file stays small and is read in a moment.
//!
//! How a server uses it: [`Journal::open`] before the shards start; [`Recovered::of_shard`] to each
//! shard's [`Book::recover`](crate::shard::ledger::Book::recover); a
//! [`letterbox`](crate::handoff::mailbox::letterbox) of [`Batch`](crate::handoff::ledger::Batch) whose
//! posts the shards get; then [`LedgerThread::start`]. At the end, when the shards have ended:
//! [`LedgerThread::stop`], before the data folder is unlocked.

pub mod step;
pub mod balance;
mod journal;
mod thread;
#[cfg(test)]
mod tests;

pub use self::{
    journal::{Journal, Recovered},
    thread::LedgerThread,
};
