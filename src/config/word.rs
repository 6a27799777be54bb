//! Words that were probably meant: the nearest known one to what was written.

/// Longest word that is compared; no key is longer.
const WORD_BYTES_MAX: usize = 64;

/// The word of `known` that `word` was probably meant to be.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let (distance, best) = known
        .iter()
        .map(|candidate| (edits(word.as_bytes(), candidate.as_bytes()), *candidate))
        .min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may be wrong, and a short word has two to spare.
    (distance <= (best.len() / 3).max(2) && distance < best.len()).then_some(best)
}

/// Letters to insert, leave out or exchange to get from one word to the other.
fn edits(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.iter().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        for (cell, other) in row.iter_mut().skip(1).zip(to) {
            let same = letter.eq_ignore_ascii_case(other);
            let exchanged = diagonal + usize::from(!same);
            diagonal = *cell;
            *cell = exchanged.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or(from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word() {
        let known = ["listen", "data_dir", "log_sync_ms"];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("dataDir", &known), Some("data_dir"));
        assert_eq!(nearest("log_sync", &known), Some("log_sync_ms"));
        assert_eq!(nearest("zebra", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn the_distance_of_words_counts_edits() {
        assert_eq!(edits(b"kitten", b"sitting"), 3);
        assert_eq!(edits(b"", b"abc"), 3);
        assert_eq!(edits(b"abc", b""), 3);
        assert_eq!(edits(b"same", b"same"), 0);
    }
}
