//! Misbehaviour on command: the words of `x-mock`, of `?mock=` and of a model's suffix.

use std::time::Duration;

use thiserror::Error;

/// What one request is to meet, beside an ordinary answer. Times are milliseconds in the command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one member for each word of the command language"
)]
pub(super) struct Command {
    /// `status=N`: answers with this status; from 400 on with the provider's own error body.
    pub(super) status: Option<u16>,
    /// `retry_after=S`: the header of a 429 or 529, in seconds (1 if not given).
    pub(super) retry_after: Option<u64>,
    /// `first=N`: of the requests with these very commands, only the first N since the last reset
    /// misbehave; later ones get an ordinary answer.
    pub(super) first: Option<u64>,
    /// `delay=MS`: before the head.
    pub(super) delay: Duration,
    /// `event_delay=MS`: before each event but the first.
    pub(super) event_delay: Duration,
    /// `drip=BYTES:MS`: the body in pieces of so many bytes, with a pause between them.
    pub(super) drip: Option<Drip>,
    /// `read=BYTES:MS`: reads the request's body at this pace (header and query only).
    pub(super) read: Option<Drip>,
    /// `events=N`: so many deltas, which are so many visible tokens.
    pub(super) events: Option<u64>,
    /// `size=BYTES`: pads the body to exactly this size, if it is not larger already. Counted
    /// before compression and without chunk framing; binary event streams come out near it. In a
    /// stream the deltas grow, not the texts that its last events repeat.
    pub(super) size: Option<u64>,
    /// `cut=before|head|N|rst|rst:before|rst:head|rst:N`: closes before the head, in its middle
    /// or after N bytes of the body; `rst` by a reset (alone: before the first byte of the body).
    pub(super) cut: Option<Cut>,
    /// `malformed=WORD`: an answer that breaks HTTP; see `malformed`.
    pub(super) malformed: Option<&'static str>,
    /// `hang`: reads the request and never answers.
    pub(super) hang: bool,
    /// `hang_after=N`: stops for good after N bytes of the body.
    pub(super) hang_after: Option<u64>,
    /// `gzip`: compresses the body, event by event in a stream.
    pub(super) gzip: bool,
    /// `length`, `chunked`, `close`: how the body is framed.
    pub(super) framing: Option<Framing>,
    /// `http10`: answers as HTTP/1.0.
    pub(super) http10: bool,
    /// `trailers`: chunked, with trailer fields.
    pub(super) trailers: bool,
    /// `continue`: a 100 and a 103 before the answer.
    pub(super) interim: bool,
    /// `early`: answers before the request's body is read, then reads it; `early=close` closes
    /// instead (header and query only).
    pub(super) early: Option<Early>,
    /// `surplus`: bytes after the end of the answer, in the same write.
    pub(super) surplus: bool,
    /// `keepalive=no`: `connection: close`.
    pub(super) close: bool,
    /// `setcookie`: two `set-cookie` fields.
    pub(super) setcookie: bool,
    /// `reqid` or `reqid=TEXT`: the provider's request id header.
    pub(super) reqid: Option<String>,
    /// `stamp`: each event's JSON starts with `"stamp"`, microseconds since the epoch.
    pub(super) stamp: bool,
    /// `in=N`: input tokens to report.
    pub(super) input: Option<u64>,
    /// `out=N`: output tokens to report.
    pub(super) output: Option<u64>,
    /// `greet`: a WebSocket starts with a `session.created` event.
    pub(super) greet: bool,
}

/// A pace: so many bytes, then a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drip {
    pub(super) bytes: usize,
    pub(super) pause: Duration,
}

/// Where an answer breaks off, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) at: CutAt,
    /// By a reset; otherwise by an orderly close.
    pub(super) reset: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutAt {
    Before,
    Head,
    Body(u64),
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    Close,
}

/// What happens to a request's body that was answered unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Early {
    Read,
    Close,
}

/// A command that nobody understands.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum CommandError {
    #[error("unknown mock command `{0}`")]
    Unknown(String),
    #[error("mock command `{0}` has a value that does not fit")]
    Value(String),
}

impl Command {
    /// Adds the commands of `text`; a later word wins over an earlier one.
    pub(super) fn extend(&mut self, text: &str, separator: char) -> Result<(), CommandError> {
        for item in text.split(separator).map(str::trim) {
            if !item.is_empty() {
                self.set(item)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, item: &str) -> Result<(), CommandError> {
        let (word, value) = item.split_once('=').unwrap_or((item, ""));
        let bad = || CommandError::Value(item.to_owned());
        match word {
            "status" => self.status = Some(within(value, 200, 999).ok_or_else(bad)?),
            "retry_after" => self.retry_after = Some(within(value, 0, 86_400).ok_or_else(bad)?),
            "first" => self.first = Some(within(value, 0, u64::MAX).ok_or_else(bad)?),
            "delay" => self.delay = millis(value).ok_or_else(bad)?,
            "event_delay" => self.event_delay = millis(value).ok_or_else(bad)?,
            "drip" => self.drip = Some(drip(value).ok_or_else(bad)?),
            "read" => self.read = Some(drip(value).ok_or_else(bad)?),
            "events" => self.events = Some(within(value, 1, EVENTS_MAX).ok_or_else(bad)?),
            "size" => self.size = Some(within(value, 0, SIZE_MAX).ok_or_else(bad)?),
            "cut" => self.cut = Some(cut(value).ok_or_else(bad)?),
            "malformed" => {
                self.malformed = Some(super::malformed::word(value).ok_or_else(bad)?);
            }
            "hang_after" => self.hang_after = Some(within(value, 0, u64::MAX).ok_or_else(bad)?),
            "in" => self.input = Some(within(value, 0, TOKENS_MAX).ok_or_else(bad)?),
            "out" => self.output = Some(within(value, 0, TOKENS_MAX).ok_or_else(bad)?),
            "early" => {
                self.early = Some(match value {
                    "" => Early::Read,
                    "close" => Early::Close,
                    _ => return Err(bad()),
                });
            }
            "keepalive" if value == "no" => self.close = true,
            "reqid" => self.reqid = Some(header_text(value).ok_or_else(bad)?),
            _ if value.is_empty() => return self.set_flag(word),
            _ => return Err(CommandError::Unknown(item.to_owned())),
        }
        Ok(())
    }

    fn set_flag(&mut self, word: &str) -> Result<(), CommandError> {
        match word {
            "hang" => self.hang = true,
            "gzip" => self.gzip = true,
            "length" => self.framing = Some(Framing::Length),
            "chunked" => self.framing = Some(Framing::Chunked),
            "close" => self.framing = Some(Framing::Close),
            "http10" => self.http10 = true,
            "trailers" => self.trailers = true,
            "continue" => self.interim = true,
            "surplus" => self.surplus = true,
            "setcookie" => self.setcookie = true,
            "stamp" => self.stamp = true,
            "greet" => self.greet = true,
            _ => return Err(CommandError::Unknown(word.to_owned())),
        }
        Ok(())
    }
}

fn within<T: Copy + std::str::FromStr + PartialOrd>(text: &str, min: T, max: T) -> Option<T> {
    let number = text.parse().ok()?;
    (min <= number && number <= max).then_some(number)
}

fn millis(text: &str) -> Option<Duration> {
    within(text, 0, MILLIS_MAX).map(Duration::from_millis)
}

fn drip(text: &str) -> Option<Drip> {
    // `x` for model names in a path, where a colon has a meaning already.
    let (bytes, pause) = text.split_once([':', 'x'])?;
    Some(Drip {
        bytes: within(bytes, 1, usize::MAX)?,
        pause: millis(pause)?,
    })
}

fn cut(text: &str) -> Option<Cut> {
    let (reset, at) = match text.split_once([':', 'x']) {
        Some(("rst", at)) => (true, at),
        Some(_) => return None,
        None if text == "rst" => (true, "0"),
        None => (false, text),
    };
    let at = match at {
        "before" => CutAt::Before,
        "head" => CutAt::Head,
        bytes => CutAt::Body(bytes.parse().ok()?),
    };
    Some(Cut { at, reset })
}

/// Text that may stand in a header field.
fn header_text(text: &str) -> Option<String> {
    let fits = text.len() <= 200 && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

/// Longest time that one command may wait.
const MILLIS_MAX: u64 = 600_000;

/// Most deltas of one stream: hours at any speed worth testing.
const EVENTS_MAX: u64 = 100_000_000;

/// Largest padded body: 64 GiB, beyond every file that a provider serves.
const SIZE_MAX: u64 = 64 << 30;

/// Largest token count that may be ordered: sums of many stay within 64 bits.
const TOKENS_MAX: u64 = 1_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Command, CommandError> {
        let mut command = Command::default();
        command.extend(text, ',').map(|()| command)
    }

    #[test]
    fn words_set_their_members() {
        let command = parse("status=529, delay=20,drip=7:3,cut=rst:12,hang,close,stamp").unwrap();
        let expected = Command {
            status: Some(529),
            delay: Duration::from_millis(20),
            drip: Some(Drip {
                bytes: 7,
                pause: Duration::from_millis(3),
            }),
            cut: Some(Cut {
                at: CutAt::Body(12),
                reset: true,
            }),
            hang: true,
            framing: Some(Framing::Close),
            stamp: true,
            ..Command::default()
        };
        assert_eq!(command, expected);
    }

    #[test]
    fn unknown_words_and_bad_values_are_told() {
        assert_eq!(
            parse("staus=500"),
            Err(CommandError::Unknown("staus=500".to_owned()))
        );
        assert_eq!(
            parse("delay=soon"),
            Err(CommandError::Value("delay=soon".to_owned()))
        );
        assert_eq!(
            parse("status=99"),
            Err(CommandError::Value("status=99".to_owned()))
        );
        assert_eq!(
            parse("malformed=nice"),
            Err(CommandError::Value("malformed=nice".to_owned()))
        );
        assert_eq!(
            parse("hang=5"),
            Err(CommandError::Unknown("hang=5".to_owned()))
        );
    }
}
