//! Baseten: shared models under one host, a customer's own under a host of each.

use std::borrow::Cow;

use super::{
    Dialect,
    address::{self, AddressError, Base, NO_PART, Overrides, Route, Wanted},
    credential::{API_KEY, BEARER, Slot},
    table::Provider,
    url_text::{decode, first_segment},
};

/// `model/{id}` goes to the model's own host and its production deployment; a path behind the id
/// replaces `production/predict`. Everything else goes to the shared host.
///
/// A `base_url` stands for all of them: below it the path is kept as sent, unless it names
/// `{model}`.
pub(super) fn route<'a, 'o>(
    line: &'static Provider,
    path: &'a [u8],
    wanted: &Wanted<'a>,
    overrides: &'o Overrides,
) -> Result<Route<'a, 'o>, AddressError> {
    let Some(of_model) = path.strip_prefix(b"model/") else {
        return address::plain(line, path, wanted, overrides);
    };
    let (id, rest) = first_segment(of_model);
    if id.is_empty() {
        let form = "model/{id}";
        return Err(AddressError::MissingPart { form });
    }
    let parts = [("model", id), NO_PART];
    Ok(match &overrides.base_url {
        Some(base) if base.open_host || base.open_path => Route::new(base, rest).parts(parts),
        Some(base) => Route::new(base, path),
        None if rest.is_empty() => Route::new(&PRODUCTION, rest).parts(parts),
        None => Route::new(&DEDICATED, rest).parts(parts),
    })
}

static PRODUCTION: Base = Base::https("model-{model}.api.baseten.co", "/production/predict");
static DEDICATED: Base = Base::https("model-{model}.api.baseten.co", "");

/// The shared host takes what OpenAI's SDKs send; models of one's own take `Api-Key`.
pub(super) fn slot(_: &'static Provider, path: &[u8]) -> Slot {
    if path.starts_with(b"model/") {
        API_KEY
    } else {
        BEARER
    }
}

/// What a model of one's own answers is its owner's choice.
pub(super) fn dialect(native: Dialect, path: &[u8]) -> Dialect {
    if path.starts_with(b"model/") {
        Dialect::Unknown
    } else {
        super::model::plain_dialect(native, path)
    }
}

/// The id of `model/{id}`.
pub(super) fn model<'p>(path: &'p [u8], _: &'p [u8]) -> Option<Cow<'p, str>> {
    let (id, _) = first_segment(path.strip_prefix(b"model/")?);
    decode(id).filter(|id| !id.is_empty())
}
