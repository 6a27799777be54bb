//! The files of rollups: `rollup-<date>` in the log folder, frames of tables.
//!
//! A file begins with a file header. Fresh tables are appended, one for each stretch of journals
//! that was summed up; now and then the whole file is written anew, with minutes, hours and days
//! apart. Nothing is ever truncated, and a file that is written anew takes its name in one step.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    ops::RangeInclusive,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::table::{Cell, HeadOf, Level, Table, members::MemberCell};
use crate::control::logs::{
    folder::LogDir,
    frame::{self, FileHeader, FrameBuffer, HEADER_BYTES, Header, Kind},
    segment::{Damage, Found, FrameAt, Segment},
};

/// Where a frame's flags hold its level.
const LEVEL_SHIFT: u16 = 8;

/// The rollup files of a log folder by their dates, oldest first; drafts are left out.
pub fn list(log: &LogDir) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(log.path()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if let Some(date) = name.strip_prefix("rollup-")
            && !date.contains('.')
        {
            found.push((date.to_owned(), entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The path of the file of a date.
pub fn path_of(log: &LogDir, date: &str) -> PathBuf {
    log.path().join(format!("rollup-{date}"))
}

/// A frame of a rollup file, not looked into yet.
#[derive(Debug, Clone, Copy)]
pub struct TableAt {
    /// What its cells are.
    pub level: Level,
    /// How many cells it has.
    pub cells: u32,
    /// Least time of a cell, microseconds since the Unix epoch.
    pub min_micros: u64,
    /// Greatest time of a cell.
    pub max_micros: u64,
    frame: FrameAt,
}

/// A rollup file that is read.
#[derive(Debug)]
pub struct RollupFile {
    segment: Segment,
    /// Its tables in order.
    pub tables: Vec<TableAt>,
    /// What could not be read.
    pub damages: Vec<Damage>,
    /// Where the last frame ends.
    end: u64,
    /// How many frames there are.
    frames: u64,
    identity: Option<u64>,
}

impl RollupFile {
    /// Opens a file and walks over the headers of its frames.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = Self {
            segment: Segment::open(path)?,
            tables: Vec::new(),
            damages: Vec::new(),
            end: 0,
            frames: 0,
            identity: None,
        };
        let mut offset = 0;
        loop {
            match file.segment.next(&mut offset)? {
                Found::Frame(frame) => {
                    file.end = offset;
                    file.frames += 1;
                    file.identity = Some(frame.header.segment);
                    file.tables.extend(TableAt::of(frame));
                }
                Found::Damage(damage) => file.damages.push(damage),
                Found::End => return Ok(file),
            }
        }
    }

    /// Reads a table; `None` if it is damaged, which is noted.
    pub fn table(&mut self, at: &TableAt) -> io::Result<Option<Table>> {
        let payload = match self.segment.payload(&at.frame)? {
            Ok(payload) => payload,
            Err(damage) => {
                self.damages.push(damage);
                return Ok(None);
            }
        };
        let table = Table::read(payload).filter(|table| table.level == at.level);
        if table.is_none() {
            let what = frame::PayloadError::Rows;
            self.damages.push(self.segment.damage(&at.frame, what));
        }
        Ok(table)
    }

    /// Calls `visit` with each cell of a table, and gives its journals; `None` if it is damaged,
    /// which is noted.
    pub fn each_cell(
        &mut self,
        at: &TableAt,
        visit: impl FnMut(Cell<'_>),
    ) -> io::Result<Option<Vec<RangeInclusive<u64>>>> {
        self.visit(at, |payload| Table::each_cell(payload, visit))
    }

    /// The same, and calls `member` with each cell by a member of the metadata.
    pub fn each(
        &mut self,
        at: &TableAt,
        visit: impl FnMut(Cell<'_>),
        member: impl FnMut(MemberCell<'_>),
    ) -> io::Result<Option<Vec<RangeInclusive<u64>>>> {
        self.visit(at, |payload| Table::each(payload, visit, member))
    }

    fn visit(
        &mut self,
        at: &TableAt,
        read: impl FnOnce(&[u8]) -> Option<HeadOf>,
    ) -> io::Result<Option<Vec<RangeInclusive<u64>>>> {
        let payload = match self.segment.payload(&at.frame)? {
            Ok(payload) => payload,
            Err(damage) => {
                self.damages.push(damage);
                return Ok(None);
            }
        };
        let read = read(payload);
        if read.is_none() {
            let what = frame::PayloadError::Rows;
            self.damages.push(self.segment.damage(&at.frame, what));
        }
        Ok(read.map(|(_, journals)| journals))
    }

    /// Bytes of its tables: those that are fresh, and the others.
    pub fn bytes(&self) -> (u64, u64) {
        let (mut fresh, mut merged) = (0, 0);
        for table in &self.tables {
            let bytes = table.frame.header.frame_bytes();
            if table.level == Level::Fresh {
                fresh += bytes;
            } else {
                merged += bytes;
            }
        }
        (fresh, merged)
    }
}

impl TableAt {
    fn of(frame: FrameAt) -> Option<Self> {
        let header = &frame.header;
        let level = Level::from_number(u64::from(header.flags >> LEVEL_SHIFT))?;
        (header.kind == Kind::Rollup as u8).then_some(Self {
            level,
            cells: header.rows,
            min_micros: header.min_micros,
            max_micros: header.max_micros,
            frame,
        })
    }

    /// Says whether it may have cells between two times, both included.
    pub fn meets(&self, from: u64, to: u64) -> bool {
        self.cells > 0 && self.min_micros <= to && from <= self.max_micros
    }
}

/// Appends a fresh table to the file at `path`, which is made if it is not there, and makes it
/// durable. The file must end with a whole frame.
pub fn append(path: &Path, table: &Table, now_micros: u64) -> io::Result<()> {
    let before = match RollupFile::open(path) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return write_anew(path, std::slice::from_ref(table), now_micros);
        }
        Err(error) => return Err(error),
    };
    let Some(identity) = before.identity else {
        return write_anew(path, std::slice::from_ref(table), now_micros);
    };
    let frame = frame_of(table, identity, before.frames, before.end);
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&frame, before.end)?;
    file.sync_data()
}

/// Writes a file of these tables, in place of one that has the name.
pub fn write_anew(path: &Path, tables: &[Table], now_micros: u64) -> io::Result<()> {
    let mut identity = [0u8; 8];
    getrandom::fill(&mut identity).map_err(io::Error::other)?;
    let identity = u64::from_le_bytes(identity);
    // Of the same name each time: one that a crash left is written over by the next.
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    let first = file_header(identity, now_micros);
    file.write_all(&first)?;
    let mut offset = first.len() as u64;
    for (sequence, table) in (1..).zip(tables) {
        let frame = frame_of(table, identity, sequence, offset);
        file.write_all(&frame)?;
        offset += frame.len() as u64;
    }
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn file_header(identity: u64, now_micros: u64) -> FrameBuffer {
    let mut buffer = FrameBuffer::new();
    buffer.resize(HEADER_BYTES, 0);
    let header = FileHeader {
        contents: Kind::Rollup,
        compressed: false,
        created_micros: now_micros,
        version: env!("CARGO_PKG_VERSION").into(),
    };
    header.write(&mut buffer);
    finish(
        buffer,
        Header {
            kind: Kind::FileHeader as u8,
            flags: 0,
            rows: 0,
            length: 0,
            min_micros: now_micros,
            max_micros: now_micros,
            sequence: 0,
            segment: identity,
            payload_hash: 0,
        },
        0,
    )
}

fn frame_of(table: &Table, identity: u64, sequence: u64, offset: u64) -> FrameBuffer {
    let mut buffer = FrameBuffer::new();
    buffer.resize(HEADER_BYTES, 0);
    table.write(&mut buffer);
    let (min_micros, max_micros) = table.micros();
    finish(
        buffer,
        Header {
            kind: Kind::Rollup as u8,
            flags: (table.level as u16) << LEVEL_SHIFT,
            rows: u32::try_from(table.cells.len()).unwrap_or(u32::MAX),
            length: 0,
            min_micros,
            max_micros,
            sequence,
            segment: identity,
            payload_hash: 0,
        },
        offset,
    )
}

fn finish(mut buffer: FrameBuffer, mut header: Header, offset: u64) -> FrameBuffer {
    let length = buffer.len() - HEADER_BYTES;
    header.length = u32::try_from(length).unwrap_or(u32::MAX);
    buffer.resize(frame::padded(length), 0);
    frame::seal(&mut buffer, header, offset);
    buffer
}
