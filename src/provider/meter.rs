//! Reads usage, model and first token out of an answer while its bytes pass.
//!
//! A [`Meter`] sees the body as it came from the provider, in pieces of any size, and keeps none
//! of it: an incremental scanner walks each document, so no event is ever gathered, however long.
//! It never fails. What it cannot read stays unknown, and an answer that is cut short reports what
//! it had said by then.
//!
//! Every provider serves other shapes beside its own (nearly all have a chat completions path,
//! several have Anthropic's messages), so one tree of paths covers all dialects and the members
//! that an answer has tell which it is. [`Dialect::Unknown`] alone is left unmetered.
//!
//! Reading order: this file, `paths` (where figures stand), `tally` (what they mean), then the
//! framings: `lines` (events and JSON lines), `frames` (Amazon's binary events), `inflate`.

mod frames;
mod inflate;
mod lines;
mod paths;
mod tally;
#[cfg(test)]
mod tests;

use frames::Frames;
pub use inflate::Encoding;
use inflate::Inflate;
use lines::Lines;
use paths::slot;

use super::dialect::{Dialect, Shape};
use super::scanner::{Scanner, decode_string};
use crate::domain::usage::Usage;

/// The scanner with the slots of [`paths`].
type Figures = Scanner<{ slot::NUMBERS }, { slot::TEXTS }>;

/// What a piece of an answer brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fed {
    /// The first model output came with this piece: of a stream the first event with a delta that
    /// is not empty, of anything else the first byte of the body. True once at most.
    pub first_token: bool,
}

/// What an answer reported, when it is over or cut.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metered {
    /// The tokens it consumed.
    pub usage: Usage,
    /// The model that answered, as the provider names it.
    pub model: Option<Box<str>>,
    /// The cost in US dollars as decimal text, where the provider states it (OpenRouter,
    /// Perplexity, xAI); [`crate::domain::money::parse_dollars`] reads it.
    pub cost_reported: Option<Box<str>>,
}

/// How the body is cut into documents.
#[derive(Debug)]
enum Form {
    /// Nothing can be read.
    Off,
    /// The body is one document.
    Document,
    Lines(Lines),
    Frames(Frames),
}

/// Meters one answer.
///
/// ```
/// use tidegate::provider::dialect::{Dialect, Shape};
/// use tidegate::provider::meter::{Encoding, Meter};
///
/// let mut meter = Meter::new(Dialect::OpenAi, Shape::Json, Encoding::Identity);
/// meter.feed(br#"{"model":"m","usage":{"prompt_tok"#);
/// meter.feed(br#"ens":3,"completion_tokens":4}}"#);
/// let metered = meter.finish();
/// assert_eq!(metered.usage.input, Some(3));
/// assert_eq!(metered.usage.output, Some(4));
/// assert_eq!(metered.model.as_deref(), Some("m"));
/// ```
#[derive(Debug)]
pub struct Meter {
    figures: Figures,
    form: Form,
    inflate: Option<Box<Inflate>>,
    token_seen: bool,
    /// The body's encoding turned out to be broken, or a bomb: nothing counts.
    void: bool,
}

impl Meter {
    /// A meter for an answer of this shape and encoding.
    pub fn new(dialect: Dialect, shape: Shape, encoding: Encoding) -> Self {
        let mut meter = Self {
            figures: Figures::new(&paths::ANSWER),
            form: Form::Off,
            inflate: None,
            token_seen: false,
            void: false,
        };
        meter.begin(dialect, shape, encoding);
        meter
    }

    /// Forgets the answer, and lets go of all that took much memory.
    pub fn clear(&mut self) {
        self.figures.forget();
        self.form = Form::Off;
        self.inflate = None;
        self.token_seen = false;
        self.void = false;
    }

    /// Forgets the answer before, and meters one of this shape and encoding.
    pub fn begin(&mut self, dialect: Dialect, shape: Shape, encoding: Encoding) {
        self.clear();
        self.form = match (dialect, shape, encoding) {
            (Dialect::Unknown, _, _) | (_, Shape::Opaque, _) | (_, _, Encoding::Unsupported) => {
                Form::Off
            }
            (_, Shape::Json, _) => Form::Document,
            (_, Shape::EventStream, _) => Form::Lines(Lines::of_events(dialect)),
            (_, Shape::JsonLines, _) => Form::Lines(Lines::of_documents(dialect)),
            (_, Shape::AmazonEventStream, _) => Form::Frames(Frames::default()),
        };
        self.inflate = match self.form {
            Form::Off => None,
            Form::Document | Form::Lines(_) | Form::Frames(_) => {
                Inflate::of_encoding(encoding).map(Box::new)
            }
        };
    }

    /// Notes a header of the answer; those that count tokens are used where the body is silent.
    pub fn note_header(&mut self, name: &[u8], value: &[u8]) {
        let Some(slot) = paths::slot_of_header(name) else {
            return;
        };
        let number = std::str::from_utf8(value.trim_ascii()).ok();
        if let Some(number) = number.and_then(|text| text.parse().ok()) {
            self.figures.put(slot, Some(number));
        }
    }

    /// Reads the next piece of the body, as it passes.
    pub fn feed(&mut self, payload: &[u8]) -> Fed {
        if payload.is_empty() {
            return Fed::default();
        }
        let form = &mut self.form;
        let figures = &mut self.figures;
        let mut read = |plain: &[u8]| match form {
            Form::Off => {}
            Form::Document => figures.feed(plain),
            Form::Lines(lines) => lines.feed(plain, figures),
            Form::Frames(frames) => frames.feed(plain, figures),
        };
        match &mut self.inflate {
            None => read(payload),
            Some(inflate) => {
                if inflate.feed(payload, read).is_err() {
                    self.form = Form::Off;
                    self.inflate = None;
                    self.void = true;
                }
            }
        }
        if self.token_seen {
            return Fed::default();
        }
        self.token_seen = match self.form {
            Form::Off | Form::Document => true,
            Form::Lines(_) | Form::Frames(_) => figures.number(slot::DELTA).is_some(),
        };
        Fed {
            first_token: self.token_seen,
        }
    }

    /// What the answer has reported so far.
    pub fn finish(&mut self) -> Metered {
        if self.void {
            return Metered::default();
        }
        Metered {
            usage: tally::usage(&self.figures),
            model: decode_string(self.figures.text(slot::MODEL)),
            cost_reported: tally::cost(&self.figures),
        }
    }
}
