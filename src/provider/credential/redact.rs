//! Paths fit for a record: the secrets in their query replaced.

use super::super::url_text::{decoded, is_name, split_parameter, split_query};

/// Appends a path and query with the values of credentials replaced by `***`: `key`, `api_key`,
/// `token`, `access_token`, `sig`, every `X-Amz-…`, and what providers of the table take as a key
/// in a query. Names are compared in any case and with percent-encoding undone; all else is
/// copied as it stands.
///
/// ```
/// let mut out = Vec::new();
/// tidegate::provider::credential::redact_query(b"/v1/models?alt=sse&key=AIza", &mut out);
/// assert_eq!(out, b"/v1/models?alt=sse&key=***");
/// ```
pub fn redact_query(path_and_query: &[u8], out: &mut Vec<u8>) {
    let (path, query) = split_query(path_and_query);
    out.extend_from_slice(path);
    let Some(parameters) = query.strip_prefix(b"?") else {
        return;
    };
    out.push(b'?');
    // Some servers part parameters by `;` too, so a secret may follow one.
    for parameter in parameters.split_inclusive(|b| matches!(b, b'&' | b';')) {
        let (bare, border) = match parameter.split_last() {
            Some((border @ (b'&' | b';'), bare)) => (bare, Some(*border)),
            _ => (parameter, None),
        };
        let (name, value) = split_parameter(bare);
        if is_secret(name) && name.len() < bare.len() && !value.is_empty() {
            out.extend_from_slice(name);
            out.extend_from_slice(b"=***");
        } else {
            out.extend_from_slice(bare);
        }
        out.extend(border);
    }
}

fn is_secret(name: &[u8]) -> bool {
    SECRETS.iter().any(|secret| is_name(name, secret))
        || decoded(name)
            .take(AWS_PREFIX.len())
            .map(|b| b.to_ascii_lowercase())
            .eq(AWS_PREFIX.bytes())
}

const AWS_PREFIX: &str = "x-amz-";

/// Names of parameters whose values are credentials.
const SECRETS: [&str; 11] = [
    "key",
    "api_key",
    "api-key",
    "apikey",
    "token",
    "access_token",
    "sig",
    "xi-api-key",
    "xi_api_key",
    "fal_jwt_token",
    "authorization",
];
