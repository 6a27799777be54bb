//! What to look for in a document: a static tree of names.

/// What becomes of the value at the end of a path. The first field is the slot it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// A whole number; a value of another kind makes it unknown again.
    Number(u8),
    /// A whole number; a value of another kind leaves the number known so far. For streams whose
    /// later documents say `null`.
    LatestNumber(u8),
    /// Whole numbers, added up.
    Sum(u8),
    /// 1 for `true`, 0 for `false`, else unknown.
    Flag(u8),
    /// 1 once a value was neither null, false, nor empty.
    Presence(u8),
    /// The raw bytes of a value of up to `max` bytes, quotes included; a longer one makes it
    /// unknown again.
    Text {
        /// Which text.
        slot: u8,
        /// Longest value that is kept, in bytes.
        max: u32,
    },
}

/// A member to look for, by name, in the place that its position in the tree gives.
#[derive(Debug)]
pub struct Path {
    pub(super) name: &'static str,
    pub(super) take: Option<Take>,
    pub(super) inside: &'static [Path],
}

impl Path {
    /// A member whose value is taken.
    pub const fn to(name: &'static str, take: Take) -> Self {
        Self {
            name,
            take: Some(take),
            inside: &[],
        }
    }

    /// A member in which to look further.
    pub const fn into(name: &'static str, inside: &'static [Self]) -> Self {
        Self {
            name,
            take: None,
            inside,
        }
    }

    /// A member that is looked into if it is an object or an array, and taken if it is not.
    pub const fn either(name: &'static str, take: Take, inside: &'static [Self]) -> Self {
        Self {
            name,
            take: Some(take),
            inside,
        }
    }
}
