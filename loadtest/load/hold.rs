//! Connections that are held open for their memory to be measured: idle ones, and readers that
//! stopped in the middle of a large answer.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use monoio::net::TcpStream;
use quanta::Instant;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use serde_json::json;

use super::document::Document;
use super::place::{LoadError, Report, duration, source_of};
use super::tally::Tally;
use super::target::{Target, TargetOptions};
use super::wire::{Fault, Link};

/// Options of `load idle`.
#[derive(clap::Args)]
pub(crate) struct IdleOptions {
    #[command(flatten)]
    target: TargetOptions,
    /// Connections to hold.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// How long to hold them. A line is printed when all are open.
    #[arg(long, default_value = "10s", value_parser = duration)]
    hold: Duration,
    /// Send one request on each before holding it.
    #[arg(long)]
    warm: bool,
}

/// Opens idle connections, holds them, then sends a request on each.
pub(crate) async fn idle(options: IdleOptions) -> Report {
    let target = options.target.check()?;
    let (request, answer) = small_request(&target);
    let mut links = open(target.address, options.connections)?;
    let mut tally = Tally::new();
    if options.warm {
        links = each(links, &request, &answer, &mut tally).await;
    }
    let opened = links.len();
    println!("{}", json!({ "held": opened }));
    monoio::time::sleep(options.hold).await;

    let mut after = Tally::new();
    let usable = each(links, &request, &answer, &mut after).await.len();
    Ok(json!({
        "wanted": options.connections, "held": opened, "usable": usable,
        "warm": tally.report(options.hold), "after": after.report(options.hold),
    })
    .to_string())
}

/// Options of `load stall`.
#[derive(clap::Args)]
pub(crate) struct StallOptions {
    #[command(flatten)]
    target: TargetOptions,
    /// Readers that stop.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Bytes of each answer.
    #[arg(long, default_value_t = 32 * 1024 * 1024)]
    answer_size: u64,
    /// How long they do not read. A line is printed when all have stopped.
    #[arg(long, default_value = "10s", value_parser = duration)]
    hold: Duration,
    /// Read on to the end afterwards and check it.
    #[arg(long)]
    finish: bool,
}

/// Reads the beginning of large answers, stops, and later reads the rest.
pub(crate) async fn stall(options: StallOptions) -> Report {
    let target = options.target.check()?;
    let answer = Document::answer(options.answer_size);
    let body = Document::request(256, false);
    let mut request = target.head(&format!("size={}", answer.len()), body.len());
    request.extend(body.pieces().flatten());

    let mut stopped = Vec::new();
    let mut tally = Tally::new();
    for mut link in open(target.address, options.connections)? {
        match begin(&mut link, request.clone()).await {
            Ok(framing) => stopped.push((link, framing)),
            Err(fault) => tally.failed(fault),
        }
    }
    println!("{}", json!({ "held": stopped.len() }));
    monoio::time::sleep(options.hold).await;

    let start = Instant::now();
    let mut right = 0;
    if options.finish {
        for (mut link, framing) in stopped {
            let reading = whole(&mut link, framing, answer);
            match monoio::time::timeout(ANSWER_WAIT, reading).await {
                Ok(Ok(())) => right += 1,
                Ok(Err(fault)) => tally.failed(fault),
                Err(_) => tally.failed_as("unfinished", 1),
            }
        }
    }
    Ok(json!({
        "wanted": options.connections, "finished": right,
        "report": tally.report(start.elapsed()),
    })
    .to_string())
}

/// Sends `request` and reads the head of its answer, no further than one read goes.
async fn begin(link: &mut Link, request: Vec<u8>) -> Result<super::wire::Framing, Fault> {
    let (sent, _) = link.send(request).await;
    sent.map_err(|_| Fault::Broken)?;
    let (head, _) = monoio::time::timeout(ANSWER_WAIT, link.response_head())
        .await
        .map_err(|_| Fault::Closed)??;
    if head.status != 200 {
        return Err(Fault::Status(head.status));
    }
    Ok(head.framing)
}

async fn whole(
    link: &mut Link,
    framing: super::wire::Framing,
    expected: Document,
) -> Result<(), Fault> {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    link.body(framing, |piece| {
        hash.update(piece);
        Ok(())
    })
    .await?;
    (hash.digest() == expected.hash())
        .then_some(())
        .ok_or(Fault::Content)
}

/// Sends one request on each connection, one after another, and keeps those that answered.
async fn each(links: Vec<Link>, request: &[u8], answer: &[u8], tally: &mut Tally) -> Vec<Link> {
    let mut kept = Vec::with_capacity(links.len());
    for mut link in links {
        let start = Instant::now();
        let asked = monoio::time::timeout(ANSWER_WAIT, ask(&mut link, request, answer)).await;
        match asked.unwrap_or(Err(Fault::Closed)) {
            Ok(()) => {
                let took = start.elapsed();
                tally.answered(answer.len() as u64, took, took);
                kept.push(link);
            }
            Err(fault) => tally.failed(fault),
        }
    }
    kept
}

async fn ask(link: &mut Link, request: &[u8], answer: &[u8]) -> Result<(), Fault> {
    let (sent, _) = link.send(request.to_vec()).await;
    sent.map_err(|_| Fault::Broken)?;
    let (head, _) = link.response_head().await?;
    if head.status != 200 {
        return Err(Fault::Status(head.status));
    }
    let mut body = Vec::with_capacity(answer.len());
    link.body(head.framing, |piece| {
        body.extend_from_slice(piece);
        Ok(())
    })
    .await?;
    (body == answer).then_some(()).ok_or(Fault::Content)
}

fn small_request(target: &Target) -> (Vec<u8>, Vec<u8>) {
    let answer = Document::answer(512);
    let body = Document::request(256, false);
    let mut request = target.head(&format!("size={}", answer.len()), body.len());
    request.extend(body.pieces().flatten());
    (request, answer.to_vec())
}

/// Opens connections from several loopback addresses, so that ports do not run short.
fn open(address: SocketAddr, count: usize) -> Result<Vec<Link>, LoadError> {
    (0..count.min(CONNECTIONS_MAX))
        .map(|n| {
            let stream =
                connect_from(source_of(n, address.port()), address).and_then(TcpStream::from_std);
            let stream = stream.map_err(LoadError::system("open a connection"))?;
            Ok(Link::new(stream, READ_BYTES))
        })
        .collect()
}

/// Connects from `source`. Blocks this thread for as long as loopback takes, which is why it is
/// bounded.
fn connect_from(source: SocketAddr, target: SocketAddr) -> io::Result<StdStream> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_WAIT))?;
    if target.is_ipv4() {
        bind(&socket, &source)?;
    }
    connect(&socket, &target)?;
    set_socket_timeout(&socket, Timeout::Send, None)?;
    let stream = StdStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(stream)
}

const CONNECTIONS_MAX: usize = 100_000;

/// Small, for there are thousands of them.
const READ_BYTES: usize = 2 * 1024;

/// Longest wait for a full accept queue to empty.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Longest wait for one small answer, or for the rest of a stalled one.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
