//! How texts compare: whole, without regard to ASCII case, with stars.

/// A text with stars, each of which stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The literal pieces between the stars, in lower case; at least one. Only the first and the
    /// last may be empty, and not the first if it is the only one of an exact empty text.
    pieces: Vec<String>,
}

impl Pattern {
    /// Exactly this text.
    pub fn exact(text: &str) -> Self {
        Self {
            pieces: vec![text.to_ascii_lowercase()],
        }
    }

    /// This text, anywhere within.
    pub fn containing(text: &str) -> Self {
        Self::of_pieces(&["", text, ""])
    }

    /// Literal pieces with a star between each two.
    pub fn of_pieces(pieces: &[impl AsRef<str>]) -> Self {
        let last = pieces.len().saturating_sub(1);
        let pieces: Vec<_> = pieces
            .iter()
            .enumerate()
            // Two stars side by side are one.
            .filter(|(index, piece)| *index == 0 || *index == last || !piece.as_ref().is_empty())
            .map(|(_, piece)| piece.as_ref().to_ascii_lowercase())
            .collect();
        if pieces.is_empty() {
            return Self::exact("");
        }
        Self { pieces }
    }

    /// The pieces between the stars.
    pub fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// The text that it stands for, if there is no star in it. In lower case.
    pub fn as_exact(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }

    /// Says whether the whole of `text` fits.
    pub fn matches(&self, text: &[u8]) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else {
            return text.is_empty();
        };
        let Some((last, middle)) = rest.split_last() else {
            return text.eq_ignore_ascii_case(first.as_bytes());
        };
        // Taking each piece at its first place is enough: pieces are literal.
        let Some(mut left) = strip_start(text, first.as_bytes()) else {
            return false;
        };
        for piece in middle {
            match find(left, piece.as_bytes()) {
                Some(at) => left = left.get(at + piece.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        left.len() >= last.len()
            && left
                .get(left.len() - last.len()..)
                .is_some_and(|end| end.eq_ignore_ascii_case(last.as_bytes()))
    }
}

fn strip_start<'a>(text: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

/// Finds `needle`, which is in lower case.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let Some(first) = needle.first() else {
        return Some(0);
    };
    let upper = first.to_ascii_uppercase();
    memchr::memchr2_iter(*first, upper, text).find(|at| {
        text.get(*at..*at + needle.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(needle))
    })
}

/// Says whether `needle`, which is in lower case, is somewhere in `text`.
pub fn contains(text: &[u8], needle: &[u8]) -> bool {
    find(text, needle).is_some()
}
