//! Which answers may be kept, and which requests may be answered by one.
//!
//! The contract (data-plane section 11) keeps complete answers of 2xx up to 25 MB, and no streams
//! unless the gateway says so. What a provider says about caches is for browsers and networks
//! between them; the operator who switched this cache on knows more. So:
//!
//! | the answer has | is it kept |
//! | --- | --- |
//! | `set-cookie` | never: it is somebody's |
//! | `vary: *`, or a field in `vary` that is neither in the key nor harmless | never |
//! | `cache-control: no-store` | only if the request itself asked for the cache |
//! | `cache-control: private` | only among callers with one credential |
//! | `no-cache`, `max-age`, `expires`, `pragma` | yes: the gateway's TTL says how long |
//! | `content-range`, status 206 | never: it is a part |
//! | no end that could be told from a cut (body up to the connection's end) | never |
//! | an error in a body of status 200 | never |

use super::key::is_key_field;
use crate::http::{
    head::{Field, Method, ResponseFraming},
    header::{FieldName, list_items},
};

/// What an exchange knows of its answer when that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// HTTP status.
    pub status: u16,
    /// Its header fields, as the provider sent them.
    pub fields: &'a [Field<'a>],
    /// What delimited its body. Frames of HTTP/2 count as chunks.
    pub framing: ResponseFraming,
    /// The body came to its end, and all of it was read.
    pub whole: bool,
    /// The body held an error: an event of that name, or an `error` member that is not null.
    pub failed: bool,
    /// Length of the body in bytes.
    pub body_bytes: u64,
    /// It is an event stream.
    pub stream: bool,
}

/// What an exchange knows of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The request itself asked for the cache (`cf-aig-cache-ttl`, `cf-aig-cache-key`).
    pub asked: bool,
    /// Callers with other credentials may get the answer.
    pub shared: bool,
    /// The gateway keeps streams.
    pub streams: bool,
    /// Greatest answer that the store takes, in bytes; see `Cache::answer_bytes_max`.
    pub answer_bytes_max: u64,
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// The status is not of a success, or of a part.
    #[error("its status is {0}")]
    Status(u16),
    /// It is an event stream.
    #[error("it is a stream, and the gateway does not cache streams")]
    Stream,
    /// It ended early, or nobody can tell.
    #[error("nothing says that it is complete")]
    Incomplete,
    /// It is a part of something.
    #[error("it is a part of a whole")]
    Part,
    /// It holds an error.
    #[error("it reports an error")]
    Failed,
    /// It sets a cookie.
    #[error("it sets a cookie")]
    Cookie,
    /// The provider forbids it.
    #[error("the provider forbids storing it")]
    NoStore,
    /// The provider keeps it to one caller.
    #[error("the provider allows it to one caller only")]
    Private,
    /// It depends on what is not in the key.
    #[error("it varies with what is not part of the key")]
    Varies,
    /// It is too large.
    #[error("it is larger than the cache takes")]
    TooLarge,
}

/// Says whether the head alone keeps an answer out: with it followers can be told at once.
pub fn head_may_be_kept(answer: &Candidate<'_>, wish: &Wish) -> Result<(), NotKept> {
    match answer.status {
        206 => return Err(NotKept::Part),
        200..=299 => {}
        status => return Err(NotKept::Status(status)),
    }
    if answer.stream && !wish.streams {
        return Err(NotKept::Stream);
    }
    match answer.framing {
        ResponseFraming::Close => return Err(NotKept::Incomplete),
        ResponseFraming::Length(bytes) if bytes > wish.answer_bytes_max => {
            return Err(NotKept::TooLarge);
        }
        ResponseFraming::None | ResponseFraming::Length(_) | ResponseFraming::Chunked => {}
    }
    for field in answer.fields {
        match field.id {
            FieldName::SetCookie => return Err(NotKept::Cookie),
            FieldName::ContentRange => return Err(NotKept::Part),
            FieldName::Vary if !list_items(field.value).all(is_covered) => {
                return Err(NotKept::Varies);
            }
            FieldName::CacheControl => cache_control(field.value, wish)?,
            _ => {}
        }
    }
    Ok(())
}

/// Says whether an answer may be kept.
pub fn may_be_kept(answer: &Candidate<'_>, wish: &Wish) -> Result<(), NotKept> {
    head_may_be_kept(answer, wish)?;
    if !answer.whole {
        return Err(NotKept::Incomplete);
    }
    if answer.failed {
        return Err(NotKept::Failed);
    }
    if answer.body_bytes > wish.answer_bytes_max {
        return Err(NotKept::TooLarge);
    }
    Ok(())
}

fn cache_control(value: &[u8], wish: &Wish) -> Result<(), NotKept> {
    for directive in list_items(value) {
        // `private="x-field"` is about one field; a store may take it for the whole answer (RFC
        // 9111 section 5.2.2.7).
        let name = directive.split(|byte| *byte == b'=').next();
        let name = name.unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"no-store") && !wish.asked {
            return Err(NotKept::NoStore);
        }
        if name.eq_ignore_ascii_case(b"private") && wish.shared {
            return Err(NotKept::Private);
        }
    }
    Ok(())
}

/// Says whether two requests with one key get one answer as far as a field named in `vary` goes.
fn is_covered(name: &[u8]) -> bool {
    /// They decide who may ask or how it is sent, not what the answer says.
    const HARMLESS: [&[u8]; 6] = [
        b"x-origin",
        b"referer",
        b"access-control-request-method",
        b"access-control-request-headers",
        b"access-control-request-private-network",
        b"x-forwarded-proto",
    ];
    let field = Field {
        name,
        value: b"",
        id: FieldName::of(name),
    };
    match field.id {
        FieldName::AcceptEncoding
        | FieldName::Authorization
        | FieldName::XApiKey
        | FieldName::ApiKey
        | FieldName::XGoogApiKey
        // They never go to a provider.
        | FieldName::Cookie
        | FieldName::XForwardedProto
        | FieldName::XForwardedHost => true,
        _ => is_key_field(&field) || HARMLESS.iter().any(|it| name.eq_ignore_ascii_case(it)),
    }
}

/// Says whether a request may be answered from the cache at all, its TTL and body apart.
///
/// Calls are POSTs. What a GET shows may have changed (a list, a job that runs), so it is kept
/// only if the request itself asked for the cache. A request for a part, or with a condition, is
/// about another answer than the whole one.
pub fn may_be_answered(method: Method<'_>, fields: &[Field<'_>], asked: bool) -> bool {
    let method = match method {
        Method::Post => true,
        Method::Get => asked,
        Method::Head
        | Method::Put
        | Method::Delete
        | Method::Patch
        | Method::Options
        | Method::Other(_) => false,
    };
    let conditional = |field: &Field<'_>| {
        field.id == FieldName::Range
            || field.id == FieldName::Upgrade
            || field.id == FieldName::LastEventId
            || matches!(field.name, [b'i' | b'I', b'f' | b'F', b'-', ..])
    };
    method && !fields.iter().any(conditional)
}

#[cfg(test)]
mod tests;
