//! What to look for in a document: a static tree of names.

use super::text::is_same;

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

/// The members to look for in one place, each under a name of its own.
#[derive(Debug)]
pub struct Names {
    paths: &'static [Path],
    /// A hash table by [`home_of`] a name: numbers of paths, or [`NONE`]. A name that finds its
    /// home taken goes to the next free one.
    homes: [u8; HOMES],
}

/// Longest name that can be looked for.
pub(super) const NAME_BYTES_MAX: usize = 32;

/// Enough for most names of a document to meet an empty home: an answer has forty to look for.
const HOMES: usize = 128;

/// No number of a path: there are fewer than [`HOMES`].
const NONE: u8 = u8::MAX;

/// Where nothing is looked for.
pub(super) static NOWHERE: Names = Names::of(&[]);

/// What a name has that is none of ours.
pub(super) static NO_PATH: Path = Path::into("", &NOWHERE);

/// A member to look for, by name, in the place that its position in the tree gives.
#[derive(Debug)]
pub struct Path {
    /// Filled up with zeros.
    name: [u8; NAME_BYTES_MAX],
    name_len: u8,
    pub(super) take: Option<Take>,
    pub(super) inside: &'static Names,
}

impl Names {
    /// The place with these members.
    #[expect(clippy::indexing_slicing, reason = "done by the compiler")]
    pub const fn of(paths: &'static [Path]) -> Self {
        assert!(paths.len() < HOMES, "one home at least stays empty");
        let mut homes = [NONE; HOMES];
        let mut number = 0;
        while (number as usize) < paths.len() {
            let Path { name, name_len, .. } = &paths[number as usize];
            let len = *name_len as usize;
            let mut home = home_of(name, len, name[len - 1]);
            while homes[home] != NONE {
                home = (home + 1) % HOMES;
            }
            homes[home] = number;
            number += 1;
        }
        Self { paths, homes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path of the name that the first `len` bytes of `text` are, `last` being the last of
    /// them; [`NO_PATH`] if it is none of ours.
    #[inline]
    pub(super) fn find(&self, text: &[u8; NAME_BYTES_MAX], len: usize, last: u8) -> &'static Path {
        let mut home = home_of(text, len, last);
        while let Some(number) = self.homes.get(home)
            && let Some(path) = self.paths.get(usize::from(*number))
        {
            if path.name_len as usize == len && is_same(&path.name, text, len) {
                return path;
            }
            home = (home + 1) % HOMES;
        }
        &NO_PATH
    }

    /// The same of a name of any length.
    pub(super) fn find_text(&self, name: &[u8]) -> &'static Path {
        let mut text = [0; NAME_BYTES_MAX];
        match (text.get_mut(..name.len()), name.last()) {
            (Some(place), Some(last)) => {
                place.copy_from_slice(name);
                self.find(&text, name.len(), *last)
            }
            _ => &NO_PATH,
        }
    }
}

/// The home of a name, by its length, its first and its last byte.
#[inline]
const fn home_of(text: &[u8; NAME_BYTES_MAX], len: usize, last: u8) -> usize {
    (len * 8 + text[0] as usize + last as usize) % HOMES
}

impl Path {
    /// A member whose value is taken.
    pub const fn to(name: &'static str, take: Take) -> Self {
        Self::new(name, Some(take), &NOWHERE)
    }

    /// A member in which to look further.
    pub const fn into(name: &'static str, inside: &'static Names) -> Self {
        Self::new(name, None, inside)
    }

    /// A member that is looked into if it is an object or an array, and taken if it is not.
    pub const fn either(name: &'static str, take: Take, inside: &'static Names) -> Self {
        Self::new(name, Some(take), inside)
    }

    #[expect(clippy::cast_possible_truncation, reason = "names are short")]
    #[expect(clippy::indexing_slicing, reason = "done by the compiler")]
    const fn new(text: &str, take: Option<Take>, inside: &'static Names) -> Self {
        let text = text.as_bytes();
        assert!(text.len() <= NAME_BYTES_MAX, "no longer name is looked for");
        let mut name = [0; NAME_BYTES_MAX];
        let mut index = 0;
        while index < text.len() {
            name[index] = text[index];
            index += 1;
        }
        Self {
            name,
            name_len: text.len() as u8,
            take,
            inside,
        }
    }
}
