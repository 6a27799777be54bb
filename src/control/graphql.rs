//! Analytics over GraphQL: counts, sums and quantiles of exchanges, by the dimensions that a query
//! selects (contract `observability.md` 3.3).
//!
//! Counts come from the rollups, so exchanges without logging are among them; only what asks for
//! metadata in a way that rollups do not know is summed up from the records themselves. Everything
//! that a query can make large has a bound: its bytes, nesting, fields, questions, groups and
//! values, and the time it takes.
//!
//! Reading order: [`document`] (a request made safe), [`schema`] (what can be asked), [`filter`]
//! and [`order`] (its arguments), [`scalar`], [`groups`] (the answer to one question).

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use async_graphql::{EmptyMutation, EmptySubscription, Response, Schema, ServerError, Value};

use crate::control::logs::snapshot::LogReader;

pub mod document;
pub mod schema;
pub mod filter;
pub mod order;
pub mod scalar;
pub mod groups;

use self::{document::Prepared, groups::Met, schema::Query};

/// Longest time that records are looked through for one request. It ends before whoever waits
/// for the answer gives up.
const TIME_MAX: Duration = Duration::from_secs(15);

/// Most questions of one request: each may look at all there is.
const QUESTIONS_MAX: usize = 16;

/// Most values of one answer, some 100 bytes each while it is made.
const VALUES_MAX: usize = 1_000_000;

/// What one request may use up, and what it met.
#[derive(Debug)]
pub struct Desk {
    /// Where records are read.
    pub reader: LogReader,
    /// The account that is known here; `None`: any.
    pub account: Option<String>,
    /// When looking through records ends.
    pub end: Instant,
    /// Questions left.
    pub questions: usize,
    /// Values left.
    pub values: usize,
    /// Fields of the query, each of which an answer can have once for every group.
    pub fields: usize,
    /// What was met on the way to the answers.
    pub met: Met,
}

/// A [`Desk`] as resolvers share it.
pub type SharedDesk = Arc<Mutex<Desk>>;

/// Answers the body of a request: HTTP status and JSON. `account` is the one account that is
/// known; `None` takes any account for it.
///
/// A query that cannot be answered is HTTP 200 with `errors`, as clients of GraphQL expect; only
/// a body that holds no query is 400.
pub fn answer(reader: &mut LogReader, account: Option<&str>, body: &[u8]) -> (u16, Vec<u8>) {
    let Prepared { request, fields } = match document::prepare(body) {
        Ok(prepared) => prepared,
        Err(error) => {
            let status = if error.is_of_body() { 400 } else { 200 };
            let error = ServerError::new(error.to_string(), None);
            return (status, text(&Response::from_errors(vec![error])));
        }
    };
    // Resolvers own what they use; the reader is lent to them and taken back.
    let lent = LogReader::new(reader.log().clone());
    let desk = Arc::new(Mutex::new(Desk {
        reader: std::mem::replace(reader, lent),
        account: account.map(str::to_owned),
        end: Instant::now() + TIME_MAX,
        questions: QUESTIONS_MAX,
        values: VALUES_MAX,
        fields,
        met: Met::default(),
    }));
    let mut response = block_on(schema().execute(request.data(Arc::clone(&desk))));
    if let Some(desk) = Arc::into_inner(desk) {
        let desk = desk.into_inner().unwrap_or_else(PoisonError::into_inner);
        *reader = desk.reader;
        let unknown = desk.met.unknown;
        for (name, count) in [
            ("damages", desk.met.damages as u64),
            // Whoever adds values up must know that some are in a group with others, or missing.
            ("valuesInOther", unknown.values),
            ("membersNotKept", unknown.members),
            ("recordsGone", desk.met.gone),
        ] {
            if count > 0 {
                let count = Value::from(count);
                response.extensions.insert(name.to_owned(), count);
            }
        }
    }
    (200, text(&response))
}

/// The schema in GraphQL's own language.
pub fn description() -> String {
    schema().sdl()
}

type AnalyticsSchema = Schema<Query, EmptyMutation, EmptySubscription>;

fn schema() -> &'static AnalyticsSchema {
    static SCHEMA: OnceLock<AnalyticsSchema> = OnceLock::new();
    SCHEMA.get_or_init(|| Schema::build(Query, EmptyMutation, EmptySubscription).finish())
}

/// Writing into memory fails for no answer that is made here; should one, it is told as an error.
fn text(response: &Response) -> Vec<u8> {
    serde_json::to_vec(response).unwrap_or_else(|_| {
        br#"{"data":null,"errors":[{"message":"the answer could not be written"}]}"#.to_vec()
    })
}

/// Runs a future on this thread. Resolvers wait for nothing, so it is ready at the first look; a
/// waker that unparks keeps it right should one ever wait.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests;
