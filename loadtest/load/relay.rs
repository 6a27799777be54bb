//! A relay that looks at nothing: what comes from either side goes to the other. It is the floor
//! of what any proxy on this runtime can cost, and a line in `compare` to read the others against.

use std::net::SocketAddr;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt, Splitable};
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};

use super::place::{LoadError, Report, duration, loopback_only};

/// Options of `load relay`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Loopback address to listen on; port 0 lets the system choose. The first line of output
    /// says which.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Loopback address that each connection is relayed to, over a connection of its own.
    #[arg(long)]
    to: SocketAddr,
    /// Ends by itself after this long.
    #[arg(long = "for", default_value = "60m", value_parser = duration)]
    lifetime: Duration,
}

/// Listens until its time is over.
pub(crate) async fn serve(options: Options) -> Report {
    let listen = loopback_only(options.listen)?;
    let to = loopback_only(options.to)?;
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
    let accepting = async {
        loop {
            let Ok((downstream, _)) = listener.accept().await else {
                monoio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            monoio::spawn(connection(downstream, to));
        }
    };
    let _: Result<(), _> = monoio::time::timeout(options.lifetime, accepting).await;
    Ok(serde_json::json!({}).to_string())
}

async fn connection(downstream: TcpStream, to: SocketAddr) {
    let Ok(upstream) = TcpStream::connect_addr(to).await else {
        return;
    };
    // Without it the kernel would hold small pieces back; the connection still works.
    let _ = downstream.set_nodelay(true);
    let _ = upstream.set_nodelay(true);
    let (downstream_read, downstream_write) = downstream.into_split();
    let (upstream_read, upstream_write) = upstream.into_split();
    monoio::spawn(pass(upstream_read, downstream_write));
    pass(downstream_read, upstream_write).await;
}

/// Passes bytes on until either side is done.
async fn pass(mut from: TcpOwnedReadHalf, mut to: TcpOwnedWriteHalf) {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        let (read, bytes) = from.read(buffer).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let (written, bytes) = to.write_all(bytes).await;
        if written.is_err() {
            return;
        }
        buffer = bytes;
        buffer.clear();
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;

/// Rest after a failed accept: out of descriptors, it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
