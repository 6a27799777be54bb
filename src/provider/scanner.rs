//! Finds a few members of a JSON document while its bytes pass, in pieces of any size.
//!
//! A [`Scanner`] walks a static tree of [`Names`] beside the document. What no path names is
//! skipped at memory speed; what one names is kept as a number, a flag or a bounded text. Strings
//! cannot fool it, depth cannot overflow it (a counter, no recursion), and it allocates for kept
//! texts alone. It reads, it does not validate: of a document that is no JSON it keeps whatever
//! it met before.
//!
//! Laws:
//! * The result does not depend on how the document was cut.
//! * Of members with the same name the last one counts, as with the providers' parsers.
//! * A value counts when its last byte was seen; one that was cut short leaves the value before.
//! * Names may be written with escapes.
//! * Arrays are transparent: a path goes on through the elements of an array, the root included.
//!
//! Reading order: this file, `path` (the tree), `text` (bytes), `whole` (the fast way), then `request`
//! (the scan of a request's body) and `multipart`.

mod multipart;
mod path;
mod request;
mod text;
mod whole;
#[cfg(test)]
mod tests;

pub use path::{Names, Path, Take};
pub(in crate::provider) use request::decode_string;
pub use request::{RequestFacts, RequestScan};

use path::{NAME_BYTES_MAX, NOWHERE};
use text::{
    digits, find_quote_or_backslash, is_blank, is_something, scalar_end, string_end, structural,
    whole_number,
};

/// Containers that are followed rather than skipped at one time: the longest path we look for has
/// four names, and each may lie behind one array.
const LEVELS_MAX: usize = 9;

/// Bytes of a value that is read as a number or a flag: 20 digits of a `u64` and `.0` fit.
const SCRATCH_BYTES_MAX: usize = 24;

/// A text this small keeps its buffer for the next one; a greater one gives it back.
const TEXT_BYTES_KEPT: usize = 4096;

/// Where the scanner stands in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a value: of the root, of a member, of an element.
    Value,
    /// In an object, before a name or its end.
    Name,
    /// Inside a name.
    InName,
    /// Between a name and its value.
    Colon,
    /// Inside a string that is a value.
    InString,
    /// Inside a number or a literal.
    InScalar,
    /// Inside a container that no path follows.
    Skip,
    /// Inside a string within such a container.
    SkipString,
    /// After a value, inside a container.
    After,
    /// The root is closed, or there never was one.
    Done,
}

/// How far an escape inside a name has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    Hex { digits: u8, value: u16 },
}

/// An incremental scanner that keeps `NUMBERS` numbers and `TEXTS` texts.
#[derive(Debug)]
pub struct Scanner<const NUMBERS: usize, const TEXTS: usize> {
    root: &'static Names,
    state: State,
    /// Where to look inside each container that is followed, behind one for what is outside.
    levels: [&'static Names; LEVELS_MAX + 1],
    /// Bit by bit, which of them are arrays, the innermost first.
    arrays: u16,
    depth: u8,
    /// What the value that comes next, or is being read, is wanted for.
    take: Option<Take>,
    /// Where to look inside it.
    inside: &'static Names,
    /// Open containers in skipped territory.
    nested: u32,
    /// The last piece ended in an odd number of backslashes inside a string.
    slash: bool,
    escape: Escape,
    /// The name being read, or the first bytes of the value being read.
    scratch: [u8; NAME_BYTES_MAX],
    scratch_len: u8,
    /// The name or value is longer than the scratch, or the text longer than its bound.
    too_long: bool,
    numbers: [u64; NUMBERS],
    /// Bit by bit, which numbers are known.
    known: u64,
    texts: [Vec<u8>; TEXTS],
    /// The text being read.
    pending: Vec<u8>,
}

impl<const NUMBERS: usize, const TEXTS: usize> Scanner<NUMBERS, TEXTS> {
    /// A scanner at the start of a document, which knows nothing.
    pub fn new(root: &'static Names) -> Self {
        const { assert!(NUMBERS <= 64, "the set of known numbers has 64 bits") };
        Self {
            root,
            state: State::Value,
            levels: [&NOWHERE; LEVELS_MAX + 1],
            arrays: 0,
            depth: 0,
            take: None,
            inside: root,
            nested: 0,
            slash: false,
            escape: Escape::None,
            scratch: [0; NAME_BYTES_MAX],
            scratch_len: 0,
            too_long: false,
            numbers: [0; NUMBERS],
            known: 0,
            texts: [const { Vec::new() }; TEXTS],
            pending: Vec::new(),
        }
    }

    /// Stands at the start of another document; what is known stays known.
    pub fn restart(&mut self) {
        self.state = State::Value;
        self.depth = 0;
        self.arrays = 0;
        self.take = None;
        self.inside = self.root;
    }

    /// Stands at the start of a document and knows nothing, as a new scanner; it keeps its buffers.
    pub fn forget(&mut self) {
        self.restart();
        self.nested = 0;
        self.slash = false;
        self.escape = Escape::None;
        self.scratch_len = 0;
        self.too_long = false;
        self.known = 0;
        for text in self.texts.iter_mut().chain([&mut self.pending]) {
            text.clear();
            if text.capacity() > TEXT_BYTES_KEPT {
                *text = Vec::new();
            }
        }
    }

    /// Says whether the document's root is closed.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The number in a slot, if known.
    pub fn number(&self, slot: u8) -> Option<u64> {
        let number = self.numbers.get(usize::from(slot)).copied();
        number.filter(|_| self.known & bit(slot) != 0)
    }

    /// The text in a slot, raw as the document has it; empty if unknown.
    pub fn text(&self, slot: u8) -> &[u8] {
        self.texts.get(usize::from(slot)).map_or(&[], Vec::as_slice)
    }

    /// Moves a text into `into` and leaves it unknown; the emptied buffer is used for the next.
    pub fn swap_text(&mut self, slot: u8, into: &mut Vec<u8>) {
        into.clear();
        if let Some(text) = self.texts.get_mut(usize::from(slot)) {
            std::mem::swap(text, into);
        }
    }

    /// Sets the number in a slot, as if the document had said so.
    pub fn put(&mut self, slot: u8, value: Option<u64>) {
        let Some(number) = self.numbers.get_mut(usize::from(slot)) else {
            return;
        };
        match value {
            Some(value) => {
                *number = value;
                self.known |= bit(slot);
            }
            None => self.known &= !bit(slot),
        }
    }

    /// Reads the next piece of the document.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            let used = match self.state {
                State::Value => self.value(rest),
                State::Name => self.name(rest),
                State::InName => self.in_name(rest),
                State::Colon => self.colon(rest),
                State::InString => self.in_string(rest),
                State::InScalar => self.in_scalar(rest),
                State::Skip | State::SkipString => self.skip(rest),
                State::After => self.after(rest),
                State::Done => return,
            };
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    fn value(&mut self, rest: &[u8]) -> usize {
        let Some(at) = rest.iter().position(|byte| !is_blank(*byte)) else {
            return rest.len();
        };
        let first = rest.get(at).copied().unwrap_or_default();
        match first {
            b'{' | b'[' => self.open(first),
            b'"' => {
                self.slash = false;
                self.begin(first);
                self.state = State::InString;
            }
            b']' | b'}' => self.close(),
            b',' => {} // of a malformed document
            // A byte order mark, or no JSON at all: the root is never a bare scalar of interest.
            _ if self.depth == 0 => {
                if !matches!(first, 0xef | 0xbb | 0xbf) {
                    self.state = State::Done;
                }
            }
            _ => {
                self.begin(first);
                self.state = State::InScalar;
            }
        }
        at + 1
    }

    /// Begins a container: follows it if a path leads inside, else skips it, keeping it if wanted.
    fn open(&mut self, bracket: u8) {
        if !self.enter(self.inside, bracket) {
            self.begin(bracket);
            self.nested = 1;
            self.state = State::Skip;
            return;
        }
        // Elements are followed where their array is; what is taken is never an element.
        self.take = None;
        self.state = if bracket == b'[' {
            State::Value
        } else {
            State::Name
        };
    }

    /// Enters a container if a path leads inside and there is room.
    #[inline]
    fn enter(&mut self, inside: &'static Names, bracket: u8) -> bool {
        if inside.is_empty() {
            return false;
        }
        let Some(level) = self.levels.get_mut(usize::from(self.depth) + 1) else {
            return false;
        };
        *level = inside;
        self.depth += 1;
        self.arrays = self.arrays << 1 | u16::from(bracket == b'[');
        true
    }

    /// Leaves the innermost container that is followed.
    fn close(&mut self) {
        self.state = if self.leave() {
            State::Done
        } else {
            State::After
        };
    }

    /// Goes back out of the innermost container that is followed; says whether it was the root.
    #[inline]
    fn leave(&mut self) -> bool {
        self.depth = self.depth.saturating_sub(1);
        self.arrays >>= 1;
        self.depth == 0
    }

    /// Where to look inside the innermost container that is followed, and whether it is an array.
    fn top(&self) -> (&'static Names, bool) {
        let inside = self.levels.get(usize::from(self.depth)).copied();
        (inside.unwrap_or(&NOWHERE), self.arrays & 1 == 1)
    }

    fn name(&mut self, rest: &[u8]) -> usize {
        // Outside of all containers there is no name, whatever a malformed document has there.
        if self.depth > 0 {
            let whole = self.whole_values(rest);
            if whole > 0 {
                return whole;
            }
        }
        let Some(at) = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'}' | b']'))
        else {
            return rest.len();
        };
        let after = at + 1;
        if rest.get(at) != Some(&b'"') {
            self.close();
            return after;
        }
        let tail = rest.get(after..).unwrap_or_default();
        // Nearly every name lies whole in the piece and has no escapes: it is matched in place.
        if let Some(end) = find_quote_or_backslash(tail)
            && tail.get(end) == Some(&b'"')
        {
            let path = self.top().0.find_text(tail.get(..end).unwrap_or_default());
            self.found(path);
            self.state = State::Colon;
            return after + end + 1;
        }
        self.scratch_len = 0;
        self.too_long = false;
        self.escape = Escape::None;
        self.state = State::InName;
        after
    }

    fn in_name(&mut self, rest: &[u8]) -> usize {
        for (index, byte) in rest.iter().enumerate() {
            match self.escape {
                Escape::None if *byte == b'"' => {
                    let scratch = self.scratch;
                    let len = if self.too_long {
                        0 // no name that we look for is that long
                    } else {
                        usize::from(self.scratch_len)
                    };
                    let path = self
                        .top()
                        .0
                        .find_text(scratch.get(..len).unwrap_or_default());
                    self.found(path);
                    self.state = State::Colon;
                    return index + 1;
                }
                Escape::None if *byte == b'\\' => self.escape = Escape::Backslash,
                Escape::None => self.note(&[*byte]),
                Escape::Backslash if *byte == b'u' => {
                    self.escape = Escape::Hex {
                        digits: 0,
                        value: 0,
                    };
                }
                // No name we look for holds a quote, a solidus or a control character.
                Escape::Backslash => {
                    self.note(&[0]);
                    self.escape = Escape::None;
                }
                Escape::Hex { digits, value } => self.hex_digit(digits, value, *byte),
            }
        }
        rest.len()
    }

    fn hex_digit(&mut self, digits: u8, value: u16, byte: u8) {
        let Some(digit) = char::from(byte).to_digit(16) else {
            self.note(&[0]);
            self.escape = Escape::None;
            return;
        };
        let value = (value << 4) | u16::try_from(digit).unwrap_or_default();
        if digits < 3 {
            self.escape = Escape::Hex {
                digits: digits + 1,
                value,
            };
            return;
        }
        self.escape = Escape::None;
        // Names we look for are ASCII; any other character just must not match.
        self.note(&[u8::try_from(value).ok().filter(u8::is_ascii).unwrap_or(0)]);
    }

    fn found(&mut self, path: &'static Path) {
        self.take = path.take;
        self.inside = path.inside;
    }

    fn colon(&mut self, rest: &[u8]) -> usize {
        let Some(at) = rest.iter().position(|byte| *byte == b':') else {
            return rest.len();
        };
        self.state = State::Value;
        at + 1
    }

    fn in_string(&mut self, rest: &[u8]) -> usize {
        let end = string_end(rest, &mut self.slash);
        let used = end.unwrap_or(rest.len());
        self.keep(rest.get(..used).unwrap_or_default());
        if end.is_some() {
            self.finish();
        }
        used
    }

    fn in_scalar(&mut self, rest: &[u8]) -> usize {
        let end = scalar_end(rest);
        let used = end.unwrap_or(rest.len());
        self.keep(rest.get(..used).unwrap_or_default());
        if end.is_some() {
            self.finish();
        }
        used
    }

    fn skip(&mut self, rest: &[u8]) -> usize {
        let mut at = 0;
        if self.state == State::SkipString {
            let Some(end) = string_end(rest, &mut self.slash) else {
                self.keep(rest);
                return rest.len();
            };
            at = end;
            self.state = State::Skip;
        }
        while let Some(tail) = rest.get(at..)
            && let Some(found) = structural(tail)
        {
            at += found + 1;
            match tail.get(found) {
                Some(b'"') => {
                    let mut slash = false;
                    let inside = rest.get(at..).unwrap_or_default();
                    let Some(end) = string_end(inside, &mut slash) else {
                        self.slash = slash;
                        self.state = State::SkipString;
                        break;
                    };
                    at += end;
                }
                Some(b'{' | b'[') => self.nested = self.nested.saturating_add(1),
                _ => {
                    self.nested -= 1;
                    if self.nested == 0 {
                        self.keep(rest.get(..at).unwrap_or_default());
                        self.finish();
                        return at;
                    }
                }
            }
        }
        self.keep(rest);
        rest.len()
    }

    fn after(&mut self, rest: &[u8]) -> usize {
        let Some(at) = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']'))
        else {
            return rest.len();
        };
        if rest.get(at) != Some(&b',') {
            self.close();
            return at + 1;
        }
        let (inside, array) = self.top();
        if array {
            self.take = None;
            self.inside = inside;
            self.state = State::Value;
        } else {
            self.state = State::Name;
        }
        at + 1
    }

    /// Begins a value with its first byte.
    fn begin(&mut self, first: u8) {
        if self.take.is_none() {
            return;
        }
        self.scratch_len = 0;
        self.too_long = false;
        self.pending.clear();
        self.keep(&[first]);
    }

    /// Keeps bytes of the value being read, as far as it is wanted.
    fn keep(&mut self, bytes: &[u8]) {
        match self.take {
            None => {}
            Some(Take::Text { max, .. }) => {
                if self.too_long {
                    return;
                }
                if self.pending.len() + bytes.len() > max as usize {
                    self.too_long = true;
                    self.pending = Vec::new();
                    return;
                }
                self.pending.extend_from_slice(bytes);
            }
            Some(
                Take::Number(_)
                | Take::LatestNumber(_)
                | Take::Sum(_)
                | Take::Count(_)
                | Take::Flag(_)
                | Take::Presence(_),
            ) => {
                if usize::from(self.scratch_len) + bytes.len() > SCRATCH_BYTES_MAX {
                    self.too_long = true;
                }
                self.note(bytes);
            }
        }
    }

    /// Appends to the scratch; what does not fit is noted as too long.
    fn note(&mut self, bytes: &[u8]) {
        let from = usize::from(self.scratch_len);
        match self.scratch.get_mut(from..from + bytes.len()) {
            Some(room) if !self.too_long => {
                room.copy_from_slice(bytes);
                self.scratch_len += u8::try_from(bytes.len()).unwrap_or_default();
            }
            _ => self.too_long = true,
        }
    }

    /// Ends the value being read.
    fn finish(&mut self) {
        self.state = State::After;
        let Some(take) = self.take.take() else {
            return;
        };
        if let Take::Text { slot, .. } = take {
            if let Some(text) = self.texts.get_mut(usize::from(slot)) {
                std::mem::swap(text, &mut self.pending);
            }
            self.pending.clear();
            if self.pending.capacity() > TEXT_BYTES_KEPT {
                self.pending = Vec::new();
            }
            return;
        }
        let scratch = self.scratch;
        let value = if self.too_long {
            None
        } else {
            scratch.get(..usize::from(self.scratch_len))
        };
        self.take_short(take, value);
    }

    /// Takes a value that lies whole in the piece.
    #[inline]
    fn take_whole(&mut self, take: Take, value: &[u8]) {
        if let Take::LatestNumber(slot) = take
            && let Some(number) = digits(value)
        {
            return self.put(slot, Some(number));
        }
        let Take::Text { slot, max } = take else {
            let short = (value.len() <= SCRATCH_BYTES_MAX).then_some(value);
            return self.take_short(take, short);
        };
        let Some(text) = self.texts.get_mut(usize::from(slot)) else {
            return;
        };
        if value.len() > max as usize {
            text.clear();
        } else if value.len() > text.capacity() {
            *text = value.to_vec();
        } else {
            text.clear();
            text.extend_from_slice(value);
        }
    }

    /// Takes a value that is no text; `None`: it is longer than any that counts.
    fn take_short(&mut self, take: Take, value: Option<&[u8]>) {
        let number = || value.and_then(whole_number);
        // A value longer than the scratch is something.
        let something = || value.is_none_or(is_something);
        match take {
            Take::Number(slot) => self.put(slot, number()),
            Take::LatestNumber(slot) => {
                if let Some(number) = number() {
                    self.put(slot, Some(number));
                }
            }
            Take::Sum(slot) => {
                if let Some(add) = number() {
                    self.add(slot, add);
                }
            }
            Take::Count(slot) => {
                if something() {
                    self.add(slot, 1);
                }
            }
            Take::Flag(slot) => {
                let flag = match value {
                    Some(b"true") => Some(1),
                    Some(b"false") => Some(0),
                    _ => None,
                };
                self.put(slot, flag);
            }
            Take::Presence(slot) => {
                if something() {
                    self.put(slot, Some(1));
                }
            }
            // Texts are taken as they are.
            Take::Text { .. } => {}
        }
    }

    fn add(&mut self, slot: u8, add: u64) {
        let sum = self.number(slot).unwrap_or(0).saturating_add(add);
        self.put(slot, Some(sum));
    }
}

/// The bit of a slot in a set of slots; none for a slot beyond the set.
fn bit(slot: u8) -> u64 {
    1u64.checked_shl(u32::from(slot)).unwrap_or(0)
}
