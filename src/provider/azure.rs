//! Azure OpenAI: resource and deployment are the first two segments of the path.

use std::borrow::Cow;

use super::{
    address::{self, AddressError, Overrides, Route, Wanted},
    table::Provider,
    url_text::{decode, first_segment},
};

/// `{resource}/{deployment}/chat/completions` goes to the resource's own host.
pub(super) fn route<'a, 'o>(
    line: &'static Provider,
    path: &'a [u8],
    _: &Wanted<'a>,
    overrides: &'o Overrides,
) -> Result<Route<'a, 'o>, AddressError> {
    let (resource, after) = first_segment(path);
    let (deployment, rest) = first_segment(after);
    if resource.is_empty() || deployment.is_empty() {
        let form = "{resource}/{deployment}/chat/completions?api-version=...";
        return Err(AddressError::MissingPart { form });
    }
    let base = address::base_or(overrides, address::table_base(line));
    Ok(Route::new(base, rest).parts([("resource", resource), ("deployment", deployment)]))
}

/// The deployment is the only model name that a request carries for certain.
pub(super) fn model<'p>(path: &'p [u8], _: &'p [u8]) -> Option<Cow<'p, str>> {
    let (_, after) = first_segment(path);
    let (deployment, _) = first_segment(after);
    decode(deployment)
}
