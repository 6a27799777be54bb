use proptest::prelude::*;
use rkyv::rancor::Failure;

use super::*;
use crate::domain::record::{Record, TEXTS, Texts, flag};

/// 2026-11-21T12:00:00Z.
const NOW: u64 = 1_795_262_400_000_000;

fn record() -> Record {
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Gateway as usize] = b"default";
    texts[Text::Provider as usize] = b"openai";
    texts[Text::Model as usize] = b"gpt-4o-mini";
    texts[Text::Path as usize] = b"/v1/chat/completions?x=1";
    texts[Text::Metadata as usize] = br#"{"user":42,"team":"Blue Sky","trial":true}"#;
    texts[Text::Key as usize] = b"app";
    texts[Text::Error as usize] = b"the provider's answer ended early";
    let mut id = [0x11; 16];
    id[0] = 0xab;
    Record {
        id,
        at_micros: NOW - 3_600_000_000,
        duration_micros: 2_500_000,
        first_token_micros: Some(300_000),
        status: 503,
        outcome: Outcome::UpstreamCut as u8,
        flags: flag::STREAM,
        tokens_input: Some(3_000),
        tokens_output: Some(1_500),
        cost: Some(20_000_000_000),
        texts: Texts::pack(&texts),
        ..Record::default()
    }
}

#[track_caller]
fn check(filter: &str, expected: bool) {
    let bytes = rkyv::to_bytes::<Failure>(&record()).unwrap();
    let archived = rkyv::access::<ArchivedRecord, Failure>(&bytes).unwrap();
    let filter = Filter::parse(filter, NOW).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(filter.matches(archived), expected);
}

#[test]
fn the_example_of_the_design_passes_and_each_term_decides() {
    check(
        r#"status:5xx model:gpt-* provider:openai cached:false cost:>0.01 tokens:>4000 duration:>2s meta.user:42 "chat/comp" -gateway:test after:2h"#,
        true,
    );
    check("", true);
    check("status:503", true);
    check("status:200,503", true);
    check("status:4xx,200", false);
    check("status:>=500 status:<=503 status:<504", true);
    check("status:400..499", false);
    check("cost:>0.02", false);
    check("cost:>=0.02", true);
    check("cost:0.02", true);
    check("cost:none", false);
    check("-cost:none", true);
    check("tokens:4500 tokens_in:3k tokens_out:<1501", true);
    check("duration:2.5s duration:2500ms duration:1s..3s", true);
    check("duration:>1m", false);
    check("ttft:<0.5s", true);
    check("outcome:ok,upstream_cut", true);
    check("-outcome:upstream_cut", false);
    check("stream:true", true);
    check("stream:no", false);
    check("key:app method:\"\"", true);
    check("id:ab1111", true);
    check("id:bb", false);
    check("event:AB111111-*", true);
    check("after:30m", false);
    check("before:30m since:2026-11-21", true);
    check("until:2026-11-21T10:59:59.999Z", false);
    check("after:2026-11-21T12:00:00+01:00", true);
}

#[test]
fn texts_compare_whole_without_regard_to_case_and_with_stars() {
    check("model:GPT-4o-MINI", true);
    check("model:gpt", false);
    check("model:*4o*", true);
    check("model:g*4*-*i", true);
    check("model:*gpt-4o-mini*", true);
    check("model:gpt-4o-mini*mini", false);
    check("model:claude-*,gpt-*", true);
    check("model:\"gpt-*\"", false);
    check("meta.team:\"blue sky\"", true);
    check("meta.trial:true", true);
    check("meta.none:x", false);
    check("-meta.none:x", true);
}

#[test]
fn free_text_is_found_anywhere_in_path_model_error_and_metadata() {
    check("\"Ended Early\"", true);
    check("sky", true);
    check("openai", false);
    check("-early", false);
    check(r#""sky\"""#, true);
    check(r#""sky\"!""#, false);
}

#[test]
fn times_bound_what_must_be_read() {
    let bounds = |filter| Filter::parse(filter, NOW).unwrap().micros();
    assert_eq!(bounds("status:200"), 0..=u64::MAX);
    assert_eq!(
        bounds("after:2h before:1h"),
        NOW - 7_200_000_000..=NOW - 3_600_000_001
    );
    assert_eq!(bounds("-after:2h"), 0..=u64::MAX);
}

#[test]
fn an_error_points_at_its_term() {
    let error = |filter: &str| Filter::parse(filter, NOW).unwrap_err().to_string();
    assert_eq!(
        error("status:200 duration:>2 model:x"),
        "`>2` is not a time such as `>2s`, `250ms` or `1m..5m`\n\
         \x20 status:200 duration:>2 model:x\n\
         \x20            ^^^^^^^^^^^"
    );
    assert_eq!(
        error("ä \"open"),
        "this quote is not closed\n  ä \"open\n    ^^^^^"
    );
    assert!(error("modle:x").starts_with("`modle` is no key of a filter; there are after, "));
    assert!(error("cached:maybe").starts_with("`maybe` is neither `true` nor `false`"));
    assert!(error("outcome:fine").starts_with("`fine` is no outcome; there are ok, "));
    assert!(error("status:").starts_with("`status:` needs a value"));
    assert!(error("after:soon").starts_with("`soon` is no time"));
    assert!(error("-").starts_with("there is nothing to search for here"));
    assert!(error(&"a ".repeat(300)).starts_with("a filter has at most 256 values"));
    assert!(error(&"a".repeat(9_000)).starts_with("a filter has at most 8192 bytes"));
}

proptest! {
    #[test]
    fn any_filter_is_read_without_a_panic(filter in "[ -:,\"\\\\*<>.a-z0-9ä\u{0}]{0,60}") {
        if let Err(error) = Filter::parse(&filter, NOW) {
            let _ = error.to_string();
        }
    }

    #[test]
    fn what_was_read_prints_and_reads_the_same(
        filter in r#"(-?(model|path|error|meta\.a|meta_value|id|event|cost|tokens|duration|status|at|after|before|feedback|cached|outcome):[*a-c"\\0-9><=.,xms]{1,8} ?){1,3}"#
    ) {
        if let Ok(filter) = Filter::parse(&filter, NOW) {
            check_print(&filter)?;
        }
    }

    #[test]
    fn what_is_printed_reads_the_same(terms in prop::collection::vec(term(), 0..6)) {
        check_print(&Filter::new(terms))?;
    }

    #[test]
    fn a_pattern_with_one_star_is_prefix_and_suffix(text in "[ab]{0,6}", a in "[ab]{0,3}", b in "[ab]{0,3}") {
        let expected = text.len() >= a.len() + b.len() && text.starts_with(&a) && text.ends_with(&b);
        prop_assert_eq!(Pattern::of_pieces(&[a, b]).matches(text.as_bytes()), expected);
    }
}

fn check_print(filter: &Filter) -> Result<(), TestCaseError> {
    let printed = filter.to_string();
    let again = Filter::parse(&printed, NOW);
    prop_assert_eq!(again.as_ref(), Ok(filter), "{}", printed);
    Ok(())
}

/// The last microsecond that a calendar has.
const CALENDAR_END: u64 = 253_402_207_199_999_999;

fn term() -> impl Strategy<Value = Term> {
    let number = prop_oneof![
        Just(NumberTest::Unknown),
        Just(NumberTest::NEVER),
        Just(NumberTest::KNOWN),
        any::<u64>().prop_map(|n| NumberTest::Within(n, n)),
        any::<u64>().prop_map(|n| NumberTest::Within(n, u64::MAX)),
        (any::<u64>(), any::<u64>()).prop_map(|(a, b)| NumberTest::Within(a.min(b), a.max(b))),
    ];
    let pattern = || {
        prop::collection::vec("[ -~äß\n]{0,5}", 1..4).prop_map(|pieces| Pattern::of_pieces(&pieces))
    };
    let patterns = move || prop::collection::vec(pattern(), 1..3);
    let stretch = prop_oneof![
        Just((1, 0)),
        (0..CALENDAR_END).prop_map(|from| (from, u64::MAX)),
        (0..CALENDAR_END).prop_map(|to| (0, to)),
    ];
    let bounded = (0..CALENDAR_END, 0..CALENDAR_END).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let test = prop_oneof![
        (
            prop::sample::select(NumberField::KEYS.to_vec()),
            prop::collection::vec(number, 1..3)
        )
            .prop_map(|((_, field), tests)| Test::Number(field, tests)),
        (
            prop::sample::select(FlagField::KEYS.to_vec()),
            any::<bool>()
        )
            .prop_map(|((_, field), wanted)| Test::Flag(field, wanted)),
        (prop::sample::select(TextField::KEYS.to_vec()), patterns())
            .prop_map(|((_, field), patterns)| Test::Text(field, patterns)),
        prop::collection::vec(prop::sample::select(Outcome::ALL.to_vec()), 1..3)
            .prop_map(Test::Outcome),
        stretch.prop_map(|stretch| Test::Time(vec![stretch])),
        prop::collection::vec(bounded, 1..3).prop_map(Test::Time),
        patterns().prop_map(Test::Id),
        patterns().prop_map(Test::MetadataKey),
        patterns().prop_map(Test::MetadataValue),
        ("[a-z._-]{1,5}", patterns()).prop_map(|(name, p)| Test::Metadata(name, p)),
        prop::collection::vec(any::<Option<i64>>(), 1..3).prop_map(Test::Feedback),
        "[ -~]{1,6}".prop_map(|text| Test::Free(FreeText::new(&text))),
    ];
    (any::<bool>(), test).prop_map(|(negated, test)| Term { negated, test })
}
