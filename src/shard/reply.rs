//! The one place where an error becomes a response, in the contract's shape (`data-plane.md`
//! section 16).

use std::{borrow::Cow, io::Write as _};

use super::ledger::Standings;
use crate::{
    domain::{id::RequestId, outcome::Outcome},
    http::head::HeadError,
};

/// A refusal by tidegate itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The contract's code.
    pub code: u32,
    /// The contract's message: short, the same for every refusal of that code.
    pub message: &'static str,
    /// What was wrong, where, and what to do.
    pub description: Cow<'static, str>,
    /// How the exchange is counted.
    pub outcome: Outcome,
    /// The connection cannot go on: what follows on it is not known to be a request.
    pub close: bool,
    /// Further header fields, each with its line end.
    pub fields: Vec<u8>,
}

/// Code of refusals that the contract has no code for (`design`: malformed head, 413, 431).
const CODE_REQUEST: u32 = 7000;

/// Code of tokens that do not suffice for the management side.
const CODE_MANAGER: u32 = 10_000;

impl Refusal {
    fn request(
        status: u16,
        message: &'static str,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code: CODE_REQUEST,
            message,
            description: description.into(),
            outcome: Outcome::Refused,
            close: false,
            fields: Vec::new(),
        }
    }

    /// A limit on requests or tokens is reached. `limit` says which; `after` is in seconds.
    pub fn rate_limited(limit: &str, after: Option<u64>, standings: &Standings) -> Self {
        let mut refusal = Self {
            code: 2003,
            message: "Rate limited",
            ..Self::request(
                429,
                "",
                format!("the gateway's {limit} is reached; wait and send the request again"),
            )
        };
        refusal.say_after(after);
        standings.write_fields(&mut refusal.fields);
        refusal
    }

    /// A limit on cost is reached. `message` names the rule, `why` says what to do.
    pub fn spend_limited(message: &str, why: &'static str, after: Option<u64>) -> Self {
        let mut refusal = Self {
            code: 2041,
            message: "Spend limit exceeded",
            ..Self::request(429, "", format!("{message}: {why}"))
        };
        refusal.say_after(after);
        refusal
    }

    /// Whether a limit has room cannot be told.
    pub fn limits_unavailable() -> Self {
        let mut refusal = Self {
            outcome: Outcome::Internal,
            ..Self::request(
                503,
                "Limits unavailable",
                "whether the gateway's limits have room cannot be told at the moment; send the request again",
            )
        };
        refusal.say_after(Some(1));
        refusal
    }

    fn say_after(&mut self, seconds: Option<u64>) {
        if let Some(seconds) = seconds {
            // Writing to a Vec cannot fail.
            let _ = write!(self.fields, "retry-after: {seconds}\r\n");
        }
    }

    /// A head that HTTP forbids.
    pub fn malformed(error: &HeadError) -> Self {
        Self {
            close: true,
            ..Self::request(
                error.status(),
                "Malformed request",
                format!("the request was refused: {error}"),
            )
        }
    }

    /// A head that took too long.
    pub fn slow_head() -> Self {
        Self {
            close: true,
            ..Self::request(
                408,
                "Request timeout",
                "the request's head did not arrive in time (limits.head_timeout)",
            )
        }
    }

    /// A body that took too long.
    pub fn slow_body() -> Self {
        Self {
            close: true,
            ..Self::request(
                408,
                "Request timeout",
                "the request's body stopped arriving (limits.body_timeout)",
            )
        }
    }

    /// A body with broken framing.
    pub fn malformed_body(status: u16, why: &dyn std::fmt::Display) -> Self {
        Self {
            close: true,
            ..Self::request(
                status,
                "Malformed request",
                format!("the request's body was refused: {why}"),
            )
        }
    }

    /// A method that the endpoint does not have.
    pub fn only_post(what: &str) -> Self {
        Self::request(
            405,
            "Method not allowed",
            format!("{what} takes POST requests only"),
        )
    }

    /// A WebSocket of another version than the one there is.
    pub fn socket_version() -> Self {
        Self {
            fields: b"sec-websocket-version: 13\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                .to_vec(),
            ..Self::request(
                426,
                "Upgrade required",
                "this endpoint speaks version 13 of WebSocket: send sec-websocket-version: 13, once",
            )
        }
    }

    /// A handshake that is none.
    pub fn socket_key() -> Self {
        Self::request(
            400,
            "Malformed handshake",
            "the handshake of a WebSocket has one sec-websocket-key, 16 bytes in base64, and no body",
        )
    }

    /// A WebSocket of nobody, at a gateway that is open otherwise.
    pub fn socket_unauthorized() -> Self {
        Self::unauthorized(
            "the universal endpoint over WebSocket asks for a token, of an open gateway too: send it as cf-aig-authorization: Bearer …, or as the subprotocol cf-aig-authorization.…",
        )
    }

    /// A body that does not say what it must.
    pub fn bad_body(why: &dyn std::fmt::Display) -> Self {
        Self::request(400, "Invalid request body", why.to_string())
    }

    /// A body that has to be held whole and is too large for that.
    pub fn not_gathered(limit: u64) -> Self {
        Self {
            close: true,
            ..Self::request(
                413,
                "Request body too large",
                format!(
                    "the request's body is larger than limits.gather_bytes, which is {limit} bytes, and this endpoint has to hold it whole"
                ),
            )
        }
    }

    /// A body over the limit.
    pub fn body_too_large(limit: u64) -> Self {
        Self {
            close: true,
            ..Self::request(
                413,
                "Request body too large",
                format!(
                    "the request's body is larger than limits.body_bytes, which is {limit} bytes"
                ),
            )
        }
    }

    /// A path with `.` or `..` segments.
    pub fn dot_segments() -> Self {
        Self::request(
            400,
            "Malformed request",
            "the path has a segment that is . or .., plain or percent-encoded",
        )
    }

    /// A run that is not there, or is another caller's.
    pub fn no_run() -> Self {
        Self::request(
            404,
            "No such run",
            "cf-aig-run-id names no stream of this caller that can be resumed: its time is over, it was too large or was cut, or it was asked for with other credentials or through another gateway; send the request anew without that field",
        )
    }

    /// A place in a run that it has not.
    pub fn no_such_offset() -> Self {
        Self::request(
            416,
            "No such offset",
            "the stream has no such place: tg-offset is a number of bytes of its body, Last-Event-ID the id of one of its events or, where they have none, how many there were",
        )
    }

    /// A path that leads nowhere.
    pub fn no_route() -> Self {
        Self {
            code: 7003,
            ..Self::request(
                404,
                "No route",
                "nothing is served at this path; providers are at /v1/{account}/{gateway}/{provider}/…",
            )
        }
    }

    /// A face of the contract that this version does not have yet.
    pub fn not_yet(what: &str) -> Self {
        Self::request(
            501,
            "Not implemented",
            format!("{what} is not part of this version"),
        )
    }

    /// A host name or origin that must not reach an open listener.
    pub fn foreign_host() -> Self {
        Self::request(
            403,
            "Forbidden host",
            "without a token this listener answers only to loopback host names; add the name to `hosts` in the file, or send a token",
        )
    }

    /// An account that is not this server's.
    pub fn unknown_account() -> Self {
        Self::unknown(
            "the account in the path is not the one of this server (account_id in the file)",
        )
    }

    /// A gateway that does not exist.
    pub fn unknown_gateway(id: &str) -> Self {
        Self::unknown(format!(
            "there is no gateway called '{}'; make it through the management API, add [gateways.{}] to the file, or use 'default'",
            printable(id),
            printable(id)
        ))
    }

    fn unknown(description: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: 2001,
            message: "Please configure AI Gateway in the Cloudflare dashboard",
            ..Self::request(400, "", description)
        }
    }

    /// No valid token.
    pub fn unauthorized(description: &'static str) -> Self {
        Self {
            status: 401,
            code: 2009,
            message: "Unauthorized",
            description: description.into(),
            outcome: Outcome::Unauthorized,
            close: false,
            fields: Vec::new(),
        }
    }

    /// No valid token for the management side.
    pub fn unknown_manager() -> Self {
        Self {
            code: CODE_MANAGER,
            message: "Authentication error",
            ..Self::unauthorized("send the management token as authorization: Bearer …")
        }
    }

    /// A valid token without the permission.
    pub fn forbidden() -> Self {
        Self {
            code: CODE_MANAGER,
            outcome: Outcome::Unauthorized,
            ..Self::request(
                403,
                "Forbidden",
                "the token is valid but lacks the permission for this",
            )
        }
    }

    /// A provider that does not exist.
    pub fn unknown_provider(slug: &str) -> Self {
        Self {
            code: 2008,
            message: "Invalid provider",
            ..Self::request(
                400,
                "",
                format!("there is no provider called '{}'", printable(slug)),
            )
        }
    }

    /// A provider's address that cannot be made from the path.
    pub fn bad_address(why: &dyn std::fmt::Display) -> Self {
        Self {
            code: 2008,
            message: "Invalid provider path",
            ..Self::request(400, "", why.to_string())
        }
    }

    /// No provider credential.
    pub fn no_credential(slug: &str) -> Self {
        Self::request(
            400,
            "No provider credential",
            format!(
                "the request carries no credential for '{}' and none is stored; send the provider's own key, store one for the gateway, or set providers.{}.key in the file",
                printable(slug),
                printable(slug)
            ),
        )
    }

    /// A stored credential that cannot be used as it is.
    pub fn bad_credential(slug: &str, why: &dyn std::fmt::Display) -> Self {
        Self::request(
            400,
            "No provider credential",
            format!(
                "the stored credential of '{}' cannot be used: {why}",
                printable(slug)
            ),
        )
    }

    /// A stored credential of that alias does not exist.
    pub fn unknown_alias(slug: &str, alias: &str) -> Self {
        Self {
            code: 2040,
            message: "No such BYOK credential",
            ..Self::request(
                400,
                "",
                format!(
                    "Provider '{}' has no BYOK credential named '{}'",
                    printable(slug),
                    printable(alias)
                ),
            )
        }
    }

    /// The provider could not be reached or broke HTTP.
    pub fn upstream_failed(why: &dyn std::fmt::Display) -> Self {
        Self {
            status: 502,
            code: 2005,
            message: "Failed to get response from provider",
            description: why.to_string().into(),
            outcome: Outcome::UpstreamFailed,
            close: false,
            fields: Vec::new(),
        }
    }

    /// The provider did not answer in time.
    pub fn upstream_timeout(why: &dyn std::fmt::Display) -> Self {
        Self {
            status: 504,
            outcome: Outcome::UpstreamTimeout,
            ..Self::upstream_failed(why)
        }
    }

    /// The log cannot be written and `log_required` is set.
    pub fn log_unavailable() -> Self {
        Self {
            outcome: Outcome::Internal,
            ..Self::request(
                503,
                "Log unavailable",
                "the request log cannot be written and log_required is set",
            )
        }
    }

    /// tidegate itself failed.
    pub fn internal(description: &'static str) -> Self {
        Self {
            outcome: Outcome::Internal,
            ..Self::request(500, "Internal error", description)
        }
    }
}

/// What a caller sent, made fit to be quoted: short and without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// The ids that an answer carries.
#[derive(Debug, Clone, Copy)]
pub struct Ids<'a> {
    /// The exchange's id.
    pub request: RequestId,
    /// The caller's event id, if it named one.
    pub event: Option<&'a [u8]>,
    /// The record, if one is made.
    pub log: Option<RequestId>,
    /// The step that the answer is of, where there may be several.
    pub step: Option<u8>,
    /// Whether the cache had the answer, where caching can apply.
    pub cache: Option<CacheStatus>,
}

/// `cf-aig-cache-status`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// `HIT`
    Hit,
    /// `MISS`
    Miss,
}

impl Ids<'_> {
    /// Appends the contract's id fields (`data-plane.md` section 5).
    pub fn write(&self, out: &mut Vec<u8>) {
        let id = self.request.text();
        out.extend_from_slice(b"cf-aig-request-id: ");
        out.extend_from_slice(&id);
        out.extend_from_slice(b"\r\ncf-aig-event-id: ");
        out.extend_from_slice(self.event.unwrap_or(&id));
        if let Some(log) = self.log {
            out.extend_from_slice(b"\r\ncf-aig-log-id: ");
            if log == self.request {
                out.extend_from_slice(&id);
            } else {
                out.extend_from_slice(&log.text());
            }
        }
        if let Some(step) = self.step {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "\r\ncf-aig-step: {step}");
        }
        if let Some(status) = self.cache {
            out.extend_from_slice(b"\r\ncf-aig-cache-status: ");
            out.extend_from_slice(match status {
                CacheStatus::Hit => b"HIT",
                CacheStatus::Miss => b"MISS",
            });
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The whole response to a request that was not even one: no ids, connection closed.
pub fn bare(refusal: &Refusal) -> Vec<u8> {
    response(refusal, None, false, false)
}

/// The whole response of the management side, in its own shape (contract `management-api.md`
/// section 1.2).
pub fn management(refusal: &Refusal, keep: bool, head_only: bool) -> Vec<u8> {
    let message = format!("{}: {}", refusal.message, refusal.description);
    let body = serde_json::json!({
        "success": false,
        "errors": [{"code": refusal.code, "message": message}],
        "messages": [],
        "result": null,
    });
    whole(refusal, body.to_string().as_bytes(), None, keep, head_only)
}

/// The whole response. `keep` lets the connection live on, unless the refusal forbids it.
pub fn response(refusal: &Refusal, ids: Option<Ids<'_>>, keep: bool, head_only: bool) -> Vec<u8> {
    whole(refusal, &body(refusal), ids, keep, head_only)
}

fn whole(
    refusal: &Refusal,
    body: &[u8],
    ids: Option<Ids<'_>>,
    keep: bool,
    head_only: bool,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + body.len());
    let reason = reason(refusal.status);
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        refusal.status,
        body.len()
    );
    if let Some(ids) = ids {
        ids.write(&mut out);
    }
    out.extend_from_slice(&refusal.fields);
    if !keep || refusal.close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(body);
    }
    out
}

fn body(refusal: &Refusal) -> Vec<u8> {
    let Refusal {
        status,
        code,
        message,
        description,
        outcome: _,
        close: _,
        fields: _,
    } = refusal;
    let error = serde_json::json!([{"code": code, "message": message}]);
    let body = serde_json::json!({
        "success": false,
        "result": [],
        "messages": [],
        "error": error,
        "errors": error,
        "name": "AiGatewayError",
        "httpCode": status,
        "internalCode": code,
        "message": message,
        "description": description,
    });
    body.to_string().into_bytes()
}

/// The reason phrase of a status that tidegate makes or passes on; empty if it has none.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(bytes: &[u8]) -> (String, serde_json::Value) {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_refusal_has_the_contracts_shape() {
        let (head, body) = parts(&bare(&Refusal::unknown_gateway("x")));
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert_eq!(body["error"][0]["code"], 2001);
        assert_eq!(body["internalCode"], 2001);
        assert_eq!(body["httpCode"], 400);
        assert_eq!(body["success"], false);
        assert_eq!(body["name"], "AiGatewayError");
        assert!(body["result"].as_array().unwrap().is_empty());
        assert!(body["description"].is_string());
    }

    #[test]
    fn what_a_caller_sent_is_quoted_without_harm() {
        let (_, body) = parts(&bare(&Refusal::unknown_provider("a\"\r\n\u{1b}[31m<b>")));
        assert_eq!(
            body["description"],
            "there is no provider called 'a\"[31m<b>'"
        );
    }

    #[test]
    fn a_head_request_gets_the_length_without_the_body() {
        let bytes = response(&Refusal::no_route(), None, true, true);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("content-length: ") && text.ends_with("\r\n\r\n"));
        assert!(!text.contains("connection: close"));
    }

    #[test]
    fn ids_stand_in_the_answer() {
        let ids = Ids {
            request: RequestId([1; 16]),
            event: Some(b"mine"),
            log: None,
            step: Some(2),
            cache: Some(CacheStatus::Miss),
        };
        let text =
            String::from_utf8(response(&Refusal::no_route(), Some(ids), true, false)).unwrap();
        assert!(text.contains("cf-aig-request-id: 01010101-0101-0101-0101-010101010101\r\n"));
        assert!(text.contains("cf-aig-event-id: mine\r\n") && !text.contains("cf-aig-log-id"));
        assert!(text.contains("cf-aig-step: 2\r\ncf-aig-cache-status: MISS\r\n"));
    }
}
