use std::time::Duration;

use proptest::prelude::*;

use super::{
    super::cached::{Front, FrontParts, Rest},
    *,
};
use crate::domain::usage::Usage;

fn key(number: u64) -> KeyHash {
    // Spread like a real one, so that the table has something to do.
    KeyHash::new(number, number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

pub(in super::super) fn cached(gateway: &str, provider: &str, body: usize) -> Arc<Cached> {
    let parts = FrontParts {
        gateway,
        provider,
        ..FrontParts::default()
    };
    of_parts(&parts, &vec![b'x'; body])
}

/// An answer of these parts.
pub(in super::super) fn of_parts(parts: &FrontParts<'_>, body: &[u8]) -> Arc<Cached> {
    let mut front = Front::new(parts, body.len());
    front.bytes.extend_from_slice(body);
    let rest = Rest {
        status: 200,
        usage: Usage::UNKNOWN,
        ..Rest::default()
    };
    Arc::new(Cached::new(front, rest))
}

const TTL: Duration = Duration::from_mins(1);

fn start() -> Moment {
    Moment::default()
}

fn put(store: &mut Store, number: u64, cached: &Arc<Cached>) -> bool {
    let (stamp, expires) = (store.stamp(), start().after(TTL));
    store.insert(key(number), Arc::clone(cached), stamp, start(), expires)
}

fn has(store: &mut Store, number: u64) -> bool {
    store.find(key(number), start()).is_some()
}

/// The parts of the store that have to agree.
fn check_whole(store: &Store) {
    assert_eq!(store.keys.len(), store.cache.len());
    for (place, hash) in store.keys.iter().enumerate() {
        assert_eq!(store.cache.peek(hash).unwrap().place, place);
    }
    let weight = store.cache.iter().map(|(_, it)| weight_of(&it.cached));
    assert_eq!(weight.sum::<u64>(), store.cache.weight());
    let lingering = store.lingering.iter().map(|it| weight_of(it));
    assert_eq!(lingering.sum::<u64>(), store.lingering_bytes);
    assert!(store.cache.weight() <= store.share);
}

#[test]
fn an_answer_is_found_until_it_expires() {
    let mut store = Store::new(1 << 20);
    let answer = cached("gw", "openai", 100);
    assert!(put(&mut store, 1, &answer));
    assert!(Arc::ptr_eq(&store.find(key(1), start()).unwrap(), &answer));
    assert!(!has(&mut store, 2));
    let last = start().after(Duration::from_nanos(59_999_999_999));
    assert!(store.find(key(1), last).is_some());
    assert!(store.find(key(1), start().after(TTL)).is_none());
    let counts = store.counts();
    assert_eq!((counts.entries, counts.bytes), (0, 0));
    assert_eq!((counts.hits, counts.misses, counts.expired), (2, 2, 1));
    check_whole(&store);
}

#[test]
fn a_second_answer_takes_the_place_of_the_first() {
    let mut store = Store::new(1 << 20);
    let (first, second) = (cached("gw", "openai", 100), cached("gw", "openai", 50));
    put(&mut store, 1, &first);
    put(&mut store, 1, &second);
    assert!(Arc::ptr_eq(&store.find(key(1), start()).unwrap(), &second));
    assert_eq!(store.counts().bytes, weight_of(&second));
    // The first one is out, and held here still.
    assert_eq!(store.counts().lingering_bytes, weight_of(&first));
    drop(first);
    store.sweep(start(), 10);
    assert_eq!(store.counts().lingering_bytes, 0);
    check_whole(&store);
}

#[test]
fn a_store_of_nothing_takes_nothing() {
    let mut store = Store::new(0);
    assert!(!store.is_on());
    assert!(!put(&mut store, 1, &cached("gw", "openai", 0)));
    assert!(!has(&mut store, 1));
    store.sweep(start(), 10);
    store.purge(Purge::All);
    assert_eq!(store.counts().refused, 1);
}

#[test]
fn what_is_too_large_is_refused() {
    let share = 1 << 20;
    let mut store = Store::new(share);
    assert_eq!(store.answer_bytes_max(), share / 4);
    let empty = weight_of(&cached("gw", "openai", 0));
    let greatest = usize::try_from(share / 4 - empty).unwrap();
    assert!(put(&mut store, 1, &cached("gw", "openai", greatest)));
    assert!(!put(&mut store, 2, &cached("gw", "openai", greatest + 1)));
    // A great request counts like a great answer.
    let large_key = FrontParts {
        key: [&vec![0; greatest], b"", b""],
        gateway: "gw",
        provider: "openai",
        ..FrontParts::default()
    };
    assert!(!put(&mut store, 3, &of_parts(&large_key, b"0123456789")));
    let mut store = Store::new(1 << 30);
    let max = usize::try_from(crate::domain::cache::ANSWER_BYTES_MAX).unwrap();
    assert!(put(&mut store, 1, &cached("gw", "openai", max)));
    assert!(!put(&mut store, 2, &cached("gw", "openai", max + 1)));
    assert_eq!(store.counts().refused, 1);
}

#[test]
fn the_weight_stays_within_the_share() {
    let mut store = Store::new(1 << 20);
    for number in 0..5_000 {
        assert!(put(&mut store, number, &cached("gw", "openai", 1_000)));
        assert!(store.counts().bytes <= store.share - store.share / HEADROOM);
    }
    let counts = store.counts();
    assert!(counts.entries > 500, "{counts:?}");
    assert_eq!(counts.evictions + counts.entries, 5_000);
    assert_eq!(counts.lingering_bytes, 0);
    check_whole(&store);
}

#[test]
fn what_is_still_being_sent_is_counted_and_stops_new_answers() {
    let mut store = Store::new(1 << 20);
    let mut sending = Vec::new();
    let mut number = 0;
    loop {
        let answer = cached("gw", "openai", 10_000);
        number += 1;
        if !put(&mut store, number, &answer) {
            break;
        }
        sending.push(answer);
        assert!(number < 1_000, "it never stops");
    }
    let counts = store.counts();
    assert!(counts.bytes + counts.lingering_bytes > store.share);
    assert!(counts.bytes + counts.lingering_bytes <= store.share + 2 * 12_000);
    check_whole(&store);
    // One reader is done: there is room again, without a sweep.
    sending.clear();
    assert!(put(&mut store, number + 1, &cached("gw", "openai", 10_000)));
    assert_eq!(store.counts().lingering_bytes, 0);
    check_whole(&store);
}

#[test]
fn one_slow_reader_does_not_stop_the_others() {
    let mut store = Store::new(1 << 20);
    let slow = cached("gw", "openai", 1_000);
    put(&mut store, 0, &slow);
    store.purge(Purge::Key(key(0)));
    for number in 1..5_000 {
        assert!(put(&mut store, number, &cached("gw", "openai", 1_000)));
    }
    assert_eq!(store.counts().lingering_bytes, weight_of(&slow));
}

#[test]
fn purges_reach_what_they_name_and_nothing_else() {
    let fill = || {
        let mut store = Store::new(1 << 20);
        put(&mut store, 1, &cached("one", "openai", 9));
        put(&mut store, 2, &cached("one", "groq", 9));
        put(&mut store, 3, &cached("two", "openai", 9));
        store
    };
    let left = |mut store: Store| [1, 2, 3].map(|number| has(&mut store, number));
    let check = |what: Purge, expected: [bool; 3]| {
        let mut store = fill();
        store.purge(what.clone());
        assert_eq!(left(store), expected, "{what:?}");
        // The sweep finds the same.
        let mut store = fill();
        store.purge(what);
        store.sweep(start(), 10);
        assert_eq!(
            store.counts().entries,
            expected.iter().filter(|it| **it).count() as u64
        );
        assert_eq!(store.counts().purged, 3 - store.counts().entries);
        check_whole(&store);
        assert_eq!(left(store), expected);
    };
    check(Purge::All, [false, false, false]);
    check(Purge::Gateway("one".into()), [false, false, true]);
    check(Purge::Gateway("three".into()), [true, true, true]);
    check(Purge::Provider("openai".into()), [false, true, false]);
    check(Purge::Key(key(2)), [true, false, true]);
}

#[test]
fn an_answer_that_was_asked_for_before_a_purge_is_not_taken_after_it() {
    for what in [
        Purge::All,
        Purge::Gateway("gw".into()),
        Purge::Provider("openai".into()),
        Purge::Key(key(1)),
    ] {
        let mut store = Store::new(1 << 20);
        let before = store.stamp();
        store.purge(what.clone());
        let expires = start().after(TTL);
        let answer = cached("gw", "openai", 9);
        assert!(!store.insert(key(1), Arc::clone(&answer), before, start(), expires));
        assert!(put(&mut store, 1, &answer), "{what:?}");
        assert!(has(&mut store, 1));
    }
}

#[test]
fn marks_are_bounded_and_forget_too_much_rather_than_too_little() {
    let mut store = Store::new(1 << 20);
    put(&mut store, 1, &cached("kept", "openai", 9));
    for number in 0..MARKS_MAX {
        store.purge(Purge::Gateway(format!("gw-{number}").into()));
    }
    assert!(has(&mut store, 1));
    store.purge(Purge::Gateway("one more".into()));
    assert!(!has(&mut store, 1));
    assert!(put(&mut store, 1, &cached("gw-1", "openai", 9)));
    assert!(has(&mut store, 1));
}

#[test]
fn the_sweep_comes_by_everything_a_few_at_a_time() {
    let mut store = Store::new(1 << 20);
    for number in 0..500 {
        put(&mut store, number, &cached("gw", "openai", 9));
    }
    let later = start().after(TTL);
    for round in 1..=50 {
        store.sweep(later, 10);
        assert_eq!(store.counts().expired, round * 10);
    }
    assert_eq!(store.counts().entries, 0);
    check_whole(&store);
}

#[derive(Debug, Clone)]
enum Step {
    Put {
        number: u64,
        body: usize,
        seconds: u64,
        held: bool,
    },
    Find(u64),
    Pass(u64),
    Sweep(usize),
    Purge(u8, u64),
    Release,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..40u64, 0..12_000usize, 0..90u64, any::<bool>())
            .prop_map(|(number, body, seconds, held)| Step::Put { number, body, seconds, held }),
        4 => (0..40u64).prop_map(Step::Find),
        1 => (0..40u64).prop_map(Step::Pass),
        2 => (0..30usize).prop_map(Step::Sweep),
        1 => (0..4u8, 0..40u64).prop_map(|(what, number)| Step::Purge(what, number)),
        1 => Just(Step::Release),
    ]
}

proptest! {
    #[test]
    fn what_is_found_is_what_was_put_last_and_is_still_alive(
        story in proptest::collection::vec(steps(), 0..200),
    ) {
        let mut store = Store::new(64 << 10);
        let mut now = start();
        // The last answer of each number, until when it lives; evicted ones may be gone.
        let mut put: HashMap<u64, (Arc<Cached>, Moment)> = HashMap::new();
        let mut held = Vec::new();
        for step in story {
            match step {
                Step::Put { number, body, seconds, held: holds } => {
                    let gateway = format!("gw-{}", number % 3);
                    let answer = cached(&gateway, "openai", body);
                    let expires = now.after(Duration::from_secs(seconds));
                    let stamp = store.stamp();
                    if store.insert(key(number), Arc::clone(&answer), stamp, now, expires) {
                        if holds {
                            held.push(Arc::clone(&answer));
                        }
                        // The model must not keep it alive.
                        put.insert(number, (cached(&gateway, "openai", body), expires));
                    }
                }
                Step::Find(number) => {
                    if let Some(found) = store.find(key(number), now) {
                        let (answer, expires) = &put[&number];
                        prop_assert_eq!(&*found, &**answer);
                        prop_assert!(now < *expires);
                    }
                }
                Step::Pass(seconds) => now = now.after(Duration::from_secs(seconds)),
                Step::Sweep(most) => store.sweep(now, most),
                Step::Purge(what, number) => match what {
                    0 => {
                        store.purge(Purge::All);
                        put.clear();
                    }
                    1 => {
                        let gateway = format!("gw-{}", number % 3);
                        put.retain(|_, (it, _)| it.gateway() != gateway.as_bytes());
                        store.purge(Purge::Gateway(gateway.into()));
                    }
                    2 => {
                        put.remove(&number);
                        store.purge(Purge::Key(key(number)));
                    }
                    _ => store.purge(Purge::Provider("groq".into())),
                },
                Step::Release => held.clear(),
            }
            check_whole(&store);
        }
        held.clear();
        store.sweep(now, usize::MAX);
        prop_assert_eq!(store.counts().lingering_bytes, 0);
    }
}
