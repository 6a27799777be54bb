use proptest::prelude::*;

use super::*;
use crate::{
    domain::usage::Usage,
    shard::ledger::{
        estimate::{Estimates, Request},
        window::MICROS_AT_START,
    },
    snapshot::limits::Span,
};

const UNIX: u64 = 1_795_000_000_000_000;
const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

fn at(micros: u64) -> Now {
    Now::new(micros, UNIX + micros)
}

fn key(number: u64) -> CounterKey {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    CounterKey { owner: 7, id }
}

fn claim(number: u64, measure: Measure, limit: u64, amount: u64) -> Claim {
    Claim {
        key: key(number),
        rule: u16::try_from(number % 100).unwrap(),
        measure,
        hard: false,
        limit,
        span: Span::Sliding(MINUTE),
        amount,
        least: amount,
    }
}

fn requests(limit: u64) -> Claim {
    claim(1, Measure::Requests, limit, 1)
}

fn tokens(limit: u64, amount: u64) -> Claim {
    claim(2, Measure::Tokens, limit, amount)
}

fn soft(limit: u64) -> Claim {
    claim(3, Measure::Cost, limit, 0)
}

fn hard(limit: u64, amount: u64) -> Claim {
    Claim {
        hard: true,
        ..claim(4, Measure::Cost, limit, amount)
    }
}

fn ask(claims: &[Claim]) -> Ask {
    Ask {
        ticket: Ticket {
            shard: 3,
            number: 9,
        },
        claims: claims.to_vec(),
        life: Duration::from_mins(10),
        undoable: false,
    }
}

/// Reserves, and lets the journal take what it must.
fn reserve(book: &mut Book, claims: &[Claim], now: Now) -> Result<Permit, Refusal> {
    if let Some(answer) = book.reserve(&ask(claims), now) {
        return answer.result;
    }
    let mut answers = Vec::new();
    let batch = book.take_batch(now).unwrap();
    book.journalled(&journalled(&batch, true), now, &mut answers);
    assert_eq!(answers.len(), 1);
    answers.remove(0).result
}

fn journalled(batch: &Batch, written: bool) -> Journalled {
    let permits = batch.reservations.iter();
    Journalled {
        permits: permits.map(|reservation| reservation.permit).collect(),
        written,
    }
}

fn granted(book: &mut Book, claims: &[Claim], now: Now) -> PermitId {
    reserve(book, claims, now).unwrap().id.unwrap()
}

#[track_caller]
fn refused(book: &mut Book, claims: &[Claim], now: Now) -> (Why, u16, Option<u64>) {
    let refusal = reserve(book, claims, now).unwrap_err();
    (refusal.why, refusal.rule, refusal.wait_micros)
}

fn cost(picos: u64) -> Actual {
    Actual {
        cost: Some(picos),
        list_cost: Some(picos),
        ..Actual::default()
    }
}

#[test]
fn a_limit_of_requests_admits_so_many_and_says_when_there_is_room() {
    let mut book = Book::new(0);
    for number in 0..3 {
        let permit = reserve(&mut book, &[requests(3)], at(number)).unwrap();
        let standing = permit.standings.requests.unwrap();
        assert_eq!((standing.limit, standing.remaining), (3, 2 - number));
        assert_eq!(standing.reset_micros, MINUTE);
        assert_eq!(permit.id, None, "nothing is owed");
    }
    let refusal = reserve(&mut book, &[requests(3)], at(10)).unwrap_err();
    assert_eq!((refusal.why, refusal.retry_after()), (Why::Limit, Some(60)));
    assert_eq!(refusal.standings.requests.unwrap().remaining, 0);
    assert_eq!(book.outstanding(), 0);
    // A raised limit holds at once.
    assert!(reserve(&mut book, &[requests(4)], at(11)).is_ok());
    assert_eq!(
        refused(&mut book, &[requests(4)], at(MINUTE - 1)),
        (Why::Limit, 1, Some(1))
    );
    assert!(reserve(&mut book, &[requests(4)], at(MINUTE)).is_ok());
    assert_eq!(refused(&mut book, &[requests(0)], at(MINUTE)).2, None);
}

#[test]
fn all_claims_are_granted_or_none() {
    let mut book = Book::new(0);
    let now = at(0);
    granted(&mut book, &[soft(1), hard(100, 90)], now);
    let all = [requests(5), tokens(50, 20), soft(1), hard(100, 20)];
    assert_eq!(refused(&mut book, &all, now), (Why::Limit, 4, Some(MINUTE)));
    assert_eq!(book.standing(key(1), now), None);
    assert_eq!(book.standing(key(2), now), None);
    // The first that refuses has the word, the longest wait counts.
    granted(&mut book, &[tokens(50, 50)], at(SECOND));
    assert_eq!(
        refused(&mut book, &all, at(2 * SECOND)),
        (Why::Limit, 2, Some(MINUTE - SECOND))
    );
    assert_eq!(
        refused(&mut book, &[hard(10, 11), requests(0)], now).0,
        Why::Limit
    );
}

#[test]
fn what_may_cost_more_than_the_limit_is_told_so() {
    let mut book = Book::new(0);
    assert_eq!(
        refused(&mut book, &[hard(10, 11)], at(0)),
        (Why::TooLarge, 4, None)
    );
    assert_eq!(
        refused(&mut book, &[hard(0, 0)], at(0)),
        (Why::Limit, 4, None)
    );
}

#[test]
fn tokens_settle_by_what_was_used() {
    let mut book = Book::new(0);
    let used = |tokens| Actual {
        tokens,
        ..Actual::default()
    };
    let first = granted(&mut book, &[tokens(100, 60)], at(0));
    assert_eq!(refused(&mut book, &[tokens(100, 60)], at(1)).0, Why::Limit);
    assert!(book.settle(first, used(Some(40)), at(2)));
    assert!(!book.settle(first, used(Some(0)), at(2)), "once only");
    let second = granted(&mut book, &[tokens(100, 60)], at(3));
    // More than was guessed counts, too; what is unknown stays as it was guessed.
    assert!(book.settle(second, used(Some(70)), at(4)));
    assert_eq!(book.standing(key(2), at(4)), Some((110, 0)));
    let third = granted(&mut book, &[tokens(500, 30)], at(5));
    assert_eq!(book.standing(key(2), at(5)), Some((140, 30)));
    assert!(book.settle(third, used(None), at(6)));
    assert_eq!(book.standing(key(2), at(6)), Some((140, 0)));
    // It counts in the window in which it was admitted.
    assert_eq!(book.standing(key(2), at(MINUTE + 2)), Some((100, 0)));
}

#[test]
fn a_request_greater_than_a_limit_of_tokens_goes_alone() {
    let mut book = Book::new(0);
    let first = granted(&mut book, &[tokens(100, 900)], at(0));
    assert_eq!(
        refused(&mut book, &[tokens(100, 1)], at(1)),
        (Why::Limit, 2, Some(MINUTE - 1))
    );
    let used = Actual {
        tokens: Some(30),
        ..Actual::default()
    };
    book.settle(first, used, at(2));
    assert!(reserve(&mut book, &[tokens(100, 70)], at(3)).is_ok());
    assert_eq!(
        refused(&mut book, &[tokens(100, 900)], at(3)).2,
        Some(MINUTE)
    );
}

#[test]
fn a_model_that_nobody_knows_reserves_what_is_left() {
    let mut book = Book::new(0);
    let guess = |least| Claim {
        least,
        ..tokens(100, 900)
    };
    let used = |tokens| Actual {
        tokens: Some(tokens),
        ..Actual::default()
    };
    let first = granted(&mut book, &[tokens(100, 40)], at(0));
    let second = granted(&mut book, &[guess(30)], at(1));
    assert_eq!(book.standing(key(2), at(1)), Some((100, 100)));
    assert_eq!(refused(&mut book, &[guess(1)], at(2)).0, Why::Limit);
    book.settle(second, used(25), at(3));
    book.settle(first, used(40), at(3));
    assert_eq!(book.standing(key(2), at(3)), Some((65, 0)));
    assert_eq!(refused(&mut book, &[guess(36)], at(3)).0, Why::Limit);
    let third = granted(&mut book, &[guess(35)], at(3));
    book.release(third, at(4));
    assert_eq!(book.standing(key(2), at(4)), Some((65, 0)));
}

#[test]
fn soft_cost_is_charged_afterwards() {
    let mut book = Book::new(0);
    let (one, two) = (
        granted(&mut book, &[soft(100)], at(0)),
        granted(&mut book, &[soft(100)], at(0)),
    );
    book.settle(one, cost(99), at(10));
    let three = granted(&mut book, &[soft(100)], at(11));
    book.settle(two, cost(50), at(12));
    assert_eq!(
        refused(&mut book, &[soft(100)], at(12)),
        (Why::Limit, 3, Some(MINUTE - 2)),
        "until the first charge leaves"
    );
    book.settle(three, Actual::default(), at(13));
    assert_eq!(book.standing(key(3), at(13)), Some((149, 0)));
    // One batch a second, each counter once.
    let batch = book.take_batch(at(2 * SECOND)).unwrap();
    assert_eq!(
        batch.spent,
        [Charge {
            key: key(3),
            at_micros: UNIX + 12,
            until_micros: UNIX + 12 + MINUTE,
            amount: 149,
        }]
    );
    assert_eq!(book.take_batch(at(9 * SECOND)), None);
}

#[test]
fn hard_cost_waits_for_its_journal() {
    let mut book = Book::new(5);
    let claims = [requests(9), hard(100, 60)];
    assert_eq!(book.reserve(&ask(&claims), at(0)), None);
    assert_eq!(book.reserve(&ask(&[hard(100, 40)]), at(0)), None);
    assert_eq!(refused(&mut book, &claims, at(0)).0, Why::Limit);
    let batch = book.take_batch(at(0)).unwrap();
    assert_eq!((batch.shard, batch.reservations.len()), (5, 2));
    assert_eq!(
        batch.reservations[0].charges,
        [Charge {
            key: key(4),
            at_micros: UNIX,
            until_micros: UNIX + MINUTE,
            amount: 60,
        }]
    );
    assert_eq!(book.take_batch(at(0)), None);
    let mut answers = Vec::new();
    book.journalled(&journalled(&batch, true), at(1), &mut answers);
    let ids: Vec<PermitId> = answers
        .iter()
        .map(|answer| answer.result.unwrap().id.unwrap())
        .collect();
    assert_eq!(answers[0].ticket, ask(&[]).ticket);
    assert_eq!(ids[0].shard(), 5);
    // Less is used, and unknown is all of it.
    book.settle(ids[0], cost(10), at(2));
    book.settle(ids[1], Actual::default(), at(2));
    assert_eq!(book.standing(key(4), at(2)), Some((50, 0)));
    assert_eq!(book.take_batch(at(3)), None, "settlements may wait");
    let batch = book.take_batch(at(SECOND)).unwrap();
    let amounts: Vec<_> = batch
        .settlements
        .iter()
        .map(|settlement| (settlement.permit, settlement.amounts.clone()))
        .collect();
    assert_eq!(amounts, [(ids[0].0, vec![10]), (ids[1].0, vec![40])]);
}

#[test]
fn a_journal_that_fails_or_is_late_refuses_and_gives_back() {
    let mut answers = Vec::new();
    let mut book = Book::new(0);
    let claims = [requests(9), hard(100, 60)];
    let why = |answers: &mut Vec<Answer>| {
        let whys: Vec<Why> = answers
            .drain(..)
            .map(|answer| answer.result.unwrap_err().why)
            .collect();
        whys
    };
    let nothing = |book: &mut Book, now| {
        assert_eq!(book.standing(key(1), now), Some((0, 0)));
        assert_eq!(book.standing(key(4), now), Some((0, 0)));
        assert_eq!(book.outstanding(), 0);
    };
    // It says that it could not.
    assert_eq!(book.reserve(&ask(&claims), at(0)), None);
    let batch = book.take_batch(at(0)).unwrap();
    book.journalled(&journalled(&batch, false), at(1), &mut answers);
    assert_eq!(why(&mut answers), [Why::Journal]);
    nothing(&mut book, at(1));
    assert_eq!(book.take_rest(), None, "the journal has nothing to forget");
    // Its queue is full.
    assert_eq!(book.reserve(&ask(&claims), at(2)), None);
    let batch = book.take_batch(at(2)).unwrap();
    book.take_back(batch, at(2), &mut answers);
    assert_eq!(why(&mut answers), [Why::Journal]);
    nothing(&mut book, at(2));
    // It says nothing in time, and then that it has it.
    assert_eq!(book.reserve(&ask(&claims), at(10)), None);
    let batch = book.take_batch(at(10)).unwrap();
    book.tick(at(9 + JOURNAL_WAIT_MICROS), &mut answers);
    assert_eq!(why(&mut answers), []);
    book.tick(at(10 + JOURNAL_WAIT_MICROS), &mut answers);
    assert_eq!(why(&mut answers), [Why::Journal]);
    let late = at(20 + JOURNAL_WAIT_MICROS);
    nothing(&mut book, late);
    book.journalled(&journalled(&batch, true), late, &mut answers);
    assert_eq!(why(&mut answers), []);
    let rest = book.take_rest().unwrap();
    assert_eq!(rest.settlements[0].permit, batch.reservations[0].permit);
    assert_eq!(rest.settlements[0].amounts, [0], "it is to forget it");
}

#[test]
fn what_a_full_queue_gave_back_goes_out_again() {
    let mut book = Book::new(0);
    let mut answers = Vec::new();
    let first = granted(&mut book, &[soft(100), hard(100, 10)], at(0));
    book.settle(first, cost(7), at(1));
    let batch = book.take_batch(at(2 * SECOND)).unwrap();
    assert_eq!((batch.settlements.len(), batch.spent.len()), (1, 1));
    book.take_back(batch.clone(), at(2 * SECOND), &mut answers);
    assert_eq!(answers, []);
    assert_eq!(book.take_rest(), Some(batch));
}

#[test]
fn releasing_undoes_everything() {
    let mut book = Book::new(0);
    let undoable = Ask {
        undoable: true,
        ..ask(&[requests(1)])
    };
    let permit = book.reserve(&undoable, at(0)).unwrap().result.unwrap();
    assert_eq!(refused(&mut book, &[requests(1)], at(1)).0, Why::Limit);
    assert!(book.release(permit.id.unwrap(), at(1)));
    assert!(reserve(&mut book, &[requests(1)], at(1)).is_ok());
    let permit = granted(&mut book, &[tokens(9, 9), hard(9, 9)], at(2));
    assert!(book.release(permit, at(3)));
    for number in [2, 4] {
        assert_eq!(book.standing(key(number), at(3)), Some((0, 0)));
    }
    assert_eq!(book.take_rest().unwrap().settlements[0].amounts, [0]);
}

#[test]
fn a_permit_that_nobody_settles_ends_by_its_deadline() {
    let mut book = Book::new(0);
    let mut answers = Vec::new();
    let claims = [requests(9), tokens(100, 60), soft(100), hard(100, 60)];
    let day = claims.map(|claim| Claim {
        span: Span::Sliding(1_440 * MINUTE),
        ..claim
    });
    let permit = granted(&mut book, &day, at(0));
    book.tick(at(10 * MINUTE - 1), &mut answers);
    assert_eq!(book.outstanding(), 1);
    book.tick(at(10 * MINUTE), &mut answers);
    assert_eq!(book.outstanding(), 0);
    let now = at(10 * MINUTE);
    let sums = [1, 2, 3, 4].map(|number| book.standing(key(number), now).unwrap().0);
    assert_eq!(sums, [1, 0, 0, 60]);
    assert!(!book.settle(permit, cost(1), now));
    assert_eq!(book.take_rest().unwrap().settlements[0].amounts, [60]);
}

#[test]
fn counters_without_a_sum_are_dropped_and_others_are_not() {
    let mut book = Book::new(0);
    let mut answers = Vec::new();
    let wide = |number| claim(number + 100, Measure::Requests, 5, 1);
    for number in 0..COUNTERS_MAX as u64 {
        assert!(reserve(&mut book, &[wide(number)], at(number)).is_ok());
    }
    assert_eq!(book.counters(), COUNTERS_MAX);
    let now = at(2 * SECOND);
    let (why, _, wait) = refused(&mut book, &[wide(1 << 40)], now);
    assert_eq!((why, wait), (Why::Crowded, Some(TRY_AGAIN_MICROS)));
    // Those that are there go on.
    assert!(reserve(&mut book, &[wide(0)], now).is_ok());
    for second in 2..130 {
        book.tick(at(second * SECOND), &mut answers);
    }
    assert!(reserve(&mut book, &[wide(1 << 40)], at(130 * SECOND)).is_ok());
    assert!(book.counters() < 10, "{}", book.counters());
}

#[test]
fn a_counter_that_got_all_back_does_not_linger() {
    let mut book = Book::new(0);
    let mut answers = Vec::new();
    let claim = Claim {
        span: Span::Sliding(100_000 * MINUTE),
        ..hard(100, 60)
    };
    let permit = granted(&mut book, &[claim], at(0));
    book.tick(at(2 * SECOND), &mut answers);
    book.release(permit, at(3 * SECOND));
    book.tick(at(5 * SECOND), &mut answers);
    assert_eq!(book.counters(), 0);
}

#[test]
fn what_the_journal_held_counts_again() {
    let charge = |number, ago: u64, amount| Charge {
        key: key(number),
        at_micros: UNIX - ago,
        until_micros: UNIX - ago + MINUTE,
        amount,
    };
    let mut book = Book::new(0);
    book.recover([
        charge(3, 10 * SECOND, 60),
        charge(4, 61 * SECOND, 50),
        charge(4, 30 * SECOND, 40),
        charge(4, 5 * SECOND, 30),
        charge(8, 5 * SECOND, 30),
    ]);
    assert_eq!(refused(&mut book, &[soft(60)], at(0)).0, Why::Limit);
    assert_eq!(
        refused(&mut book, &[hard(100, 31)], at(0)),
        (Why::Limit, 4, Some(30 * SECOND))
    );
    assert!(reserve(&mut book, &[hard(100, 30)], at(0)).is_ok());
    assert_eq!(book.standing(key(4), at(0)), Some((100, 30)));
    // Of a counter that nobody asks for it goes when it would have left.
    let mut answers = Vec::new();
    book.tick(at(2 * MINUTE), &mut answers);
    let eighth = Claim {
        key: key(8),
        span: Span::Sliding(60 * MINUTE),
        ..soft(1)
    };
    assert!(reserve(&mut book, &[eighth], at(2 * MINUTE)).is_ok());
}

#[test]
fn a_budget_of_the_calendar_begins_anew_also_for_what_began_before() {
    let mut book = Book::new(0);
    let period = |start: u64| Claim {
        span: Span::Calendar([start, start + MINUTE, start + 2 * MINUTE].map(|at| UNIX + at)),
        ..soft(100)
    };
    let permits: Vec<_> = (0..4)
        .map(|number| granted(&mut book, &[period(0)], at(number)))
        .collect();
    book.settle(permits[0], cost(100), at(10));
    assert_eq!(
        refused(&mut book, &[period(0)], at(20)).2,
        Some(MINUTE - 20)
    );
    assert!(reserve(&mut book, &[period(MINUTE)], at(MINUTE)).is_ok());
    // Long answers, and nobody asks meanwhile: each counts where it ends.
    book.settle(permits[1], cost(7), at(3 * MINUTE + 1));
    book.settle(permits[2], cost(8), at(5 * MINUTE + 1));
    let now = at(5 * MINUTE + 2);
    let permit = reserve(&mut book, &[period(5 * MINUTE)], now).unwrap();
    assert_eq!(permit.standings.cost.unwrap().remaining, 92);
    book.settle(permits[3], cost(92), at(5 * MINUTE + 3));
    assert_eq!(
        refused(&mut book, &[period(5 * MINUTE)], at(5 * MINUTE + 4)).0,
        Why::Limit
    );
}

/// A request of some client that is under way.
struct UnderWay {
    permit: PermitId,
    shard: usize,
    ends: u64,
}

#[test]
fn a_limit_of_tokens_holds_among_many_clients_on_several_shards() {
    const LIMIT: u64 = 100;
    const USED: u64 = 21;
    let request = Request {
        model: "openai/m",
        body_bytes: 90,
        max_tokens: None,
    };
    let usage = Usage {
        input: Some(9),
        output: Some(12),
        ..Usage::UNKNOWN
    };
    let shards: [Estimates; 4] = Default::default();
    let mut book = Book::new(0);
    let (mut under_way, mut admitted): (Vec<UnderWay>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut of_shard = [0; 4];
    for turn in 0..2_400u64 {
        // 64 clients ask every 100 ms; an answer takes half a second.
        let now = turn * SECOND / 10;
        let (over, rest): (Vec<_>, Vec<_>) = under_way
            .into_iter()
            .partition(|one: &UnderWay| one.ends <= now);
        under_way = rest;
        for one in over {
            shards[one.shard].learn(&request, &usage);
            let actual = Actual {
                tokens: Some(USED),
                ..Actual::default()
            };
            assert!(book.settle(one.permit, actual, at(now)));
        }
        for client in 0..64u64 {
            let shard = usize::try_from((client + turn) % 4).unwrap();
            let guess = shards[shard].tokens(&request);
            let claim = Claim {
                least: guess.least,
                ..tokens(LIMIT, guess.most)
            };
            if let Ok(permit) = reserve(&mut book, &[claim], at(now)) {
                admitted.push(now);
                of_shard[shard] += 1;
                under_way.push(UnderWay {
                    permit: permit.id.unwrap(),
                    shard,
                    ends: now + SECOND / 2,
                });
            }
        }
        let within = admitted.iter().filter(|then| now - **then < MINUTE).count() as u64;
        assert!(within * USED <= LIMIT, "{within} at {now}");
    }
    // Four minutes, four requests in each; and no shard is left out.
    assert!(admitted.len() >= 14, "{}", admitted.len());
    assert!(of_shard.iter().all(|count| *count > 0), "{of_shard:?}");
}

/// The book the slow way: everything that was ever granted.
#[derive(Default)]
struct Slow {
    grants: Vec<Grant>,
}

struct Grant {
    at: u64,
    counter: u64,
    amount: u64,
}

impl Slow {
    fn sum(&self, counter: u64, now: u64) -> u64 {
        let mine = self.grants.iter().filter(|grant| grant.counter == counter);
        mine.filter(|grant| now - grant.at < MINUTE)
            .map(|grant| grant.amount)
            .sum()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// Reserves these amounts of counters 0 to 2, where there is one.
    Reserve([Option<u64>; 3]),
    Settle(prop::sample::Index, u64),
    Release(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop::option::of(0..50u64);
    prop_oneof![
        2 => (0..MINUTE / 3).prop_map(Step::Wait),
        5 => [amount(), amount(), amount()].prop_map(Step::Reserve),
        3 => (any::<prop::sample::Index>(), 0..50u64)
            .prop_map(|(which, to)| Step::Settle(which, to)),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
    ]
}

const LIMITS: [u64; 3] = [100, 120, 60];

fn reserve_both(
    book: &mut Book,
    slow: &mut Slow,
    amounts: [Option<u64>; 3],
    now: u64,
) -> Option<(PermitId, Vec<usize>)> {
    let all = (0u64..).zip(amounts.iter().zip(LIMITS));
    let asked: Vec<_> = all
        .filter_map(|(counter, (amount, limit))| Some((counter, (*amount)?, limit)))
        .collect();
    let claims: Vec<_> = asked
        .iter()
        .map(|(counter, amount, limit)| Claim {
            key: key(*counter),
            ..hard(*limit, *amount)
        })
        .collect();
    let fits = asked.iter().all(|(counter, amount, limit)| {
        let sum = slow.sum(*counter, now);
        sum < *limit && sum + amount <= *limit
    });
    if claims.is_empty() {
        return None;
    }
    let result = reserve(book, &claims, at(now));
    assert_eq!(result.is_ok(), fits, "{asked:?}");
    let id = result.ok()?.id?;
    let mut places = Vec::new();
    for (counter, amount, _) in asked {
        places.push(slow.grants.len());
        slow.grants.push(Grant {
            at: now,
            counter,
            amount,
        });
    }
    Some((id, places))
}

proptest! {
    #[test]
    fn the_book_grants_what_the_slow_book_grants(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let (mut book, mut slow, mut now) = (Book::new(0), Slow::default(), 0);
        let mut open = Vec::new();
        for step in steps {
            match step {
                Step::Wait(micros) => {
                    now += micros;
                    book.tick(at(now), &mut Vec::new());
                }
                Step::Reserve(amounts) => {
                    open.extend(reserve_both(&mut book, &mut slow, amounts, now));
                }
                Step::Settle(which, to) if !open.is_empty() => {
                    let (id, places) = open.swap_remove(which.index(open.len()));
                    // A bound is a bound: nothing costs more.
                    let most = places.iter().map(|place| slow.grants[*place].amount).min();
                    let to = to.min(most.unwrap());
                    prop_assert!(book.settle(id, cost(to), at(now)));
                    for place in places {
                        slow.grants[place].amount = to;
                    }
                }
                Step::Release(which) if !open.is_empty() => {
                    let (id, places) = open.swap_remove(which.index(open.len()));
                    prop_assert!(book.release(id, at(now)));
                    for place in places {
                        slow.grants[place].amount = 0;
                    }
                }
                Step::Settle(..) | Step::Release(_) => {}
            }
            for counter in 0..3 {
                let sum = book.standing(key(counter), at(now)).map_or(0, |(sum, _)| sum);
                prop_assert_eq!(sum, u128::from(slow.sum(counter, now)));
            }
            prop_assert_eq!(book.outstanding(), open.len());
            prop_assert!(book.held_cost() == 0 || !open.is_empty());
        }
        for (id, _) in open {
            book.release(id, at(now));
        }
        for counter in 0..3 {
            let held = book.standing(key(counter), at(now)).map_or(0, |(_, held)| held);
            prop_assert_eq!(held, 0);
        }
        prop_assert_eq!(book.held_cost(), 0);
    }

    #[test]
    fn a_limit_of_requests_is_exact_in_every_window(
        limit in 1..20u64,
        fixed: bool,
        waits in prop::collection::vec(0..MINUTE / 4, 1..200),
    ) {
        let (mut book, mut now) = (Book::new(0), 0);
        let mut admitted: Vec<u64> = Vec::new();
        let span = if fixed { Span::Fixed(MINUTE) } else { Span::Sliding(MINUTE) };
        for wait in waits {
            now += wait;
            let counts = |then: &&u64| if fixed { (UNIX + **then) / MINUTE == (UNIX + now) / MINUTE } else { now - **then < MINUTE };
            let before = admitted.iter().filter(counts).count() as u64;
            let claim = Claim { span, ..requests(limit) };
            let result = reserve(&mut book, &[claim], at(now));
            prop_assert_eq!(result.is_ok(), before < limit);
            if let Err(refusal) = result {
                // There is room when it says so, and not a moment before.
                let wait = refusal.wait_micros.unwrap();
                prop_assert!(reserve(&mut book, &[claim], at(now + wait - 1)).is_err() || wait == 1);
            } else {
                admitted.push(now);
            }
        }
        prop_assert!(at(now).micros >= MICROS_AT_START);
    }
}
