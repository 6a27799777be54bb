//! Server-sent events, read for metering while their bytes pass elsewhere untouched.
//!
//! Follows the event stream grammar of the HTML standard (section 9.2): three kinds of line end, a
//! byte order mark, comments, several data lines joined by line feeds. `id` and `retry` mean
//! nothing here. One deviation: an event that the stream's end cuts off before its empty line is
//! reported all the same, by [`EventStream::finish`], because its usage was still spent.

use memchr::memchr2;

/// One event. Borrows from the input, or from the carry if it came in several pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The value of its last `event` line; empty when there was none.
    pub name: &'a [u8],
    /// Its data lines, joined by line feeds. An event without a data line is not reported.
    pub data: &'a [u8],
}

/// Reads a stream of events as it arrives.
///
/// An event that lies whole in one piece of input and has one data line is handed over as it
/// stands there. Any other is put together in a carry of bounded size; an event whose lines are
/// longer than that is left out whole and counted, wherever it was cut.
///
/// ```
/// use tidegate::http::event_stream::EventStream;
///
/// let mut stream = EventStream::new();
/// let mut seen = Vec::new();
/// stream.feed(b"data: {\"a\"", |event| seen.push(event.data.to_vec()));
/// stream.feed(b":1}\n\ndata: [DONE]\n\n", |event| seen.push(event.data.to_vec()));
/// assert_eq!(seen, [b"{\"a\":1}".to_vec(), b"[DONE]".to_vec()]);
/// ```
#[derive(Debug, Clone)]
pub struct EventStream {
    /// Most bytes of one event's `data` and `event` lines.
    limit: usize,
    /// Bytes of the byte order mark seen so far; past the mark, its length.
    mark: usize,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    after_return: bool,
    /// The line being read.
    line: Line,
    /// The event being put together.
    event: Carry,
    /// Events left out because they were too long.
    skipped: u64,
}

/// Most bytes of an event's lines, unless [`EventStream::with_limit`] says otherwise. Deltas have
/// a few hundred bytes.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;

/// What is known of a line that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Its first bytes may yet become a field we read. Empty at the start of a line.
    Undecided {
        start: [u8; FIELD_BYTES],
        len: usize,
    },
    /// A data line; `at_value` until the first byte of its value.
    Data { at_value: bool },
    /// An event line; `at_value` until the first byte of its value.
    Name { at_value: bool },
    /// A comment, a field we do not read, or any line of an event that is left out.
    Ignored,
}

/// Length of `data:`, the shorter of the fields we read, and the most bytes that leave a line
/// undecided (`event`).
const FIELD_BYTES: usize = 5;

const LINE_START: Line = Line::Undecided {
    start: [0; FIELD_BYTES],
    len: 0,
};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An event that came in pieces.
#[derive(Debug, Clone, Default)]
struct Carry {
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// Bytes of its data and event lines so far.
    bytes: usize,
    /// A line of it has begun or ended.
    is_open: bool,
    /// It is too long and left out.
    is_skipped: bool,
}

impl Default for EventStream {
    fn default() -> Self {
        Self::new()
    }
}

impl EventStream {
    /// A reader at the start of a stream, with the usual limit.
    pub fn new() -> Self {
        Self::with_limit(EVENT_BYTES_MAX)
    }

    /// A reader that leaves out events whose lines have more than `limit` bytes. The memory is
    /// taken only when an event of that length comes in pieces.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            mark: 0,
            after_return: false,
            line: LINE_START,
            event: Carry::default(),
            skipped: 0,
        }
    }

    /// Takes the next piece of the stream, and reports the events that end in it.
    pub fn feed(&mut self, bytes: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        let mut rest = self.after_mark(bytes);
        while !rest.is_empty() {
            rest = self.after_line_feed(rest);
            if !self.event.is_open {
                rest = self.pass_whole_events(rest, &mut on_event);
            }
            rest = self.carry_on(rest, &mut on_event);
        }
    }

    /// Takes the end of the stream, and reports an event that it cut off.
    pub fn finish(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        self.end_line();
        self.end_event(&mut on_event);
    }

    /// How many events were too long and left out.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Drops the byte order mark that may begin the stream.
    fn after_mark<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        while let Some(wanted) = BYTE_ORDER_MARK.get(self.mark) {
            match rest.split_first() {
                Some((byte, tail)) if byte == wanted => {
                    self.mark += 1;
                    rest = tail;
                }
                Some(_) => {
                    if self.mark > 0 {
                        // Not a mark after all, but the start of a line that no field has.
                        self.line = Line::Ignored;
                        self.event.is_open = true;
                    }
                    self.mark = BYTE_ORDER_MARK.len();
                }
                None => break,
            }
        }
        rest
    }

    /// Drops the line feed of a line end whose carriage return came before.
    fn after_line_feed<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if !self.after_return || bytes.is_empty() {
            return bytes;
        }
        self.after_return = false;
        bytes.strip_prefix(b"\n").unwrap_or(bytes)
    }

    /// The fast path: reports events that lie whole in `bytes` and have at most one data line,
    /// without a copy. Returns what begins with an event of another kind, or with none.
    fn pass_whole_events<'a>(
        &mut self,
        bytes: &'a [u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> &'a [u8] {
        let mut event_start = bytes;
        let mut rest = bytes;
        let mut name: &[u8] = b"";
        let mut data: Option<&[u8]> = None;
        let mut line_bytes = 0;
        while let Some((line, tail)) = split_line(rest) {
            rest = tail;
            if let Some(value) = line.strip_prefix(b"data:") {
                if data.is_some() {
                    return event_start;
                }
                data = Some(without_space(value));
                line_bytes += line.len();
            } else if let Some(value) = line.strip_prefix(b"event:") {
                name = without_space(value);
                line_bytes += line.len();
            } else if line.is_empty() {
                if line_bytes > self.limit {
                    self.skipped += 1;
                } else if let Some(data) = data {
                    on_event(Event { name, data });
                }
                event_start = rest;
                (name, data, line_bytes) = (b"", None, 0);
                self.after_return = rest.is_empty() && bytes.ends_with(b"\r");
            } else if line == b"data" || line == b"event" {
                return event_start;
            }
        }
        event_start
    }

    /// The slow path: takes lines one by one and keeps what they say, until the event has ended
    /// or the input has. Returns what is left.
    fn carry_on<'a>(&mut self, bytes: &'a [u8], on_event: &mut impl FnMut(Event<'_>)) -> &'a [u8] {
        let mut rest = bytes;
        loop {
            rest = self.after_line_feed(rest);
            if rest.is_empty() {
                return rest;
            }
            let end = memchr2(b'\n', b'\r', rest);
            let (part, tail) = rest
                .split_at_checked(end.unwrap_or(rest.len()))
                .unwrap_or((rest, &[]));
            self.extend_line(part);
            let Some((line_end, tail)) = tail.split_first() else {
                return tail;
            };
            self.after_return = *line_end == b'\r';
            rest = tail;
            if self.line == LINE_START {
                self.end_event(on_event);
                return rest;
            }
            self.end_line();
        }
    }

    /// Takes bytes of the current line.
    fn extend_line(&mut self, part: &[u8]) {
        let mut rest = part;
        while let Some((&byte, tail)) = rest.split_first() {
            self.event.is_open = true;
            match self.line {
                Line::Undecided { start, len } => {
                    rest = tail;
                    self.line = self.decide(start, len, byte);
                }
                Line::Data { at_value } => {
                    let value = if at_value { without_space(rest) } else { rest };
                    self.line = Line::Data { at_value: false };
                    self.keep(rest.len(), |event| event.data.extend_from_slice(value));
                    return;
                }
                Line::Name { at_value } => {
                    let value = if at_value { without_space(rest) } else { rest };
                    self.line = Line::Name { at_value: false };
                    self.keep(rest.len(), |event| event.name.extend_from_slice(value));
                    return;
                }
                Line::Ignored => return,
            }
        }
    }

    /// What a line is whose first `len` bytes are `start`, now that `byte` follows them.
    fn decide(&mut self, mut start: [u8; FIELD_BYTES], len: usize, byte: u8) -> Line {
        let seen = start.get(..len).unwrap_or_default();
        if self.event.is_skipped {
            return Line::Ignored;
        }
        if byte == b':' && seen == b"data" {
            return self.begin_data(seen.len() + 1);
        }
        if byte == b':' && seen == b"event" {
            return self.begin_name(seen.len() + 1);
        }
        let may_become = |field: &[u8]| field.starts_with(seen) && field.get(len) == Some(&byte);
        if !may_become(b"data") && !may_become(b"event") {
            return Line::Ignored;
        }
        if let Some(slot) = start.get_mut(len) {
            *slot = byte;
        }
        Line::Undecided {
            start,
            len: len + 1,
        }
    }

    fn begin_data(&mut self, bytes: usize) -> Line {
        let is_first = !self.event.has_data;
        self.event.has_data = true;
        self.line = Line::Data { at_value: true };
        self.keep(bytes, |event| {
            if !is_first {
                event.data.push(b'\n');
            }
        });
        self.line
    }

    fn begin_name(&mut self, bytes: usize) -> Line {
        self.line = Line::Name { at_value: true };
        self.keep(bytes, |event| event.name.clear());
        self.line
    }

    /// Counts `bytes` of the current line and adds to the event what `add` adds, or gives the
    /// event up if it has become too long.
    fn keep(&mut self, bytes: usize, add: impl FnOnce(&mut Carry)) {
        self.event.bytes = self.event.bytes.saturating_add(bytes);
        if self.event.bytes <= self.limit {
            add(&mut self.event);
            return;
        }
        self.event.is_skipped = true;
        self.event.data = Vec::new();
        self.event.name = Vec::new();
        self.line = Line::Ignored;
    }

    /// Ends the current line. A field name without a colon has an empty value.
    fn end_line(&mut self) {
        if let Line::Undecided { start, len } = self.line {
            match start.get(..len) {
                Some(b"data") => _ = self.begin_data(len),
                Some(b"event") => _ = self.begin_name(len),
                Some(_) | None => {}
            }
        }
        self.line = LINE_START;
    }

    /// Ends the event that was put together, and reports it.
    fn end_event(&mut self, on_event: &mut impl FnMut(Event<'_>)) {
        if self.event.is_skipped {
            self.skipped += 1;
        } else if self.event.has_data {
            on_event(Event {
                name: &self.event.name,
                data: &self.event.data,
            });
        }
        self.event.name.clear();
        self.event.data.clear();
        self.event.has_data = false;
        self.event.bytes = 0;
        self.event.is_open = false;
        self.event.is_skipped = false;
    }
}

/// The first line of `bytes` without its end, and what follows; `None` when no line ends there.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, tail) = bytes.split_at_checked(memchr2(b'\n', b'\r', bytes)?)?;
    let tail = tail
        .strip_prefix(b"\r\n")
        .or_else(|| tail.get(1..))
        .unwrap_or_default();
    Some((line, tail))
}

/// A value without the one space that may stand before it.
fn without_space(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

#[cfg(test)]
mod tests;
