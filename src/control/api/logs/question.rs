//! What a request asks of the records of a gateway, and what is told beside the answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::row::number;
use crate::{
    control::{
        api::{envelope, failure::Failure},
        logs::{
            block::Range,
            filter::{
                Filter, Said, Term, Test,
                contract::list::{ListQuery, OrderBy},
            },
            query::{
                ScanReport,
                page::{PageError, PageOf, Ranges},
                select::Limit,
            },
        },
        store::marks,
    },
    domain::money::PicoDollars,
};

/// Longest search through bodies: a disk gives gigabytes meanwhile, and others wait for the thread.
const BODIES_LIMIT: Duration = Duration::from_secs(5);

/// Longest look at the records themselves. Millions of them take a part of a second.
const RECORDS_LIMIT: Duration = Duration::from_secs(10);

/// The end of a search through bodies that begins now.
pub fn bodies_limit() -> Limit {
    Limit {
        end: Instant::now().checked_add(BODIES_LIMIT),
    }
}

/// The end of a look at records that begins now.
pub fn records_limit() -> Limit {
    Limit {
        end: Instant::now().checked_add(RECORDS_LIMIT),
    }
}

/// All records of a gateway.
pub fn of_gateway(gateway: &str) -> Filter {
    Filter::new(vec![Term::of(Test::Gateway(gateway.to_owned()))])
}

/// What passes: the records of a gateway that a query means, with what was said of them where
/// filter or order ask for it.
pub fn filter(
    connection: &Connection,
    gateway: &str,
    query: &ListQuery,
) -> rusqlite::Result<Filter> {
    let filter = of_gateway(gateway).and(query.filter.clone());
    let mut said = Said::default();
    if filter.asks_feedback() || query.order_by == OrderBy::Feedback {
        marks::add_feedback(connection, gateway, &mut said)?;
    }
    if filter.asks_metadata() {
        marks::add_metadata(connection, gateway, &mut said)?;
    }
    Ok(filter.with_said(Arc::new(said)))
}

/// The order of a query, and the page of `rows` rows that begins after `offset` others.
pub fn page_of(query: &ListQuery, offset: u64, rows: u64) -> PageOf {
    PageOf {
        order_by: query.order_by,
        direction: query.direction,
        offset,
        rows: usize::try_from(rows).unwrap_or(usize::MAX),
        after: None,
        count: true,
        ranges: query.meta_info,
    }
}

/// A refusal of what cannot be had; `parameter` is what asked too much.
pub fn refusal(error: PageError, parameter: &str) -> Failure {
    match error {
        PageError::Deep | PageError::Many => {
            Failure::invalid(&["query", parameter], error.to_string())
        }
        PageError::Io(error) => error.into(),
    }
}

/// Tells of what was not looked at, or could not be.
pub fn messages(bodies: &ScanReport, records: &ScanReport) -> Vec<Value> {
    let mut messages = Vec::new();
    let mut say = |message: String| {
        messages.push(json!({"code": envelope::CODE_REQUEST, "message": message}));
    };
    if bodies.partial {
        say("partial: not all bodies were searched, the newest first; narrow the search by start_date and end_date".to_owned());
    }
    if records.partial {
        say("partial: not all records were looked at; narrow the filter".to_owned());
    }
    let damages = bodies.damages.len() + records.damages.len();
    if damages > 0 {
        say(format!(
            "partial: {damages} damaged stretches of the log were left out; the server's diagnostics name them"
        ));
        for damage in bodies.damages.iter().chain(&records.damages) {
            tracing::warn!("{damage}");
        }
    }
    messages
}

/// Writes the least and greatest values into `result_info`. What nobody knows has none.
pub fn write_ranges(ranges: &Ranges, info: &mut Value) {
    let dollars = |cost: u64| number(&PicoDollars(cost).to_string());
    let count = |count: u64| Value::from(count);
    let millis = |micros: u64| Value::from(micros / 1000);
    let mut write = |name: &str, range: Range, shown: &dyn Fn(u64) -> Value| {
        let known = |value: u64| (!range.is_empty()).then(|| shown(value));
        info[format!("min_{name}")] = known(range.min).into();
        info[format!("max_{name}")] = known(range.max).into();
    };
    write("cost", ranges.cost, &dollars);
    write("duration", ranges.duration, &millis);
    write("tokens_in", ranges.tokens_in, &count);
    write("tokens_out", ranges.tokens_out, &count);
    write("total_tokens", ranges.tokens, &count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_a_part_says_so() {
        let whole = ScanReport::default();
        assert_eq!(messages(&whole, &whole), Vec::<Value>::new());
        let part = || ScanReport {
            partial: true,
            ..ScanReport::default()
        };
        for (bodies, records, word) in [
            (part(), whole, "bodies"),
            (ScanReport::default(), part(), "records"),
        ] {
            let messages = messages(&bodies, &records);
            assert_eq!(messages.len(), 1);
            let message = messages[0]["message"].as_str().unwrap();
            assert!(
                message.starts_with("partial: ") && message.contains(word),
                "{message}"
            );
            assert_eq!(messages[0]["code"], envelope::CODE_REQUEST);
        }
    }

    #[test]
    fn what_nobody_knows_has_no_least_and_no_greatest() {
        let mut ranges = Ranges::NONE;
        ranges.cost.add(1);
        ranges.duration.add(2_999);
        let mut info = json!({});
        write_ranges(&ranges, &mut info);
        let shown =
            ["min_cost", "max_duration", "min_tokens_in"].map(|name| info[name].to_string());
        assert_eq!(shown, ["0.000000000001", "2", "null"]);
    }
}
