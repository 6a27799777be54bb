//! Google Vertex AI: the region is read from the path and chooses the host.

use super::{
    Dialect,
    address::{self, AddressError, Base, Overrides, Route, Wanted},
    credential::{BEARER, GOOG, Slot},
    gemini,
    table::Provider,
    url_text::segment_after,
};

/// `v1/projects/{p}/locations/{region}/publishers/…`; without a location (express mode: a key,
/// no project) the global host serves.
#[expect(
    clippy::unnecessary_wraps,
    reason = "one signature for every provider's route"
)]
pub(super) fn route<'a, 'o>(
    line: &'static Provider,
    path: &'a [u8],
    _: &Wanted<'a>,
    overrides: &'o Overrides,
) -> Result<Route<'a, 'o>, AddressError> {
    let region = segment_after(path, "locations").unwrap_or(b"global");
    let base = match region {
        b"global" => &GLOBAL,
        // Multi-regions have hosts of another form; the plain one does not exist for them.
        b"us" | b"eu" => &MULTI_REGION,
        _ => address::table_base(line),
    };
    let base = address::base_or(overrides, base);
    Ok(Route::new(base, path).parts([("region", region), address::NO_PART]))
}

static GLOBAL: Base = Base::https("aiplatform.googleapis.com", "");
static MULTI_REGION: Base = Base::https("aiplatform.{region}.rep.googleapis.com", "");

/// An API key serves express mode; paths with a project want an access token.
pub(super) fn slot(_: &'static Provider, path: &[u8]) -> Slot {
    if segment_after(path, "projects").is_some() {
        BEARER
    } else {
        GOOG
    }
}

/// Each publisher keeps its own dialect on Vertex.
pub(super) fn dialect(native: Dialect, path: &[u8]) -> Dialect {
    match segment_after(path, "publishers") {
        Some(b"anthropic") => Dialect::Anthropic,
        Some(b"mistralai") => Dialect::Mistral,
        Some(b"google") => Dialect::Gemini,
        Some(_) => Dialect::OpenAi,
        None if segment_after(path, "endpoints").is_some() => Dialect::OpenAi,
        None => gemini::dialect(native, path),
    }
}
