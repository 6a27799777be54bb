//! Sums by members of the metadata: which names are kept apart, and how blocks are summed up.
//!
//! A cell is a minute of one gateway, one member of the metadata and its value. A record adds to as
//! many cells as it has members, and one without metadata to none. Callers choose the names, and
//! can choose another one for each request. So a file tells [`KEYS_MAX`] members apart, of each
//! [`VALUES_MAX`] values and [`NAMES_MAX`] in all: those that come first. The others are folded:
//! values into one of their member, members into one of their gateway. What was folded is counted
//! in cells of its own, so that whoever asks can be told.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use super::table::{
    members::{FOLDED, MemberName},
    start_of,
};
use crate::{
    control::logs::{
        block::{Block, BlockError, Number, TextCells},
        filter::field,
        query::{
            group::{Group, Groups, Part, Stretch, Wanted},
            mask::Mask,
        },
    },
    domain::record::Text,
};

/// Most members that a file tells apart. A request has five at most.
pub const KEYS_MAX: usize = 100;

/// Most values of a member that a file tells apart, the gateways' together.
pub const VALUES_MAX: usize = 500;

/// Most values that a file tells apart, those of all members together.
pub const NAMES_MAX: usize = 2_000;

/// Longest name of a member, and longest value, that are told apart: room for an address or a
/// digest; what is longer is text.
pub const NAME_BYTES_MAX: usize = 128;

/// Cells after which a table is written, at the next end of a journal: bounds the memory of a pass
/// over an old store, some 1 KB each.
const CELLS: usize = 50_000;

/// Most cells of a table while it is summed up, for the same reason. A journal lasts some minutes,
/// so none has as many.
const CELLS_MAX: usize = 200_000;

/// The names that are kept apart so far.
#[derive(Debug, Default)]
pub struct Names {
    /// By member: gateways and values, as [`Names::pair`] puts them.
    keys: HashMap<Vec<u8>, HashSet<Vec<u8>>>,
    /// How many values there are, those of all members together.
    count: usize,
    pair: Vec<u8>,
}

impl Names {
    /// The names that a value goes by: its own, if there is room for them.
    pub fn kept<'a>(
        &mut self,
        gateway: &[u8],
        key: MemberName<'a>,
        value: MemberName<'a>,
    ) -> (MemberName<'a>, MemberName<'a>) {
        let MemberName::Text(text) = key else {
            return (key, value); // is folded or untold as it is
        };
        if !self.keys.contains_key(text) {
            let is_full = self.keys.len() >= KEYS_MAX || self.count >= NAMES_MAX;
            if is_full || text.len() > NAME_BYTES_MAX {
                return (MemberName::Folded, MemberName::Folded);
            }
            self.keys.insert(text.to_vec(), HashSet::new());
        }
        match value {
            MemberName::Text(text_of_value) if self.keeps(gateway, text, text_of_value) => {
                (key, value)
            }
            MemberName::Text(_) | MemberName::Folded | MemberName::Untold => {
                (key, MemberName::Folded)
            }
        }
    }

    /// Says whether a value of a member that is known is kept apart.
    fn keeps(&mut self, gateway: &[u8], key: &[u8], value: &[u8]) -> bool {
        let Some(values) = self.keys.get_mut(key) else {
            return false;
        };
        self.pair.clear();
        self.pair.extend_from_slice(&gateway.len().to_le_bytes());
        self.pair.extend_from_slice(gateway);
        self.pair.extend_from_slice(value);
        if values.contains(&self.pair) {
            return true;
        }
        let has_room = values.len() < VALUES_MAX && self.count < NAMES_MAX;
        if !has_room || value.len() > NAME_BYTES_MAX {
            return false;
        }
        values.insert(self.pair.clone());
        self.count += 1;
        true
    }

    /// Gives a cell the names that it goes by.
    pub fn name(&mut self, cell: &mut Group) {
        let [_, Part::Text(gateway), key, value] = &mut cell.parts[..] else {
            return;
        };
        let of = (MemberName::of(Some(&*key)), MemberName::of(Some(&*value)));
        let kept = self.kept(gateway, of.0, of.1);
        if kept != of {
            let parts = (kept.0.part(), kept.1.part());
            (*key, *value) = parts;
        }
    }
}

/// Records that are being summed up.
#[derive(Debug)]
pub struct Summing {
    names: Names,
    groups: Groups,
    /// Gateway, member and value of a cell: what a cell's name has beside its start.
    named: HashMap<[Part; 3], u32>,
    list: Vec<[Part; 3]>,
    room: Room,
}

/// Memory that is used for one block after another.
#[derive(Debug, Default)]
struct Room {
    selected: Vec<u32>,
    /// A row for each cell that it adds to, and the local number of the cell.
    rows: Vec<u32>,
    group_of: Vec<u16>,
    /// By the places of metadata and gateway in the block: a stretch of `members`.
    known: HashMap<(usize, usize), Range<usize>>,
    /// Places in the list of names.
    members: Vec<u32>,
    /// The local number of a cell, by its start and its name's place.
    cells: HashMap<(u64, u32), u16>,
    /// Their names, by local number.
    names: Vec<Vec<Part>>,
}

impl Default for Summing {
    fn default() -> Self {
        Self {
            names: Names::default(),
            groups: Groups::new(Vec::new(), Wanted::ALL, CELLS_MAX),
            named: HashMap::new(),
            list: Vec::new(),
            room: Room::default(),
        }
    }
}

impl Summing {
    /// Adds the rows of `block` that `mask` has, or none if a column cannot be read.
    pub fn add(&mut self, block: &Block<'_>, mask: &Mask) -> Result<(), BlockError> {
        let metadata = block.texts(Text::Metadata)?;
        if let TextCells::Empty = metadata {
            return Ok(());
        }
        let mut room = std::mem::take(&mut self.room);
        let added = self.add_in(block, mask, &metadata, &mut room);
        self.room = room;
        added
    }

    fn add_in(
        &mut self,
        block: &Block<'_>,
        mask: &Mask,
        metadata: &TextCells<'_>,
        room: &mut Room,
    ) -> Result<(), BlockError> {
        let gateways = block.texts(Text::Gateway)?;
        let times = block.numbers(Number::At)?;
        room.clear();
        mask.select(&mut room.selected);
        for place in 0..room.selected.len() {
            let row = room.selected.get(place).copied().unwrap_or_default();
            let at = row as usize;
            let json = metadata.get(at);
            if json.is_empty() {
                continue;
            }
            let gateway = gateways.get(at);
            let places = (
                metadata.code(at).unwrap_or(at),
                gateways.code(at).unwrap_or(0),
            );
            let known = room.known.entry(places).or_insert_with(|| {
                let from = room.members.len();
                self.places(gateway, json, &mut room.members);
                from..room.members.len()
            });
            let known = known.clone();
            if room.names.len() + known.len() > usize::from(u16::MAX) {
                // Of records that somebody else wrote: ours have few members.
                self.add_cells(block, room)?;
            }
            let micros = times.get(at).unwrap_or(0);
            let start = micros - micros % Stretch::Minute.micros();
            for place in room.members.get(known).unwrap_or_default() {
                let names = &mut room.names;
                let cell = *room.cells.entry((start, *place)).or_insert_with(|| {
                    let name = self.list.get(*place as usize).into_iter().flatten();
                    names.push([Part::Number(start)].iter().chain(name).cloned().collect());
                    u16::try_from(names.len() - 1).unwrap_or(u16::MAX)
                });
                room.rows.push(row);
                room.group_of.push(cell);
            }
        }
        self.add_cells(block, room)
    }

    /// Adds the rows that were found so far.
    fn add_cells(&mut self, block: &Block<'_>, room: &mut Room) -> Result<(), BlockError> {
        if room.rows.is_empty() {
            return Ok(());
        }
        let added = self
            .groups
            .add_rows(block, &room.rows, &room.group_of, &room.names);
        room.rows.clear();
        room.group_of.clear();
        room.cells.clear();
        room.names.clear();
        added
    }

    /// Adds to `places` where the names stand that a record with this metadata counts for, each
    /// once.
    fn places(&mut self, gateway: &[u8], json: &[u8], places: &mut Vec<u32>) {
        let mut found = Vec::new();
        for (key, value) in field::members(json) {
            // As good as none, for whoever groups by it.
            if value.is_empty() {
                continue;
            }
            let (key, value) = self.names.kept(
                gateway,
                MemberName::Text(key.as_bytes()),
                MemberName::Text(value.as_bytes()),
            );
            let name = [Part::Text(gateway.to_vec()), key.part(), value.part()];
            let place = *self.named.entry(name).or_insert_with_key(|name| {
                self.list.push(name.clone());
                number(self.list.len() - 1)
            });
            found.push(place);
        }
        found.sort_unstable();
        found.dedup();
        places.append(&mut found);
    }

    /// Says whether it is time for a table.
    pub fn is_large(&self) -> bool {
        self.groups.len() >= CELLS
    }

    /// The cells. What found no room in memory is of no gateway's and of no known member.
    pub fn finish(self, other_gateway: &[u8]) -> Vec<Group> {
        let (mut cells, other) = self.groups.finish();
        if let Some(mut other) = other {
            let start = cells.first().map_or(0, start_of);
            other.parts = vec![
                Part::Number(start),
                Part::Text(other_gateway.to_vec()),
                FOLDED,
                FOLDED,
            ];
            cells.push(other);
        }
        cells
    }
}

impl Room {
    fn clear(&mut self) {
        self.rows.clear();
        self.group_of.clear();
        self.known.clear();
        self.members.clear();
        self.cells.clear();
        self.names.clear();
    }
}

/// The number of place `index`: a table has no more names than 2³² rows could give.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
