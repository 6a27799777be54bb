//! One HTTP request on one connection, with the standard library alone: the demo is a client like
//! any other and shares no code with what it shows.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request with a JSON body.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Path, from `/v1/` on.
    pub path: &'a str,
    /// Header fields besides those that every request has, each with its line end.
    pub fields: &'a str,
    /// The body.
    pub body: &'a str,
    /// Hangs up after so many bytes of the answer.
    pub hang_up_after: Option<usize>,
}

/// Longest wait for any byte; the slowest request of the demo takes seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer that is read; those of the demo have a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Sends the request, reads the answer to its end, and returns its status.
pub fn send(address: SocketAddr, call: &Call<'_>) -> io::Result<u16> {
    let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.set_nodelay(true)?;
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         user-agent: tidegate-demo\r\nconnection: close\r\ncontent-length: {}\r\n{}\r\n{}",
        call.path,
        call.body.len(),
        call.fields,
        call.body
    );
    socket.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    let most = call.hang_up_after.unwrap_or(ANSWER_BYTES_MAX);
    while answer.len() < most {
        match socket.read(&mut piece)? {
            0 => break,
            length => answer.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
    status(&answer).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// The status of `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.1 ")?;
    line.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_from_the_first_line() {
        assert_eq!(
            status(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"),
            Some(503)
        );
        assert_eq!(status(b"HTTP/1.1 200\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.1 20"), None);
        assert_eq!(status(b"SSH-2.0\r\n"), None);
        assert_eq!(status(b""), None);
    }
}
