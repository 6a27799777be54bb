//! Which model a path asks for, whether it asks for a stream, and in which dialect.
//!
//! Most providers name the model in the body, where the scanner finds it; these functions know
//! the others. [`name`] makes one name of the many spellings of a model.

use std::borrow::Cow;

use super::{
    Dialect,
    table::ProviderId,
    url_text::{decode, first_segment, parameter, segments, split_query},
};

pub mod name;

pub use name::normalise;

/// The model that the path (or the query) names, as the provider spells it, percent-encoding
/// undone. `rest` is what follows the slug, as sent. `None`: look into the body.
pub fn model_of(provider: ProviderId, rest: &[u8]) -> Option<Cow<'_, str>> {
    let (path, query) = path_and_query(rest);
    let model = (provider.provider().model)(path, query)?;
    (1..=MODEL_BYTES_MAX)
        .contains(&model.len())
        .then_some(model)
}

/// Longest model name that is kept. The longest in use are ARNs and repository names with a
/// revision, well below 200 bytes; a longer one is no model.
pub const MODEL_BYTES_MAX: usize = 256;

/// Whether the path says that the answer is a stream. `None`: the body says it.
pub fn path_streams(provider: ProviderId, rest: &[u8]) -> Option<bool> {
    (provider.provider().streams)(path_and_query(rest).0)
}

/// The dialect that a provider speaks on a path.
pub fn dialect_of(provider: ProviderId, rest: &[u8]) -> Dialect {
    let line = provider.provider();
    (line.dialect_at)(line.dialect, path_and_query(rest).0)
}

/// The dialect of a path at a custom provider that is configured with `native`.
pub fn dialect_of_custom(native: Dialect, rest: &[u8]) -> Dialect {
    plain_dialect(native, path_and_query(rest).0)
}

fn path_and_query(rest: &[u8]) -> (&[u8], &[u8]) {
    let (path, query) = split_query(rest);
    let slashes = path.iter().take_while(|b| **b == b'/').count();
    (path.get(slashes..).unwrap_or_default(), query)
}

/// Reads the model off a path and a query.
pub(super) type ModelFn = for<'p> fn(&'p [u8], &'p [u8]) -> Option<Cow<'p, str>>;

/// Reads off a path whether it streams.
pub(super) type StreamFn = fn(&[u8]) -> Option<bool>;

/// Says which dialect a path has where the native one is known.
pub(super) type DialectFn = fn(Dialect, &[u8]) -> Dialect;

/// The body names the model.
pub(super) fn none<'p>(_: &'p [u8], _: &'p [u8]) -> Option<Cow<'p, str>> {
    None
}

/// The body says whether the answer is a stream.
pub(super) fn body_says(_: &[u8]) -> Option<bool> {
    None
}

/// The query names the model as `model`: realtime and audio APIs.
pub(super) fn query_model<'p>(_: &'p [u8], query: &'p [u8]) -> Option<Cow<'p, str>> {
    decode(parameter(query, "model")?)
}

/// The query names the model as `model_id`.
pub(super) fn query_model_id<'p>(_: &'p [u8], query: &'p [u8]) -> Option<Cow<'p, str>> {
    decode(parameter(query, "model_id").or_else(|| parameter(query, "model"))?)
}

/// The path is the model: `org/model`, or one segment for the oldest ones.
pub(super) fn hugging_face_model<'p>(path: &'p [u8], _: &'p [u8]) -> Option<Cow<'p, str>> {
    let (org, after) = first_segment(path);
    let (model, _) = first_segment(after);
    let whole = match model {
        b"" | b"v1" => org,
        _ => path.get(..org.len() + 1 + model.len())?,
    };
    decode(whole)
}

/// `models/{owner}/{name}/predictions`, `deployments/{owner}/{name}/predictions`.
pub(super) fn replicate_model<'p>(path: &'p [u8], _: &'p [u8]) -> Option<Cow<'p, str>> {
    let path = path.strip_prefix(b"v1/").unwrap_or(path);
    let below = path
        .strip_prefix(b"models/")
        .or_else(|| path.strip_prefix(b"deployments/"))?;
    let (owner, after) = first_segment(below);
    let (model, _) = first_segment(after);
    if owner.is_empty() || model.is_empty() {
        return None;
    }
    decode(below.get(..owner.len() + 1 + model.len())?)
}

/// `v1/ideogram-v3/generate`.
pub(super) fn ideogram_model<'p>(path: &'p [u8], _: &'p [u8]) -> Option<Cow<'p, str>> {
    decode(segments(path).find(|segment| segment.starts_with(b"ideogram-"))?)
}

/// Most providers offer others' APIs beside their own, under the paths by which SDKs ask.
pub(super) fn plain_dialect(native: Dialect, path: &[u8]) -> Dialect {
    let below = path
        .strip_prefix(b"anthropic/")
        .or_else(|| path.strip_prefix(b"api/"))
        .unwrap_or(path);
    let below = below.strip_prefix(b"v1/").unwrap_or(below);
    let is_messages = matches!(
        below,
        b"messages" | b"messages/count_tokens" | b"messages/batches"
    );
    let is_chat = path.ends_with(b"chat/completions");
    match native {
        // Anthropic answers OpenAI's SDKs too.
        Dialect::Anthropic | Dialect::Unknown if is_chat => Dialect::OpenAi,
        Dialect::OpenAi | Dialect::Unknown if is_messages => Dialect::Anthropic,
        Dialect::OpenAi
        | Dialect::Anthropic
        | Dialect::Gemini
        | Dialect::Cohere
        | Dialect::Mistral
        | Dialect::Bedrock
        | Dialect::WorkersAi
        | Dialect::Unknown => native,
    }
}

/// `compatibility/v1/…` speaks OpenAI's dialect.
pub(super) fn cohere_dialect(native: Dialect, path: &[u8]) -> Dialect {
    if path.starts_with(b"compatibility/") {
        Dialect::OpenAi
    } else {
        native
    }
}

#[cfg(test)]
mod tests;
