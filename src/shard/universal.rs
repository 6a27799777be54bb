//! The body of the universal endpoint: an ordered list of steps, each a request of its own
//! (contract `data-plane.md` section 6).
//!
//! Three forms are taken: an array of steps, `{"providers": [...]}`, and one step alone. What a
//! step sends upstream is the bytes of its `query` as they stand in the body.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    parse::{self, Wishes},
    reply::Refusal,
};
use crate::http::{
    head::{Field, Method, NAME_BYTES_MAX, RequestFraming, RequestHead, Version},
    header::{FieldName, is_token_byte},
    target::has_dot_segment,
};

/// Steps of one request.
pub const STEPS_MAX: usize = 20;

/// Fields of one step.
const FIELDS_MAX: usize = 100;

/// Longest path of a step with its query.
const ENDPOINT_BYTES_MAX: usize = 8 * 1024;

/// One step as it was written.
#[derive(Debug)]
pub struct WrittenStep<'b> {
    /// Provider slug.
    pub provider: Cow<'b, str>,
    /// The provider's path with its query, without a slash before it.
    pub endpoint: Vec<u8>,
    /// What goes upstream.
    pub body: &'b [u8],
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    config: Config,
}

#[derive(Debug, Deserialize)]
struct Form<'b> {
    #[serde(borrow)]
    provider: Cow<'b, str>,
    #[serde(borrow)]
    endpoint: Cow<'b, str>,
    #[serde(default)]
    headers: Option<serde_json::Map<String, Value>>,
    #[serde(default, borrow)]
    authorization: Option<Cow<'b, str>>,
    #[serde(borrow)]
    query: &'b RawValue,
    #[serde(default)]
    config: Option<Config>,
}

/// `config` of a step. Members that cannot be read are absent, as with header fields.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    request_timeout: Value,
    max_attempts: Value,
    retry_delay: Value,
    backoff: Value,
    cache_ttl: Value,
    skip_cache: Value,
}

#[derive(Deserialize)]
struct Providers<'b> {
    #[serde(borrow)]
    providers: Vec<&'b RawValue>,
}

/// Reads the steps of a body.
pub fn parse(body: &[u8]) -> Result<Vec<WrittenStep<'_>>, Refusal> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let steps = match first {
        Some(b'[') => serde_json::from_slice(body).map_err(|error| malformed(&error))?,
        Some(b'{') => match serde_json::from_slice::<Providers<'_>>(body) {
            Ok(list) => list.providers,
            // No list: the object is a step, or its own error says what it is.
            Err(_) => vec![serde_json::from_slice(body).map_err(|error| malformed(&error))?],
        },
        _ => return Err(malformed(&"the body is neither an array nor an object")),
    };
    if steps.is_empty() {
        return Err(malformed(&"there is no step in it"));
    }
    if steps.len() > STEPS_MAX {
        let many = format!("it has {} steps and may have {STEPS_MAX}", steps.len());
        return Err(malformed(&many));
    }
    let numbered = (0..).zip(steps);
    let read = numbered.map(|(number, step)| {
        let wrong = |why: &dyn std::fmt::Display| malformed(&format_args!("step {number}: {why}"));
        step_of(step).map_err(|why| wrong(&why))
    });
    read.collect()
}

fn malformed(why: &dyn std::fmt::Display) -> Refusal {
    Refusal::bad_body(&format_args!(
        "the universal endpoint takes a JSON array of steps, each with provider, endpoint and query: {why}"
    ))
}

fn step_of(step: &RawValue) -> Result<WrittenStep<'_>, String> {
    let form: Form<'_> = serde_json::from_str(step.get()).map_err(|error| error.to_string())?;
    let endpoint = form.endpoint.strip_prefix('/').unwrap_or(&form.endpoint);
    if endpoint.len() > ENDPOINT_BYTES_MAX || !endpoint.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err("endpoint is too long or has characters that no path has".to_owned());
    }
    if has_dot_segment(endpoint.as_bytes()) {
        return Err("endpoint has a segment that is . or ..".to_owned());
    }
    let mut fields = Vec::new();
    for (name, value) in form.headers.unwrap_or_default() {
        fields.push(field(&name, &text(&value))?);
    }
    let has = |fields: &[(Vec<u8>, Vec<u8>)], name: &str| {
        let mut names = fields.iter().map(|(name, _)| name);
        names.any(|known| known.eq_ignore_ascii_case(name.as_bytes()))
    };
    if let Some(authorization) = form.authorization
        && !has(&fields, "authorization")
    {
        fields.push(field("authorization", &authorization)?);
    }
    if !has(&fields, "content-type") {
        fields.push(field("content-type", "application/json")?);
    }
    if fields.len() > FIELDS_MAX {
        return Err(format!("it has more than {FIELDS_MAX} headers"));
    }
    Ok(WrittenStep {
        provider: form.provider,
        endpoint: endpoint.as_bytes().to_vec(),
        body: form.query.get().as_bytes(),
        fields,
        config: form.config.unwrap_or_default(),
    })
}

/// A value as the header field has it: clients that make the body by program leave numbers,
/// booleans and objects as they are.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn field(name: &str, value: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let value = value.trim_matches([' ', '\t']);
    let fits = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(is_token_byte)
        && value
            .bytes()
            .all(|byte| byte == b'\t' || byte >= 0x20 && byte != 0x7f);
    if fits {
        Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()))
    } else {
        // Neither is quoted: a value may be a secret, and a name may hold anything.
        Err("one of its headers is none that HTTP allows".to_owned())
    }
}

impl WrittenStep<'_> {
    /// The head that the step would have had as a request of its own.
    pub fn head(&self) -> RequestHead<'_> {
        let fields = self.fields.iter().map(|(name, value)| Field {
            name,
            value,
            id: FieldName::of(name),
        });
        RequestHead {
            method: Method::Post,
            target: &self.endpoint,
            path: &self.endpoint,
            host: b"",
            version: Version::Http11,
            fields: fields.collect(),
            framing: RequestFraming::Length(self.body.len() as u64),
            keep_alive: true,
            expects_continue: false,
            upgrade: None,
        }
    }

    /// What the step's `config` asks for; its headers go before it.
    pub fn config(&self) -> Wishes<'static> {
        let config = &self.config;
        let read = |value: &Value| text(value).into_bytes();
        Wishes {
            request_timeout: parse::timeout(&read(&config.request_timeout)),
            max_attempts: parse::attempts(&read(&config.max_attempts)),
            retry_delay: parse::delay(&read(&config.retry_delay)),
            backoff: parse::backoff(&read(&config.backoff)),
            cache_ttl: parse::ttl(&read(&config.cache_ttl)),
            skip_cache: parse::boolean(&read(&config.skip_cache)),
            ..Wishes::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::snapshot::Backoff;

    const STEP: &str = r#"{"provider":"openai","endpoint":"/chat/completions?x=1",
        "headers":{"Authorization":"Bearer k","cf-aig-cache-ttl":0,"x-flag":true},
        "config":{"requestTimeout":2500,"maxAttempts":"2","retryDelay":500,"backoff":"linear"},
        "query":{"model": "m" , "n":1.0}}"#;

    #[test]
    fn all_three_forms_say_the_same() {
        for body in [
            format!("[{STEP}]"),
            format!(" {{\"providers\":[{STEP}]}}"),
            STEP.to_owned(),
        ] {
            let steps = parse(body.as_bytes()).unwrap();
            assert_eq!(steps.len(), 1);
            let step = &steps[0];
            assert_eq!(step.provider, "openai");
            assert_eq!(step.endpoint, b"chat/completions?x=1");
            assert_eq!(step.body, br#"{"model": "m" , "n":1.0}"#, "byte for byte");
            let wishes = Wishes::read(&step.head()).over(&step.config());
            assert_eq!(wishes.request_timeout, Some(Duration::from_millis(2500)));
            assert_eq!(wishes.max_attempts, Some(2));
            assert_eq!(wishes.retry_delay, Some(Duration::from_millis(500)));
            assert_eq!(wishes.backoff, Some(Backoff::Linear));
            assert_eq!(wishes.cache_ttl, Some(Duration::ZERO));
            let head = step.head();
            assert_eq!(
                head.field(FieldName::ContentType),
                Some(&b"application/json"[..])
            );
        }
    }

    #[test]
    fn authorization_beside_the_headers_is_one_of_them() {
        let body = br#"[{"provider":"a","endpoint":"b","authorization":"Bearer x","query":{}}]"#;
        let steps = parse(body).unwrap();
        let head = steps[0].head();
        assert_eq!(head.field(FieldName::Authorization), Some(&b"Bearer x"[..]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_step() {
        let check = |body: &str, said: &str| {
            let refusal = parse(body.as_bytes()).unwrap_err();
            assert_eq!((refusal.status, refusal.close), (400, false), "{body}");
            assert!(
                refusal.description.contains(said),
                "{}",
                refusal.description
            );
        };
        check("", "neither");
        check("3", "neither");
        check("[]", "no step");
        check("[", "EOF");
        check(r#"{"providers":[]}"#, "no step");
        check(
            r#"[{"provider":"a","endpoint":"b"}]"#,
            "step 0: missing field `query`",
        );
        check(&format!("[{STEP},7]"), "step 1: ");
        check(
            r#"[{"provider":"a","endpoint":"../b","query":{}}]"#,
            "segment",
        );
        check(
            r#"[{"provider":"a","endpoint":"a b","query":{}}]"#,
            "characters",
        );
        check(
            r#"[{"provider":"a","endpoint":"b","headers":{"x":"a\r\nevil: 1"},"query":{}}]"#,
            "headers",
        );
        check(
            r#"[{"provider":"a","endpoint":"b","headers":{"x y":"1"},"query":{}}]"#,
            "headers",
        );
        let many = vec![STEP; STEPS_MAX + 1].join(",");
        check(&format!("[{many}]"), "21 steps");
        check(&"[".repeat(100_000), "");
    }
}
