//! Finds the documents in a stream of lines: `data:` fields of server-sent events, or JSON lines.
//!
//! An event that lies whole in a piece is searched for a sign of usage and skipped if it has none;
//! any other goes through the scanner, in as many pieces as it comes. So nothing is carried from
//! one piece to the next but the scanner's state.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::Figures;
use super::paths::slot;
use crate::provider::dialect::Dialect;

/// The field that holds an event's document.
const DATA: &[u8] = b"data:";

/// Begins the name of the member with the figures: `usage`, `usageMetadata`.
const USAGE: &[u8] = b"\"usage";

/// What follows [`USAGE`] in an event that has nothing to report.
const NOTHING: &[u8] = b"\":null";

static USAGE_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(USAGE));

/// The member with the figures in Cohere's v1.
static META_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"meta\""));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a line, of which so many bytes agree with [`DATA`].
    Start(u8),
    /// Inside a line that belongs to a document.
    Document,
    /// Inside a line that does not count.
    Other,
}

/// The lines of one answer.
#[derive(Debug)]
pub(super) struct Lines {
    state: State,
    /// Documents stand in `data:` fields, and end at an empty line.
    events: bool,
    /// Usage may stand in `meta`.
    meta: bool,
    /// The scanner is inside a document, which the next line may go on with.
    open: bool,
}

impl Lines {
    /// The lines of an event stream.
    pub(super) fn of_events(dialect: Dialect) -> Self {
        Self {
            state: State::Start(0),
            events: true,
            meta: dialect == Dialect::Cohere,
            open: false,
        }
    }

    /// Lines that are a document each.
    pub(super) fn of_documents(dialect: Dialect) -> Self {
        Self {
            state: State::Document,
            events: false,
            ..Self::of_events(dialect)
        }
    }

    /// Reads the next piece. Once the first delta was seen, events without a sign of usage are
    /// skipped: until then each may hold it, or the model's name.
    pub(super) fn feed(&mut self, piece: &[u8], figures: &mut Figures) {
        let mut rest = piece;
        if settled(figures)
            && let Some(skipped) = self.leap(rest)
        {
            rest = rest.get(skipped..).unwrap_or_default();
        }
        while !rest.is_empty() {
            let used = match self.state {
                State::Start(matched) => self.start(rest, matched),
                State::Document => self.document(rest, figures),
                State::Other => self.other(rest),
            };
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Leaps over all whole events of the piece, if it begins with one and none has a sign of
    /// usage.
    fn leap(&self, piece: &[u8]) -> Option<usize> {
        if self.open {
            return None;
        }
        let end = memrchr(b'\n', piece)? + 1;
        let whole = piece.get(..end)?;
        if self.events {
            // An event that is not over may go on with lines that do have a sign.
            let over = whole.ends_with(b"\n\n") || whole.ends_with(b"\n\r\n");
            if self.state != State::Start(0) || !over {
                return None;
            }
        }
        (!self.may_report(whole)).then_some(end)
    }

    fn start(&mut self, rest: &[u8], matched: u8) -> usize {
        if matched == 0 {
            if rest.starts_with(DATA) {
                self.state = State::Document;
                return DATA.len();
            }
            match rest.first() {
                Some(b'\n') => {
                    self.open = false;
                    return 1;
                }
                Some(b'\r') => return 1,
                _ => {}
            }
        }
        let wanted = DATA.get(usize::from(matched)..).unwrap_or_default();
        let same = wanted
            .iter()
            .zip(rest)
            .take_while(|(wanted, byte)| wanted == byte)
            .count();
        if same == wanted.len() {
            self.state = State::Document;
        } else if same == rest.len() {
            self.state = State::Start(matched + u8::try_from(same).unwrap_or_default());
        } else {
            self.state = State::Other;
        }
        same
    }

    fn document(&mut self, rest: &[u8], figures: &mut Figures) -> usize {
        let end = memchr(b'\n', rest);
        let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if !self.open {
            if let Some(end) = end
                && settled(figures)
                && self.over_after(rest.get(end + 1..).unwrap_or_default())
                && !self.may_report(line)
            {
                self.line_over();
                return end + 1;
            }
            figures.restart();
            self.open = true;
        }
        figures.feed(line);
        let Some(end) = end else {
            return rest.len();
        };
        // The line end ends a number, as it would for a parser.
        figures.feed(b"\n");
        if figures.is_done() || !self.events {
            self.open = false;
        }
        self.line_over();
        end + 1
    }

    /// Says whether a document cannot go on after its line, `next` being what follows.
    fn over_after(&self, next: &[u8]) -> bool {
        !self.events || matches!(next, [b'\n', ..] | [b'\r', b'\n', ..])
    }

    fn other(&mut self, rest: &[u8]) -> usize {
        let Some(end) = memchr(b'\n', rest) else {
            return rest.len();
        };
        self.line_over();
        end + 1
    }

    fn line_over(&mut self) {
        self.state = if self.events {
            State::Start(0)
        } else {
            State::Document
        };
    }

    /// Says whether events may hold usage. A sign inside of a string is no harm: the scanner
    /// decides. (A name written with escapes would be missed; no provider does that.)
    fn may_report(&self, text: &[u8]) -> bool {
        let hit = USAGE_FINDER.find_iter(text).any(|at| {
            let after = text.get(at + USAGE.len()..).unwrap_or_default();
            !after.starts_with(NOTHING)
        });
        hit || (self.meta && META_FINDER.find(text).is_some())
    }
}

fn settled(figures: &Figures) -> bool {
    figures.number(slot::DELTA).is_some()
}
