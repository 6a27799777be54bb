//! A provider that does exactly what a test scripts, byte for byte; and the mock provider's counts.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::Value;
use tidegate::cli::demo::mock_provider::{MockProvider, Options};

use super::{
    client::find,
    wait::{SOON, wait_until},
};

/// A scripted provider. Each connection runs the script on a thread of its own.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicU64,
    requests: AtomicU64,
    ended: AtomicU64,
    stopping: AtomicBool,
}

impl Upstream {
    pub(crate) fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared: Arc<Shared> = Arc::default();
        let script = Arc::new(script);
        let accepting = {
            let shared = Arc::clone(&shared);
            move || {
                while let Ok((stream, _)) = listener.accept() {
                    if shared.stopping.load(Ordering::Acquire) {
                        return;
                    }
                    let (shared, script) = (Arc::clone(&shared), Arc::clone(&script));
                    thread::spawn(move || {
                        let place = shared.connections.fetch_add(1, Ordering::AcqRel);
                        stream.set_nodelay(true).unwrap();
                        stream.set_read_timeout(Some(SOON)).unwrap();
                        let mut peer = Peer {
                            stream,
                            place,
                            shared: Arc::clone(&shared),
                            buffer: Vec::new(),
                        };
                        script(&mut peer);
                        drop(peer);
                        shared.ended.fetch_add(1, Ordering::AcqRel);
                    });
                }
            }
        };
        Self {
            address,
            shared,
            accepting: Some(thread::spawn(accepting)),
        }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Requests read to their end so far.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Acquire)
    }

    /// Connections whose script has ended, and which are closed.
    pub(crate) fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Acquire)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// One connection of a scripted provider.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    /// Its number, from 0.
    pub(crate) place: u64,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

/// A request as a scripted provider read it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    /// The payload, without framing.
    pub(crate) body: Vec<u8>,
}

impl Peer {
    /// Reads a whole request; `None` when the connection ends before its end.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let head = self.head()?;
        let body = self.body(&head)?;
        self.shared.requests.fetch_add(1, Ordering::AcqRel);
        Some(Request { head, body })
    }

    /// Reads a head alone.
    pub(crate) fn head(&mut self) -> Option<String> {
        let head = self.take_through(b"\r\n\r\n")?;
        Some(String::from_utf8(head).unwrap())
    }

    fn body(&mut self, head: &str) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = field(head, "content-length") {
            return self.take(length.parse().unwrap());
        }
        if field(head, "transfer-encoding").is_some() {
            loop {
                let line = self.take_through(b"\r\n")?;
                let digits = std::str::from_utf8(line.strip_suffix(b"\r\n")?).unwrap();
                let size = usize::from_str_radix(digits, 16).unwrap();
                let payload = self.take(size + 2)?;
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&payload[..size]);
            }
        }
        Some(body)
    }

    /// Reads a line, with its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let line = self.take_through(b"\r\n")?;
        Some(String::from_utf8(line).unwrap())
    }

    /// Reads and throws away so many bytes.
    pub(crate) fn finish_reading(&mut self, bytes: usize) {
        let mut left = bytes - self.buffer.len().min(bytes);
        self.buffer.clear();
        while left > 0 && self.more().is_some() {
            left -= self.buffer.len().min(left);
            self.buffer.clear();
        }
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < bytes {
            self.more()?;
        }
        Some(self.buffer.drain(..bytes).collect())
    }

    fn take_through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            self.more()?;
        }
    }

    /// Reads once; `None` at the end.
    fn more(&mut self) -> Option<()> {
        let mut piece = [0; 16 * 1024];
        let bytes = self
            .stream
            .read(&mut piece)
            .ok()
            .filter(|bytes| *bytes > 0)?;
        self.buffer.extend_from_slice(&piece[..bytes]);
        Some(())
    }

    /// Reads and throws away until the other side ends; gives the bytes that came.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more().is_some() {}
        std::mem::take(&mut self.buffer)
    }

    /// Writes all of it; `false` when the other side is gone.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends an answer with a length.
    pub(crate) fn answer(&mut self, body: impl AsRef<[u8]>) -> bool {
        let body = body.as_ref();
        let mut out = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        out.extend_from_slice(body);
        self.send(out)
    }

    /// Ends the sending side.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Says whether the other side has ended or sent something, without waiting.
    pub(crate) fn peek(&self) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        peeked
    }
}

/// The value of a field of a head.
pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Starts the mock provider.
pub(crate) fn mock() -> MockProvider {
    MockProvider::start(Options::default()).unwrap()
}

/// A count of the mock provider's, by its path in the report: `total/requests`.
pub(crate) fn count(mock: &MockProvider, path: &str) -> u64 {
    let report = mock.counters();
    let found = report.pointer(&format!("/{path}")).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no count {path} in {report:#}"))
}

/// The newest request that the mock provider saw, once nothing is in flight there.
pub(crate) fn last_request(mock: &MockProvider) -> Value {
    wait_until("the mock provider to be done", || {
        count(mock, "in_flight") == 0
    });
    mock.requests(1)["requests"][0].take()
}
