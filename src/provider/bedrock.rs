//! Amazon Bedrock: service and region are the first two segments of the path.
//!
//! Requests signed by the client pass as they are, which is why paths keep their encoding and the
//! `Host` field names the AWS host.

use std::borrow::Cow;

use super::{
    Dialect,
    address::{self, AddressError, Base, Overrides, Route, Wanted},
    credential::{BEARER, Slot, X_API_KEY},
    table::Provider,
    url_text::{decode, first_segment, segment_after},
};

/// `bedrock-runtime/{region}/model/{id}/invoke`, `bedrock-mantle/{region}/anthropic/v1/messages`.
pub(super) fn route<'a, 'o>(
    line: &'static Provider,
    path: &'a [u8],
    _: &Wanted<'a>,
    overrides: &'o Overrides,
) -> Result<Route<'a, 'o>, AddressError> {
    let (service, after) = first_segment(path);
    let (region, rest) = first_segment(after);
    let base = match service {
        b"bedrock-runtime" => address::table_base(line),
        b"bedrock-mantle" => &MANTLE,
        _ => return Err(AddressError::UnknownService),
    };
    if region.is_empty() {
        let form = "bedrock-runtime/{region}/model/{id}/invoke";
        return Err(AddressError::MissingPart { form });
    }
    let base = address::base_or(overrides, base);
    Ok(Route::new(base, rest).parts([("service", service), ("region", region)]))
}

static MANTLE: Base = Base::https("bedrock-mantle.{region}.api.aws", "");

/// A Bedrock API key is a bearer token, except for mantle's Anthropic API, which takes
/// `x-api-key` as Anthropic does (contract section 2.2).
pub(super) fn slot(_: &'static Provider, path: &[u8]) -> Slot {
    if dialect(Dialect::Bedrock, path) == Dialect::Anthropic {
        X_API_KEY
    } else {
        BEARER
    }
}

/// Mantle and the `openai/` paths of the runtime speak the dialects of others.
pub(super) fn dialect(native: Dialect, path: &[u8]) -> Dialect {
    let (service, after) = first_segment(path);
    let (_, rest) = first_segment(after);
    match (service, first_segment(rest).0) {
        (b"bedrock-mantle", b"anthropic") => Dialect::Anthropic,
        (b"bedrock-mantle", _) | (_, b"openai") => Dialect::OpenAi,
        (_, _) => native,
    }
}

/// The model id or ARN, percent-encoding undone.
pub(super) fn model<'p>(path: &'p [u8], _: &'p [u8]) -> Option<Cow<'p, str>> {
    decode(segment_after(path, "model")?)
}

/// The operation says whether the answer is a stream.
pub(super) fn streams(path: &[u8]) -> Option<bool> {
    match path.rsplit(|b| *b == b'/').next()? {
        b"invoke-with-response-stream" | b"converse-stream" => Some(true),
        b"invoke" | b"converse" => Some(false),
        _ => None,
    }
}
