//! A body that was sent compressed: unpacked piece by piece, and looked through as it comes out, so
//! that a little one that unpacks to much takes no memory.

use std::{
    fmt,
    io::{self, Write},
    rc::Rc,
};

use flate2::write::MultiGzDecoder;

use crate::control::logs::{filter::text, query::select::Limit};

/// Most bytes that a body is unpacked to.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;

/// What a gzip body begins with (RFC 1952 section 2.3): its magic, and "deflate".
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// Says whether a body that begins like this is compressed in a way that can be unpacked.
pub(super) fn is_packed(begin: &[u8]) -> bool {
    begin.starts_with(&GZIP)
}

/// A body on its way.
pub(super) struct Unpacking(Box<MultiGzDecoder<Looking>>);

impl fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unpacking").field(self.0.get_ref()).finish()
    }
}

impl Unpacking {
    pub(super) fn new(needles: &Rc<[Vec<u8>]>, limit: Limit) -> Self {
        let looking = Looking {
            needles: Rc::clone(needles),
            longest: needles.iter().map(Vec::len).max().unwrap_or(0),
            found: vec![false; needles.len()],
            tail: Vec::new(),
            left: UNPACKED_BYTES_MAX,
            limit,
        };
        Self(Box::new(MultiGzDecoder::new(looking)))
    }

    /// Takes the next bytes; `false` if the body goes no further: it cannot be unpacked, is too
    /// long, or the time is over.
    pub(super) fn go_on(&mut self, bytes: &[u8]) -> bool {
        // What is still in the decoder comes out with the flush.
        self.0
            .write_all(bytes)
            .and_then(|()| self.0.flush())
            .is_ok()
    }

    /// Which of the texts were found.
    pub(super) fn found(&self) -> &[bool] {
        &self.0.get_ref().found
    }
}

/// Looks through what comes out.
#[derive(Debug)]
struct Looking {
    needles: Rc<[Vec<u8>]>,
    longest: usize,
    found: Vec<bool>,
    /// The end of what came before, shorter than the longest text.
    tail: Vec<u8>,
    left: u64,
    limit: Limit,
}

impl Write for Looking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .filter(|_| !self.limit.is_over())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        self.tail.extend_from_slice(bytes);
        for (needle, found) in self.needles.iter().zip(&mut self.found) {
            *found = *found || text::contains(&self.tail, needle);
        }
        let keep = self.longest.saturating_sub(1);
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
