//! Orders to a shard, and what a shard asks of side threads.
//!
//! Each queue is bounded and has a bell: who sends looks whether the receiver sleeps, and rings
//! only then. No receiver parks inside the queue, so a send takes no lock.

use std::{net::SocketAddr, sync::Arc};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::{counters::Counters, ledger::Journalled};
use crate::{domain::cache::Purge, snapshot::Snapshot, sys::bell::Bell};

/// What side threads tell a shard.
pub enum Order {
    /// A new configuration.
    Snapshot(Arc<Snapshot>),
    /// A new certificate for the TLS listener.
    Certificate(Arc<rustls::ServerConfig>),
    /// Accept nothing further, end idle connections, exit when nothing is in flight.
    Drain,
    /// Exit now.
    Stop,
    /// The answer to a [`Question::Resolve`].
    Addresses {
        /// The host that was asked for.
        host: Box<str>,
        /// Its addresses in the order to try them, or why there are none.
        addresses: Result<Vec<SocketAddr>, Box<str>>,
    },
    /// The answer to a [`Question::Api`].
    Answer {
        /// The ticket of the question.
        ticket: u64,
        /// What to send to the caller.
        answer: ApiAnswer,
    },
    /// The answer to a [`Batch`](super::ledger::Batch) with reservations.
    Journalled(Journalled),
    /// Send a copy of the counters there.
    Count(Sender<Box<Counters>>),
    /// Forget cached answers. After a change of the configuration, sent behind its snapshot.
    Forget(Purge),
    /// Say there that the shard's loop turns.
    Echo(Sender<()>),
}

/// What a shard asks of a side thread.
pub enum Question {
    /// Look a host name up.
    Resolve {
        /// Which shard asks.
        shard: usize,
        /// The name, as it stands in the address.
        host: Box<str>,
        /// The port that the addresses get.
        port: u16,
    },
    /// Answer a management request.
    Api {
        /// Which shard asks.
        shard: usize,
        /// Names the question in its answer.
        ticket: u64,
        /// The request, read to its end.
        call: Box<ApiCall>,
    },
    /// A gateway was used that nobody made: make it, with the settings that it was used with.
    Implied {
        /// Its id.
        gateway: Box<str>,
    },
}

/// A management request, already authenticated.
#[derive(Debug, Clone)]
pub struct ApiCall {
    /// Request method, as received.
    pub method: Box<str>,
    /// Path and query, as received.
    pub target: Box<str>,
    /// The host that it was sent to, with its port, as received.
    pub host: Box<str>,
    /// `content-type` of the body.
    pub content_type: Box<str>,
    /// The body.
    pub body: Vec<u8>,
    /// Name of the key that was proved; empty where none is needed.
    pub key: Box<str>,
    /// May read.
    pub read: bool,
    /// May change.
    pub edit: bool,
}

/// The answer to a management request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiAnswer {
    /// HTTP status.
    pub status: u16,
    /// `content-type` of the body.
    pub content_type: &'static str,
    /// Further header fields.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Messages that wait in one queue. A shard drains its own on every turn of its loop; more than
/// this means that the receiver is gone or stuck.
const QUEUE_MESSAGES: usize = 1024;

/// The sending end of a queue with a bell.
pub struct Post<T> {
    sender: Sender<T>,
    bell: Arc<Bell>,
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

/// The receiving end of a queue with a bell.
pub struct Letterbox<T> {
    receiver: Receiver<T>,
    /// Rung by senders while the receiver says that it sleeps.
    pub bell: Arc<Bell>,
}

/// Makes a queue with a bell.
pub fn letterbox<T>() -> std::io::Result<(Post<T>, Letterbox<T>)> {
    let (sender, receiver) = bounded(QUEUE_MESSAGES);
    let bell = Arc::new(Bell::new()?);
    let post = Post {
        sender,
        bell: Arc::clone(&bell),
    };
    Ok((post, Letterbox { receiver, bell }))
}

impl<T> Post<T> {
    /// Sends without waiting; gives the message back if the queue is full or its reader gone.
    pub fn send(&self, message: T) -> Result<(), T> {
        match self.sender.try_send(message) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => Err(message),
        }
    }
}

impl<T> Letterbox<T> {
    /// Takes the next message, if there is one.
    pub fn take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }

    /// Says whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Waits for a message; for side threads only. `None` after `timeout`.
    pub fn wait(&self, timeout: std::time::Duration) -> Option<T> {
        if let Some(message) = self.take() {
            return Some(message);
        }
        self.bell.prepare_sleep();
        if let Some(message) = self.take() {
            self.bell.awake();
            return Some(message);
        }
        self.bell.wait(Some(timeout));
        self.bell.awake();
        self.take()
    }
}
