//! Changes records that are sealed: each file is written anew, in its place, if anything in it
//! changes. For whoever has the data folder to itself.

use std::{io, sync::atomic::AtomicBool};

use super::{draft::Draft, seal_all};
use crate::{
    control::logs::{
        block::{Block, BlockError, Verified},
        folder::{LogDir, SealedName},
        frame::Kind,
        segment::{Damage, Found, Segment},
        writer::unix_micros,
    },
    domain::record::Record,
    handoff::log_health::LogHealth,
};

/// What a rewriting came to.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// Records that were changed.
    pub changed: u64,
    /// Files that were written anew: the first and the last of the journals in each.
    pub files: Vec<(u64, u64)>,
    /// Damage that was met. A file with damage stays as it is.
    pub damages: Vec<Damage>,
}

/// Seals what is not sealed yet and hands every record to `change`, which says whether it changed
/// it. The caller holds the lock of the data folder.
pub fn rewrite(log: &LogDir, mut change: impl FnMut(&mut Record) -> bool) -> io::Result<Rewritten> {
    // Nobody asks for the health of a folder without a server.
    seal_all(log, &LogHealth::default(), &AtomicBool::new(false))?;
    let mut done = Rewritten::default();
    for file in &log.record_files()?.sealed {
        match rewrite_file(file, &mut change)? {
            Ok(0) => {}
            Ok(changed) => {
                done.changed += changed;
                done.files.push((file.first, file.last));
            }
            Err(damage) => done.damages.push(damage),
        }
    }
    Ok(done)
}

fn rewrite_file(
    file: &SealedName,
    change: &mut impl FnMut(&mut Record) -> bool,
) -> io::Result<Result<u64, Damage>> {
    let mut segment = Segment::open_sealed(&file.path)?;
    let created = match segment.file_header()? {
        Some(header) => header.created_micros,
        None => unix_micros(),
    };
    let mut draft = Draft::begin(&file.path, created)?;
    let mut changed = 0;
    let mut offset = 0;
    loop {
        let frame = match segment.next(&mut offset)? {
            Found::Frame(frame) if frame.header.kind == Kind::Columns as u8 => frame,
            Found::Frame(_) => continue,
            Found::Damage(damage) => return Ok(Err(damage)),
            Found::End => break,
        };
        let damage = segment.damage(&frame, BlockError::Columns);
        let payload = match segment.payload(&frame)? {
            Ok(payload) => payload,
            Err(damage) => return Ok(Err(damage)),
        };
        let verified = Verified::default();
        let copied = Block::open(&frame.header, payload, &verified)
            .and_then(|block| copy(&block, &mut draft, &mut changed, change));
        match copied {
            Ok(written) => written?,
            Err(error) => {
                return Ok(Err(Damage {
                    what: error.into(),
                    ..damage
                }));
            }
        }
    }
    if changed > 0 {
        draft.publish()?;
    }
    Ok(Ok(changed))
}

fn copy(
    block: &Block<'_>,
    draft: &mut Draft,
    changed: &mut u64,
    change: &mut impl FnMut(&mut Record) -> bool,
) -> Result<io::Result<()>, BlockError> {
    let rows = block.reader()?;
    let mut row = 0;
    for (journal, count) in block.sources()? {
        for _ in 0..count {
            if let Some(mut record) = rows.record(row) {
                *changed += u64::from(change(&mut record));
                if let Err(error) = draft.push(&record, journal) {
                    return Ok(Err(error));
                }
            }
            row += 1;
        }
    }
    Ok(Ok(()))
}
