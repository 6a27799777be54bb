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
    /// How many values were neither null, false, nor empty.
    Count(u8),
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

/// The members to look for in one place; the most frequent come first.
#[derive(Debug)]
pub struct Names {
    paths: &'static [Path],
    /// A bit for each name, by [`bit_of`]: most names of a document have none of the bits, and are
    /// told apart from all of ours at once.
    bits: u128,
}

/// Where nothing is looked for.
pub(super) static NOWHERE: Names = Names::of(&[]);

/// A member to look for, by name, in the place that its position in the tree gives.
#[derive(Debug)]
pub struct Path {
    name: &'static str,
    pub(super) take: Option<Take>,
    pub(super) inside: &'static Names,
}

impl Names {
    /// The place with these members.
    pub const fn of(paths: &'static [Path]) -> Self {
        let (mut bits, mut rest) = (0, paths);
        while let [path, tail @ ..] = rest {
            bits |= bit_of(path.name.as_bytes());
            rest = tail;
        }
        Self { paths, bits }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path of a name.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Option<&'static Path> {
        if self.bits & bit_of(name) == 0 {
            return None;
        }
        self.paths.iter().find(|path| {
            let known = path.name.as_bytes();
            // The first byte tells most names of a length apart without a call.
            known.len() == name.len() && known.first() == name.first() && known == name
        })
    }
}

/// One bit of 128 for a name: its length and two of its bytes, mixed so that few of the names that
/// answers often have and that we do not look for share a bit with ours.
#[inline]
const fn bit_of(name: &[u8]) -> u128 {
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return 0;
    };
    let mixed = name.len() * 33 + *first as usize + *last as usize * 2;
    1 << (mixed % 128)
}

impl Path {
    /// A member whose value is taken.
    pub const fn to(name: &'static str, take: Take) -> Self {
        Self {
            name,
            take: Some(take),
            inside: &NOWHERE,
        }
    }

    /// A member in which to look further.
    pub const fn into(name: &'static str, inside: &'static Names) -> Self {
        Self {
            name,
            take: None,
            inside,
        }
    }

    /// A member that is looked into if it is an object or an array, and taken if it is not.
    pub const fn either(name: &'static str, take: Take, inside: &'static Names) -> Self {
        Self {
            name,
            take: Some(take),
            inside,
        }
    }
}
