use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    control::logs::{
        folder::LogDir,
        frame::{self, FrameBuffer, Kind},
        query::{
            figures::{Figures, figures},
            group::{GroupKey, Wanted},
            sums::{GroupOf, GroupOrder, group},
        },
        seal::seal_journal,
        segment::{Appender, write_at},
        snapshot::LogReader,
    },
    domain::record::{TEXTS, Texts},
};

const NOW: u64 = 1_795_262_400_000_000;

#[derive(Debug, Clone)]
struct Row {
    ago: u64,
    model: &'static str,
    cost: Option<u64>,
    duration: u64,
    tokens: Option<u64>,
    ok: bool,
    logged: bool,
}

fn row() -> impl Strategy<Value = Row> {
    (
        0..50u64,
        select(vec!["a", "b", "c"]),
        option::of(0..5u64),
        0..5u64,
        option::of(0..5u64),
        any::<bool>(),
        prop::bool::weighted(0.9),
    )
        .prop_map(|(ago, model, cost, duration, tokens, ok, logged)| Row {
            ago,
            model,
            cost,
            duration,
            tokens,
            ok,
            logged,
        })
}

fn record(number: u128, row: &Row) -> Record {
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Model as usize] = row.model.as_bytes();
    Record {
        id: number.to_be_bytes(),
        at_micros: NOW - row.ago,
        cost: row.cost,
        duration_micros: row.duration,
        tokens_input: row.tokens,
        outcome: u8::from(!row.ok),
        flags: if row.logged { 0 } else { flag::UNLOGGED },
        texts: Texts::pack(&texts),
        ..Record::default()
    }
}

/// Writes journals of these rows and seals all but the last.
fn store(journals: &[Vec<Row>]) -> (tempfile::TempDir, LogSnapshot, Vec<Record>) {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut all = Vec::new();
    for (number, rows) in (1u64..).zip(journals) {
        let path = log.journal(number);
        let mut appender = Appender::create(&path, Kind::Rows, 0, write_at()).unwrap();
        let records: Vec<_> = rows
            .iter()
            .map(|row| {
                all.push(record(all.len() as u128, row));
                Box::new(all[all.len() - 1].clone())
            })
            .collect();
        let (mut buffer, header) = frame::encode_rows(&records, FrameBuffer::new()).unwrap();
        appender.append(&mut buffer, header).unwrap();
        drop(appender);
        if number < journals.len() as u64 {
            let never = std::sync::atomic::AtomicBool::new(false);
            seal_journal(&log, number, &path, &mut Vec::new(), &never).unwrap();
        }
    }
    let snapshot = LogReader::new(log).snapshot().unwrap();
    all.retain(Record::is_logged);
    (dir, snapshot, all)
}

fn sort(records: &mut [&Record], by: OrderBy, direction: OrderDirection) {
    records.sort_by_key(|record| {
        let rank = match by {
            OrderBy::Model => Rank::Text(record.texts.get(Text::Model).to_vec()),
            OrderBy::Cost => Rank::Number(record.cost),
            OrderBy::Success => Rank::Number(Some((record.outcome == 0).into())),
            _ => Rank::None,
        };
        (rank, record.at_micros, record.id)
    });
    if direction == OrderDirection::Descending {
        records.reverse();
    }
}

fn wanted() -> impl Strategy<Value = PageOf> {
    (
        select(vec![
            OrderBy::CreatedAt,
            OrderBy::Model,
            OrderBy::Cost,
            OrderBy::Success,
        ]),
        select(vec![OrderDirection::Ascending, OrderDirection::Descending]),
        0..80u64,
        0..30usize,
    )
        .prop_map(|(order_by, direction, offset, rows)| PageOf {
            order_by,
            direction,
            offset,
            rows,
            after: None,
            count: true,
            ranges: true,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn pages_are_slices_of_all_rows_in_order(
        journals in vec(vec(row(), 1..40), 1..4),
        filter in select(vec!["", "model:a", "cost:>=0 -model:b", "after:30us", "duration:none"]),
        wanted in wanted(),
    ) {
        let filter = Filter::parse(filter, NOW).unwrap();
        let (_dir, snapshot, all) = store(&journals);
        let page = page(&snapshot, &filter, &wanted, Limit::default()).unwrap();
        prop_assert!(page.report.damages.is_empty());
        let mut rows: Vec<&Record> = all
            .iter()
            .filter(|record| {
                let bytes = rkyv::to_bytes::<rkyv::rancor::Failure>(*record).unwrap();
                let archived = rkyv::access::<
                    crate::domain::record::ArchivedRecord,
                    rkyv::rancor::Failure,
                >(&bytes);
                filter.matches(archived.unwrap())
            })
            .collect();
        prop_assert_eq!(page.total, Some(rows.len() as u64));
        let mut ranges = Ranges::NONE;
        for record in &rows {
            ranges.duration.add(record.duration_micros);
            record.cost.into_iter().for_each(|cost| ranges.cost.add(cost));
            record.tokens_input.into_iter().for_each(|n| ranges.tokens_in.add(n));
        }
        let found = page.ranges.unwrap();
        prop_assert_eq!(
            (found.cost, found.duration, found.tokens_in, found.tokens),
            (ranges.cost, ranges.duration, ranges.tokens_in, ranges.tokens_in)
        );
        sort(&mut rows, wanted.order_by, wanted.direction);
        let offset = usize::try_from(wanted.offset).unwrap();
        let expected: Vec<_> = rows.iter().skip(offset).take(wanted.rows).copied().cloned().collect();
        prop_assert_eq!(&page.records, &expected);

        // The same page from the time that it begins with.
        if wanted.order_by == OrderBy::CreatedAt && offset < rows.len() {
            let mut asked = Select::new(&snapshot, &filter, Limit::default());
            let mut counts = Vec::new();
            asked.each(snapshot.blocks(), |at, _, mask| {
                counts.push((*at, mask.count() as u64));
                Ok(ControlFlow::Continue(()))
            });
            let window = deep_window(&mut asked, &counts, &wanted);
            let from = usize::try_from(window.from).unwrap();
            let kept = from + wanted.rows;
            let mut best = Best::new(&wanted, kept, window);
            let blocks: Vec<_> = snapshot.blocks().collect();
            best.find(&mut asked, &blocks);
            let found = best.into_order();
            let skip = found.get(from..).unwrap_or_default();
            prop_assert_eq!(records(&mut asked, &blocks, skip), expected);
        }

        let most = wanted.rows as u64;
        let (found, _) = ids(&snapshot, &filter, &wanted, Some(most)).unwrap();
        let first: Vec<_> = rows.iter().take(wanted.rows).map(|record| record.id()).collect();
        prop_assert_eq!(found, first);
        prop_assert_eq!(ids(&snapshot, &filter, &wanted, None).unwrap().0.len(), rows.len());

        // What groups hold adds up to what the rows hold, to the last pico-dollar.
        let of = GroupOf {
            keys: vec![GroupKey::Text(Text::Model)],
            wanted: Wanted::ALL,
            order: GroupOrder::Cost,
            top: Some(2),
        };
        let grouped = group(&snapshot, &filter, &of, Limit::default());
        prop_assert!(grouped.groups.len() <= 2 && !grouped.is_crowded);
        let costs = grouped.groups.iter().chain(&grouped.other).map(|group| group.totals.cost);
        let cost: u128 = rows.iter().map(|record| u128::from(record.cost.unwrap_or(0))).sum();
        prop_assert_eq!(costs.sum::<u128>(), cost);

        // The page after a row begins with the next.
        if let Some(row) = rows.get(offset).filter(|_| wanted.order_by == OrderBy::CreatedAt) {
            let next = PageOf { offset: 0, after: Some((row.at_micros, row.id)), ..wanted.clone() };
            let page = super::page(&snapshot, &filter, &next, Limit::default()).unwrap();
            let expected: Vec<_> =
                rows.iter().skip(offset + 1).take(wanted.rows).copied().cloned().collect();
            prop_assert_eq!(page.records, expected);
        }
    }

    #[test]
    fn figures_are_those_of_rows_that_pass_any_filter_each_once(
        journals in vec(vec(row(), 1..40), 1..4),
        filters in vec(select(vec!["model:a", "cost:>=2", "duration:<3us", "feedback:up"]), 0..3),
        thumbs in vec((0..100u128, -1..=1i64), 0..30),
    ) {
        let (_dir, snapshot, all) = store(&journals);
        let mut said = Said::default();
        for (number, thumb) in thumbs {
            said.add_feedback(number.to_be_bytes(), thumb);
        }
        let said = std::sync::Arc::new(said);
        let told = |filter: &str| {
            let filter = Filter::parse(filter, NOW).unwrap();
            filter.with_said(std::sync::Arc::clone(&said))
        };
        let filters: Vec<_> = filters.into_iter().map(told).collect();
        let base = told("-model:c");
        let mut expected = Figures::default();
        let mut greatest = None;
        for record in &all {
            let bytes = rkyv::to_bytes::<rkyv::rancor::Failure>(record).unwrap();
            let archived = rkyv::access::<
                crate::domain::record::ArchivedRecord,
                rkyv::rancor::Failure,
            >(&bytes);
            let archived = archived.unwrap();
            if !base.matches(archived) {
                continue;
            }
            greatest = greatest.max(Some(record.id()));
            if !filters.iter().any(|filter| filter.matches(archived)) {
                continue;
            }
            expected.rows += 1;
            expected.duration_micros += u128::from(record.duration_micros);
            expected.cost += u128::from(record.cost.unwrap_or(0));
            expected.priced += u64::from(record.cost.is_some());
            expected.judged += u64::from(matches!(said.feedback(&record.id), Some(1 | -1)));
            expected.up += u64::from(said.feedback(&record.id) == Some(1));
        }
        let (found, report) = figures(&snapshot, &base, &filters, Limit::default());
        prop_assert!(report.damages.is_empty());
        prop_assert_eq!(found, expected);
        prop_assert_eq!(greatest_id(&snapshot, &base).0, greatest);
    }

    #[test]
    fn a_record_is_found_by_its_id_unless_it_may_not_be_served(
        journals in vec(vec(row(), 1..20), 1..4),
    ) {
        let (_dir, snapshot, all) = store(&journals);
        let count: usize = journals.iter().map(Vec::len).sum();
        for number in 0..=count as u128 {
            let (found, report) = find(&snapshot, RequestId(number.to_be_bytes()));
            prop_assert!(report.damages.is_empty());
            let expected = all.iter().find(|record| record.id == number.to_be_bytes());
            prop_assert_eq!(found.as_ref(), expected);
        }
    }
}

fn plain(ago: u64) -> Row {
    Row {
        ago,
        model: "a",
        cost: None,
        duration: 0,
        tokens: None,
        ok: true,
        logged: true,
    }
}

#[test]
fn rows_are_put_in_order_by_what_people_said() {
    let rows: Vec<Row> = (0..4).map(plain).collect();
    let (_dir, snapshot, _) = store(&[rows[..2].to_vec(), rows[2..].to_vec()]);
    let mut said = Said::default();
    for (number, thumb) in [(1u128, 1), (2, -1), (3, 0)] {
        said.add_feedback(number.to_be_bytes(), thumb);
    }
    let filter = Filter::default().with_said(std::sync::Arc::new(said));
    let by_feedback = PageOf {
        order_by: OrderBy::Feedback,
        direction: OrderDirection::Ascending,
        ..PageOf::newest(10)
    };
    let page = page(&snapshot, &filter, &by_feedback, Limit::default()).unwrap();
    let found: Vec<_> = page.records.iter().map(|record| record.id[15]).collect();
    assert_eq!(found, [0, 2, 3, 1]);
}

#[test]
fn more_rows_than_can_be_put_in_order_are_taken_if_they_are_all() {
    let rows: Vec<Row> = (0..4).map(plain).collect();
    let (_dir, snapshot, _) = store(&[rows]);
    let newest = PageOf::newest(0);
    let (found, _) = ids(&snapshot, &Filter::default(), &newest, Some(u64::MAX)).unwrap();
    assert_eq!(found.len(), 4);
}

#[test]
fn an_end_of_the_time_gives_a_part() {
    let rows: Vec<Row> = (0..10).map(plain).collect();
    let (_dir, snapshot, _) = store(&[rows.clone(), rows]);
    let over = Limit {
        end: Some(std::time::Instant::now()),
    };
    let page = page(&snapshot, &Filter::default(), &PageOf::newest(5), over).unwrap();
    assert!(page.report.partial);
    assert!(page.records.is_empty());
}

#[test]
fn a_page_too_deep_for_its_order_is_refused() {
    let (_dir, snapshot, _) = store(&[vec![plain(0)]]);
    let deep = PageOf {
        order_by: OrderBy::Model,
        offset: 1_000_000,
        ..PageOf::newest(5)
    };
    let wanted = page(&snapshot, &Filter::default(), &deep, Limit::default());
    assert!(matches!(wanted, Err(PageError::Deep)));
    let counted = PageOf {
        count: true,
        ..deep
    };
    let past = page(&snapshot, &Filter::default(), &counted, Limit::default()).unwrap();
    assert_eq!(
        (past.records.len(), past.total),
        (0, Some(1)),
        "past the end there is nothing"
    );
}
