//! Billing (contract `management-api.md` section 12), as far as it means anything where nobody is
//! billed: what is read parses, the spending limit is kept, payments are refused.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use serde_json::{Value, json};

use super::{
    envelope,
    failure::{Failure, Report},
    field::{whole, word},
    gateway::fields::member,
    office::Office,
    request::Request,
};
use crate::{
    control::store::{settings, text},
    handoff::mailbox::ApiAnswer,
};

/// Setting that holds the spending limit.
const SPENDING_LIMIT: &str = "billing_spending_limit";

/// `GET …/billing/credit-balance`
pub fn credit_balance(_: &mut Office, _: &Request<'_>) -> Result<ApiAnswer, Failure> {
    Ok(envelope::result(&json!({
        "balance": 0,
        "has_default_payment_method": false,
        "payment_method": null,
        "topup_config": {"amount": null, "threshold": null},
    })))
}

/// `GET …/billing/invoice-history`
pub fn invoice_history(_: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    if let Some(kind) = request.query("type")
        && !["auto", "manual", "all"].contains(&kind)
    {
        let message = "must be one of: auto, manual, all";
        return Err(Failure::invalid(&["query", "type"], message));
    }
    let paging = request.paging();
    Ok(envelope::result(&json!({
        "invoices": [],
        "pagination": {
            "has_more": false,
            "page": paging.page,
            "per_page": paging.per_page,
            "total_count": 0,
        },
    })))
}

/// `GET …/billing/invoice-preview`: the month so far.
pub fn invoice_preview(_: &mut Office, _: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (start, end) = month(text::now());
    Ok(envelope::result(&json!({
        "id": format!("preview-{start}"),
        "amount_due": 0,
        "amount_paid": 0,
        "amount_remaining": 0,
        "currency": "usd",
        "invoice_lines": [],
        "period_start": start,
        "period_end": end,
        "status": "draft",
    })))
}

/// Beginning and end of the month in UTC: Unix seconds.
fn month(now: i64) -> (i64, i64) {
    let now = Timestamp::from_millisecond(now).unwrap_or_default();
    let first = now.to_zoned(TimeZone::UTC).first_of_month();
    let first = first.and_then(|first| first.start_of_day());
    let Ok(first) = first else {
        return (0, 0);
    };
    let next = first.checked_add(1.month());
    let end = next.map_or(0, |next| next.timestamp().as_second());
    (first.timestamp().as_second(), end)
}

/// `GET …/billing/usage-history`
pub fn usage_history(_: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    if let Some(window) = request.query("value_grouping_window")
        && !["day", "hour"].contains(&window)
    {
        let path = &["query", "value_grouping_window"];
        return Err(Failure::invalid(path, "must be one of: day, hour"));
    }
    Ok(envelope::result(&json!({"history": []})))
}

/// `GET …/billing/spending-limit`
pub fn spending_limit(office: &mut Office, _: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let kept = office.read(|connection| settings::get(connection, SPENDING_LIMIT))?;
    let config: Option<Value> = kept.and_then(|text| serde_json::from_str(&text).ok());
    let enabled = config.is_some();
    let config =
        config.unwrap_or_else(|| json!({"amount": null, "duration": null, "strategy": null}));
    Ok(envelope::result(
        &json!({"enabled": enabled, "config": config}),
    ))
}

/// `POST …/billing/spending-limit`
pub fn set_spending_limit(
    office: &mut Office,
    request: &Request<'_>,
) -> Result<ApiAnswer, Failure> {
    let body = request.body()?;
    let mut report = Report::new(envelope::CODE_INVALID);
    let amount = member(&body, "amount", &mut report, |value, report| {
        whole(value, &(100..=1_000_000_000), report)
    });
    let duration = member(&body, "duration", &mut report, |value, report| {
        word(value, &["daily", "weekly", "monthly"], report)
    });
    let strategy = member(&body, "strategy", &mut report, |value, report| {
        word(value, &["fixed", "sliding"], report)
    });
    report.finish()?;
    let config = json!({"amount": amount, "duration": duration, "strategy": strategy}).to_string();
    office.change(|connection| Ok(settings::set(connection, SPENDING_LIMIT, Some(&config))?))?;
    Ok(envelope::result(&json!({})))
}

/// `DELETE …/billing/spending-limit`
pub fn delete_spending_limit(office: &mut Office, _: &Request<'_>) -> Result<ApiAnswer, Failure> {
    office.change(|connection| Ok(settings::set(connection, SPENDING_LIMIT, None)?))?;
    Ok(envelope::result(&json!({})))
}

/// `GET …/billing/topup/config`
pub fn topup_config(_: &mut Office, _: &Request<'_>) -> Result<ApiAnswer, Failure> {
    Ok(envelope::result(
        &json!({"amount": null, "threshold": null}),
    ))
}

/// `DELETE …/billing/topup/config`: there is none.
pub fn delete_topup_config(_: &mut Office, _: &Request<'_>) -> Result<ApiAnswer, Failure> {
    Ok(envelope::result(&json!({})))
}

/// Everything that would move money.
pub fn payment(_: &mut Office, _: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let message = "this server takes no payments: providers bill their own accounts";
    Err(Failure::new(501, envelope::CODE_REQUEST, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        // 2026-12-31T23:59:59Z
        assert_eq!(month(1_798_761_599_000), (1_796_083_200, 1_798_761_600));
    }
}
