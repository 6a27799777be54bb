//! WebSocket messages (RFC 6455): what a client sends is put together, what a server sends is
//! framed. No extensions.
//!
//! Headers of frames are read and written by `tungstenite`; what may follow what, how much is held
//! and how a violation is answered is decided here. A server that takes text alone needs no more.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

/// Puts the messages of a client together as their frames arrive: every piece of input once, in
/// order. After a violation it must not be fed again.
///
/// ```
/// use tidegate::http::websocket::{Messages, Received};
///
/// let mut messages = Messages::new(1024);
/// let frame = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
/// let fed = messages.feed(&frame).unwrap();
/// assert_eq!(fed.consumed, 8);
/// assert_eq!(fed.received, Some(Received::Text("hi".to_owned())));
/// ```
#[derive(Debug)]
pub struct Messages {
    /// Greatest message in bytes.
    limit: usize,
    /// A header that has not ended.
    header: Vec<u8>,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The text message that has begun.
    text: Option<Vec<u8>>,
    /// The payload of a control frame.
    control: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    /// Place in the mask.
    at: usize,
    /// Bytes still to come.
    left: usize,
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Text(String),
    /// A ping, which is answered with the same bytes.
    Ping(Vec<u8>),
    /// A pong, which is not answered.
    Pong,
    /// The client closes, with this code if it gave one.
    Close(Option<u16>),
}

/// What a piece of input held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fed {
    /// How much of the input was taken: all of it, unless something was received before its end.
    pub consumed: usize,
    /// What ended in it.
    pub received: Option<Received>,
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// An opcode that means nothing.
    #[error("a frame has an unknown opcode")]
    Opcode,
    /// A reserved bit, though no extension was agreed on.
    #[error("a frame has a reserved bit set")]
    ReservedBit,
    /// Clients mask what they send.
    #[error("a frame is not masked")]
    Unmasked,
    /// A length in more bytes than it needs.
    #[error("a frame's length is not written in its shortest form")]
    LengthForm,
    /// A control frame in parts, or with more than 125 bytes.
    #[error("a control frame is fragmented or too long")]
    ControlFrame,
    /// A continuation of nothing.
    #[error("a frame continues no message")]
    NoMessage,
    /// A message within another.
    #[error("a message begins before the last one has ended")]
    MessageOpen,
    /// A close frame with half a code, or one that must not be sent.
    #[error("a close frame has no valid code")]
    CloseCode,
    /// Binary, where text alone is taken.
    #[error("a message is binary; this endpoint takes text")]
    Binary,
    /// Text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A message over the limit.
    #[error("a message is too large")]
    TooLarge,
}

impl Violation {
    /// The code of the close frame that answers it (RFC 6455 section 7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::Opcode
            | Self::ReservedBit
            | Self::Unmasked
            | Self::LengthForm
            | Self::ControlFrame
            | Self::NoMessage
            | Self::MessageOpen
            | Self::CloseCode => PROTOCOL_ERROR,
            Self::Binary => UNSUPPORTED,
            Self::NotUtf8 => NOT_UTF8,
            Self::TooLarge => TOO_LARGE,
        }
    }
}

/// Close code: the server goes down.
pub const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const NOT_UTF8: u16 = 1007;
/// Close code: the sender did what the receiver does not tolerate.
pub const POLICY: u16 = 1008;
const TOO_LARGE: u16 = 1009;

/// Longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// Longest payload of a control frame (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

impl Messages {
    /// A reader at the start of a connection, for messages of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            header: Vec::new(),
            frame: None,
            text: None,
            control: Vec::new(),
        }
    }

    /// Takes the next piece of input, up to and including the end of the next thing received.
    pub fn feed(&mut self, input: &[u8]) -> Result<Fed, Violation> {
        let mut rest = input;
        loop {
            if self.frame.is_none() {
                let Some(taken) = self.take_header(rest)? else {
                    return Ok(Fed {
                        consumed: input.len(),
                        received: None,
                    });
                };
                rest = rest.get(taken..).unwrap_or_default();
            }
            let (taken, received) = self.take_payload(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
            if received.is_some() || self.frame.is_some() {
                return Ok(Fed {
                    consumed: input.len() - rest.len(),
                    received,
                });
            }
        }
    }

    /// Says whether nothing has begun that has not ended.
    pub fn is_between(&self) -> bool {
        self.header.is_empty() && self.frame.is_none() && self.text.is_none()
    }

    /// Takes a header, or the part of one that is here (`None`).
    fn take_header(&mut self, input: &[u8]) -> Result<Option<usize>, Violation> {
        let before = self.header.len();
        let room = HEADER_BYTES_MAX.saturating_sub(before).min(input.len());
        self.header
            .extend_from_slice(input.get(..room).unwrap_or_default());
        let mut cursor = Cursor::new(&self.header);
        // Nothing but the opcode can be wrong for the parser.
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Opcode)?;
        let Some((header, length)) = parsed else {
            return Ok(None);
        };
        let header_bytes = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        self.header.clear();
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::ReservedBit);
        }
        let mask = header.mask.ok_or(Violation::Unmasked)?;
        if header.len(length) != header_bytes {
            return Err(Violation::LengthForm);
        }
        let left = usize::try_from(length).map_err(|_| Violation::TooLarge)?;
        match header.opcode {
            OpCode::Control(_) if !header.is_final || left > CONTROL_BYTES_MAX => {
                return Err(Violation::ControlFrame);
            }
            OpCode::Control(_) => {}
            OpCode::Data(kind) => self.admit(kind, left)?,
        }
        self.frame = Some(Frame {
            opcode: header.opcode,
            is_final: header.is_final,
            mask,
            at: 0,
            left,
        });
        Ok(Some(header_bytes.saturating_sub(before)))
    }

    /// Admits a frame of data: in its place, and within the limit.
    fn admit(&mut self, kind: Data, bytes: usize) -> Result<(), Violation> {
        match (kind, &self.text) {
            (Data::Continue, None) => return Err(Violation::NoMessage),
            (Data::Text | Data::Binary, Some(_)) => return Err(Violation::MessageOpen),
            (Data::Binary, None) => return Err(Violation::Binary),
            (Data::Reserved(_), _) => return Err(Violation::Opcode),
            (Data::Continue, Some(_)) => {}
            (Data::Text, None) => self.text = Some(Vec::new()),
        }
        let held = self.text.as_ref().map_or(0, Vec::len);
        if bytes > self.limit.saturating_sub(held) {
            return Err(Violation::TooLarge);
        }
        Ok(())
    }

    /// Takes what is here of a frame's payload. The buffer grows as bytes arrive: a length that is
    /// only claimed costs nothing.
    fn take_payload(&mut self, input: &[u8]) -> Result<(usize, Option<Received>), Violation> {
        let Some(frame) = &mut self.frame else {
            return Ok((0, None));
        };
        let taken = frame.left.min(input.len());
        let into = match frame.opcode {
            OpCode::Control(_) => &mut self.control,
            OpCode::Data(_) => self.text.get_or_insert_default(),
        };
        let masked = input.get(..taken).unwrap_or_default();
        let mask = frame.mask.iter().cycle().skip(frame.at);
        into.extend(masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        frame.at = (frame.at + taken) % frame.mask.len();
        frame.left -= taken;
        if frame.left > 0 {
            return Ok((taken, None));
        }
        let (opcode, is_final) = (frame.opcode, frame.is_final);
        self.frame = None;
        let received = match opcode {
            OpCode::Control(kind) => Some(self.end_control(kind)?),
            OpCode::Data(_) if is_final => {
                let text = self.text.take().unwrap_or_default();
                let text = String::from_utf8(text).map_err(|_| Violation::NotUtf8)?;
                Some(Received::Text(text))
            }
            OpCode::Data(_) => None,
        };
        Ok((taken, received))
    }

    fn end_control(&mut self, kind: Control) -> Result<Received, Violation> {
        let payload = std::mem::take(&mut self.control);
        match kind {
            Control::Ping => Ok(Received::Ping(payload)),
            Control::Pong => Ok(Received::Pong),
            Control::Reserved(_) => Err(Violation::Opcode),
            Control::Close => {
                let Some((code, reason)) = payload.split_first_chunk::<2>() else {
                    let no_code = payload.is_empty().then_some(Received::Close(None));
                    return no_code.ok_or(Violation::CloseCode);
                };
                let code = u16::from_be_bytes(*code);
                if !CloseCode::from(code).is_allowed() {
                    return Err(Violation::CloseCode);
                }
                if std::str::from_utf8(reason).is_err() {
                    return Err(Violation::NotUtf8);
                }
                Ok(Received::Close(Some(code)))
            }
        }
    }
}

/// Appends a text message in one frame. The caller has made sure that it is UTF-8.
pub fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    write_frame(out, OpCode::Data(Data::Text), text);
}

/// Appends the answer to a ping.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, OpCode::Control(Control::Pong), payload);
}

/// Appends a close frame with a code and a reason of at most 123 bytes; without a code it is
/// empty.
pub fn write_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let mut payload = Vec::new();
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        let end = reason.floor_char_boundary(CONTROL_BYTES_MAX - payload.len());
        payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    }
    write_frame(out, OpCode::Control(Control::Close), &payload);
}

fn write_frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let header = FrameHeader {
        is_final: true,
        opcode,
        ..FrameHeader::default()
    };
    // Writing to a Vec cannot fail.
    let _ = header.format(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// `Sec-WebSocket-Accept` for the client's `Sec-WebSocket-Key`; `None` if that is not 16 bytes in
/// base64.
pub fn accept(key: &[u8]) -> Option<String> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let digits = key.strip_suffix(b"==")?;
    (digits.len() == 22 && digits.iter().all(is_base64))
        .then(|| tungstenite::handshake::derive_accept_key(key))
}

#[cfg(test)]
mod tests;
