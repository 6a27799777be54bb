//! Records and bodies from the shards to the log writer: one bounded channel a shard.
//!
//! The receiver never parks in the channel, so that a send takes no lock and makes no system
//! call: it polls every 5 ms while there is work, and after 100 ms without any it sleeps on its
//! [`Bell`], which only the first message after the pause rings.

use std::{
    cell::Cell,
    io,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, unbounded};

use super::body_parts::{BodyChunk, BodyCursor, BodyParts, CHUNK_BYTES};
use crate::{domain::record::Record, sys::bell::Bell};

/// Records that wait in one shard's channel. A shard makes at most some 100,000 of them a second:
/// this holds 320 ms. A write beside the syncs of a busy disk was seen to take 190 ms.
///
/// The bound is ours and not the channel's: one with a bound of its own keeps 24 bytes for each
/// message that it may hold, and touches them all when it is made and again and again in turn.
pub const QUEUE_RECORDS_MAX: u64 = 32_768;

/// Bytes of records that wait in one shard's channel. A path may be as long as a request head, so
/// the number of messages alone would not bound the memory.
pub const QUEUE_BYTES_MAX: u64 = 32 << 20;

/// Chunks of bodies that a shard has in all, filled and waiting ones included: 4 MB.
pub const CHUNKS_MAX: usize = 32;

/// How long the receiver rests between two looks while there is work: with the write itself
/// under the 10 ms in which a record is to be safe. Each look wakes a thread, which on a quiet
/// machine costs more than the records of a few streams.
pub const POLL: Duration = Duration::from_millis(5);

/// Polls in vain before the receiver sleeps: 100 ms.
const IDLE_POLLS_MAX: u32 = 20;

/// What goes to the log writer.
#[derive(Debug)]
pub enum LogMessage {
    /// One record.
    Record(Box<Record>),
    /// One chunk of bodies.
    Bodies(Box<BodyChunk>),
}

/// Makes the channels of `shards` shards and their one receiver.
pub fn log_queue(shards: usize) -> io::Result<(Vec<LogSender>, LogReceiver)> {
    let bell = Arc::new(Bell::new()?);
    let mut senders = Vec::with_capacity(shards);
    let mut lanes = Vec::with_capacity(shards);
    for _ in 0..shards {
        let (messages, incoming) = unbounded();
        let (returns, returned) = bounded(CHUNKS_MAX);
        let counters = Arc::new(LogCounters::default());
        senders.push(LogSender {
            messages,
            returned,
            bell: Arc::clone(&bell),
            counters: Arc::clone(&counters),
            parts: BodyParts::default(),
            chunks: 0,
            one_thread: PhantomData,
        });
        lanes.push(Lane {
            incoming,
            returns,
            counters,
        });
    }
    let stop = LogStop {
        stopped: Arc::new(AtomicBool::new(false)),
        bell,
    };
    Ok((
        senders,
        LogReceiver {
            lanes,
            stop,
            idle_polls: 0,
        },
    ))
}

/// Counters of one shard's channel. Each is written by one thread and read by any.
#[derive(Debug, Default)]
pub struct LogCounters {
    sender: SenderCounters,
    receiver: ReceiverCounters,
}

/// A cache line pair of its own, so that the two threads do not take it from each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct SenderCounters {
    records_sent: AtomicU64,
    records_dropped: AtomicU64,
    record_bytes_sent: AtomicU64,
    chunks_sent: AtomicU64,
    bodies_dropped: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct ReceiverCounters {
    records_taken: AtomicU64,
    record_bytes_taken: AtomicU64,
}

impl LogCounters {
    /// Records that were handed over.
    pub fn records_sent(&self) -> u64 {
        self.sender.records_sent.load(Ordering::Relaxed)
    }

    /// Records that found the channel full.
    pub fn records_dropped(&self) -> u64 {
        self.sender.records_dropped.load(Ordering::Relaxed)
    }

    /// Chunks of bodies that were handed over.
    pub fn chunks_sent(&self) -> u64 {
        self.sender.chunks_sent.load(Ordering::Relaxed)
    }

    /// Bodies of which some was dropped, because every chunk was full and waiting.
    pub fn bodies_dropped(&self) -> u64 {
        self.sender.bodies_dropped.load(Ordering::Relaxed)
    }

    /// Records that wait to be written.
    fn queued_records(&self) -> u64 {
        let taken = self.receiver.records_taken.load(Ordering::Relaxed);
        self.records_sent().saturating_sub(taken)
    }

    /// Bytes of records that wait to be written.
    pub fn queued_bytes(&self) -> u64 {
        let taken = self.receiver.record_bytes_taken.load(Ordering::Relaxed);
        let sent = self.sender.record_bytes_sent.load(Ordering::Relaxed);
        sent.saturating_sub(taken)
    }
}

/// Adds to a counter that only the calling thread writes: no locked instruction.
fn bump(counter: &AtomicU64, by: u64) {
    let value = counter.load(Ordering::Relaxed);
    counter.store(value.wrapping_add(by), Ordering::Relaxed);
}

/// Bytes that a record keeps in memory, near enough.
fn record_bytes(record: &Record) -> u64 {
    (size_of::<Record>() + record.texts.byte_len()) as u64
}

/// The shard's end of its channel; one thread uses it.
#[derive(Debug)]
pub struct LogSender {
    messages: Sender<LogMessage>,
    returned: Receiver<Box<BodyChunk>>,
    bell: Arc<Bell>,
    counters: Arc<LogCounters>,
    parts: BodyParts,
    /// Chunks that exist, wherever they are.
    chunks: usize,
    /// Not `Sync`: its counters are written without locked instructions.
    one_thread: PhantomData<Cell<()>>,
}

impl LogSender {
    /// Hands a record over. `false`: the disk is behind, the record is dropped and counted. Losing
    /// it is the lesser harm: a shard never waits for a disk.
    pub fn record(&self, record: Box<Record>) -> bool {
        let counters = &self.counters.sender;
        let bytes = record_bytes(&record);
        let fits = self.counters.queued_records() < QUEUE_RECORDS_MAX
            && self.counters.queued_bytes() + bytes <= QUEUE_BYTES_MAX;
        let sent = fits && self.messages.try_send(LogMessage::Record(record)).is_ok();
        if sent {
            bump(&counters.records_sent, 1);
            bump(&counters.record_bytes_sent, bytes);
            self.bell.ring();
        } else {
            bump(&counters.records_dropped, 1);
        }
        sent
    }

    /// Copies a piece of a body into the chunk, handing chunks over as they fill. When all are
    /// full and waiting, the rest of the body is dropped and counted; the cursor says so.
    pub fn body(&mut self, cursor: &mut BodyCursor, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !cursor.is_dropped() {
            if !self.ensure_chunk() {
                self.drop_body(cursor);
                return;
            }
            let taken = self.parts.append(cursor, rest);
            rest = rest.get(taken..).unwrap_or_default();
            if !rest.is_empty() {
                self.hand_over();
            }
        }
    }

    /// Ends a body: marks it whole, or dropped.
    pub fn end_body(&mut self, cursor: &mut BodyCursor) {
        for _ in 0..2 {
            if !self.ensure_chunk() {
                break;
            }
            if self.parts.finish(cursor) {
                return;
            }
            self.hand_over();
        }
        self.drop_body(cursor);
    }

    /// Hands over what has gathered in the chunk: called every 5 ms. A shard without bodies gives
    /// one spare chunk back to the allocator each time.
    pub fn tick(&mut self) {
        if self.parts.has_chunk() {
            self.hand_over();
        } else if let Ok(spare) = self.returned.try_recv() {
            drop(spare);
            self.chunks -= 1;
        }
    }

    /// Says whether bodies wait in the chunk for the next [`LogSender::tick`].
    pub fn has_bodies(&self) -> bool {
        self.parts.has_chunk()
    }

    /// The counters, for whoever reads them.
    pub fn counters(&self) -> &Arc<LogCounters> {
        &self.counters
    }

    fn drop_body(&self, cursor: &mut BodyCursor) {
        if !cursor.is_dropped() {
            cursor.drop_rest();
            bump(&self.counters.sender.bodies_dropped, 1);
        }
    }

    /// Sees to it that there is a chunk: one that came back, or a new one while there are few.
    fn ensure_chunk(&mut self) -> bool {
        if self.parts.has_chunk() {
            return true;
        }
        if let Ok(chunk) = self.returned.try_recv() {
            self.parts.set_chunk(chunk);
            return true;
        }
        if self.chunks == CHUNKS_MAX {
            return false;
        }
        self.chunks += 1;
        self.parts.set_chunk(Box::default());
        true
    }

    fn hand_over(&mut self) {
        let Some(chunk) = self.parts.take_filled() else {
            return;
        };
        match self.messages.try_send(LogMessage::Bodies(chunk)) {
            Ok(()) => {
                bump(&self.counters.sender.chunks_sent, 1);
                self.bell.ring();
            }
            Err(
                TrySendError::Full(LogMessage::Bodies(mut chunk))
                | TrySendError::Disconnected(LogMessage::Bodies(mut chunk)),
            ) => {
                // Its readers find the gap by the sequence of the parts.
                bump(&self.counters.sender.bodies_dropped, u64::from(chunk.parts));
                chunk.clear();
                self.parts.set_chunk(chunk);
            }
            Err(
                TrySendError::Full(LogMessage::Record(_))
                | TrySendError::Disconnected(LogMessage::Record(_)),
            ) => {}
        }
    }
}

impl Drop for LogSender {
    /// What lies in the chunk is still handed over when a shard ends.
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// Tells the receiver to empty its channels and end.
#[derive(Debug, Clone)]
pub struct LogStop {
    stopped: Arc<AtomicBool>,
    bell: Arc<Bell>,
}

impl LogStop {
    /// Asks for the end; what was sent before is still written.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.bell.ring_always();
    }

    /// Says whether the end was asked for.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Lane {
    incoming: Receiver<LogMessage>,
    returns: Sender<Box<BodyChunk>>,
    counters: Arc<LogCounters>,
}

/// The writer's end of all channels.
#[derive(Debug)]
pub struct LogReceiver {
    lanes: Vec<Lane>,
    stop: LogStop,
    idle_polls: u32,
}

impl LogReceiver {
    /// How many shards send.
    pub fn shards(&self) -> usize {
        self.lanes.len()
    }

    /// The handle that ends the receiver.
    pub fn stop_handle(&self) -> LogStop {
        self.stop.clone()
    }

    /// Takes the next message of `shard`, without waiting.
    pub fn take(&self, shard: usize) -> Option<LogMessage> {
        let lane = self.lanes.get(shard)?;
        match lane.incoming.try_recv() {
            Ok(message) => {
                if let LogMessage::Record(record) = &message {
                    let taken = &lane.counters.receiver;
                    bump(&taken.records_taken, 1);
                    bump(&taken.record_bytes_taken, record_bytes(record));
                }
                Some(message)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Gives an empty chunk back to `shard`; if that is gone, the chunk is freed.
    pub fn give_back(&self, shard: usize, mut chunk: Box<BodyChunk>) {
        chunk.clear();
        if chunk.bytes.capacity() != CHUNK_BYTES {
            // The frame's padding never grows a chunk; but a pool must not either.
            *chunk = BodyChunk::new();
        }
        if let Some(lane) = self.lanes.get(shard) {
            let _ = lane.returns.try_send(chunk);
        }
    }

    /// Messages that wait, of all shards.
    pub fn queued(&self) -> usize {
        self.lanes.iter().map(|lane| lane.incoming.len()).sum()
    }

    /// Rests between two looks at the channels. `worked`: the last look found something, or
    /// something is left to do. After 100 ms in vain, sleeps until a message comes, or for
    /// `longest`.
    pub fn rest(&mut self, worked: bool, longest: Option<Duration>) {
        let bell = &self.stop.bell;
        if worked {
            self.idle_polls = 0;
        } else if self.idle_polls >= IDLE_POLLS_MAX {
            bell.prepare_sleep();
            if self.queued() == 0 && !self.stop.is_stopped() {
                bell.wait(longest);
            }
            bell.awake();
            self.idle_polls = 0;
            return;
        } else {
            self.idle_polls += 1;
        }
        bell.wait(Some(POLL));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{
        domain::{
            id::RequestId,
            record::{TEXTS, Texts},
        },
        handoff::body_parts::{CHUNK_HEAD_BYTES, Direction, parts},
    };

    fn one() -> (LogSender, LogReceiver) {
        let (mut senders, receiver) = log_queue(1).unwrap();
        (senders.pop().unwrap(), receiver)
    }

    fn record(n: u64) -> Box<Record> {
        Box::new(Record {
            at_micros: n,
            ..Record::default()
        })
    }

    #[test]
    fn records_arrive_in_order_and_are_counted() {
        let (sender, receiver) = one();
        for n in 0..3 {
            assert!(sender.record(record(n)));
        }
        assert_eq!(receiver.queued(), 3);
        assert!(sender.counters().queued_bytes() > 0);
        for n in 0..3 {
            let Some(LogMessage::Record(record)) = receiver.take(0) else {
                panic!("record {n} is missing");
            };
            assert_eq!(record.at_micros, n);
        }
        assert!(receiver.take(0).is_none() && receiver.take(9).is_none());
        assert_eq!(sender.counters().records_sent(), 3);
        assert_eq!(sender.counters().queued_bytes(), 0);
    }

    #[test]
    fn a_full_channel_drops_and_counts() {
        let (sender, receiver) = one();
        for n in 0..QUEUE_RECORDS_MAX {
            assert!(sender.record(record(n)));
        }
        assert!(!sender.record(record(0)));
        assert_eq!(sender.counters().records_dropped(), 1);
        assert!(receiver.take(0).is_some() && sender.record(record(0)));
    }

    #[test]
    fn long_texts_fill_the_channel_by_their_bytes() {
        let (sender, _receiver) = one();
        let long = vec![b'a'; 1 << 20];
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[5] = &long;
        let mut sent = 0u64;
        while sender.record(Box::new(Record {
            texts: Texts::pack(&texts),
            ..Record::default()
        })) {
            sent += 1;
        }
        assert_eq!(sent, 31);
    }

    #[test]
    fn a_shard_has_thirty_two_chunks_and_drops_beyond_them() {
        let (mut sender, receiver) = one();
        let mut cursor = BodyCursor::new(RequestId([1; 16]), Direction::Response);
        sender.body(&mut cursor, &vec![7; CHUNK_BYTES * (CHUNKS_MAX + 1)]);
        sender.end_body(&mut cursor);
        assert!(cursor.is_dropped());
        assert_eq!(sender.counters().bodies_dropped(), 1);
        assert_eq!(receiver.queued(), CHUNKS_MAX);

        let Some(LogMessage::Bodies(chunk)) = receiver.take(0) else {
            panic!("no chunk");
        };
        receiver.give_back(0, chunk);
        let mut next = BodyCursor::new(RequestId([2; 16]), Direction::Request);
        sender.body(&mut next, b"room again");
        sender.end_body(&mut next);
        sender.tick();
        assert!(!next.is_dropped());
        assert_eq!(receiver.queued(), CHUNKS_MAX);
    }

    #[test]
    fn a_body_comes_back_byte_for_byte() {
        let (mut sender, receiver) = one();
        let body: Vec<u8> = (0..400_000u32).map(|n| n.to_le_bytes()[1]).collect();
        let mut cursor = BodyCursor::new(RequestId([1; 16]), Direction::Response);
        for piece in body.chunks(7001) {
            sender.body(&mut cursor, piece);
        }
        sender.end_body(&mut cursor);
        drop(sender);
        let mut back = Vec::new();
        let mut flags = 0;
        while let Some(LogMessage::Bodies(chunk)) = receiver.take(0) {
            for part in parts(&chunk.bytes[CHUNK_HEAD_BYTES..]) {
                back.extend_from_slice(part.bytes);
                flags = part.flags;
            }
        }
        assert!(back == body);
        assert_eq!(flags, super::super::body_parts::PART_LAST);
    }

    #[test]
    fn a_quiet_shard_frees_its_spare_chunks() {
        let (mut sender, receiver) = one();
        let mut cursor = BodyCursor::new(RequestId([1; 16]), Direction::Request);
        sender.body(&mut cursor, b"x");
        sender.tick();
        let Some(LogMessage::Bodies(chunk)) = receiver.take(0) else {
            panic!("no chunk");
        };
        receiver.give_back(0, chunk);
        assert_eq!(sender.chunks, 1);
        sender.tick();
        assert_eq!(sender.chunks, 0);
    }

    #[test]
    fn a_sleeping_receiver_wakes_for_a_record_and_for_its_end() {
        let (sender, mut receiver) = one();
        let stop = receiver.stop_handle();
        let taker = thread::spawn(move || {
            let mut taken = 0;
            loop {
                let stopped = receiver.stop.is_stopped();
                let mut worked = false;
                while receiver.take(0).is_some() {
                    worked = true;
                    taken += 1;
                }
                if stopped && !worked {
                    return taken;
                }
                receiver.idle_polls = IDLE_POLLS_MAX; // sleeps at once
                receiver.rest(worked, None);
            }
        });
        for n in 0..10 {
            assert!(sender.record(record(n)));
            while sender.counters().queued_bytes() > 0 {
                thread::yield_now();
            }
        }
        stop.stop();
        assert_eq!(taker.join().unwrap(), 10);
    }
}
