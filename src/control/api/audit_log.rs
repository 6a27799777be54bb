//! The account's audit log (contract `management-api.md` section 13).

use serde_json::{Value, json};

use super::{envelope, failure::Failure, office::Office, request::Request};
use crate::{
    control::store::{
        audit::{self, Entry, Wanted},
        text,
    },
    handoff::mailbox::ApiAnswer,
};

/// `GET /accounts/{account_id}/audit_logs`
pub fn list(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let time = |name: &str| -> Result<Option<i64>, Failure> {
        let Some(text) = request.query(name) else {
            return Ok(None);
        };
        let wrong = || {
            let message = "must be a time as in 2026-11-21T08:30:00Z, or a date";
            Failure::invalid(&["query", name], message)
        };
        let whole = match text.len() {
            // A date alone is its midnight in UTC.
            10 => format!("{text}T00:00:00Z"),
            _ => text.to_owned(),
        };
        let time: jiff::Timestamp = whole.parse().map_err(|_| wrong())?;
        Ok(Some(time.as_millisecond()))
    };
    let owned = |name: &str| request.query(name).map(str::to_owned);
    let wanted = Wanted {
        since: time("since")?,
        before: time("before")?,
        action: owned("action.type"),
        actor: owned("actor.email"),
        id: owned("id"),
        ascending: request.query("direction") == Some("asc"),
    };
    let paging = request.paging();
    let (entries, total) = office
        .read(|connection| audit::page(connection, &wanted, paging.offset(), paging.per_page))?;
    let account = office.account(request);
    let result = entries.iter().map(|entry| shown(account, entry));
    Ok(envelope::page(&result.collect::<Vec<_>>(), paging, total))
}

fn shown(account: &str, entry: &Entry) -> Value {
    let parse = |text: &Option<String>| {
        let parsed = text
            .as_ref()
            .and_then(|text| serde_json::from_str(text).ok());
        parsed.unwrap_or(Value::Null)
    };
    let actor = match entry.actor.as_str() {
        "" => json!({"id": null, "email": null, "ip": null, "type": "Cloudflare"}),
        name => json!({"id": name, "email": name, "ip": null, "type": "user"}),
    };
    json!({
        "id": entry.id,
        "when": text::time(entry.at),
        "action": {"type": entry.action, "info": entry.action, "result": true},
        "actor": actor,
        "interface": if entry.actor.is_empty() { "System" } else { "API" },
        "metadata": {},
        "owner": {"id": account},
        "resource": {"type": entry.resource_type, "id": entry.resource_id},
        "oldValue": entry.old.clone().unwrap_or_default(),
        "newValue": entry.new.clone().unwrap_or_default(),
        "oldValueJson": parse(&entry.old),
        "newValueJson": parse(&entry.new),
    })
}
