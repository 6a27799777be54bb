//! The page for people who open the server in a browser.

use super::{ApiParts, request::Request};
use crate::handoff::mailbox::ApiAnswer;

/// Nothing but the page's own style may be loaded or run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// `/` and `/dashboard`
pub fn dashboard(_: &ApiParts, _: &Request<'_>) -> ApiAnswer {
    ApiAnswer {
        status: 200,
        content_type: "text/html; charset=utf-8",
        fields: vec![
            ("content-security-policy", POLICY.to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
            ("referrer-policy", "no-referrer".to_owned()),
        ],
        body: include_bytes!("page.html").to_vec(),
    }
}
