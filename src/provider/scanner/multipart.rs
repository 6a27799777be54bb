//! Finds the `model` field of a `multipart/form-data` body (RFC 7578) while it passes: uploads of
//! audio name their model so, before or after megabytes of sound.

use memchr::{memchr, memmem};

use super::RequestFacts;

/// Longest boundary that RFC 2046 section 5.1.1 allows.
const BOUNDARY_BYTES_MAX: usize = 70;

/// Longest head of a part that is read; the fields we look for have short ones.
const HEAD_BYTES_MAX: usize = 1024;

/// Longest value of a field that is kept.
const VALUE_BYTES_MAX: usize = 256;

/// What stands before a boundary inside the body.
const DELIMITER_PREFIX: &[u8] = b"\r\n--";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Inside a part's content, or before the first part.
    Content,
    /// After a delimiter: the rest of its line and the part's head.
    Head,
    /// The closing delimiter was met.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    Other,
}

/// An incremental scan over the parts of a form.
#[derive(Debug)]
pub(super) struct MultipartScan {
    delimiter: Vec<u8>,
    state: State,
    /// The part whose content passes.
    field: Field,
    /// End of the bytes seen which may be the beginning of a delimiter, or the head so far.
    carry: Vec<u8>,
    value: Vec<u8>,
    model: Option<Box<str>>,
    stream: Option<bool>,
}

impl MultipartScan {
    /// A scan for this `content-type`; `None` if it is not a form or names no boundary.
    pub(super) fn of_content_type(content_type: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content_type).ok()?;
        let mut parameters = text.split(';');
        let essence = parameters.next()?.trim();
        if !essence.eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameters.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let named = name.trim().eq_ignore_ascii_case("boundary");
            named.then(|| value.trim().trim_matches('"'))
        })?;
        if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
            return None;
        }
        Some(Self {
            delimiter: [DELIMITER_PREFIX, boundary.as_bytes()].concat(),
            state: State::Content,
            field: Field::Other,
            // The first delimiter stands at the very start, without a line end before it.
            carry: b"\r\n".to_vec(),
            value: Vec::new(),
            model: None,
            stream: None,
        })
    }

    pub(super) fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            let used = match self.state {
                State::Content => self.content(rest),
                State::Head => self.head(rest),
                State::Done => return,
            };
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    pub(super) fn facts(&self) -> RequestFacts {
        RequestFacts {
            model: self.model.clone(),
            stream: self.stream,
            max_tokens: None,
        }
    }

    fn content(&mut self, rest: &[u8]) -> usize {
        if !self.carry.is_empty() {
            return self.carried(rest);
        }
        if let Some(at) = memmem::find(rest, &self.delimiter) {
            self.keep(rest.get(..at).unwrap_or_default());
            self.part_over();
            return at + self.delimiter.len();
        }
        // The longest end of the piece that begins a delimiter waits for what follows it.
        let from = rest.len().saturating_sub(self.delimiter.len() - 1);
        let mut tail = rest.get(from..).unwrap_or_default();
        while let Some(at) = memchr(b'\r', tail) {
            tail = tail.get(at..).unwrap_or_default();
            if self.delimiter.starts_with(tail) {
                break;
            }
            tail = tail.get(1..).unwrap_or_default();
        }
        if !self.delimiter.starts_with(tail) {
            tail = &[];
        }
        self.keep(rest.get(..rest.len() - tail.len()).unwrap_or_default());
        self.carry.extend_from_slice(tail);
        rest.len()
    }

    /// Compares what follows a carried beginning of a delimiter, byte by byte.
    fn carried(&mut self, rest: &[u8]) -> usize {
        for (index, byte) in rest.iter().enumerate() {
            if self.delimiter.get(self.carry.len()) != Some(byte) {
                // Only its first byte is a CR, so no later place in the carry begins another.
                let carry = std::mem::take(&mut self.carry);
                self.keep(&carry);
                return index;
            }
            self.carry.push(*byte);
            if self.carry.len() == self.delimiter.len() {
                self.part_over();
                return index + 1;
            }
        }
        rest.len()
    }

    fn head(&mut self, rest: &[u8]) -> usize {
        for (index, byte) in rest.iter().enumerate() {
            self.carry.push(*byte);
            if self.carry == b"--" {
                self.state = State::Done;
                return index + 1;
            }
            if self.carry.ends_with(b"\r\n\r\n") || self.carry.len() > HEAD_BYTES_MAX {
                self.field = field_of_head(&self.carry);
                self.carry.clear();
                self.value.clear();
                self.state = State::Content;
                return index + 1;
            }
        }
        rest.len()
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.field == Field::Other {
            return;
        }
        if self.value.len() + bytes.len() > VALUE_BYTES_MAX {
            self.field = Field::Other;
            self.value.clear();
            return;
        }
        self.value.extend_from_slice(bytes);
    }

    fn part_over(&mut self) {
        let text = std::str::from_utf8(&self.value).map(str::trim);
        match (self.field, text) {
            (Field::Model, Ok(model)) if !model.is_empty() => self.model = Some(Box::from(model)),
            (Field::Stream, Ok(word)) => self.stream = word.parse().ok(),
            _ => {}
        }
        self.field = Field::Other;
        self.value.clear();
        self.carry.clear();
        self.state = State::Head;
    }
}

/// Which field a part's head announces: `content-disposition: form-data; name="model"`.
fn field_of_head(head: &[u8]) -> Field {
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr(b':', line) else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        if !name
            .trim_ascii()
            .eq_ignore_ascii_case(b"content-disposition")
        {
            continue;
        }
        for parameter in value.split(|byte| *byte == b';') {
            match parameter.trim_ascii() {
                br#"name="model""# | b"name=model" => return Field::Model,
                br#"name="stream""# | b"name=stream" => return Field::Stream,
                _ => {}
            }
        }
    }
    Field::Other
}
