use proptest::prelude::*;

use super::*;

const UNIX: u64 = 1_795_000_000_000_000;

fn at(micros: u64) -> Now {
    Now::new(micros, UNIX + micros)
}

/// Grants what fits, and says whether it did.
fn take(window: &mut Window, span: Span, limit: u128, amount: u64, now: Now) -> bool {
    window.roll(span, now);
    let fits = window.sum() + u128::from(amount) <= limit;
    if fits {
        window.add(amount, now, Detail::FINE);
    }
    fits
}

#[track_caller]
fn check_takes(span: Span, limit: u128, takes: &[(u64, bool)]) {
    let mut window = Window::new(span, at(0));
    for (micros, taken) in takes {
        let got = take(&mut window, span, limit, 1, at(*micros));
        assert_eq!(got, *taken, "at {micros}");
    }
}

#[test]
fn a_fixed_window_is_empty_from_its_edge_on() {
    // The epoch is a multiple of 100 µs away.
    assert_eq!(UNIX % 100, 0);
    let takes = [
        (0, true),
        (99, true),
        (99, false),
        (100, true),
        (199, true),
        (199, false),
    ];
    check_takes(Span::Fixed(100), 2, &takes);
}

#[test]
fn a_sliding_window_lets_in_what_has_been_out_for_its_length() {
    let takes = [
        (5, true),
        (60, true),
        (104, false),
        (105, true),
        (159, false),
        (160, true),
    ];
    check_takes(Span::Sliding(100), 2, &takes);
}

#[test]
fn the_waits_are_exact() {
    let mut window = Window::new(Span::Sliding(100), at(0));
    for micros in [10, 20, 30] {
        window.roll(Span::Sliding(100), at(micros));
        window.add(2, at(micros), Detail::FINE);
    }
    for (most, wait) in [(6, 0), (5, 80), (4, 80), (3, 90), (0, 100)] {
        assert_eq!(window.wait(most, at(30)), wait, "at most {most}");
    }
    let mut window = Window::new(Span::Fixed(100), at(30));
    window.add(2, at(30), Detail::FINE);
    assert_eq!((window.wait(2, at(40)), window.wait(1, at(40))), (0, 60));
    assert_eq!(window.leaves_at(at(40)), UNIX + 100);
}

#[test]
fn an_amount_changes_where_it_was_added_and_not_after_it_has_left() {
    for span in [Span::Sliding(100), Span::Fixed(100)] {
        let mut window = Window::new(span, at(10));
        window.add(50, at(10), Detail::FINE);
        window.add(7, at(20), Detail::FINE);
        window.change(at(10).micros, 50, 5, at(30));
        assert_eq!(window.sum(), 12);
        window.change(at(10).micros, 5, 40, at(30));
        assert_eq!(window.sum(), 47);
        window.roll(span, at(115));
        let rest = window.sum();
        window.change(at(10).micros, 40, 90, at(115));
        window.change(at(10).micros, 90, 0, at(115));
        assert_eq!(window.sum(), rest);
    }
}

#[test]
fn a_window_with_many_moments_becomes_slots_and_is_never_over() {
    let span = Span::Sliding(1_000_000);
    let (limit, mut taken) = (5_000, 0);
    let mut window = Window::new(span, at(0));
    for micros in 0..6_000 {
        taken += u64::from(take(&mut window, span, limit, 1, at(micros * 10)));
    }
    assert_eq!(taken, 5_000);
    assert!(window.len() <= 257);
    // The first slot leaves when its last moment does: at most 1/256 of the window late.
    let slot = 1_000_000u64.div_ceil(256);
    assert!(!take(&mut window, span, limit, 1, at(1_000_000 - 1)));
    assert!(take(&mut window, span, limit, 1, at(1_000_000 + slot)));
    // A change finds its slot.
    let before = window.sum();
    window.change(at(49_990).micros, 1, 0, at(1_000_000 + slot));
    assert_eq!(window.sum(), before - 1);
    // Empty, it is exact again.
    window.roll(span, at(3_000_000));
    assert_eq!((window.sum(), window.len()), (0, 0));
    window.add(1, at(3_000_000), Detail::FINE);
    assert_eq!(window.wait_empty(at(3_000_000)), 1_000_000);
}

#[test]
fn a_changed_span_keeps_what_counts() {
    let (day, hour) = (Span::Sliding(24_000), Span::Sliding(1_000));
    let mut window = Window::new(hour, at(0));
    window.add(5, at(500), Detail::FINE);
    for (span, now, sum) in [
        (day, 1_400, 5),
        (Span::Fixed(10_000), 1_500, 5),
        (Span::Sliding(10_000), 1_600, 5),
        (Span::Calendar([UNIX, UNIX + 2_000, UNIX + 9_000]), 1_700, 5),
        (Span::Calendar([UNIX, UNIX + 2_000, UNIX + 9_000]), 2_000, 0),
    ] {
        window.roll(span, at(now));
        assert_eq!(window.sum(), sum, "{span:?}");
    }
}

#[test]
fn a_clock_that_is_set_neither_empties_a_window_nor_keeps_it_full() {
    let span = Span::Fixed(1_000);
    let now = |micros, unix| Now::new(micros, UNIX + unix);
    let mut window = Window::new(span, now(0, 5_000));
    window.add(3, now(0, 5_000), Detail::FINE);
    // Back by a window: what was counted just now goes on counting.
    window.roll(span, now(10, 4_500));
    assert_eq!(window.sum(), 3);
    window.roll(span, now(520, 5_010));
    assert_eq!(window.sum(), 0, "the window that it fell into is over");
    // Far ahead and back again: not full until the clock comes there once more.
    window.roll(span, now(600, 9_000_000));
    window.add(3, now(600, 9_000_000), Detail::FINE);
    window.roll(span, now(700, 5_200));
    assert_eq!(window.sum(), 3);
    window.roll(span, now(1_600, 6_100));
    assert_eq!(window.sum(), 0);
}

#[test]
fn the_past_counts_as_far_as_it_is_in_the_window() {
    for (span, sum) in [(Span::Sliding(1_000), 6), (Span::Fixed(10_000), 7)] {
        let now = Now::new(3, UNIX + 2_000);
        let mut window = Window::new(span, now);
        window.add_past(UNIX - 5_000, 100, now);
        window.add_past(UNIX + 900, 1, now);
        window.add_past(UNIX + 1_001, 2, now);
        // Of a clock that was ahead.
        window.add_past(UNIX + 9_000, 4, now);
        assert_eq!(window.sum(), sum, "{span:?}");
    }
}

/// Takes 1 at each of the moments, with few enough noted apart that they are in slots at the end.
fn in_slots(span: Span, moments: &[u64]) -> Window {
    let detail = Detail {
        exact: 4,
        slots: 16,
    };
    let mut window = Window::new(span, at(0));
    for &micros in moments {
        window.roll(span, at(micros));
        window.add(1, at(micros), detail);
    }
    window
}

#[test]
fn what_a_slot_still_counts_can_be_changed() {
    // The clock begins 6 after a slot's begin: 44 is in the slot of 44 to 53.
    let span = Span::Sliding(160);
    let mut window = in_slots(span, &[44, 70, 100, 130, 160]);
    window.roll(span, at(210));
    assert_eq!(window.sum(), 5, "50 left by itself, but not its slot");
    window.change(at(44).micros, 1, 31, at(210));
    assert_eq!(window.sum(), 35);
    window.change(at(44).micros, 31, 0, at(210));
    assert_eq!(window.sum(), 4);
    window.roll(span, at(213));
    window.change(at(44).micros, 0, 9, at(213));
    assert_eq!(window.sum(), 4);
}

#[test]
fn what_left_before_there_were_slots_takes_nothing_from_them() {
    let span = Span::Sliding(160);
    let mut window = in_slots(span, &[44, 50, 130, 160]);
    window.roll(span, at(205));
    assert_eq!(window.sum(), 3);
    let detail = Detail {
        exact: 3,
        slots: 16,
    };
    window.add(1, at(205), detail);
    assert_eq!(window.sum(), 4);
    window.change(at(44).micros, 1, 0, at(205));
    assert_eq!(window.sum(), 4, "50 is in the same slot, and counts");
    window.change(at(50).micros, 1, 0, at(205));
    assert_eq!(window.sum(), 3);
}

#[test]
fn what_left_a_shorter_window_takes_nothing_from_a_longer_one() {
    let (short, long) = (Span::Sliding(100), Span::Sliding(1_000));
    let mut window = Window::new(short, at(0));
    window.add(5, at(0), Detail::FINE);
    window.add(7, at(50), Detail::FINE);
    window.roll(short, at(120));
    window.roll(long, at(120));
    window.change(at(0).micros, 5, 0, at(120));
    assert_eq!(window.sum(), 7);
    window.change(at(0).micros, 0, 5, at(120));
    assert_eq!(window.sum(), 7);
}

/// What a window is to be, the slow way: everything that was ever added.
struct Slow {
    added: Vec<(Now, u64)>,
}

impl Slow {
    fn sum(&self, span: Span, now: Now) -> u128 {
        let counts = |then: &Now| match span {
            Span::Sliding(micros) => now.micros - then.micros < micros,
            Span::Fixed(micros) => then.unix_micros / micros == now.unix_micros / micros,
            Span::Calendar(_) => true,
        };
        let counting = self.added.iter().filter(|(then, _)| counts(then));
        counting.map(|(_, amount)| u128::from(*amount)).sum()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Take(u64),
    Change(prop::sample::Index, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..60u64).prop_map(Step::Wait),
        5 => (0..40u64).prop_map(Step::Take),
        2 => (any::<prop::sample::Index>(), 0..60u64).prop_map(|(which, to)| Step::Change(which, to)),
    ]
}

fn same_as_slow(span: Span, detail: Detail, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut now, mut slow) = (at(0), Slow { added: Vec::new() });
    let mut window = Window::new(span, now);
    for step in steps {
        match step {
            Step::Wait(micros) => {
                now = at(now.micros - MICROS_AT_START + micros);
            }
            Step::Take(amount) => {
                window.roll(span, now);
                window.add(amount, now, detail);
                slow.added.push((now, amount));
            }
            Step::Change(which, to) if !slow.added.is_empty() => {
                let (then, amount) = which.get(&slow.added);
                window.roll(span, now);
                window.change(then.micros, *amount, to, now);
                let at = which.index(slow.added.len());
                slow.added[at].1 = to;
            }
            Step::Change(..) => {}
        }
        window.roll(span, now);
        let (sum, exact) = (window.sum(), slow.sum(span, now));
        if detail == Detail::FINE {
            prop_assert_eq!(sum, exact);
            // The wait is the first moment at which the slow sum fits, too.
            let most = exact / 2;
            let wait = window.wait(most, now);
            let then = |wait| at(now.micros - MICROS_AT_START + wait);
            prop_assert!(slow.sum(span, then(wait)) <= most);
            prop_assert!(wait == 0 || slow.sum(span, then(wait - 1)) > most);
        } else if let Span::Sliding(micros) = span {
            let late = Span::Sliding(micros + micros.div_ceil(detail.slots));
            prop_assert!(sum >= exact && sum <= slow.sum(late, now));
            prop_assert!(window.len() as u64 <= detail.slots + 1);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_sliding_window_is_what_the_slow_one_is(steps in prop::collection::vec(step(), 0..80)) {
        same_as_slow(Span::Sliding(100), Detail::FINE, steps)?;
    }

    #[test]
    fn a_fixed_window_is_what_the_slow_one_is(steps in prop::collection::vec(step(), 0..80)) {
        same_as_slow(Span::Fixed(100), Detail::FINE, steps)?;
    }

    #[test]
    fn slots_are_never_under_and_little_over(steps in prop::collection::vec(step(), 0..120)) {
        same_as_slow(Span::Sliding(160), Detail { exact: 8, slots: 16 }, steps)?;
    }
}
