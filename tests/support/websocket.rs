//! WebSockets as a client sees them, frame by frame.

use serde_json::Value;

use super::{client::Client, server::Server};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// A handshake with further header lines, each with its line end.
pub(crate) fn handshake(path: &str, lines: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
    .into_bytes()
}

/// A frame as a client sends it, masked.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut out = vec![first];
    if payload.len() < 126 {
        out.push(0x80 | u8::try_from(payload.len()).unwrap());
    } else if let Ok(length) = u16::try_from(payload.len()) {
        out.push(0xfe);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(0xff);
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    out
}

/// Reads a frame as a server sends it.
#[track_caller]
pub(crate) fn read_frame(client: &mut Client) -> (u8, Vec<u8>) {
    let start = client.take(2);
    assert_eq!(start.len(), 2, "the connection ended");
    let len = match start[1] {
        126 => u64::from(u16::from_be_bytes(client.take(2).try_into().unwrap())),
        127 => u64::from_be_bytes(client.take(8).try_into().unwrap()),
        small => u64::from(small),
    };
    let len = usize::try_from(len).unwrap();
    let payload = client.take(len);
    assert_eq!(payload.len(), len);
    (start[0], payload)
}

/// A socket to the universal endpoint.
pub(crate) struct Socket {
    pub(crate) client: Client,
}

impl Socket {
    /// Opens one, with further header lines.
    #[track_caller]
    pub(crate) fn open(server: &Server, path: &str, lines: &str) -> Self {
        let mut client = server.connect();
        client.send(&handshake(path, lines));
        let answer = client.answer_head();
        assert_eq!(answer.status, 101, "{}", answer.head);
        assert_eq!(answer.field("upgrade"), Some("websocket"));
        assert_eq!(
            answer.field("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert_eq!(answer.field("sec-websocket-extensions"), None);
        Self { client }
    }

    /// Sends a message.
    pub(crate) fn say(&mut self, message: &Value) {
        self.send(TEXT, message.to_string().as_bytes());
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        self.client.send(&frame(first, payload));
    }

    /// Reads the next message.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Value {
        let (first, payload) = read_frame(&mut self.client);
        let text = String::from_utf8_lossy(&payload);
        assert_eq!(first, TEXT, "{text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Reads messages up to and including the end of one request.
    #[track_caller]
    pub(crate) fn hear_all(&mut self) -> Vec<Value> {
        let mut all = vec![self.hear()];
        while !is_end(&all[all.len() - 1]) {
            all.push(self.hear());
        }
        all
    }

    /// Reads the close frame and the end of the connection; gives its code.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> Option<u16> {
        let (first, payload) = read_frame(&mut self.client);
        assert_eq!(first, CLOSE, "{}", String::from_utf8_lossy(&payload));
        assert_eq!(self.client.rest(), b"", "nothing comes behind it");
        let code = payload.first_chunk().copied();
        code.map(u16::from_be_bytes)
    }
}

/// Says whether nothing more comes of a request.
pub(crate) fn is_end(message: &Value) -> bool {
    matches!(
        message["type"].as_str(),
        Some("universal.done" | "universal.error")
    )
}
