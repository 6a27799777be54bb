//! Gemini's own paths, as AI Studio and Vertex serve them.

use std::borrow::Cow;

use super::{
    Dialect,
    url_text::{decode, is_name, segments, split_parameter},
};

/// The Live API's WebSocket.
pub(super) const LIVE_PATH: &str =
    "ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

/// The Live API knows its key as `key`; callers of the gateway say `api_key`.
pub(super) fn live_query(query: &[u8]) -> Cow<'_, [u8]> {
    let Some(parameters) = query.strip_prefix(b"?") else {
        return Cow::Borrowed(query);
    };
    let mut out = Vec::with_capacity(query.len());
    for (index, parameter) in parameters.split(|b| *b == b'&').enumerate() {
        out.push(if index == 0 { b'?' } else { b'&' });
        let (name, value) = split_parameter(parameter);
        if is_name(name, "api_key") {
            out.extend_from_slice(b"key=");
            out.extend_from_slice(value);
        } else {
            out.extend_from_slice(parameter);
        }
    }
    Cow::Owned(out)
}

/// `v1beta/openai/…` speaks OpenAI's dialect.
pub(super) fn dialect(native: Dialect, path: &[u8]) -> Dialect {
    if segments(path).take(2).any(|segment| segment == b"openai") {
        Dialect::OpenAi
    } else {
        native
    }
}

/// The model of `models/{model}:{verb}`.
pub(super) fn model<'p>(path: &'p [u8], _: &'p [u8]) -> Option<Cow<'p, str>> {
    let mut all = segments(path);
    all.find(|segment| matches!(*segment, b"models" | b"tunedModels"))?;
    let segment = all.next()?;
    let name = split_verb(segment).0;
    decode(name).filter(|name| !name.is_empty())
}

/// The verb says whether the answer is a stream.
pub(super) fn streams(path: &[u8]) -> Option<bool> {
    let last = path.rsplit(|b| *b == b'/').next()?;
    match split_verb(last).1? {
        // `rawPredict` serves other publishers, whose bodies say whether they stream.
        b"rawPredict" => None,
        verb => Some(verb == b"streamRawPredict" || verb.starts_with(b"stream")),
    }
}

fn split_verb(segment: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memrchr(b':', segment) {
        Some(mark) => (
            segment.get(..mark).unwrap_or_default(),
            segment.get(mark + 1..),
        ),
        None => (segment, None),
    }
}
