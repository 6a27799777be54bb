use super::*;

fn record(cost: Option<u64>) -> Record {
    Record {
        duration_micros: 700,
        tokens_input: Some(10),
        tokens_output: Some(5),
        cost,
        ..Record::default()
    }
}

#[test]
fn shards_add_up_by_label_whatever_their_numbers() {
    let (mut a, mut b) = (Counters::default(), Counters::default());
    a.exchange("g", "openai", "m1", &record(Some(5)), None);
    a.exchange("g", "openai", "m2", &record(None), None);
    b.exchange("g", "openai", "m2", &record(Some(7)), None);
    b.bump(Plain::Malformed);
    a.merge(&b);
    let all = a.exchanges();
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].0.model, all[0].1.cost), ("m1", 5));
    let m2 = all[1].1;
    assert_eq!(
        (m2.requests, m2.tokens[0], m2.cost, m2.unpriced),
        (2, 20, 7, 1)
    );
    assert_eq!(a.plain(Plain::Malformed), 1);
    let latencies = a.latencies();
    assert_eq!(latencies[0].2.duration.buckets[3], 3);
}

#[test]
fn labels_are_bounded() {
    let mut counters = Counters::default();
    for number in 0..MODELS_MAX + 50 {
        counters.exchange("g", "p", &format!("m{number}"), &record(None), None);
    }
    let all = counters.exchanges();
    assert_eq!(all.len(), MODELS_MAX + 1);
    let other = all
        .iter()
        .find(|(labels, _)| labels.model == OTHER)
        .unwrap();
    assert_eq!(other.1.requests, 50);
}

#[test]
fn attempts_add_up_by_provider_and_end() {
    let (mut a, mut b) = (Counters::default(), Counters::default());
    a.attempt("openai", Attempted::Closed);
    a.attempt("openai", Attempted::Answered);
    b.attempt("groq", Attempted::Answered);
    b.attempt("openai", Attempted::Answered);
    for number in 0..PROVIDERS_MAX {
        b.attempt(&format!("custom-{number:03}"), Attempted::Timeout);
    }
    a.merge(&b);
    let all = a.attempts();
    // Two names were there first, so two of the others had no room.
    assert_eq!(all.len(), 3 + PROVIDERS_MAX - 2 + 1);
    let of = |name| all.iter().filter(move |(provider, _, _)| *provider == name);
    let openai: Vec<_> = of("openai").collect();
    assert_eq!(
        openai,
        [
            &("openai", Attempted::Answered, 2),
            &("openai", Attempted::Closed, 1)
        ]
    );
    let other: Vec<_> = of(OTHER).collect();
    assert_eq!(other, [&(OTHER, Attempted::Timeout, 2)]);
}

#[test]
fn only_what_streamed_has_a_speed() {
    let mut counters = Counters::default();
    let streamed = Record {
        tokens_output: Some(71),
        tokens_reasoning: Some(20),
        ..Record::default()
    };
    counters.exchange("g", "p", "m", &streamed, Some(2_000_000));
    counters.exchange("g", "p", "m", &record(None), None);
    let latencies = counters.latencies();
    let speed = &latencies[0].2.speed;
    assert_eq!(speed.sum_micros, 25_500_000);
    assert_eq!(speed.buckets.iter().sum::<u64>(), 1);
    assert_eq!(speed.buckets[6], 1);
}

#[test]
fn gauges_do_not_fall_below_zero() {
    let mut counters = Counters::default();
    counters.lower(Plain::StreamsOpen);
    assert_eq!(counters.plain(Plain::StreamsOpen), 0);
}
