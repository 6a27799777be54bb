//! A management request, taken apart.

use serde_json::{Map, Value};

use super::{
    envelope::{self, Paging},
    failure::Failure,
    route::{Route, split},
};
use crate::handoff::mailbox::ApiCall;

/// A request that has found its route.
#[derive(Debug)]
pub struct Request<'a> {
    /// As it came.
    pub call: &'a ApiCall,
    names: Vec<(&'static str, String)>,
    query: Vec<(String, String)>,
}

/// Query parameters that are looked at; a list of filters has the most.
const PARAMETERS_MAX: usize = 1024;

impl<'a> Request<'a> {
    /// Takes the path apart by the route's pattern, and the query.
    pub fn new(route: &Route, call: &'a ApiCall) -> Self {
        let (path, query) = split(&call.target);
        let segments = route.path.split('/').zip(path.split('/'));
        let names = segments.filter_map(|(wanted, given)| {
            let name = wanted.strip_prefix('{')?.strip_suffix('}')?;
            Some((name, decode(given, false)))
        });
        Self {
            call,
            names: names.collect(),
            query: query_pairs(query),
        }
    }

    /// A segment of the path by its name in the pattern.
    pub fn name(&self, name: &str) -> &str {
        let found = self.names.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A query parameter; the last one counts. An empty one counts as left out.
    pub fn query(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter().rev();
        let found = pairs.find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All query parameters in their order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.query
    }

    /// A switch of the query.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.query(name)? {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// Which page is asked for.
    pub fn paging(&self) -> Paging {
        Paging::new(
            self.query("page").and_then(|text| text.parse().ok()),
            self.query("per_page").and_then(|text| text.parse().ok()),
        )
    }

    /// The body, which must be a JSON object.
    pub fn body(&self) -> Result<Map<String, Value>, Failure> {
        let media_type = self.call.content_type.split(';').next();
        let media_type = media_type.unwrap_or_default().trim();
        if !media_type.is_empty() && !media_type.eq_ignore_ascii_case(envelope::JSON) {
            let message = "the body must be JSON: send content-type: application/json";
            return Err(Failure::new(415, envelope::CODE_REQUEST, message));
        }
        if self.call.body.is_empty() {
            return Err(Failure::bad_body(
                "there is no body; this request needs a JSON object",
            ));
        }
        match serde_json::from_slice(&self.call.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(Failure::bad_body("the body must be a JSON object")),
            Err(error) => Err(Failure::bad_body(format!("the body is no JSON: {error}"))),
        }
    }
}

/// Takes a query apart (`a=1&b=x%20y`): decoded names and values in order.
pub fn query_pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.take(PARAMETERS_MAX).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name, true), decode(value, true))
    });
    pairs.collect()
}

/// Decodes `%XX`, and in a query `+`; what is no text becomes a replacement character.
fn decode(text: &str, query: bool) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'%' => {
                let (high, low) = (digit(bytes.get(at)), digit(bytes.get(at + 1)));
                if let (Some(high), Some(low)) = (high, low) {
                    out.push(u8::try_from(high << 4 | low).unwrap_or(b'?'));
                    at += 2;
                } else {
                    out.push(b'%');
                }
            }
            b'+' if query => out.push(b' '),
            byte => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_once() {
        let pairs = query_pairs("a=x%20y+z&b&%41=%2525&bad=%zz%4&&c=%ff");
        let expected = [
            ("a", "x y z"),
            ("b", ""),
            ("A", "%25"),
            ("bad", "%zz%4"),
            ("c", "\u{fffd}"),
        ];
        assert_eq!(pairs, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn escapes_are_decoded_and_broken_ones_stay() {
        for (text, path, query) in [
            ("a%2Fb", "a/b", "a/b"),
            ("a+b", "a+b", "a b"),
            ("%", "%", "%"),
            ("%4", "%4", "%4"),
            ("%zz%41", "%zzA", "%zzA"),
            ("%ff", "\u{fffd}", "\u{fffd}"),
            ("filters%5B0%5D", "filters[0]", "filters[0]"),
        ] {
            assert_eq!(
                (decode(text, false), decode(text, true)),
                (path.to_owned(), query.to_owned())
            );
        }
    }
}
