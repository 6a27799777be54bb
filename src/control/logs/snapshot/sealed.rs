//! A sealed file: mapped, its blocks listed by their headers.

use std::io;

use crate::control::logs::{
    block::{Block, BlockError, Verified},
    folder::SealedName,
    frame::Kind,
    segment::{Damage, DamageKind, Found, FrameAt, Segment},
};

/// A sealed file that is open.
#[derive(Debug)]
pub(super) struct Sealed {
    name: SealedName,
    segment: Segment,
    blocks: Vec<BlockPlace>,
    damages: Vec<Damage>,
}

/// A block in a file, and what of it was found whole.
#[derive(Debug)]
pub(super) struct BlockPlace {
    pub(super) frame: FrameAt,
    verified: Verified,
}

impl Sealed {
    /// Maps the file and walks over the headers of its frames.
    pub(super) fn open(name: &SealedName) -> io::Result<Self> {
        let mut segment = Segment::open_sealed(&name.path)?;
        let (mut blocks, mut damages) = (Vec::new(), Vec::new());
        let mut offset = 0;
        loop {
            match segment.next(&mut offset)? {
                Found::Frame(frame) if frame.header.kind == Kind::Columns as u8 => {
                    blocks.push(BlockPlace {
                        frame,
                        verified: Verified::default(),
                    });
                }
                Found::Frame(_) => {}
                Found::Damage(damage) => damages.push(damage),
                Found::End => break,
            }
        }
        Ok(Self {
            name: name.clone(),
            segment,
            blocks,
            damages,
        })
    }

    pub(super) fn name(&self) -> &SealedName {
        &self.name
    }

    pub(super) fn blocks(&self) -> &[BlockPlace] {
        &self.blocks
    }

    pub(super) fn damages(&self) -> &[Damage] {
        &self.damages
    }

    pub(super) fn block(&self, index: usize) -> Result<Block<'_>, BlockError> {
        let place = self.blocks.get(index).ok_or(BlockError::Columns)?;
        let payload = self.segment.payload_in_place(&place.frame);
        let payload = payload.ok_or(BlockError::Columns)?;
        Block::open(&place.frame.header, payload, &place.verified)
    }

    pub(super) fn damage(&self, index: usize, error: BlockError) -> Damage {
        match self.blocks.get(index) {
            Some(place) => self.segment.damage(&place.frame, error),
            None => Damage {
                path: self.name.path.clone(),
                offset: 0,
                bytes: 0,
                what: DamageKind::Block(error),
            },
        }
    }
}
