//! The permits of one owner that are out: each in a place of a table, found by its number.
//!
//! A permit's number is its place and how often that place was used, so that what comes late for a
//! permit that has ended is not taken for one that came after it.

use super::{Held, PermitId, Standings, Ticket};

/// Bits of a number that are the place; the rest of them says how often it was used.
const PLACE_BITS: u32 = 17;

/// Permits that are out at once: more than one owner's share of connections.
pub(super) const PERMITS_MAX: usize = 1 << PLACE_BITS;

/// Lists that are kept for the next permits.
const SPARE_MAX: usize = 1_024;

/// A permit that is out.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) ticket: Ticket,
    pub(super) held: Vec<Held>,
    pub(super) deadline: u64,
    /// Its reservation is in the journal, or on its way there.
    pub(super) in_journal: bool,
    /// The asker waits for the journal; with this it is answered.
    pub(super) standings: Option<Standings>,
}

/// All permits of an owner that are out.
#[derive(Debug)]
pub(super) struct Permits {
    shard: usize,
    places: Vec<Place>,
    free: Vec<usize>,
    /// No permit ends before this by its deadline; it may be earlier than the earliest, never later.
    earliest: u64,
    /// Where the look for permits that are due goes on, and the earliest deadline that it has passed.
    cursor: usize,
    passed: u64,
    spare: Vec<Vec<Held>>,
}

#[derive(Debug, Default)]
struct Place {
    uses: u64,
    open: Option<Open>,
}

impl Permits {
    pub(super) fn new(shard: usize) -> Self {
        Self {
            shard,
            places: Vec::new(),
            free: Vec::new(),
            earliest: u64::MAX,
            cursor: 0,
            passed: u64::MAX,
            spare: Vec::new(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes a permit in. To be asked while there are fewer than [`PERMITS_MAX`].
    pub(super) fn open(&mut self, open: Open) -> PermitId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        self.earliest = self.earliest.min(open.deadline);
        self.passed = self.passed.min(open.deadline);
        let mut uses = 0;
        if let Some(place) = self.places.get_mut(place) {
            place.uses += 1;
            place.open = Some(open);
            uses = place.uses;
        }
        self.id(place, uses)
    }

    fn id(&self, place: usize, uses: u64) -> PermitId {
        PermitId::new(self.shard, uses << PLACE_BITS | place as u64)
    }

    fn place(&self, id: PermitId) -> Option<usize> {
        let place = usize::try_from(id.number()).ok()? % PERMITS_MAX;
        let used = self.places.get(place)?;
        (self.id(place, used.uses) == id).then_some(place)
    }

    pub(super) fn get_mut(&mut self, id: PermitId) -> Option<&mut Open> {
        let place = self.place(id)?;
        self.places.get_mut(place)?.open.as_mut()
    }

    /// Takes a permit out.
    pub(super) fn close(&mut self, id: PermitId) -> Option<Open> {
        let place = self.place(id)?;
        let open = self.places.get_mut(place)?.open.take()?;
        self.free.push(place);
        Some(open)
    }

    /// A permit whose deadline has passed. To be asked again once that is closed.
    pub(super) fn due(&mut self, now: u64) -> Option<PermitId> {
        if now < self.earliest {
            return None;
        }
        while let Some(place) = self.places.get(self.cursor) {
            if let Some(open) = &place.open {
                if open.deadline <= now {
                    return Some(self.id(self.cursor, place.uses));
                }
                self.passed = self.passed.min(open.deadline);
            }
            self.cursor += 1;
        }
        self.cursor = 0;
        self.earliest = std::mem::replace(&mut self.passed, u64::MAX);
        None
    }

    /// An empty list for what a permit holds.
    pub(super) fn list(&mut self) -> Vec<Held> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes such a list back.
    pub(super) fn give_back(&mut self, mut list: Vec<Held>) {
        if self.spare.len() < SPARE_MAX {
            list.clear();
            self.spare.push(list);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(deadline: u64) -> Open {
        Open {
            ticket: Ticket {
                shard: 0,
                number: 0,
            },
            held: Vec::new(),
            deadline,
            in_journal: false,
            standings: None,
        }
    }

    #[test]
    fn a_number_is_never_that_of_another_permit() {
        let mut permits = Permits::new(3);
        let first = permits.open(open(1));
        assert_eq!(first.shard(), 3);
        assert!(permits.close(first).is_some());
        let second = permits.open(open(1));
        assert!(first != second);
        assert!(permits.close(first).is_none() && permits.get_mut(first).is_none());
        assert_eq!(permits.len(), 1);
        assert!(permits.close(second).is_some());
        assert!(permits.close(second).is_none());
        assert_eq!(permits.len(), 0);
        // Of another owner.
        let other = Permits::new(2).open(open(1));
        assert!(permits.get_mut(other).is_none());
    }

    #[test]
    fn what_is_due_is_found_wherever_it_lies() {
        let mut permits = Permits::new(0);
        let ids: Vec<_> = (0..10)
            .map(|number| permits.open(open(100 - 10 * number)))
            .collect();
        assert_eq!(permits.due(9), None);
        let due = |permits: &mut Permits, now| {
            let mut due = Vec::new();
            while let Some(id) = permits.due(now) {
                permits.close(id);
                due.push(id);
            }
            due
        };
        assert_eq!(due(&mut permits, 25), ids[8..]);
        assert_eq!(due(&mut permits, 29), []);
        // One that comes between two looks, and is due before all others.
        let late = permits.open(open(27));
        assert_eq!(due(&mut permits, 30), [ids[7], late]);
        assert_eq!(due(&mut permits, 1_000), ids[..7]);
        assert_eq!((permits.len(), permits.due(u64::MAX)), (0, None));
    }
}
