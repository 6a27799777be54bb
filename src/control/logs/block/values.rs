//! The columns of a block as a reader meets them: numbers, and texts by code or one by one.
//!
//! A column of numbers takes as many bytes a row as its greatest number needs: 1, 2, 4 or 8, and a
//! scan reads no more. [`with_cells`] writes a loop once for all four.

use super::{U32, U64};

/// Columns of fewer rows are kept at full width: from here on a column's length tells how wide its
/// numbers are.
pub(super) const NARROW_ROWS_MIN: usize = 64;

/// One number for each row.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// What every cell lacks.
    pub base: u64,
    /// What is stored.
    pub slots: Slots<'a>,
}

/// Numbers one after another, all equally wide, little endian.
#[derive(Debug, Clone, Copy)]
pub enum Slots<'a> {
    /// Of one byte.
    One(&'a [u8]),
    /// Of two bytes.
    Two(&'a [[u8; 2]]),
    /// Of four bytes.
    Four(&'a [[u8; 4]]),
    /// Of eight bytes.
    Eight(&'a [[u8; 8]]),
}

/// Gives the value of an expression in which `$cells` is the slice of the [`Slots`], whose items
/// are [`Cell`]s: the expression is compiled for each width.
macro_rules! with_cells {
    ($of:expr, $cells:ident => $body:expr) => {
        match $of {
            $crate::control::logs::block::Slots::One($cells) => $body,
            $crate::control::logs::block::Slots::Two($cells) => $body,
            $crate::control::logs::block::Slots::Four($cells) => $body,
            $crate::control::logs::block::Slots::Eight($cells) => $body,
        }
    };
}
pub(in crate::control::logs) use with_cells;

impl Slots<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        with_cells!(*self, cells => cells.len())
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A number as it is stored.
pub trait Cell: Copy {
    /// The number as the processor knows it.
    type Plain: Copy + Ord + Into<u64> + TryFrom<u64>;

    /// The greatest.
    const MAX: Self::Plain;

    /// The number.
    fn plain(self) -> Self::Plain;

    /// The number, at full width.
    #[inline]
    fn wide(self) -> u64 {
        self.plain().into()
    }
}

impl Cell for u8 {
    type Plain = u8;
    const MAX: u8 = u8::MAX;

    #[inline]
    fn plain(self) -> u8 {
        self
    }
}

impl Cell for [u8; 2] {
    type Plain = u16;
    const MAX: u16 = u16::MAX;

    #[inline]
    fn plain(self) -> u16 {
        u16::from_le_bytes(self)
    }
}

impl Cell for [u8; 4] {
    type Plain = u32;
    const MAX: u32 = u32::MAX;

    #[inline]
    fn plain(self) -> u32 {
        u32::from_le_bytes(self)
    }
}

impl Cell for [u8; 8] {
    type Plain = u64;
    const MAX: u64 = u64::MAX;

    #[inline]
    fn plain(self) -> u64 {
        u64::from_le_bytes(self)
    }
}

impl<'a> Values<'a> {
    /// Finds in the `bytes` of a column how wide its `rows` numbers are. `unit` is the width of what
    /// the column was declared as: 8 for numbers, 2 for codes. `None` if the length fits none.
    pub(super) fn read(bytes: &'a [u8], unit: usize, rows: usize, base: u64) -> Option<Self> {
        let mut width = unit;
        while bytes.len() != (rows * width).next_multiple_of(unit) {
            width /= 2;
            if width == 0 || rows < NARROW_ROWS_MIN {
                return None;
            }
        }
        let slots = match width {
            1 => Slots::One(bytes.get(..rows)?),
            2 => Slots::Two(bytes.as_chunks().0.get(..rows)?),
            4 => Slots::Four(bytes.as_chunks().0.get(..rows)?),
            8 => Slots::Eight(bytes.as_chunks().0.get(..rows)?),
            _ => return None,
        };
        let base = if width == unit { 0 } else { base };
        Some(Self { base, slots })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Says whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a row.
    #[inline]
    pub fn get(&self, row: usize) -> Option<u64> {
        let cell = with_cells!(self.slots, cells => cells.get(row).map(|cell| cell.wide()));
        cell.map(|cell| self.base.wrapping_add(cell))
    }

    /// All numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + use<'a> {
        let values = *self;
        (0..values.len()).filter_map(move |row| values.get(row))
    }
}

/// A column of numbers, of which some or all can be unknown.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// No row has it.
    Unknown,
    /// Every row has it.
    Each(Values<'a>),
    /// Some rows have it.
    Some {
        /// One for each row, without a base; 0 where it is unknown, so that sums need no test.
        values: Values<'a>,
        /// Bit `n % 64` of word `n / 64` says whether row `n` has it. Bits beyond the rows are 0.
        known: &'a [U64],
    },
}

impl Numbers<'_> {
    /// The number of a row, if it is known.
    #[inline]
    pub fn get(&self, row: usize) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Each(values) => values.get(row),
            Self::Some { values, known } => {
                let word = known.get(row / 64)?.to_native();
                if word >> (row % 64) & 1 == 0 {
                    return None;
                }
                values.get(row)
            }
        }
    }
}

/// Texts one after another.
#[derive(Debug, Clone, Copy)]
pub struct Strings<'a> {
    pub(super) ends: &'a [U32],
    pub(super) bytes: &'a [u8],
}

impl<'a> Strings<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One of them; empty beyond the last.
    pub fn get(&self, index: usize) -> &'a [u8] {
        let end = |index: usize| self.ends.get(index).map(|end| end.to_native() as usize);
        let from = match index.checked_sub(1) {
            None => Some(0),
            Some(before) => end(before),
        };
        let range = from.zip(end(index));
        range
            .and_then(|(from, to)| self.bytes.get(from..to))
            .unwrap_or_default()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let strings = *self;
        (0..strings.len()).map(move |index| strings.get(index))
    }
}

/// A column of texts.
#[derive(Debug, Clone, Copy)]
pub enum TextCells<'a> {
    /// Every row's text is empty.
    Empty,
    /// The different texts once, and a code for each row.
    Coded {
        /// One for each row, of one or two bytes: an index into the strings.
        codes: Slots<'a>,
        /// The different texts; number 0 is the empty one.
        strings: Strings<'a>,
    },
    /// One text for each row.
    Each(Strings<'a>),
}

impl<'a> TextCells<'a> {
    /// The text of a row.
    pub fn get(&self, row: usize) -> &'a [u8] {
        match self {
            Self::Empty => &[],
            Self::Coded { strings, .. } => self.code(row).map_or(&[], |code| strings.get(code)),
            Self::Each(strings) => strings.get(row),
        }
    }

    /// The place of a row's text among the strings; `None` if there are none.
    pub fn code(&self, row: usize) -> Option<usize> {
        match self {
            Self::Empty => None,
            Self::Coded { codes, .. } => {
                let code = with_cells!(*codes, cells => cells.get(row).map(|cell| cell.wide()));
                code.and_then(|code| usize::try_from(code).ok())
            }
            Self::Each(_) => Some(row),
        }
    }
}
