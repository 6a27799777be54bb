//! A sealed file on its way: blocks are appended to a draft, which gets its name at the end.

use std::{
    fs, io, mem,
    path::{Path, PathBuf},
};

use super::sync_folder;
use crate::{
    control::{
        data_dir::make_dir,
        logs::{
            block::build::BlockBuilder,
            frame::{FrameBuffer, HEADER_BYTES, Header, Kind, Rows, padded},
            segment::{self, Appender},
        },
    },
    domain::record::Record,
};

/// A draft; dropped without [`Draft::publish`], it is removed.
#[derive(Debug)]
pub(super) struct Draft {
    target: PathBuf,
    path: PathBuf,
    appender: Appender,
    builder: BlockBuilder,
    buffer: FrameBuffer,
    rows: u64,
    published: bool,
}

impl Draft {
    /// Begins the file that is to become `target`.
    pub(super) fn begin(target: &Path, created_micros: u64) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        make_dir(folder)?;
        let name = name.to_string_lossy();
        let path = folder.join(format!(".{name}.{}.new", std::process::id()));
        let made = Appender::draft(
            &path,
            target,
            Kind::Columns,
            false,
            created_micros,
            segment::write_at(),
        );
        let appender = made.inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        Ok(Self {
            target: target.into(),
            path,
            appender,
            builder: BlockBuilder::default(),
            buffer: FrameBuffer::new(),
            rows: 0,
            published: false,
        })
    }

    /// Records taken in so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes in a record of journal number `journal`.
    pub(super) fn push(&mut self, record: &Record, journal: u64) -> io::Result<()> {
        self.builder.push(record, journal);
        self.pushed()
    }

    /// Takes in the records of a row frame of journal number `journal`.
    pub(super) fn push_rows(&mut self, rows: &Rows<'_>, journal: u64) -> io::Result<()> {
        let mut start = 0;
        while start < rows.len() {
            let end = rows.len().min(start + self.builder.room());
            self.builder.push_rows(rows, start..end, journal);
            self.rows += (end - start) as u64;
            start = end;
            if self.builder.is_full() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn pushed(&mut self) -> io::Result<()> {
        self.rows += 1;
        if self.builder.is_full() {
            self.flush()?;
        }
        Ok(())
    }

    /// Takes in a whole block as it is; its payload was found to match its header.
    pub(super) fn copy(&mut self, header: &Header, payload: &[u8]) -> io::Result<()> {
        self.flush()?;
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        buffer.extend_from_slice(payload);
        buffer.resize(padded(payload.len()), 0);
        self.appender.append_verified(&mut buffer, *header)?;
        self.buffer = buffer;
        self.rows += u64::from(header.rows);
        Ok(())
    }

    /// Writes the block that has gathered.
    fn flush(&mut self) -> io::Result<()> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let buffer = mem::take(&mut self.buffer);
        let made = self.builder.finish(buffer);
        let (mut buffer, header) =
            made.ok_or_else(|| io::Error::other("records too large for a block"))?;
        self.appender.append(&mut buffer, header)?;
        self.buffer = buffer;
        Ok(())
    }

    /// Makes the file durable under its name, in place of one that has it; gives its length.
    pub(super) fn publish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.appender.file().sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.published = true;
        if let Some(day) = self.target.parent() {
            sync_folder(day)?;
            if let Some(log) = day.parent() {
                sync_folder(log)?;
            }
        }
        Ok(self.appender.offset())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path);
        }
    }
}
