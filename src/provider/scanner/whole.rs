//! What lies whole in a piece, as nearly all does, read in one go: no state for each bracket, name,
//! colon and value. Where something does not lie whole it leaves the scanner in the state in which
//! to read on.

use super::{
    Scanner, State,
    path::{NAME_BYTES_MAX, Names, Path},
    text::{container_end, quote_or_backslash, scalar_end_at, skip_blanks, string_end_at},
};

/// How far the parts of a document that lie whole in a piece have been read.
enum Step {
    /// To here, where another container is the innermost, or another of its elements comes.
    Read(usize),
    /// To here, where what comes does not lie whole in the piece: the state in which to read it.
    Stopped(usize, State),
}

impl<const NUMBERS: usize, const TEXTS: usize> Scanner<NUMBERS, TEXTS> {
    /// Reads on, before a name, as far as names and values lie whole in the piece, as nearly all
    /// do. It goes by no states, but leaves the one in which it stops. Says how many bytes that
    /// were.
    #[inline(never)]
    pub(super) fn whole_values(&mut self, piece: &[u8]) -> usize {
        let mut room = [0; WINDOW_BYTES];
        let mut at = 0;
        loop {
            let (names, array) = self.top();
            let step = if array {
                self.whole_elements(piece, at, names)
            } else {
                self.whole_members(piece, at, names, &mut room)
            };
            at = match step {
                Step::Read(at) => at,
                Step::Stopped(at, state) => {
                    self.state = state;
                    return at;
                }
            };
        }
    }

    /// Reads members of an object, until one is entered or the object ends.
    #[inline]
    fn whole_members(
        &mut self,
        piece: &[u8],
        at: usize,
        names: &'static Names,
        room: &mut [u8; WINDOW_BYTES],
    ) -> Step {
        let mut at = at;
        loop {
            let Some((path, from, first)) = whole_name(piece, at, names, room) else {
                return Step::Stopped(at, State::Name);
            };
            let end = match first {
                b'"' => string_end_at(piece, from + 1),
                b'{' | b'[' => {
                    if self.enter(path.inside, first) {
                        return Step::Read(from + 1);
                    }
                    container_end(piece, from + 1)
                }
                // A value that is missing ends where it begins.
                _ => scalar_end_at(piece, from),
            };
            let end = end.unwrap_or_default();
            if end <= from {
                self.found(path);
                return Step::Stopped(from, State::Value);
            }
            if let Some(take) = path.take
                && let Some(value) = piece.get(from..end)
            {
                self.take_whole(take, value);
            }
            if piece.get(end) != Some(&b',') {
                return self.whole_ends(piece, end);
            }
            at = end + 1;
        }
    }

    /// Enters an element, if it is a container.
    #[inline]
    fn whole_elements(&mut self, piece: &[u8], at: usize, names: &'static Names) -> Step {
        let at = skip_blanks(piece, at);
        if let Some(bracket @ (b'{' | b'[')) = piece.get(at)
            && self.enter(names, *bracket)
        {
            return Step::Read(at + 1);
        }
        self.take = None;
        self.inside = names;
        Step::Stopped(at, State::Value)
    }

    /// Leaves the containers that end after a value, and goes behind the comma.
    #[inline]
    fn whole_ends(&mut self, piece: &[u8], at: usize) -> Step {
        let mut at = at;
        loop {
            at = match piece.get(at) {
                Some(b',') => return Step::Read(at + 1),
                Some(b'}' | b']') if self.leave() => return Step::Stopped(at + 1, State::Done),
                Some(b'}' | b']') => at + 1,
                _ => {
                    let behind = skip_blanks(piece, at);
                    if behind == at {
                        return Step::Stopped(at, State::After);
                    }
                    behind
                }
            };
        }
    }
}

/// The longest name that is read in one step, its quotes, a colon, and the first byte of a value.
const WINDOW_BYTES: usize = NAME_BYTES_MAX + 4;

/// Reads the name at `at`: its path, where its value begins, and that value's first byte (0 if it
/// lies beyond the piece). `None`: the name is long, has escapes, or does not lie whole in the
/// piece with its colon.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a few instructions, for each member of a document"
)]
fn whole_name(
    piece: &[u8],
    at: usize,
    names: &Names,
    room: &mut [u8; WINDOW_BYTES],
) -> Option<(&'static Path, usize, u8)> {
    let mut at = at;
    let mut window = window_at(piece, at, room)?;
    if window.first() != Some(&b'"') {
        at = skip_blanks(piece, at);
        window = window_at(piece, at, room)?;
    }
    let [b'"', name @ ..] = window else {
        return None;
    };
    let name = name.first_chunk::<NAME_BYTES_MAX>()?;
    let len = quote_or_backslash(name)?;
    if window.get(len + 1) != Some(&b'"') || window.get(len + 2) != Some(&b':') {
        return None;
    }
    let last = window.get(len).copied()?;
    let path = names.find(name, len, last);
    let mut from = at + len + 3;
    let mut first = window.get(len + 3).copied()?;
    if first <= b' ' {
        from = skip_blanks(piece, from);
        first = piece.get(from).copied().unwrap_or_default();
    }
    Some((path, from, first))
}

/// What lies at `at`, filled up with zeros, which are no part of JSON, where the piece is over.
#[inline]
fn window_at<'w>(
    piece: &'w [u8],
    at: usize,
    padded: &'w mut [u8; WINDOW_BYTES],
) -> Option<&'w [u8; WINDOW_BYTES]> {
    let rest = piece.get(at..)?;
    if let Some(window) = rest.first_chunk::<WINDOW_BYTES>() {
        return Some(window);
    }
    pad(rest, padded);
    Some(padded)
}

#[cold]
#[inline(never)]
fn pad(rest: &[u8], padded: &mut [u8; WINDOW_BYTES]) {
    padded.fill(0);
    if let Some(place) = padded.get_mut(..rest.len()) {
        place.copy_from_slice(rest);
    }
}
