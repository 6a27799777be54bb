//! Finds the end of a head while it arrives.

use wide::u8x16;

use super::HeadError;

/// Finds the end of one head in a buffer that grows between calls.
///
/// Each byte is looked at once over all calls (a carriage return at the very end twice), so a
/// head delivered byte by byte costs no more than one delivered whole. What can never become a
/// head (bare line ends, NUL and other control bytes) is refused where it stands, before the rest
/// is waited for.
///
/// ```
/// use tidegate::http::head::HeadScan;
///
/// let mut scan = HeadScan::request();
/// assert_eq!(scan.find_end(b"GET / HTTP/1.0\r\n", 100), Ok(None));
/// assert_eq!(scan.find_end(b"GET / HTTP/1.0\r\n\r\nmore", 100), Ok(Some(18)));
/// ```
#[derive(Debug, Clone)]
pub struct HeadScan {
    /// Bytes of the buffer that are done with.
    scanned: usize,
    /// Where the line being scanned begins.
    line_start: usize,
    /// Empty lines that may still come before the start line.
    empty_lines_left: u8,
    /// Whether the start line has ended.
    begun: bool,
}

/// Empty lines skipped before a request line. RFC 9112 section 2.2 asks for at least one, for
/// clients that end a body with one too many; a stream of them is not a request.
const EMPTY_LINES_MAX: u8 = 4;

impl HeadScan {
    /// A scan for a request's head; a few empty lines before it are skipped.
    pub fn request() -> Self {
        Self {
            scanned: 0,
            line_start: 0,
            empty_lines_left: EMPTY_LINES_MAX,
            begun: false,
        }
    }

    /// A scan for a response's head; nothing may stand before it.
    pub fn response() -> Self {
        Self {
            empty_lines_left: 0,
            ..Self::request()
        }
    }

    /// Looks for the end of the head: the number of bytes of `buf` up to and including the empty
    /// line, or `None` when more must be read.
    ///
    /// `buf` begins at the same byte in every call and has only grown; `limit` is the most bytes
    /// a head may have. After an error the scan must not be asked again.
    pub fn find_end(&mut self, buf: &[u8], limit: usize) -> Result<Option<usize>, HeadError> {
        let visible = buf.get(..limit).unwrap_or(buf);
        while let Some((at, byte)) = next_control(visible, self.scanned) {
            match byte {
                b'\t' => self.scanned = at + 1,
                b'\r' => match visible.get(at + 1) {
                    Some(b'\n') => {
                        if self.end_line(at)? {
                            return Ok(Some(at + 2));
                        }
                    }
                    Some(_) => return Err(HeadError::BareCarriageReturn),
                    None => {
                        self.scanned = at;
                        return room_left(buf, limit);
                    }
                },
                b'\n' => return Err(HeadError::BareLineFeed),
                _ => return Err(HeadError::ControlByte),
            }
        }
        self.scanned = visible.len().max(self.scanned);
        room_left(buf, limit)
    }

    /// Takes the line that ends at `at`; says whether it ended the head.
    fn end_line(&mut self, at: usize) -> Result<bool, HeadError> {
        let is_empty = at == self.line_start;
        self.line_start = at + 2;
        self.scanned = at + 2;
        if !is_empty {
            self.begun = true;
            return Ok(false);
        }
        if self.begun {
            return Ok(true);
        }
        self.empty_lines_left = self
            .empty_lines_left
            .checked_sub(1)
            .ok_or(HeadError::EmptyLines)?;
        Ok(false)
    }
}

/// No end so far: fine while the limit leaves room for one.
fn room_left(buf: &[u8], limit: usize) -> Result<Option<usize>, HeadError> {
    if buf.len() >= limit {
        return Err(HeadError::TooLarge);
    }
    Ok(None)
}

/// The next control byte (tab included) at or after `from`, 16 bytes at a step.
#[inline]
fn next_control(bytes: &[u8], from: usize) -> Option<(usize, u8)> {
    let rest = bytes.get(from..)?;
    let (vectors, tail) = rest.as_chunks::<16>();
    let marked = vectors.iter().enumerate().find_map(|(index, vector)| {
        let marks = control_marks(*vector);
        (marks != 0).then(|| index * 16 + marks.trailing_zeros() as usize)
    });
    let found = match marked {
        Some(found) => found,
        None => rest.len() - tail.len() + tail.iter().position(u8::is_ascii_control)?,
    };
    rest.get(found).map(|&byte| (from + found, byte))
}

/// A bit for each byte that is below 0x20 or equal to 0x7f.
#[inline]
fn control_marks(vector: [u8; 16]) -> u32 {
    const LAST_BELOW_SPACE: u8x16 = u8x16::new([0x1f; 16]);
    const DELETE: u8x16 = u8x16::new([0x7f; 16]);
    let bytes = u8x16::new(vector);
    (bytes.simd_le(LAST_BELOW_SPACE) | bytes.simd_eq(DELETE)).to_bitmask()
}
