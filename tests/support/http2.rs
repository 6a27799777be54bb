//! A provider that speaks HTTP/2 over TLS, frame by frame; it shares no protocol code with the
//! server. Heads of requests are not read: a request's body says what is wanted.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
};

use rcgen::{CertifiedKey, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs::default_provider,
    pki_types::PrivateKeyDer,
};

use super::upstream::{Peer, Upstream};

/// Starts a provider whose script is given each connection after its preface.
pub(crate) fn start(
    certificate: &CertifiedKey<KeyPair>,
    script: impl Fn(&mut Http2) + Send + Sync + 'static,
) -> Upstream {
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    Upstream::start(move |peer| {
        if let Some(mut connection) = Http2::begin(peer, &config) {
            script(&mut connection);
        }
    })
}

/// One connection.
pub(crate) struct Http2 {
    stream: StreamOwned<ServerConnection, TcpStream>,
    /// Its number, from 0.
    pub(crate) place: u64,
    /// Bytes that may be sent on all streams together.
    room: i64,
    /// The same for a new stream.
    room_of_stream: i64,
    /// The same for each stream that was opened.
    rooms: BTreeMap<u32, i64>,
}

/// What the other side did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request began. `true`: it has no body.
    Request(u32, bool),
    /// A piece of its body. `true`: the last one.
    Body(u32, Vec<u8>, bool),
    /// A stream was given up, with that code.
    Reset(u32, u32),
    /// Something may be sent that could not before, or nothing of interest.
    Other,
    /// The connection ended.
    End,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113 section 7.
pub(crate) const CANCEL: u32 = 8;
pub(crate) const INTERNAL_ERROR: u32 = 2;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FIRST_ROOM: i64 = 65_535;
const FRAME_BYTES_MAX: usize = 16 * 1024;

impl Http2 {
    fn begin(peer: &Peer, config: &Arc<ServerConfig>) -> Option<Self> {
        let session = ServerConnection::new(Arc::clone(config)).unwrap();
        let mut stream = StreamOwned::new(session, peer.stream.try_clone().unwrap());
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).ok()?;
        assert_eq!(preface, PREFACE);
        let mut http2 = Self {
            stream,
            place: peer.place,
            room: FIRST_ROOM,
            room_of_stream: FIRST_ROOM,
            rooms: BTreeMap::new(),
        };
        http2.send(SETTINGS, 0, 0, &[]).then_some(http2)
    }

    /// Waits for what the other side does next.
    pub(crate) fn event(&mut self) -> Event {
        let mut head = [0; 9];
        if self.stream.read_exact(&mut head).is_err() {
            return Event::End;
        }
        let [a, b, c, kind, flags, rest @ ..] = head;
        let stream = u32::from_be_bytes(rest) & 0x7fff_ffff;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        if self.stream.read_exact(&mut payload).is_err() {
            return Event::End;
        }
        let ends = flags & END_STREAM != 0;
        match kind {
            DATA => return Event::Body(stream, payload, ends),
            HEADERS => {
                assert_eq!(flags & END_HEADERS, END_HEADERS, "a head of many frames");
                self.rooms.insert(stream, self.room_of_stream);
                return Event::Request(stream, ends);
            }
            RST_STREAM => return Event::Reset(stream, number(&payload)),
            SETTINGS if flags & ACK == 0 => {
                self.settings(&payload);
                self.send(SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => {
                self.send(PING, ACK, 0, &payload);
            }
            WINDOW_UPDATE if stream == 0 => self.room += i64::from(number(&payload)),
            WINDOW_UPDATE => {
                if let Some(room) = self.rooms.get_mut(&stream) {
                    *room += i64::from(number(&payload));
                }
            }
            _ => {}
        }
        Event::Other
    }

    fn settings(&mut self, payload: &[u8]) {
        const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
        for setting in payload.chunks(6) {
            if setting[..2] == INITIAL_WINDOW_SIZE {
                let room = i64::from(number(&setting[2..]));
                for known in self.rooms.values_mut() {
                    *known += room - self.room_of_stream;
                }
                self.room_of_stream = room;
            }
        }
    }

    /// Waits for the next request and reads it whole; `None` when the connection ends first.
    pub(crate) fn request(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut whole = Vec::new();
        loop {
            match self.event() {
                Event::Request(stream, true) => return Some((stream, whole)),
                Event::Body(stream, piece, last) => {
                    self.take_more(stream, piece.len());
                    whole.extend_from_slice(&piece);
                    if last {
                        return Some((stream, whole));
                    }
                }
                Event::End => return None,
                _ => {}
            }
        }
    }

    /// Lets the other side send so many bytes more.
    pub(crate) fn take_more(&mut self, stream: u32, bytes: usize) {
        if bytes > 0 {
            let more = u32::try_from(bytes).unwrap().to_be_bytes();
            self.send(WINDOW_UPDATE, 0, 0, &more);
            self.send(WINDOW_UPDATE, 0, stream, &more);
        }
    }

    /// Bytes that may be sent on the stream now.
    pub(crate) fn room(&self, stream: u32) -> usize {
        let room = self.rooms.get(&stream).copied().unwrap_or(0);
        usize::try_from(room.min(self.room)).unwrap_or(0)
    }

    /// Sends a head. `last`: no body follows.
    pub(crate) fn head(&mut self, stream: u32, status: &str, fields: &[(&str, &str)], last: bool) {
        // `:status` from the static table, with a value of its own; nothing is remembered.
        let mut block = vec![0x08];
        text(&mut block, status);
        self.fields(stream, block, fields, last);
    }

    /// Ends an answer with fields behind its body.
    pub(crate) fn trailers(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.fields(stream, Vec::new(), fields, true)
    }

    /// Begins trailers and never ends them: field after field, until the other side is gone.
    pub(crate) fn endless_trailers(&mut self, stream: u32, field: (&str, &str)) {
        const CONTINUATION: u8 = 9;
        let mut block = Vec::new();
        for _ in 0..100 {
            block.push(0);
            text(&mut block, field.0);
            text(&mut block, field.1);
        }
        let mut goes_on = self.send(HEADERS, END_STREAM, stream, &block);
        while goes_on {
            goes_on = self.send(CONTINUATION, 0, stream, &block);
        }
    }

    fn fields(
        &mut self,
        stream: u32,
        mut block: Vec<u8>,
        fields: &[(&str, &str)],
        last: bool,
    ) -> bool {
        for (name, value) in fields {
            block.push(0);
            text(&mut block, name);
            text(&mut block, value);
        }
        let flags = END_HEADERS | if last { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &block)
    }

    /// Sends a piece of a body as soon as there is room for it.
    pub(crate) fn body(&mut self, stream: u32, bytes: &[u8], last: bool) {
        let mut pieces = bytes.chunks(FRAME_BYTES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            while self.room(stream) < piece.len() {
                assert_ne!(self.event(), Event::End, "the connection ended");
            }
            self.room -= i64::try_from(piece.len()).unwrap();
            *self.rooms.get_mut(&stream).unwrap() -= i64::try_from(piece.len()).unwrap();
            let ends = last && pieces.peek().is_none();
            self.send(DATA, if ends { END_STREAM } else { 0 }, stream, piece);
        }
        if bytes.is_empty() {
            self.send(DATA, if last { END_STREAM } else { 0 }, stream, &[]);
        }
    }

    /// Answers a request with JSON.
    pub(crate) fn answer(&mut self, stream: u32, body: &[u8]) {
        let length = body.len().to_string();
        let fields = [
            ("content-type", "application/json"),
            ("content-length", &length),
        ];
        self.head(stream, "200", &fields, false);
        self.body(stream, body, true);
    }

    /// Gives a stream up.
    pub(crate) fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Says that no stream above `last` was or will be worked on.
    pub(crate) fn goodbye(&mut self, last: u32) {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend_from_slice(&0_u32.to_be_bytes());
        self.send(GOAWAY, 0, 0, &payload);
    }

    /// Reads and throws away until the connection ends.
    pub(crate) fn rest(&mut self) {
        while self.event() != Event::End {}
    }

    /// Sends a frame; `false` when the other side is gone.
    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).is_ok() && self.stream.flush().is_ok()
    }
}

/// A text of a head, not compressed. Those of the tests are short.
fn text(block: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 127);
    block.push(length);
    block.extend_from_slice(text.as_bytes());
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}
