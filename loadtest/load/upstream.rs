//! A provider that costs next to nothing: fixed answers, stamped event streams, large downloads,
//! uploads that are counted.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use monoio::net::{ListenerOpts, TcpListener};
use monoio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use super::clock::stamp_micros;
use super::document::{DOCUMENT_BYTES_MAX, DONE_EVENT, Document, EVENTS_MAX, Event, USAGE_EVENT};
use super::place::{LoadError, Report, duration, loopback_only};
use super::wire::{FIELDS_MAX, Fault, Fields, Framing, Link, UNREAD_BYTES_MAX};

/// Options of `load upstream`. A request chooses its answer by its query: `size=` (bytes of a JSON
/// answer), `delay_us=` before it, `events=` and `gap_us=` of a stream, `report=1` for length and
/// hash of what was uploaded. A stream is answered to a body with `"stream":true` and to a path
/// with `stream` in it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Loopback address to listen on; port 0 lets the system choose. The first line of output
    /// says which.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Ends by itself after this long.
    #[arg(long = "for", default_value = "60m", value_parser = duration)]
    lifetime: Duration,
}

/// Listens until its time is over.
pub(crate) async fn serve(options: Options) -> Report {
    let listen = loopback_only(options.listen)?;
    let listener = TcpListener::bind_with_config(
        listen,
        &ListenerOpts::new().reuse_port(false).backlog(BACKLOG),
    )
    .map_err(LoadError::system("listen"))?;
    let address = listener
        .local_addr()
        .map_err(LoadError::system("read the listener's address"))?;
    println!(
        "{}",
        serde_json::json!({ "listening": address.to_string() })
    );

    let upstream = Rc::new(Upstream::default());
    let accepting = async {
        loop {
            // Out of descriptors: wait for some to close rather than spin.
            let Ok((stream, _)) = listener.accept().await else {
                monoio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let upstream = Rc::clone(&upstream);
            monoio::spawn(async move {
                bump(&upstream.connections);
                // The peer left or spoke nonsense; either way the connection is over.
                let _ = connection(&upstream, Link::new(stream, READ_BYTES)).await;
                bump(&upstream.closed);
            });
        }
    };
    let _: Result<(), _> = monoio::time::timeout(options.lifetime, accepting).await;
    Ok(upstream.counters())
}

/// Counters, and answers that were built before.
#[derive(Default)]
struct Upstream {
    connections: Cell<u64>,
    closed: Cell<u64>,
    requests: Cell<u64>,
    streams: Cell<u64>,
    streams_cut: Cell<u64>,
    events: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    small_answers: RefCell<Vec<(u64, Bytes)>>,
}

impl Upstream {
    fn counters(&self) -> String {
        serde_json::json!({
            "connections": self.connections.get(),
            "open": self.connections.get() - self.closed.get(),
            "requests": self.requests.get(),
            "streams": self.streams.get(),
            "streams_cut": self.streams_cut.get(),
            "events": self.events.get(),
            "bytes_in": self.bytes_in.get(),
            "bytes_out": self.bytes_out.get(),
        })
        .to_string()
    }

    /// Head and body of a small answer in one piece, built once for each size.
    fn small_answer(&self, size: u64) -> Bytes {
        let mut answers = self.small_answers.borrow_mut();
        if let Some((_, answer)) = answers.iter().find(|(known, _)| *known == size) {
            return answer.clone();
        }
        let document = Document::answer(size);
        let mut answer = json_head(document.len()).into_bytes();
        answer.extend(document.pieces().flatten());
        let answer = Bytes::from(answer);
        if answers.len() >= SMALL_ANSWERS_MAX {
            answers.clear();
        }
        answers.push((size, answer.clone()));
        answer
    }
}

/// Serves one connection until its peer leaves.
async fn connection(upstream: &Upstream, mut link: Link) -> Result<(), Fault> {
    loop {
        let Some(request) = request_head(&mut link).await? else {
            return Ok(());
        };
        bump(&upstream.requests);
        if request.expects_continue {
            send(&mut link, &b"HTTP/1.1 100 Continue\r\n\r\n"[..]).await?;
        }
        let mut wanted = request.wanted;
        let received = receive(&mut link, request.framing, &mut wanted).await?;
        add(&upstream.bytes_in, received.bytes);
        match wanted.answer {
            Answer::Json => json(upstream, &mut link, wanted).await?,
            Answer::Stream => stream(upstream, &mut link, wanted).await?,
            Answer::Receipt => {
                let receipt = serde_json::json!({
                    "bytes": received.bytes, "xxh3": format!("{:016x}", received.hash),
                });
                whole(&mut link, &receipt.to_string()).await?;
            }
            Answer::Counters => whole(&mut link, &upstream.counters()).await?,
        }
        if request.close {
            return Ok(());
        }
    }
}

struct Request {
    wanted: Wanted,
    framing: Framing,
    close: bool,
    expects_continue: bool,
}

/// What the query asks for.
#[derive(Clone, Copy)]
struct Wanted {
    answer: Answer,
    size: u64,
    delay_micros: u64,
    events: u64,
    gap_micros: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Json,
    Stream,
    Receipt,
    Counters,
}

impl Wanted {
    fn of(path: &str) -> Self {
        let mut wanted = Self {
            answer: Answer::Json,
            size: 1024,
            delay_micros: 0,
            events: 100,
            gap_micros: 2_000,
        };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path.contains("stream") {
            wanted.answer = Answer::Stream;
        }
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = value.parse::<u64>().unwrap_or(0);
            match name {
                "size" => wanted.size = value.min(DOCUMENT_BYTES_MAX),
                "delay_us" => wanted.delay_micros = value.min(WAIT_MICROS_MAX),
                "events" => wanted.events = value.min(EVENTS_MAX),
                "gap_us" => wanted.gap_micros = value.min(WAIT_MICROS_MAX),
                "report" => wanted.answer = Answer::Receipt,
                _ => {}
            }
        }
        if path.ends_with("/__load/counters") {
            wanted.answer = Answer::Counters;
        }
        wanted
    }
}

/// Reads a request head; `None` when the peer left between two requests.
async fn request_head(link: &mut Link) -> Result<Option<Request>, Fault> {
    loop {
        let unread = link.unread();
        if !unread.is_empty() {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut head = httparse::Request::new(&mut fields);
            if let httparse::Status::Complete(bytes) =
                head.parse(unread).map_err(|_| Fault::Head)?
            {
                let facts = Fields::read(head.headers)?;
                let request = Request {
                    wanted: Wanted::of(head.path.unwrap_or("/")),
                    framing: facts.framing().unwrap_or(Framing::Length(0)),
                    close: facts.close,
                    expects_continue: facts.expects_continue,
                };
                link.consume(bytes);
                return Ok(Some(request));
            }
            if unread.len() >= UNREAD_BYTES_MAX {
                return Err(Fault::Head);
            }
        }
        if link.fill().await? == 0 {
            return Ok(None);
        }
    }
}

struct Received {
    bytes: u64,
    hash: u64,
}

/// Reads a request body. Looks for `"stream":true` in a small one, hashes one that wants a receipt.
async fn receive(
    link: &mut Link,
    framing: Framing,
    wanted: &mut Wanted,
) -> Result<Received, Fault> {
    let hashes = wanted.answer == Answer::Receipt;
    let mut hash = hashes.then(Xxh3::new);
    let mut streamed = false;
    let bytes = link
        .body(framing, |piece| {
            if let Some(hash) = &mut hash {
                hash.update(piece);
            }
            if !hashes && piece.len() <= SCAN_BYTES_MAX {
                // A mark cut in two by a read is missed; requests of streams are small and whole.
                streamed |= memmem::rfind(piece, b"\"stream\":true").is_some();
            }
            Ok(())
        })
        .await?;
    if streamed {
        wanted.answer = Answer::Stream;
    }
    Ok(Received {
        bytes,
        hash: hash.map_or(0, |hash| hash.digest()),
    })
}

async fn json(upstream: &Upstream, link: &mut Link, wanted: Wanted) -> Result<(), Fault> {
    if wanted.delay_micros > 0 {
        monoio::time::sleep(Duration::from_micros(wanted.delay_micros)).await;
    }
    if wanted.size <= SMALL_ANSWER_BYTES_MAX {
        let answer = upstream.small_answer(wanted.size);
        add(&upstream.bytes_out, answer.len() as u64);
        return send(link, answer).await;
    }
    let document = Document::answer(wanted.size);
    send(link, json_head(document.len()).into_bytes()).await?;
    for piece in document.pieces() {
        send(link, piece).await?;
        add(&upstream.bytes_out, piece.len() as u64);
    }
    Ok(())
}

/// Sends stamped events, each as one chunk in one write, on a fixed schedule.
async fn stream(upstream: &Upstream, link: &mut Link, wanted: Wanted) -> Result<(), Fault> {
    bump(&upstream.streams);
    let sent = events(upstream, link, wanted).await;
    if sent.is_err() {
        bump(&upstream.streams_cut);
    }
    sent
}

async fn events(upstream: &Upstream, link: &mut Link, wanted: Wanted) -> Result<(), Fault> {
    let start = Instant::now();
    let event = Event::template();
    let size_line = format!("{:x}\r\n", event.len());
    let mut chunk = [size_line.as_bytes(), &event, b"\r\n"].concat();
    for number in 0..wanted.events {
        if number > 0 && wanted.gap_micros > 0 {
            let due = Duration::from_micros(wanted.gap_micros.saturating_mul(number));
            monoio::time::sleep_until(start + due).await;
        }
        let body = size_line.len()..size_line.len() + event.len();
        Event::fill(&mut chunk[body], number, stamp_micros());
        if number == 0 {
            send(link, [STREAM_HEAD, &chunk].concat()).await?;
        } else {
            let (sent, buffer) = link.send(chunk).await;
            chunk = buffer;
            sent.map_err(|_| Fault::Broken)?;
        }
        bump(&upstream.events);
        add(&upstream.bytes_out, chunk.len() as u64);
    }
    let mut end = Vec::with_capacity(512);
    if wanted.events == 0 {
        end.extend_from_slice(STREAM_HEAD);
    }
    for last in [USAGE_EVENT, DONE_EVENT] {
        end.extend_from_slice(format!("{:x}\r\n", last.len()).as_bytes());
        end.extend_from_slice(last);
        end.extend_from_slice(b"\r\n");
    }
    end.extend_from_slice(b"0\r\n\r\n");
    send(link, end).await
}

async fn whole(link: &mut Link, body: &str) -> Result<(), Fault> {
    let answer = format!("{}{body}", json_head(body.len() as u64));
    send(link, answer.into_bytes()).await
}

async fn send<T: monoio::buf::IoBuf + 'static>(link: &mut Link, bytes: T) -> Result<(), Fault> {
    let (sent, _) = link.send(bytes).await;
    sent.map(drop).map_err(|_| Fault::Broken)
}

fn json_head(body_bytes: u64) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
         x-request-id: req_load_0123456789abcdef\r\ncontent-length: {body_bytes}\r\n\r\n"
    )
}

fn bump(counter: &Cell<u64>) {
    add(counter, 1);
}

fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-cache\r\nx-request-id: req_load_0123456789abcdef\r\n\
    transfer-encoding: chunked\r\n\r\n";

/// Holds the connections of a proxy that opens thousands at once.
const BACKLOG: i32 = 4096;

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One read takes a whole small request; uploads are read in pieces of this size.
const READ_BYTES: usize = 16 * 1024;

/// Answers up to here are built once and sent in one write.
const SMALL_ANSWER_BYTES_MAX: u64 = 64 * 1024;
const SMALL_ANSWERS_MAX: usize = 16;

/// Pieces up to here are searched for the stream mark: every read of a small request, and no time
/// lost on uploads beyond that.
const SCAN_BYTES_MAX: usize = READ_BYTES;

/// Longest delay or gap of an answer: a minute.
const WAIT_MICROS_MAX: u64 = 60_000_000;
