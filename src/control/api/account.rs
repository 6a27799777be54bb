//! Account and token, as far as clients look at them before they ask for more.

use serde_json::json;

use super::{ApiParts, envelope, request::Request};
use crate::handoff::mailbox::ApiAnswer;

/// The account's id where any id is taken: clients that check ids want 32 hexadecimal digits.
pub const ANY_ACCOUNT: &str = "00000000000000000000000000000000";

/// `/client/v4/user/tokens/verify`. That the request came this far is the answer.
pub fn verify_token(_: &ApiParts, _: &Request<'_>) -> ApiAnswer {
    let message = json!({
        "code": envelope::CODE_TOKEN,
        "message": "This API Token is valid and active",
        "type": null,
    });
    // Tokens have names here, and no ids that mean anything to clients.
    let result = json!({"id": ANY_ACCOUNT, "status": "active"});
    envelope::success(&result, &[message])
}

/// `/client/v4/accounts`
pub fn accounts(parts: &ApiParts, request: &Request<'_>) -> ApiAnswer {
    let id = parts.standing.account_id();
    let account = json!({
        "id": id.as_deref().unwrap_or(ANY_ACCOUNT),
        "name": id.as_deref().unwrap_or("tidegate"),
        "type": "standard",
    });
    envelope::list(vec![account], request.paging())
}
