//! Finds the documents in a stream of `application/vnd.amazon.eventstream` frames.
//!
//! A frame: total length and headers' length (big-endian u32 each), a checksum of these, headers,
//! payload, a checksum of all. Payloads of `converse-stream` are the events themselves; those of
//! `invoke-with-response-stream` hold the model's event as base64 in `bytes`.
//!
//! Checksums are passed over: the transport has its own, and a misread frame costs figures, no
//! more. Lengths that cannot be end the reading.

use super::Figures;
use super::paths::slot;

/// Both lengths and their checksum.
const PRELUDE_BYTES: usize = 12;

/// The checksum at a frame's end.
const CHECKSUM_BYTES: u32 = 4;

/// What a frame has beside headers and payload.
const FRAME_BYTES_MIN: u32 = 16;

/// Largest frame and largest headers of the format, as its documentation has them (24 MiB and
/// 128 KiB).
const FRAME_BYTES_MAX: u32 = 24 * 1024 * 1024;
const HEADERS_BYTES_MAX: u32 = 128 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Prelude,
    Headers { left: u32, payload: u32 },
    Payload { left: u32 },
    Checksum { left: u32 },
    Broken,
}

/// The frames of one answer.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
    prelude: [u8; PRELUDE_BYTES],
    prelude_len: u8,
    /// An event inside an event, decoded in place.
    inner: Vec<u8>,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            state: State::Prelude,
            prelude: [0; PRELUDE_BYTES],
            prelude_len: 0,
            inner: Vec::new(),
        }
    }
}

impl Frames {
    /// Reads the next piece.
    pub(super) fn feed(&mut self, piece: &[u8], figures: &mut Figures) {
        let mut rest = piece;
        while !rest.is_empty() {
            let used = match self.state {
                State::Prelude => self.prelude(rest, figures),
                State::Headers { left, payload } => {
                    let (used, left) = advance(rest, left);
                    self.state = State::Headers { left, payload };
                    if left == 0 {
                        self.state = State::Payload { left: payload };
                        self.pass_empty_payload();
                    }
                    used
                }
                State::Payload { left } => {
                    let (used, left) = advance(rest, left);
                    figures.feed(rest.get(..used).unwrap_or_default());
                    self.state = State::Payload { left };
                    if left == 0 {
                        self.payload_over(figures);
                    }
                    used
                }
                State::Checksum { left } => {
                    let (used, left) = advance(rest, left);
                    self.state = match left {
                        0 => State::Prelude,
                        _ => State::Checksum { left },
                    };
                    used
                }
                State::Broken => return,
            };
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    fn prelude(&mut self, rest: &[u8], figures: &mut Figures) -> usize {
        let from = usize::from(self.prelude_len);
        let used = rest.len().min(PRELUDE_BYTES - from);
        if let Some(room) = self.prelude.get_mut(from..from + used) {
            room.copy_from_slice(rest.get(..used).unwrap_or_default());
        }
        self.prelude_len += u8::try_from(used).unwrap_or_default();
        if usize::from(self.prelude_len) < PRELUDE_BYTES {
            return used;
        }
        self.prelude_len = 0;
        let [t0, t1, t2, t3, h0, h1, h2, h3, _checksum @ ..] = self.prelude;
        let total = u32::from_be_bytes([t0, t1, t2, t3]);
        let headers = u32::from_be_bytes([h0, h1, h2, h3]);
        let payload = total
            .checked_sub(FRAME_BYTES_MIN)
            .and_then(|inside| inside.checked_sub(headers));
        self.state = match payload {
            Some(payload) if total <= FRAME_BYTES_MAX && headers <= HEADERS_BYTES_MAX => {
                figures.restart();
                match headers {
                    0 => State::Payload { left: payload },
                    left => State::Headers { left, payload },
                }
            }
            _ => State::Broken,
        };
        self.pass_empty_payload();
        used
    }

    fn pass_empty_payload(&mut self) {
        if self.state == (State::Payload { left: 0 }) {
            self.state = State::Checksum {
                left: CHECKSUM_BYTES,
            };
        }
    }

    fn payload_over(&mut self, figures: &mut Figures) {
        self.state = State::Checksum {
            left: CHECKSUM_BYTES,
        };
        figures.swap_text(slot::BYTES, &mut self.inner);
        if !self.inner.is_empty() {
            decode_base64(&mut self.inner);
            figures.restart();
            figures.feed(&self.inner);
        }
    }
}

/// How many bytes of `rest` belong to a part of `left` bytes, and how many it lacks then.
fn advance(rest: &[u8], left: u32) -> (usize, u32) {
    let used = u32::try_from(rest.len()).unwrap_or(u32::MAX).min(left);
    (used as usize, left - used)
}

/// Decodes base64 in place (RFC 4648 section 4). What is not of its alphabet is passed over: the
/// quotes of the JSON string, padding, a backslash before a solidus.
fn decode_base64(text: &mut Vec<u8>) {
    let mut bits: u32 = 0;
    let mut count = 0;
    let mut written = 0;
    for read in 0..text.len() {
        let Some(six) = text.get(read).and_then(|byte| six_bits(*byte)) else {
            continue;
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            // Four characters make three bytes, so this never overtakes the reading.
            if let Some(byte) = text.get_mut(written) {
                *byte = u8::try_from((bits >> count) & 0xff).unwrap_or_default();
            }
            written += 1;
        }
    }
    text.truncate(written);
}

fn six_bits(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}
