//! Inflates a compressed answer piece by piece, for metering alone: the bytes that pass stay as
//! they are.

use flate2::{Decompress, FlushDecompress, Status};

/// The window of gzip, as a power of two (RFC 1952 knows no other).
const GZIP_WINDOW_BITS: u8 = 15;

/// Bytes inflated at a time.
const STEP_BYTES: usize = 8 * 1024;

/// Most bytes that one piece may inflate to: some milliseconds of work. Deflate reaches 1000 to 1,
/// text 20 to 1.
const PIECE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes that an answer may inflate to.
const TOTAL_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The coding of a body, as its `content-encoding` announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Plain.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 without its wrapping, as some send it.
    Deflate,
    /// Any other, or several: not metered.
    Unsupported,
}

impl Encoding {
    /// Reads a `content-encoding` value.
    pub fn of_header(value: &[u8]) -> Self {
        let value = value.trim_ascii();
        let is = |name: &str| value.eq_ignore_ascii_case(name.as_bytes());
        if value.is_empty() || is("identity") {
            Self::Identity
        } else if is("gzip") || is("x-gzip") {
            Self::Gzip
        } else if is("deflate") {
            Self::Deflate
        } else {
            Self::Unsupported
        }
    }
}

/// The body does not inflate, or to too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body does not inflate within its bounds")]
pub(super) struct BadDeflate;

/// An inflater for one answer.
#[derive(Debug)]
pub(super) struct Inflate {
    /// `None` until the first byte tells how a deflated body is wrapped.
    stream: Option<Decompress>,
    plain: [u8; STEP_BYTES],
    ended: bool,
}

impl Inflate {
    /// The inflater that an encoding needs, if it needs one.
    pub(super) fn of_encoding(encoding: Encoding) -> Option<Self> {
        let stream = match encoding {
            Encoding::Gzip => Some(Decompress::new_gzip(GZIP_WINDOW_BITS)),
            Encoding::Deflate => None,
            Encoding::Identity | Encoding::Unsupported => return None,
        };
        Some(Self {
            stream,
            plain: [0; STEP_BYTES],
            ended: false,
        })
    }

    /// Inflates a piece and hands the plain bytes to `read`. What follows the end of the
    /// compressed stream is ignored.
    pub(super) fn feed(
        &mut self,
        piece: &[u8],
        mut read: impl FnMut(&[u8]),
    ) -> Result<(), BadDeflate> {
        if self.ended {
            return Ok(());
        }
        let stream = self.stream.get_or_insert_with(|| {
            // A zlib wrapping names its method, 8, in the low bits of its first byte.
            let wrapped = piece.first().is_some_and(|byte| byte & 0x0f == 8);
            Decompress::new(wrapped)
        });
        let mut rest = piece;
        let mut plain_bytes = 0;
        loop {
            let (taken, made) = (stream.total_in(), stream.total_out());
            let status = stream
                .decompress(rest, &mut self.plain, FlushDecompress::None)
                .map_err(|_| BadDeflate)?;
            let taken = usize::try_from(stream.total_in() - taken).unwrap_or(usize::MAX);
            let made = usize::try_from(stream.total_out() - made).unwrap_or(usize::MAX);
            plain_bytes += made;
            if plain_bytes > PIECE_BYTES_MAX || stream.total_out() > TOTAL_BYTES_MAX {
                return Err(BadDeflate);
            }
            read(self.plain.get(..made).unwrap_or_default());
            rest = rest.get(taken..).unwrap_or_default();
            if status == Status::StreamEnd {
                self.ended = true;
                return Ok(());
            }
            // With room left in the output, all input is used up.
            if made < STEP_BYTES && (rest.is_empty() || taken == 0) {
                return Ok(());
            }
        }
    }
}
