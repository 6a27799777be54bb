//! What people said of records afterwards.
//!
//! Records never change and the log does not hold it, so whoever asks a filter that needs it brings
//! it along ([`Filter::with_said`](super::Filter::with_said)); until then nothing was said.

use std::collections::BTreeMap;

/// What was said of some records, by their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    feedback: BTreeMap<[u8; 16], i64>,
    metadata: BTreeMap<[u8; 16], Vec<u8>>,
}

impl Said {
    /// Takes in the feedback on a record: 1 up, -1 down, 0 neither.
    pub fn add_feedback(&mut self, id: [u8; 16], feedback: i64) {
        self.feedback.insert(id, feedback);
    }

    /// Takes in a JSON object that takes the place of the record's own metadata.
    pub fn add_metadata(&mut self, id: [u8; 16], json: Vec<u8>) {
        self.metadata.insert(id, json);
    }

    /// The feedback on a record; `None` for no word about it.
    pub fn feedback(&self, id: &[u8; 16]) -> Option<i64> {
        self.feedback.get(id).copied()
    }

    /// The JSON object that takes the place of the record's metadata.
    pub fn metadata(&self, id: &[u8; 16]) -> Option<&[u8]> {
        self.metadata.get(id).map(Vec::as_slice)
    }

    /// Says whether there is feedback on a record with an id between these, both included.
    pub fn has_feedback_within(&self, least: [u8; 16], greatest: [u8; 16]) -> bool {
        least <= greatest && self.feedback.range(least..=greatest).next().is_some()
    }

    /// Says whether the metadata of a record with an id between these, both included, was replaced.
    pub fn has_metadata_within(&self, least: [u8; 16], greatest: [u8; 16]) -> bool {
        least <= greatest && self.metadata.range(least..=greatest).next().is_some()
    }
}
