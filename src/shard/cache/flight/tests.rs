use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn key(number: u64) -> KeyHash {
    KeyHash::new(number, number)
}

fn asker(number: u64) -> Asker {
    Asker {
        shard: usize::try_from(number % 3).unwrap(),
        ticket: number,
    }
}

fn start() -> Moment {
    Moment::default()
}

fn join(flights: &mut Flights, number: u64) -> Role {
    flights.join(key(1), asker(number), Stamp::default(), start())
}

#[track_caller]
fn lead(flights: &mut Flights, number: u64) -> FlightId {
    match join(flights, number) {
        Role::Lead(id) => id,
        other => panic!("{other:?}"),
    }
}

fn end(flights: &mut Flights, id: FlightId, ending: Ending) -> Vec<(Asker, Verdict)> {
    let mut verdicts = Vec::new();
    flights.end(key(1), id, ending, start(), &mut verdicts);
    verdicts
}

#[test]
fn the_first_leads_and_the_others_get_its_answer() {
    let mut flights = Flights::default();
    let flight = lead(&mut flights, 1);
    let follow = Role::Follow { leader: 1, flight };
    assert_eq!(join(&mut flights, 2), follow);
    assert_eq!(join(&mut flights, 3), follow);
    assert_eq!(flights.counts(), (1, 2));
    let verdicts = end(&mut flights, flight, Ending::Stored);
    let stored = Verdict::Stored;
    assert_eq!(verdicts, [(asker(2), stored), (asker(3), stored)]);
    assert_eq!(flights.counts(), (0, 0));
    // A second report means nothing, not even to the next flight.
    assert_eq!(end(&mut flights, flight, Ending::Stored), []);
    let next = lead(&mut flights, 4);
    assert_ne!(next, flight);
    assert_eq!(end(&mut flights, flight, Ending::Failed), []);
    assert_eq!(flights.counts(), (1, 0));
}

#[test]
fn a_leader_that_goes_away_hands_on_to_one() {
    let mut flights = Flights::default();
    let first = lead(&mut flights, 1);
    for number in 2..5 {
        join(&mut flights, number);
    }
    let [(next, Verdict::Lead(second))] = end(&mut flights, first, Ending::Gone)[..] else {
        panic!("one is told to lead");
    };
    assert_eq!(next, asker(2));
    assert_eq!(flights.counts(), (1, 2));
    assert_eq!(end(&mut flights, first, Ending::Stored), []);
    let told = end(&mut flights, second, Ending::Stored);
    assert_eq!(told.len(), 2);
    let last = lead(&mut flights, 6);
    assert_eq!(end(&mut flights, last, Ending::Gone), []);
    assert_eq!(flights.counts(), (0, 0));
}

#[test]
fn a_failure_sends_all_their_own_ways() {
    for ending in [Ending::Failed, Ending::NotKept] {
        let mut flights = Flights::default();
        let flight = lead(&mut flights, 1);
        join(&mut flights, 2);
        join(&mut flights, 3);
        let alone = Verdict::Alone;
        let told = end(&mut flights, flight, ending);
        assert_eq!(told, [(asker(2), alone), (asker(3), alone)]);
    }
}

#[test]
fn after_an_answer_that_was_not_kept_nobody_waits_for_a_while() {
    let mut flights = Flights::default();
    let flight = lead(&mut flights, 1);
    end(&mut flights, flight, Ending::NotKept);
    assert_eq!(join(&mut flights, 2), Role::Alone);
    let soon = start().after(PASS_FOR);
    let role = flights.join(key(1), asker(3), Stamp::default(), soon);
    assert!(matches!(role, Role::Lead(_)));
    // What is remembered is bounded, and forgotten in time.
    let mut flights = Flights::default();
    for number in 0..PASSES_MAX as u64 + 100 {
        let Role::Lead(id) = flights.join(key(number), asker(1), Stamp::default(), start()) else {
            panic!("each key has its own flight");
        };
        flights.end(key(number), id, Ending::NotKept, start(), &mut Vec::new());
    }
    assert_eq!(flights.passes.len(), PASSES_MAX);
    flights.expire(soon, usize::MAX, &mut Vec::new());
    assert_eq!((flights.passes.len(), flights.pass_order.len()), (0, 0));
}

#[test]
fn a_leader_that_reports_nothing_ends_by_the_limit_whoever_led() {
    let mut flights = Flights::default();
    let first = lead(&mut flights, 1);
    join(&mut flights, 2);
    join(&mut flights, 3);
    let told = end(&mut flights, first, Ending::Gone);
    assert_eq!(told.len(), 1);
    let mut expired = Vec::new();
    let before = start().after(Duration::from_millis(599_999));
    flights.expire(before, 9, &mut expired);
    assert_eq!(expired, []);
    flights.expire(start().after(FLIGHT_LIMIT), 9, &mut expired);
    assert_eq!(expired, [(key(1), asker(3), Verdict::Alone)]);
    assert_eq!(flights.counts(), (0, 0));
}

#[test]
fn nobody_follows_who_asked_before_a_purge() {
    let mut store = super::super::store::Store::new(1 << 20);
    let mut flights = Flights::default();
    let before = store.stamp();
    let role = flights.join(key(1), asker(1), before, start());
    assert!(matches!(role, Role::Lead(_)));
    store.purge(crate::domain::cache::Purge::All);
    let role = flights.join(key(1), asker(2), store.stamp(), start());
    assert_eq!(role, Role::Alone);
}

#[test]
fn followers_and_flights_are_bounded() {
    let mut flights = Flights::default();
    lead(&mut flights, 0);
    for number in 0..FOLLOWERS_MAX as u64 {
        assert!(matches!(join(&mut flights, number), Role::Follow { .. }));
    }
    assert_eq!(join(&mut flights, 9), Role::Alone);
    let stamp = Stamp::default();
    for number in 2..=FLIGHTS_MAX as u64 {
        let role = flights.join(key(number), asker(1), stamp, start());
        assert!(matches!(role, Role::Lead(_)));
    }
    let role = flights.join(key(0), asker(1), stamp, start());
    assert_eq!(role, Role::Alone);
    for number in 2..=FLIGHTS_MAX as u64 {
        for follower in 0..FOLLOWERS_MAX as u64 {
            flights.join(key(number), asker(follower), stamp, start());
        }
        if flights.followers == ALL_FOLLOWERS_MAX {
            break;
        }
    }
    assert_eq!(flights.followers, ALL_FOLLOWERS_MAX);
}

#[test]
fn limits_of_flights_that_are_over_take_no_room() {
    let mut flights = Flights::default();
    for number in 0..10_000 {
        let id = lead(&mut flights, number);
        end(&mut flights, id, Ending::Stored);
        assert!(flights.limits.len() <= 66);
    }
}

/// A step of a story about some keys.
#[derive(Debug, Clone)]
enum Step {
    Join {
        key: u64,
        asker: u64,
    },
    End {
        key: u64,
        ending: Ending,
        stale: bool,
    },
    Leave {
        key: u64,
        follower: usize,
    },
    Pass {
        millis: u64,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let endings = vec![
        Ending::Stored,
        Ending::NotKept,
        Ending::Failed,
        Ending::Gone,
        Ending::Gone,
    ];
    prop_oneof![
        4 => (0..3u64, any::<u64>()).prop_map(|(key, asker)| Step::Join { key, asker }),
        2 => (0..3u64, proptest::sample::select(endings), any::<bool>())
            .prop_map(|(key, ending, stale)| Step::End { key, ending, stale }),
        1 => (0..3u64, 0..9usize).prop_map(|(key, follower)| Step::Leave { key, follower }),
        1 => (0..400_000u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// What the story knows: who leads each key and who waits for it.
#[derive(Default)]
struct Model {
    leaders: HashMap<u64, (FlightId, Moment)>,
    waiting: HashMap<u64, Vec<Asker>>,
    used: HashSet<Asker>,
    old: Vec<FlightId>,
}

impl Model {
    fn tell(&mut self, key: u64, asker: Asker, verdict: Verdict, ending: Option<Ending>) {
        let waiting = self.waiting.entry(key).or_default();
        let place = waiting.iter().position(|other| *other == asker);
        waiting.remove(place.expect("only who waits is told, and once"));
        match verdict {
            Verdict::Lead(id) => {
                assert_eq!(ending, Some(Ending::Gone));
                let (old, limit) = self.leaders[&key];
                self.old.push(old);
                self.leaders.insert(key, (id, limit));
            }
            Verdict::Stored => assert_eq!(ending, Some(Ending::Stored)),
            Verdict::Alone => assert_ne!(ending, Some(Ending::Stored)),
        }
    }
}

proptest! {
    #[test]
    fn a_key_has_one_leader_and_nobody_waits_for_ever(
        story in proptest::collection::vec(steps(), 0..120),
    ) {
        let (mut flights, mut model) = (Flights::default(), Model::default());
        let mut now = start();
        for step in story {
            match step {
                Step::Join { key: number, asker } => {
                    let asker = Asker { shard: 0, ticket: asker };
                    if !model.used.insert(asker) {
                        continue;
                    }
                    match flights.join(key(number), asker, Stamp::default(), now) {
                        Role::Lead(id) => {
                            let limit = now.after(FLIGHT_LIMIT);
                            let before = model.leaders.insert(number, (id, limit));
                            prop_assert!(before.is_none(), "two leaders");
                        }
                        Role::Follow { flight, .. } => {
                            prop_assert_eq!(model.leaders[&number].0, flight);
                            model.waiting.entry(number).or_default().push(asker);
                        }
                        Role::Alone => prop_assert!(!model.leaders.contains_key(&number)),
                    }
                }
                Step::End { key: number, ending, stale } => {
                    let id = if stale {
                        model.old.last().copied()
                    } else {
                        model.leaders.get(&number).map(|(id, _)| *id)
                    };
                    let Some(id) = id else { continue };
                    let mut verdicts = Vec::new();
                    flights.end(key(number), id, ending, now, &mut verdicts);
                    if stale {
                        prop_assert!(verdicts.is_empty());
                        continue;
                    }
                    let promoted = verdicts.iter().any(|(_, it)| matches!(it, Verdict::Lead(_)));
                    let waited = model.waiting.get(&number).map_or(0, Vec::len);
                    prop_assert_eq!(promoted, ending == Ending::Gone && waited > 0);
                    prop_assert_eq!(verdicts.len(), if promoted { 1 } else { waited });
                    for (asker, verdict) in verdicts {
                        model.tell(number, asker, verdict, Some(ending));
                    }
                    if !promoted {
                        model.old.push(id);
                        model.leaders.remove(&number);
                    }
                }
                Step::Leave { key: number, follower } => {
                    let waiting = model.waiting.entry(number).or_default();
                    if follower < waiting.len() {
                        let gone = waiting.remove(follower);
                        flights.leave(key(number), gone);
                    }
                }
                Step::Pass { millis } => {
                    now = now.after(Duration::from_millis(millis));
                    let mut expired = Vec::new();
                    flights.expire(now, usize::MAX, &mut expired);
                    for (hash, asker, verdict) in expired {
                        let number = (0..3).find(|number| key(*number) == hash).unwrap();
                        model.tell(number, asker, verdict, None);
                    }
                    model.leaders.retain(|number, (id, limit)| {
                        let over = *limit <= now;
                        if over {
                            model.old.push(*id);
                            assert_eq!(model.waiting.get(number).map_or(0, Vec::len), 0);
                        }
                        !over
                    });
                }
            }
            let waiting = model.waiting.values().map(Vec::len).sum::<usize>();
            prop_assert_eq!(flights.counts(), (model.leaders.len(), waiting));
        }
    }
}
