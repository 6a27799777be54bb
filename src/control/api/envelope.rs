//! The form of answers (contract `management-api.md` section 1.2).

use serde_json::{Value, json};

use crate::handoff::mailbox::ApiAnswer;

/// `content-type` of JSON.
pub const JSON: &str = "application/json";

/// Code of failures that the contract has no code for.
pub const CODE_REQUEST: u32 = 7000;
/// Code of paths that lead nowhere.
pub const CODE_NO_ROUTE: u32 = 7003;
/// Code of tokens that do not suffice, and of the message that one does.
pub const CODE_TOKEN: u32 = 10_000;

/// A JSON document as it is.
pub fn document(status: u16, document: &Value) -> ApiAnswer {
    ApiAnswer {
        status,
        content_type: JSON,
        fields: Vec::new(),
        body: document.to_string().into_bytes(),
    }
}

/// A success with one result. `messages` are objects with `code` and `message`.
pub fn success(result: &Value, messages: &[Value]) -> ApiAnswer {
    document(
        200,
        &json!({"success": true, "errors": [], "messages": messages, "result": result}),
    )
}

/// One page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    /// From 1.
    pub page: u64,
    /// Entries of a full page.
    pub per_page: u64,
}

/// Entries of a page where the request does not say.
const PER_PAGE: u64 = 20;
/// Most entries of a page.
const PER_PAGE_MAX: u64 = 100;

impl Paging {
    /// Reads `page` and `per_page` of a query; what is no number counts as not said.
    pub fn of(query: &str) -> Self {
        let find = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .rev()
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| value.parse().ok())
        };
        Self {
            page: find("page").unwrap_or(1).max(1),
            per_page: find("per_page").unwrap_or(PER_PAGE).clamp(1, PER_PAGE_MAX),
        }
    }
}

/// A page of `all`. One past the end is empty: clients read on until they meet that.
pub fn list(all: &[Value], paging: Paging) -> ApiAnswer {
    let Paging { page, per_page } = paging;
    let from = usize::try_from((page - 1).saturating_mul(per_page)).unwrap_or(usize::MAX);
    let per_page_count = usize::try_from(per_page).unwrap_or(usize::MAX);
    let result: Vec<&Value> = all.iter().skip(from).take(per_page_count).collect();
    let info = json!({
        "page": page,
        "per_page": per_page,
        "count": result.len(),
        "total_count": all.len(),
        "total_pages": (all.len() as u64).div_ceil(per_page),
    });
    document(
        200,
        &json!({"success": true, "errors": [], "messages": [], "result": result, "result_info": info}),
    )
}

/// A failure with one error.
pub fn failure(status: u16, code: u32, message: &str) -> ApiAnswer {
    let errors = [json!({"code": code, "message": message})];
    document(
        status,
        &json!({"success": false, "errors": errors, "messages": [], "result": null}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_past_the_end_is_an_empty_success() {
        let all = [json!(1), json!(2), json!(3)];
        let check = |query: &str, result: Value, pages: u64| {
            let answer = list(&all, Paging::of(query));
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!((answer.status, &body["result"]), (200, &result), "{query}");
            assert_eq!(body["result_info"]["total_pages"], json!(pages), "{query}");
        };
        check("", json!([1, 2, 3]), 1);
        check("page=2&per_page=2", json!([3]), 2);
        check("page=3&per_page=2", json!([]), 2);
        check("page=18446744073709551615&per_page=100", json!([]), 1);
        check("page=x&per_page=0", json!([1]), 3);
    }

    #[test]
    fn a_failure_has_the_contracts_shape() {
        let answer = failure(404, CODE_NO_ROUTE, "no");
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(
            text,
            r#"{"success":false,"errors":[{"code":7003,"message":"no"}],"messages":[],"result":null}"#
        );
    }
}
