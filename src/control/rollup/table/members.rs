//! Cells by members of the metadata, as bytes: the end of a table.
//!
//! The number of texts and for each its length and bytes; the number of cells and for each the
//! minute since the Unix epoch at which it starts, the place of the gateway among the texts, the
//! name of the member and its value, and sums as in any other cell. A name is 0 if it is folded,
//! 1 if it is untold, else its place among the texts plus 2.
//!
//! In a group a name is a text, or one of the numbers [`FOLDED`] and [`UNTOLD`]: whatever a caller
//! names a value, it is no mark.

use super::{Cell, Places, Reader, SumsAt, put, put_sums, start_of};
use crate::control::logs::query::group::{Group, Part, Stretch};

/// The name of what is not kept apart, because there is too much of it.
pub const FOLDED: Part = Part::Number(0);

/// The name of the members of records that were summed up before members were.
pub const UNTOLD: Part = Part::Number(1);

/// Parts of a cell's name: its start, gateway, member, value.
pub const PARTS: usize = 4;

/// Where the places of texts begin among the numbers of names.
const MARKS: u64 = 2;

/// The name of a member, or its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberName<'a> {
    /// As it was given.
    Text(&'a [u8]),
    /// One of many that are not kept apart.
    Folded,
    /// Not known.
    Untold,
}

impl<'a> MemberName<'a> {
    /// The name that stands as a part of a group's.
    pub fn of(part: Option<&'a Part>) -> Self {
        match part {
            Some(Part::Text(text)) => Self::Text(text),
            Some(number) if *number == UNTOLD => Self::Untold,
            Some(Part::Number(_)) | None => Self::Folded,
        }
    }

    /// The name as a part of a group's.
    pub fn part(self) -> Part {
        match self {
            Self::Text(text) => Part::Text(text.to_vec()),
            Self::Folded => FOLDED,
            Self::Untold => UNTOLD,
        }
    }
}

/// A cell by a member of the metadata, in place.
#[derive(Debug)]
pub struct MemberCell<'a> {
    /// When it starts, in microseconds since the Unix epoch.
    pub start: u64,
    /// Gateway id.
    pub gateway: &'a [u8],
    /// The name of the member.
    pub key: MemberName<'a>,
    /// Its value.
    pub value: MemberName<'a>,
    sums: SumsAt<'a>,
}

impl<'a> MemberCell<'a> {
    /// What is known of the members of a cell that was made before there were such.
    pub(super) fn untold(cell: &Cell<'a>) -> Self {
        let [gateway, ..] = cell.names;
        Self {
            start: cell.start,
            gateway,
            key: MemberName::Untold,
            value: MemberName::Untold,
            sums: cell.sums.clone(),
        }
    }

    /// The parts of its name.
    pub fn parts(&self) -> Vec<Part> {
        vec![
            Part::Number(self.start),
            Part::Text(self.gateway.to_vec()),
            self.key.part(),
            self.value.part(),
        ]
    }

    /// How many records it counts.
    pub fn rows(&self) -> u64 {
        self.sums.totals.rows
    }

    /// Adds what it holds to `group`.
    pub fn add_to(&self, group: &mut Group) {
        self.sums.add_to(group);
    }
}

/// The gateway of a group by member.
pub fn gateway_of(group: &Group) -> &[u8] {
    match group.parts.get(1) {
        Some(Part::Text(gateway)) => gateway,
        Some(Part::Number(_)) | None => &[],
    }
}

/// The member and its value of a group by member.
pub fn member_of(group: &Group) -> (MemberName<'_>, MemberName<'_>) {
    let name = |index| MemberName::of(group.parts.get(index));
    (name(2), name(3))
}

/// The bytes of cells.
pub(super) fn write(groups: &[Group]) -> Vec<u8> {
    let mut texts = Places::default();
    let mut cells = Vec::new();
    put(&mut cells, groups.len() as u64);
    for group in groups {
        put(&mut cells, start_of(group) / Stretch::Minute.micros());
        put(&mut cells, texts.of(gateway_of(group)));
        let (key, value) = member_of(group);
        for name in [key, value] {
            let number = match name {
                MemberName::Folded => 0,
                MemberName::Untold => 1,
                MemberName::Text(text) => texts.of(text) + MARKS,
            };
            put(&mut cells, number);
        }
        put_sums(&mut cells, group);
    }
    let mut bytes = Vec::new();
    texts.put(&mut bytes);
    bytes.append(&mut cells);
    bytes
}

/// Calls `visit` with each cell; `None` if the bytes are no cells, which may show after some.
pub(super) fn read<'a>(bytes: &'a [u8], mut visit: impl FnMut(MemberCell<'a>)) -> Option<()> {
    let mut reader = Reader(bytes);
    let texts = reader.texts()?;
    let text = |place: u64| texts.get(usize::try_from(place).ok()?).copied();
    let name = |number: u64| match number {
        0 => Some(MemberName::Folded),
        1 => Some(MemberName::Untold),
        number => text(number - MARKS).map(MemberName::Text),
    };
    reader.list(|reader| {
        visit(MemberCell {
            start: reader.start()?,
            gateway: text(reader.number()?)?,
            key: name(reader.number()?)?,
            value: name(reader.number()?)?,
            sums: reader.sums()?,
        });
        Some(())
    })?;
    reader.0.is_empty().then_some(())
}
