//! What a request for records asks for: filters, free text, order, number.

use std::cmp::Ordering;

use serde_json::Value;

use super::{
    condition::{Condition, form},
    row,
};
use crate::{
    control::{
        api::{failure::Failure, request::Request},
        store::marks::Mark,
    },
    domain::record::{Record, Text, flag},
};

/// A request for records.
#[derive(Debug)]
pub struct Wanted {
    /// All must let a record pass.
    pub conditions: Vec<Condition>,
    /// Text that its metadata must hold, in lower case.
    text: Option<String>,
    /// What decides the order.
    pub order: Order,
    /// The greatest comes first.
    pub descending: bool,
    /// Most records to take.
    pub limit: Option<usize>,
}

/// What decides the order of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// When they began.
    CreatedAt,
    /// The provider.
    Provider,
    /// The model.
    Model,
    /// What kind of model.
    ModelType,
    /// Whether they succeeded.
    Success,
    /// Whether they came from the cache.
    Cached,
    /// What they cost.
    Cost,
    /// Tokens of the request.
    TokensIn,
    /// Tokens of the answer.
    TokensOut,
    /// How long they took.
    Duration,
    /// Thumbs.
    Feedback,
}

const ORDERS: [(&str, Order); 11] = [
    ("created_at", Order::CreatedAt),
    ("provider", Order::Provider),
    ("model", Order::Model),
    ("model_type", Order::ModelType),
    ("success", Order::Success),
    ("cached", Order::Cached),
    ("cost", Order::Cost),
    ("tokens_in", Order::TokensIn),
    ("tokens_out", Order::TokensOut),
    ("duration", Order::Duration),
    ("feedback", Order::Feedback),
];

/// Orders of lists; deletions know all.
const LIST_ORDERS: usize = 6;

/// The value by which a record is sorted; ties are broken by time and id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortKey {
    /// Nothing to sort by.
    None,
    /// A number; what is unknown comes first.
    Number(Option<i128>),
    /// A text.
    Text(String),
}

impl Wanted {
    /// Reads the query of a list, old parameters too.
    pub fn of_list(request: &Request<'_>) -> Result<Self, Failure> {
        let mut wanted = Self::read(request, LIST_ORDERS)?;
        wanted.old_parameters(request)?;
        wanted.text = request.query("search").map(str::to_lowercase);
        Ok(wanted)
    }

    /// Reads the query of a deletion.
    pub fn of_delete(request: &Request<'_>) -> Result<Self, Failure> {
        let mut wanted = Self::read(request, ORDERS.len())?;
        if let Some(limit) = request.query("limit") {
            let number = limit
                .parse()
                .map_err(|_| Failure::invalid(&["query", "limit"], "must be a whole number"))?;
            wanted.limit = Some(number);
        }
        Ok(wanted)
    }

    /// A request for what some filters let pass.
    pub fn of_conditions(conditions: Vec<Condition>) -> Self {
        Self {
            conditions,
            text: None,
            order: Order::CreatedAt,
            descending: true,
            limit: None,
        }
    }

    fn read(request: &Request<'_>, orders: usize) -> Result<Self, Failure> {
        let orders = ORDERS.get(..orders).unwrap_or(&ORDERS);
        let order = match request.query("order_by") {
            None => Order::CreatedAt,
            Some(word) => {
                let found = orders.iter().find(|(name, _)| *name == word);
                let (_, order) = found.ok_or_else(|| {
                    let names: Vec<_> = orders.iter().map(|(name, _)| *name).collect();
                    let message = format!("must be one of: {}", names.join(", "));
                    Failure::invalid(&["query", "order_by"], message)
                })?;
                *order
            }
        };
        let direction = request
            .query("order_by_direction")
            .or_else(|| request.query("direction"));
        let descending = match direction {
            None | Some("desc") => true,
            Some("asc") => false,
            Some(_) => {
                let path = &["query", "order_by_direction"];
                return Err(Failure::invalid(path, "must be asc or desc"));
            }
        };
        Ok(Self {
            conditions: form::of_query(request.pairs())?,
            text: None,
            order,
            descending,
            limit: None,
        })
    }

    /// Adds what the parameters say that filters have replaced.
    fn old_parameters(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        for name in [
            "cached",
            "success",
            "feedback",
            "provider",
            "model",
            "model_type",
            "request_content_type",
            "response_content_type",
        ] {
            if let Some(value) = request.query(name) {
                // Thumbs down was a zero.
                let value = match (name, value) {
                    ("feedback", "0") => "-1",
                    (_, value) => value,
                };
                self.add(name, name, "eq", value)?;
            }
        }
        for (name, key, operator) in [
            ("start_date", "created_at", "lt"),
            ("end_date", "created_at", "gt"),
        ] {
            if let Some(value) = request.query(name) {
                self.add_not(name, key, operator, value)?;
            }
        }
        for (name, key) in [
            ("cost", "cost"),
            ("duration", "duration"),
            ("tokens_in", "tokens_in"),
            ("tokens_out", "tokens_out"),
            ("total_tokens", "tokens"),
        ] {
            for (side, outside) in [("min_", "lt"), ("max_", "gt")] {
                let name = format!("{side}{name}");
                if let Some(value) = request.query(&name) {
                    self.add_not(&name, key, outside, value)?;
                    // What is unknown is in no range.
                    self.add_known(key)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, key: &str, operator: &str, value: &str) -> Result<(), Failure> {
        let condition = Condition::new(0, key, operator, &[Value::from(value)]);
        self.conditions.push(condition.map_err(|failure| {
            let message = failure.errors.first().map(|error| error.message.clone());
            Failure::invalid(&["query", name], message.unwrap_or_default())
        })?);
        Ok(())
    }

    /// Bounds are inclusive, filters are not: what must not lie outside.
    fn add_not(
        &mut self,
        name: &str,
        key: &str,
        operator: &str,
        value: &str,
    ) -> Result<(), Failure> {
        self.add(name, key, operator, value)?;
        if let Some(condition) = self.conditions.pop() {
            self.conditions.push(condition.negated());
        }
        Ok(())
    }

    fn add_known(&mut self, key: &str) -> Result<(), Failure> {
        self.conditions
            .push(Condition::new(0, key, "neq", &[Value::Null])?);
        Ok(())
    }

    /// Says whether every record is meant.
    pub fn is_everything(&self) -> bool {
        self.conditions.is_empty() && self.text.is_none() && self.limit.is_none()
    }

    /// Says whether what was said of a record afterwards matters.
    pub fn needs_mark(&self) -> bool {
        self.text.is_some()
            || self.order == Order::Feedback
            || self.conditions.iter().any(Condition::needs_mark)
    }

    /// Says whether a record is meant.
    pub fn passes(&self, record: &Record, mark: &Mark) -> bool {
        let text = |text: &String| match row::metadata(record, mark) {
            Value::Null => false,
            metadata => metadata.to_string().to_lowercase().contains(text),
        };
        self.conditions
            .iter()
            .all(|condition| condition.passes(record, mark))
            && self.text.as_ref().is_none_or(text)
    }

    /// By what a record is sorted.
    pub fn sort_key(&self, record: &Record, mark: &Mark) -> SortKey {
        let number = |number: Option<u64>| SortKey::Number(number.map(i128::from));
        match self.order {
            Order::CreatedAt => SortKey::None,
            Order::Provider => SortKey::Text(record.text(Text::Provider).into_owned()),
            Order::Model => SortKey::Text(row::model(record)),
            Order::ModelType => {
                SortKey::Text(row::model_type(record).unwrap_or_default().to_owned())
            }
            Order::Success => number(Some(row::is_success(record).into())),
            Order::Cached => number(Some(record.has(flag::CACHED).into())),
            Order::Cost => number(record.cost),
            Order::TokensIn => number(record.tokens_input),
            Order::TokensOut => number(record.tokens_output),
            Order::Duration => number(Some(record.duration_micros)),
            Order::Feedback => SortKey::Number(mark.feedback.map(i128::from)),
        }
    }

    /// Turns an order around where the greatest comes first.
    pub fn directed(&self, order: Ordering) -> Ordering {
        if self.descending {
            order.reverse()
        } else {
            order
        }
    }
}
