//! One large body each way, with its rate and its hash.

use std::time::Duration;

use clap::ValueEnum;
use quanta::Instant;
use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::document::{DOCUMENT_BYTES_MAX, Document};
use super::place::{LoadError, Report};
use super::target::{Target, TargetOptions};
use super::wire::{Fault, Link};

/// Options of `load transfer`.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: TargetOptions,
    /// Which way the large body goes.
    #[arg(long, value_enum)]
    way: Way,
    /// Its bytes.
    #[arg(long, default_value_t = 100 * 1000 * 1000)]
    size: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    Download,
    Upload,
}

/// Moves the body and reports rate and whether it arrived unchanged.
pub(crate) async fn transfer(options: Options) -> Report {
    let target = options.target.check()?;
    let size = options.size.min(DOCUMENT_BYTES_MAX);
    let mut link = Link::connect(target.address, READ_BYTES).await?;
    let start = Instant::now();
    let moving = async {
        match options.way {
            Way::Download => download(&mut link, &target, size).await,
            Way::Upload => upload(&mut link, &target, size).await,
        }
    };
    let moved = monoio::time::timeout(TIME_MAX, moving)
        .await
        .map_err(|_| LoadError::Peer(Fault::Closed))??;
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    Ok(json!({
        "status": moved.status,
        "bytes": moved.bytes,
        "same": moved.same,
        "seconds": (seconds * 1e4).round() / 1e4,
        "megabytes_per_second": (moved.bytes as f64 / seconds / 1e6).round(),
    })
    .to_string())
}

struct Moved {
    status: u16,
    bytes: u64,
    same: bool,
}

async fn download(link: &mut Link, target: &Target, size: u64) -> Result<Moved, Fault> {
    let expected = Document::answer(size);
    let body = Document::request(256, false);
    let mut request = target.head(&format!("size={}", expected.len()), body.len());
    request.extend(body.pieces().flatten());
    let (sent, _) = link.send(request).await;
    sent.map_err(|_| Fault::Broken)?;
    let (head, _) = link.response_head().await?;
    let mut hash = Xxh3::new();
    let bytes = link
        .body(head.framing, |piece| {
            hash.update(piece);
            Ok(())
        })
        .await?;
    Ok(Moved {
        status: head.status,
        bytes,
        same: hash.digest() == expected.hash(),
    })
}

async fn upload(link: &mut Link, target: &Target, size: u64) -> Result<Moved, Fault> {
    let document = Document::request(size, false);
    let (sent, _) = link.send(target.head("report=1", document.len())).await;
    sent.map_err(|_| Fault::Broken)?;
    let mut bytes = 0;
    for piece in document.pieces() {
        let (sent, _) = link.send(piece).await;
        // A refusal closes the connection while we still send; its answer may lie there already.
        if sent.is_err() {
            break;
        }
        bytes += piece.len() as u64;
    }
    let (head, _) = link.response_head().await?;
    let mut receipt = Vec::new();
    link.body(head.framing, |piece| {
        receipt.extend_from_slice(piece);
        (receipt.len() <= RECEIPT_BYTES_MAX)
            .then_some(())
            .ok_or(Fault::Length)
    })
    .await?;
    let receipt: Value = serde_json::from_slice(&receipt).unwrap_or(Value::Null);
    let same = receipt["bytes"] == document.len()
        && receipt["xxh3"] == format!("{:016x}", document.hash());
    Ok(Moved {
        status: head.status,
        bytes,
        same,
    })
}

/// Large, for the generator must not be what limits the rate.
const READ_BYTES: usize = 256 * 1024;

const RECEIPT_BYTES_MAX: usize = 64 * 1024;

/// Longest transfer.
const TIME_MAX: Duration = Duration::from_mins(5);
