//! The form of answers (contract `management-api.md` section 1.2).

use serde_json::{Value, json};

use crate::handoff::mailbox::ApiAnswer;

/// `content-type` of JSON.
pub const JSON: &str = "application/json";

/// Code of failures that the contract has no code for.
pub const CODE_REQUEST: u32 = 7000;
/// Code of values that are not allowed.
pub const CODE_INVALID: u32 = 7001;
/// Code of resources that do not exist.
pub const CODE_NOT_FOUND: u32 = 7002;
/// The same as [`CODE_INVALID`], for custom providers.
pub const CODE_PROVIDER_INVALID: u32 = 1002;
/// Code of names that are taken.
pub const CODE_DUPLICATE: u32 = 1003;
/// The same as [`CODE_NOT_FOUND`], for custom providers.
pub const CODE_PROVIDER_NOT_FOUND: u32 = 1004;
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
    /// A page, of what was asked for.
    pub fn new(page: Option<u64>, per_page: Option<u64>) -> Self {
        Self {
            page: page.unwrap_or(1).max(1),
            per_page: per_page.unwrap_or(PER_PAGE).clamp(1, PER_PAGE_MAX),
        }
    }

    /// Entries before the page.
    pub fn offset(self) -> u64 {
        (self.page - 1).saturating_mul(self.per_page)
    }

    /// The entries of the page out of all.
    pub fn of<T>(self, all: Vec<T>) -> Vec<T> {
        let offset = usize::try_from(self.offset()).unwrap_or(usize::MAX);
        let count = usize::try_from(self.per_page).unwrap_or(usize::MAX);
        all.into_iter().skip(offset).take(count).collect()
    }

    /// `result_info` of a page with `count` entries out of `total`.
    pub fn info(self, count: usize, total: u64) -> Value {
        json!({
            "page": self.page,
            "per_page": self.per_page,
            "count": count,
            "total_count": total,
            "total_pages": total.div_ceil(self.per_page),
        })
    }
}

/// A success with one result and nothing to say about it.
pub fn result(result: &Value) -> ApiAnswer {
    success(result, &[])
}

/// A page of `all`. One past the end is empty: clients read on until they meet that.
pub fn list(all: Vec<Value>, paging: Paging) -> ApiAnswer {
    let total = all.len() as u64;
    page(&paging.of(all), paging, total)
}

/// One page out of `total` entries.
pub fn page(result: &[Value], paging: Paging, total: u64) -> ApiAnswer {
    let info = paging.info(result.len(), total);
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
        let check = |page: Option<u64>, per_page: Option<u64>, result: Value, pages: u64| {
            let answer = list(all.to_vec(), Paging::new(page, per_page));
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!((answer.status, &body["result"]), (200, &result));
            assert_eq!(body["result_info"]["total_pages"], json!(pages));
        };
        check(None, None, json!([1, 2, 3]), 1);
        check(Some(2), Some(2), json!([3]), 2);
        check(Some(3), Some(2), json!([]), 2);
        check(Some(u64::MAX), Some(100), json!([]), 1);
        check(Some(0), Some(0), json!([1]), 3);
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
