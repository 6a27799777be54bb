//! A client that sends what it is told, byte for byte, and reads answers on its own.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use super::wait::SOON;

/// One connection.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    /// What arrived and was not read yet.
    buffer: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head as it came, its empty line included.
    pub(crate) head: String,
    /// The payload, without framing.
    pub(crate) body: Vec<u8>,
    /// The answer came to the end that its framing promised.
    pub(crate) whole: bool,
    /// The heads of interim answers before it.
    pub(crate) interim: Vec<String>,
}

/// What was asked, as far as the answer's framing depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Head,
    Other,
}

impl Sent {
    pub(crate) fn of(request: &[u8]) -> Self {
        if request.starts_with(b"HEAD ") {
            Self::Head
        } else {
            Self::Other
        }
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Self::over(stream)
    }

    /// Sends byte by byte, as far as the other side lets it.
    pub(crate) fn trickle(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    }

    /// Ends the sending side.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Says whether the other side has closed, without waiting.
    pub(crate) fn is_closed(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        match peeked {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Says whether something has come, waiting for the patience that was set.
    pub(crate) fn is_readable(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(_) => true,
            Err(error) => !is_timeout(&error),
        }
    }

    /// Waits at most so long for each read from now on.
    pub(crate) fn patience(&self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends all of it, as far as the other side lets it: what was said about it is in the answer.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.flush();
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        self.answer(Sent::of(request))
    }

    /// Reads one answer to its end, interim answers before it included.
    #[track_caller]
    pub(crate) fn answer(&mut self, to: Sent) -> Answer {
        let mut answer = self.answer_head();
        answer.whole = self.read_body(to, &mut answer);
        answer
    }

    /// Reads one answer's head, interim answers before it included.
    #[track_caller]
    pub(crate) fn answer_head(&mut self) -> Answer {
        let mut interim = Vec::new();
        loop {
            let Some(head) = self.try_head() else {
                panic!(
                    "no answer; what came was {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
            };
            let status = status_of(&head);
            if (100..200).contains(&status) && status != 101 {
                interim.push(head);
                continue;
            }
            return Answer {
                status,
                head,
                interim,
                ..Answer::default()
            };
        }
    }

    /// Reads a head; `None` when the connection ends before its end.
    pub(crate) fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.drain(..at + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if self.more() == 0 {
                return None;
            }
        }
    }

    /// Reads `bytes` bytes, or what there is before the end.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.buffer.len() < bytes && self.more() > 0 {}
        let there = self.buffer.len().min(bytes);
        self.buffer.drain(..there).collect()
    }

    /// Reads up to and including `end`, or what there is before the connection's end.
    pub(crate) fn take_through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = find(&self.buffer, end) {
                return self.buffer.drain(..at + end.len()).collect();
            }
            if self.more() == 0 {
                return std::mem::take(&mut self.buffer);
            }
        }
    }

    /// Reads everything until the connection ends.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads the next chunk of a chunked body: its payload, empty for the last one; `None` when
    /// the connection ends before the chunk does.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.take_through(b"\r\n");
        let digits = line.strip_suffix(b"\r\n")?;
        let digits = digits.split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        let mut payload = self.take(size + 2);
        (payload.len() == size + 2 && payload.ends_with(b"\r\n")).then(|| {
            payload.truncate(size);
            payload
        })
    }

    /// Reads the body behind `head`; says whether it came to its end.
    pub(crate) fn finish_body(&mut self, head: &str) -> bool {
        let mut answer = Answer {
            status: status_of(head),
            head: head.to_owned(),
            ..Answer::default()
        };
        self.read_body(Sent::Other, &mut answer)
    }

    /// Whether the body came to its end.
    fn read_body(&mut self, to: Sent, answer: &mut Answer) -> bool {
        if to == Sent::Head || matches!(answer.status, 101 | 204 | 304) {
            return true;
        }
        if answer.field("transfer-encoding").is_some() {
            loop {
                match self.chunk() {
                    Some(payload) if payload.is_empty() => return true,
                    Some(payload) => answer.body.extend_from_slice(&payload),
                    None => return false,
                }
            }
        }
        if let Some(length) = answer.field("content-length") {
            let length = length.parse().unwrap();
            answer.body = self.take(length);
            return answer.body.len() == length;
        }
        loop {
            match self.try_more() {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        answer.body = std::mem::take(&mut self.buffer);
        true
    }

    /// What arrived and was not read yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads more; 0 when the connection has ended, in whichever way.
    fn more(&mut self) -> usize {
        self.try_more().unwrap_or(0)
    }

    fn try_more(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(bytes) => {
                self.buffer.extend_from_slice(&piece[..bytes]);
                Ok(bytes)
            }
            Err(error) if is_timeout(&error) => panic!("nothing came for {SOON:?}"),
            Err(error) => Err(error),
        }
    }
}

impl Answer {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "{error}: {}{}",
                self.head,
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The contract's code of a refusal, whose shape is checked.
    #[track_caller]
    pub(crate) fn code(&self) -> u64 {
        let body = self.json();
        let code = body["error"][0]["code"].as_u64().unwrap();
        assert_eq!(self.field("content-type"), Some("application/json"));
        assert_eq!(body["success"], false, "{body}");
        assert_eq!(body["httpCode"], self.status, "{body}");
        assert_eq!(body["internalCode"], code, "{body}");
        assert_eq!(body["name"], "AiGatewayError", "{body}");
        for text in [
            &body["message"],
            &body["description"],
            &body["error"][0]["message"],
        ] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{body}");
        }
        assert_eq!(body["result"], Value::Array(Vec::new()), "{body}");
        assert_eq!(body["messages"], Value::Array(Vec::new()), "{body}");
        code
    }

    /// Checks that this is a refusal by the gateway with that status and code.
    #[track_caller]
    pub(crate) fn check_refusal(&self, status: u16, code: u64) {
        let text = self.text();
        assert_eq!(
            (self.status, self.code()),
            (status, code),
            "{}{text}",
            self.head
        );
        assert!(self.whole);
    }
}

/// A POST of JSON with a length.
pub(crate) fn post(path: &str, body: &str) -> Vec<u8> {
    post_with(path, "", body.as_bytes())
}

/// A POST of JSON with further header lines, each with its line end.
pub(crate) fn post_with(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// A GET with further header lines, each with its line end.
pub(crate) fn get(path: &str, lines: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
}

/// A small chat call; `mock` is appended to the model's name (`+delay=5`).
pub(crate) fn chat(mock: &str) -> String {
    format!(r#"{{"model":"gpt-4o{mock}","messages":[{{"role":"user","content":"hello"}}]}}"#)
}

/// The same as a stream.
pub(crate) fn chat_stream(mock: &str) -> String {
    format!(
        r#"{{"model":"gpt-4o{mock}","messages":[{{"role":"user","content":"hello"}}],"stream":true,"stream_options":{{"include_usage":true}}}}"#
    )
}

/// Where `needle` begins.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn status_of(head: &str) -> u16 {
    let line = head.lines().next().unwrap();
    assert!(line.starts_with("HTTP/1."), "{line}");
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
