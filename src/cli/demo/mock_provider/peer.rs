//! The other end of a connection: blocking reads and writes, and waits that notice a hang-up.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Shared;

/// One connection. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Peer {
    stream: Arc<TcpStream>,
    id: u64,
    pub(super) shared: Arc<Shared>,
}

/// The connection is over: the peer hung up, or the mock provider is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Peer {
    /// Registers an accepted connection, unless there are too many.
    pub(super) fn admit(stream: TcpStream, shared: &Arc<Shared>) -> Option<Self> {
        let stream = Arc::new(stream);
        let id = shared.peers.enter(&stream)?;
        let peer = Self {
            stream,
            id,
            shared: Arc::clone(shared),
        };
        peer.stream.set_nodelay(true).ok()?;
        peer.stream.set_read_timeout(Some(IDLE_MAX)).ok()?;
        peer.stream.set_write_timeout(Some(IDLE_MAX)).ok()?;
        Some(peer)
    }

    /// The number of this connection, counted from 0.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Reads what there is; 0 is the end of the peer's bytes.
    pub(super) fn read(&self, into: &mut [u8]) -> Result<usize, Gone> {
        loop {
            match (&*self.stream).read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
                Ok(len) => return Ok(len),
            }
        }
    }

    /// Writes all of it.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Gone> {
        (&*self.stream).write_all(bytes).map_err(|_| Gone)
    }

    /// Waits, unless the peer hangs up before. Bytes that the peer sends meanwhile stay unread.
    pub(super) fn wait(&self, time: Duration) -> Result<(), Gone> {
        let end = Instant::now() + time;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            let timeout = Timespec::try_from(rest).map_err(|_| Gone)?;
            // Not `IN`: a pipelined request must not wake us again and again.
            let mut fds = [PollFd::new(&*self.stream, PollFlags::RDHUP)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return Err(Gone),
            }
        }
    }

    /// Waits until the peer hangs up, or for as long as anyone may hang.
    pub(super) fn hang(&self) -> Gone {
        let _ = self.wait(HANG_MAX);
        Gone
    }

    /// Ends our side, then reads the peer's rest for a moment: closing with unread bytes would
    /// reset the connection and could take the answer with it.
    pub(super) fn finish(&self) {
        if self.stream.shutdown(Shutdown::Write).is_err()
            || self.stream.set_read_timeout(Some(LINGER_MAX)).is_err()
        {
            return;
        }
        let mut scratch = [0; 16 * 1024];
        let end = Instant::now() + LINGER_MAX;
        while Instant::now() < end && !matches!(self.read(&mut scratch), Ok(0) | Err(Gone)) {}
    }

    /// Closes by a reset instead of an orderly end.
    pub(super) fn reset(&self) {
        // Close with a linger time of zero is how a reset is asked for. The registry lets go of
        // its handle first; ours, the last, closes when the peer is dropped right after.
        let _ = rustix::net::sockopt::set_socket_linger(&*self.stream, Some(Duration::ZERO));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.peers.leave(self.id);
    }
}

/// Every open connection, so that all can be closed.
#[derive(Debug)]
pub(super) struct Peers {
    open: Mutex<BTreeMap<u64, Arc<TcpStream>>>,
    open_max: usize,
    accepted: AtomicU64,
    refused: AtomicU64,
    closing: AtomicBool,
}

impl Peers {
    pub(super) fn new(open_max: usize) -> Self {
        Self {
            open: Mutex::default(),
            open_max,
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        }
    }

    pub(super) fn closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Connections accepted so far, refused so far, open now.
    pub(super) fn counts(&self) -> (u64, u64, usize) {
        (
            self.accepted.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
            self.lock().len(),
        )
    }

    pub(super) fn close_all(&self) {
        self.closing.store(true, Ordering::Release);
        for stream in self.lock().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn enter(&self, stream: &Arc<TcpStream>) -> Option<u64> {
        let mut open = self.lock();
        if open.len() >= self.open_max || self.closing() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let id = self.accepted.fetch_add(1, Ordering::Relaxed);
        open.insert(id, Arc::clone(stream));
        Some(id)
    }

    fn leave(&self, id: u64) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<TcpStream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longest wait for a peer's next byte, or for it to take ours.
const IDLE_MAX: Duration = Duration::from_mins(10);

/// Longest time that a hanging answer holds its thread.
const HANG_MAX: Duration = Duration::from_mins(30);

/// Longest wait for a peer to end its side after we ended ours.
const LINGER_MAX: Duration = Duration::from_secs(2);
