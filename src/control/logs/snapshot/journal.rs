//! An unsealed journal: its frames gathered into groups of a block's size, each of which becomes a
//! block in memory when somebody looks at it.

use std::{
    fs, io, mem,
    ops::RangeInclusive,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::JournalPart;
use crate::control::logs::{
    block::{BLOCK_ROWS, Block, BlockError, Verified, build::BlockBuilder},
    frame::{FrameBuffer, HEADER_BYTES, Header, Kind, PayloadError},
    segment::{Damage, DamageKind, Found, FrameAt, Segment},
};

/// A journal that is followed from snapshot to snapshot.
#[derive(Debug)]
pub(super) struct Journal {
    number: u64,
    /// The file itself, whatever its name.
    inode: u64,
    segment: Arc<Mutex<Segment>>,
    offset: u64,
    /// Groups that are full.
    groups: Vec<Arc<Group>>,
    growing: Vec<FrameAt>,
    /// The group of the growing frames, as it was given out last.
    given: Option<Arc<Group>>,
    damages: Vec<Damage>,
}

/// Frames that make a block together.
#[derive(Debug)]
pub(super) struct Group {
    journal: u64,
    segment: Arc<Mutex<Segment>>,
    frames: Vec<FrameAt>,
    pub(super) rows: u64,
    pub(super) micros: RangeInclusive<u64>,
    /// The block, once it was made. Only a journal that is being written keeps its blocks: it has
    /// a few, and is looked at again and again. Of unsealed journals an old store can have many.
    built: Option<OnceLock<Result<Arc<MemoryBlock>, Damage>>>,
}

/// A block made of row frames.
#[derive(Debug)]
pub(super) struct MemoryBlock {
    header: Header,
    /// The frame: room for its header, then the payload.
    frame: FrameBuffer,
    verified: Verified,
    damages: Vec<Damage>,
}

impl Journal {
    pub(super) fn open(number: u64, path: &Path) -> io::Result<Self> {
        let inode = fs::metadata(path)?.ino();
        Ok(Self {
            number,
            inode,
            segment: Arc::new(Mutex::new(Segment::open(path)?)),
            offset: 0,
            groups: Vec::new(),
            growing: Vec::new(),
            given: None,
            damages: Vec::new(),
        })
    }

    /// Says whether it is the file at `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| metadata.ino() == self.inode)
    }

    /// Walks over the frames that have come since, and gives all groups.
    pub(super) fn read_on(&mut self) -> io::Result<JournalPart> {
        let shared = Arc::clone(&self.segment);
        let mut segment = shared.lock().unwrap_or_else(PoisonError::into_inner);
        segment.forget();
        let keep = segment.is_live();
        loop {
            let mut offset = self.offset;
            match segment.next(&mut offset)? {
                Found::Frame(frame) if frame.header.kind == Kind::Rows as u8 => {
                    if !is_there(&mut segment, &frame, offset)? {
                        break;
                    }
                    self.given = None;
                    let frame_rows = u64::from(frame.header.rows);
                    if rows(&self.growing) + frame_rows > BLOCK_ROWS as u64 {
                        let full = mem::take(&mut self.growing);
                        self.groups.extend(self.group(full, keep));
                    }
                    self.growing.push(frame);
                }
                Found::Frame(_) => {}
                Found::Damage(damage) => self.damages.push(damage),
                Found::End => break,
            }
            self.offset = offset;
        }
        if self.given.is_none() {
            self.given = self.group(self.growing.clone(), keep);
        }
        Ok(JournalPart {
            number: self.number,
            groups: self.groups.iter().chain(&self.given).cloned().collect(),
            damages: self.damages.clone(),
        })
    }

    /// A group of frames; none of no frames.
    fn group(&self, frames: Vec<FrameAt>, keep: bool) -> Option<Arc<Group>> {
        let headers = || frames.iter().map(|frame| &frame.header);
        let min = headers().map(|header| header.min_micros).min()?;
        let max = headers().map(|header| header.max_micros).max()?;
        Some(Arc::new(Group {
            journal: self.number,
            segment: Arc::clone(&self.segment),
            rows: rows(&frames),
            micros: min..=max,
            frames,
            built: keep.then(OnceLock::new),
        }))
    }
}

/// Says whether a frame's payload has come too. The last one of a live file may be on its way: its
/// header can be read before the rest of it.
fn is_there(segment: &mut Segment, frame: &FrameAt, end: u64) -> io::Result<bool> {
    if !segment.is_live() || end < segment.length()? {
        return Ok(true);
    }
    let is_there = segment.payload(frame)?.is_ok();
    if !is_there {
        segment.forget();
    }
    Ok(is_there)
}

fn rows(frames: &[FrameAt]) -> u64 {
    frames
        .iter()
        .map(|frame| u64::from(frame.header.rows))
        .sum()
}

impl Group {
    /// The block, made at the first look.
    pub(super) fn block(&self) -> Result<Arc<MemoryBlock>, Damage> {
        match &self.built {
            Some(built) => built.get_or_init(|| self.build()).clone(),
            None => self.build(),
        }
    }

    fn build(&self) -> Result<Arc<MemoryBlock>, Damage> {
        let mut builder = BlockBuilder::default();
        let mut damages = Vec::new();
        {
            let mut segment = self.segment.lock().unwrap_or_else(PoisonError::into_inner);
            for frame in &self.frames {
                if let Err(damage) = push_rows(&mut segment, frame, self.journal, &mut builder) {
                    damages.push(damage);
                }
            }
        }
        match builder.finish(FrameBuffer::new()) {
            Some((frame, header)) => Ok(Arc::new(MemoryBlock {
                header,
                frame,
                verified: Verified::default(),
                damages,
            })),
            None => Err(damages
                .into_iter()
                .next()
                .unwrap_or_else(|| self.damage(BlockError::Columns))),
        }
    }

    pub(super) fn damage(&self, error: BlockError) -> Damage {
        let segment = self.segment.lock().unwrap_or_else(PoisonError::into_inner);
        Damage {
            path: segment.path().into(),
            offset: self.frames.first().map_or(0, |frame| frame.offset),
            bytes: self.frames.iter().map(|f| f.header.frame_bytes()).sum(),
            what: DamageKind::Block(error),
        }
    }
}

/// Puts the records of a row frame into `builder`; none of them if the frame is damaged.
fn push_rows(
    segment: &mut Segment,
    frame: &FrameAt,
    journal: u64,
    builder: &mut BlockBuilder,
) -> Result<(), Damage> {
    let torn = segment.damage(frame, DamageKind::Torn);
    let rows = segment.rows(frame).unwrap_or_else(|_| Err(torn.clone()))?;
    if rows.len() > builder.room() {
        // Nobody writes frames of so many rows.
        return Err(Damage {
            what: PayloadError::Count.into(),
            ..torn
        });
    }
    builder.push_rows(&rows, 0..rows.len(), journal);
    Ok(())
}

impl MemoryBlock {
    pub(super) fn block(&self) -> Result<Block<'_>, BlockError> {
        let end = HEADER_BYTES + self.header.length as usize;
        let payload = self.frame.get(HEADER_BYTES..end);
        let payload = payload.ok_or(BlockError::Columns)?;
        Block::open(&self.header, payload, &self.verified)
    }

    pub(super) fn damages(&self) -> &[Damage] {
        &self.damages
    }
}
