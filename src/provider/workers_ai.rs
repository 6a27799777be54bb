//! Workers AI: models by their `@cf/` names, and an OpenAI-like API beside them.

use std::borrow::Cow;

use super::{
    Dialect,
    address::{self, AddressError, Overrides, Route, Wanted},
    table::Provider,
    url_text::{decode, has_dot_segment, is_name, parameter, split_parameter},
};

/// `@cf/author/model` and `run/@cf/author/model` go below `…/ai/run`, `v1/…` below `…/ai`.
///
/// A `base_url` stands for `…/ai/run`; one that ends in `/ai` is completed.
pub(super) fn route<'a, 'o>(
    line: &'static Provider,
    path: &'a [u8],
    wanted: &Wanted<'a>,
    overrides: &'o Overrides,
) -> Result<Route<'a, 'o>, AddressError> {
    let account = wanted.account_id.as_bytes();
    let is_account = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
    let base = address::base_or(overrides, address::table_base(line));
    if base.open_path && (account.is_empty() || !account.iter().all(is_account)) {
        return Err(AddressError::BadPart { part: "account id" });
    }
    let path_below_run = path.strip_prefix(b"run/").unwrap_or(path);
    let route = Route::new(base, path_below_run).parts([("account_id", account), address::NO_PART]);
    Ok(if path.starts_with(b"v1/") {
        route.without_tail("/run")
    } else if base.path().ends_with("/ai") {
        route.before("run/")
    } else {
        route
    })
}

/// The path and query of a realtime request that names its model in the query.
pub(super) fn realtime(query: &[u8]) -> Result<(String, Vec<u8>), AddressError> {
    let model = parameter(query, "model").and_then(decode);
    let model = model.ok_or(AddressError::RealtimeModel)?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"@/._-".contains(&b);
    if !model.starts_with('@') || !model.bytes().all(is_plain) || has_dot_segment(model.as_bytes())
    {
        return Err(AddressError::RealtimeModel);
    }
    let mut out = Vec::with_capacity(query.len());
    let parameters = query.strip_prefix(b"?").unwrap_or(query);
    for parameter in parameters.split(|b| *b == b'&') {
        if !is_name(split_parameter(parameter).0, "model") {
            out.push(if out.is_empty() { b'?' } else { b'&' });
            out.extend_from_slice(parameter);
        }
    }
    Ok((model.into_owned(), out))
}

/// `v1/…` speaks OpenAI's dialect.
pub(super) fn dialect(native: Dialect, path: &[u8]) -> Dialect {
    if path.starts_with(b"v1/") {
        Dialect::OpenAi
    } else {
        native
    }
}

/// The model by its name in the path, or in the query of a realtime request.
pub(super) fn model<'p>(path: &'p [u8], query: &'p [u8]) -> Option<Cow<'p, str>> {
    let name = if path.is_empty() {
        parameter(query, "model")?
    } else {
        path.strip_prefix(b"run/").unwrap_or(path)
    };
    decode(name).filter(|name| name.starts_with('@'))
}
