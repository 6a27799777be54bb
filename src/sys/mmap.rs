//! Read-only maps of finished files.
#![expect(unsafe_code, reason = "mapping a file is unsafe")]

use std::{io, ops::Deref, os::fd::AsRawFd};

use memmap2::{Mmap, MmapOptions};

/// The bytes of a file that nobody writes, truncates or replaces in place any more.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// Maps the first `length` bytes of `file`.
    ///
    /// The caller vouches that the file is finished: at least `length` bytes long now, and never
    /// truncated while the map lives. (A file cut short under a map is a SIGBUS on access.) Log
    /// segments keep to it with a shared `flock` beside the map, which whoever truncates must
    /// hold exclusively.
    pub fn of_finished(file: &impl AsRawFd, length: usize) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(length);
        // SAFETY: the file is finished, as the caller vouches, so the bytes never change beneath
        // the slice; what is in them is checked by the reader, never trusted.
        let map = unsafe { options.map(file) }?;
        Ok(Self(map))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_map_reads_what_was_written() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"sixteen bytes...and more").unwrap();
        let map = Map::of_finished(&file, 16).unwrap();
        assert_eq!(&*map, b"sixteen bytes...");
    }

    #[test]
    fn a_map_of_nothing_is_empty() {
        let file = tempfile::tempfile().unwrap();
        assert!(Map::of_finished(&file, 0).unwrap().is_empty());
    }
}
