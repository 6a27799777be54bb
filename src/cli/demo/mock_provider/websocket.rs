//! WebSocket (RFC 6455): the handshake, then every frame back to where it came from.

use serde_json::json;

use super::command::{Command, Cut, CutAt};
use super::digest::{base64, sha1};
use super::peer::Peer;
use super::request::{Handshake, ReadError, Reader};
use super::send::{End, Sent};

/// Accepts the handshake and echoes frames until one side closes. Pings are answered; `delay`
/// comes before each echo, and `cut=N` ends the connection after N frames.
pub(super) fn serve(
    peer: &Peer,
    reader: &mut Reader<'_>,
    handshake: &Handshake,
    command: &Command,
) -> Sent {
    let mut sent = Sent {
        body_bytes: 0,
        events: 0,
        end: End::Aborted,
    };
    match echo(peer, reader, handshake, command, &mut sent) {
        Ok(end) => sent.end = end,
        Err(ReadError::Gone) => {}
        Err(ReadError::Bad(_)) => {
            let _ = peer.write(&frame(FIN | CLOSE, &PROTOCOL_ERROR.to_be_bytes()));
            sent.end = End::Cut { reset: false };
        }
    }
    sent
}

fn echo(
    peer: &Peer,
    reader: &mut Reader<'_>,
    handshake: &Handshake,
    command: &Command,
    sent: &mut Sent,
) -> Result<End, ReadError> {
    peer.write(&accept(handshake))?;
    if command.greet {
        let greeting = json!({
            "type": "session.created",
            "event_id": "event_mock",
            "session": { "id": "sess_mock", "object": "realtime.session", "type": "realtime", "model": "mock" },
        });
        peer.write(&frame(FIN | TEXT, greeting.to_string().as_bytes()))?;
    }
    loop {
        if let Some(Cut {
            at: CutAt::Body(frames),
            reset,
        }) = command.cut
            && sent.events >= frames
        {
            return Ok(End::Cut { reset });
        }
        let (first, payload) = read_frame(reader)?;
        let answer = match first & OPCODE {
            PING => FIN | PONG,
            PONG => continue,
            _ => first,
        };
        peer.wait(command.delay)?;
        peer.write(&frame(answer, &payload))?;
        sent.events += 1;
        sent.body_bytes += payload.len() as u64;
        peer.shared.counters.websocket_frame();
        if first & OPCODE == CLOSE {
            return Ok(End::Complete { keep_alive: false });
        }
    }
}

fn accept(handshake: &Handshake) -> Vec<u8> {
    let proof = base64(&sha1(format!("{}{GUID}", handshake.key).as_bytes()));
    // RFC 6455 section 4.2.2: one of the offered protocols; the first will do.
    let protocol = handshake
        .protocols
        .first()
        .map(|protocol| format!("sec-websocket-protocol: {protocol}\r\n"))
        .unwrap_or_default();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {proof}\r\n{protocol}\r\n"
    )
    .into_bytes()
}

/// The first byte of a frame and its payload, unmasked.
fn read_frame(reader: &mut Reader<'_>) -> Result<(u8, Vec<u8>), ReadError> {
    let start = reader.bytes(2)?;
    let [first, second] = start[..] else {
        return Err(ReadError::Gone);
    };
    if second & MASKED == 0 {
        return Err(ReadError::Bad("a client's frame is not masked"));
    }
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let len = match second & !MASKED {
        126 => number(&reader.bytes(2)?),
        127 => number(&reader.bytes(8)?),
        small => u64::from(small),
    };
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= FRAME_MAX)
        .ok_or(ReadError::Bad("a frame is too large"))?;
    let mask = reader.bytes(4)?;
    let mut payload = reader.bytes(len)?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((first, payload))
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len), _) if len < 126 => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const MASKED: u8 = 0x80;

/// Close code of a peer that breaks the protocol.
const PROTOCOL_ERROR: u16 = 1002;

/// Largest frame that is echoed: a few seconds of audio are far smaller.
const FRAME_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_of_the_rfc_is_answered_as_there() {
        let handshake = Handshake {
            key: "dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
            protocols: vec!["realtime".to_owned(), "other".to_owned()],
        };
        let answer = String::from_utf8(accept(&handshake)).unwrap();
        assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.contains("sec-websocket-protocol: realtime\r\n"));
    }

    #[test]
    fn frames_of_all_sizes_have_the_right_length_field() {
        assert_eq!(frame(FIN | TEXT, b"hi"), b"\x81\x02hi");
        assert_eq!(frame(FIN | TEXT, &[0; 126])[..4], [0x81, 126, 0, 126]);
        assert_eq!(
            frame(FIN | TEXT, &vec![0; 65_536])[..10],
            [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }
}
