//! What the management side serves: one table, from which requests are routed and the API's
//! description is made.

use super::{
    ApiParts, account, analytics, count::Counted, envelope, health, open_api, page, scrape,
};
use crate::handoff::mailbox::{ApiAnswer, ApiCall};

/// One entry of the table.
#[derive(Debug)]
pub struct Route {
    /// Request method; `HEAD` goes with `GET`.
    pub method: &'static str,
    /// Path. A segment `{name}` stands for one segment, a last `{name...}` for any rest.
    pub path: &'static str,
    /// What the caller's token must permit.
    pub needs: Needs,
    /// What answers.
    pub handler: Handler,
    /// Its name in the API's description.
    pub id: &'static str,
    /// What it does, for the API's description.
    pub summary: &'static str,
    /// Query parameters: name and meaning.
    pub query: &'static [(&'static str, &'static str)],
    /// What it may answer.
    pub answers: &'static [Answer],
}

/// One kind of answer, for the API's description.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// What it means.
    pub meaning: &'static str,
    /// `content-type` without parameters.
    pub content_type: &'static str,
    /// Name of the body's schema; empty for plain text.
    pub schema: &'static str,
}

/// What a token must permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Open to everybody.
    Nothing,
    /// `read` or `edit`.
    Token,
    /// `read`.
    Read,
}

/// What answers.
#[derive(Debug, Clone, Copy)]
pub enum Handler {
    /// At once.
    Now(fn(&ApiParts, &ApiCall) -> ApiAnswer),
    /// When the shards have told their counts, or had the time to.
    Counted(fn(&ApiParts, &Counted<'_>) -> ApiAnswer),
}

const fn json(status: u16, schema: &'static str, meaning: &'static str) -> Answer {
    Answer {
        status,
        meaning,
        content_type: envelope::JSON,
        schema,
    }
}

const fn text(content_type: &'static str, meaning: &'static str) -> Answer {
    Answer {
        status: 200,
        meaning,
        content_type,
        schema: "",
    }
}

/// Query parameters of every list.
const PAGES: &[(&str, &str)] = &[
    ("page", "Which page, from 1. One past the end is empty."),
    (
        "per_page",
        "Entries of a page, 20 unless said, at most 100.",
    ),
];

/// The table.
pub const ROUTES: [Route; 11] = [
    Route {
        method: "GET",
        path: "/livez",
        needs: Needs::Nothing,
        handler: Handler::Counted(health::live),
        id: "live",
        summary: "Whether every shard turns: each was asked and had a second to answer.",
        query: &[],
        answers: &[
            json(200, "Health", "Every shard answered."),
            json(503, "Health", "At least one shard did not answer."),
        ],
    },
    Route {
        method: "GET",
        path: "/readyz",
        needs: Needs::Nothing,
        handler: Handler::Now(health::ready),
        id: "ready",
        summary: "Whether new requests are welcome, and which parts do not work as they should.",
        query: &[],
        answers: &[
            json(200, "Health", "Ready; `degraded` may name parts that limp."),
            json(503, "Health", "Draining, or refusing requests."),
        ],
    },
    Route {
        method: "GET",
        path: "/healthz",
        needs: Needs::Nothing,
        handler: Handler::Counted(health::health),
        id: "health",
        summary: "Both checks in one: live and ready.",
        query: &[],
        answers: &[
            json(200, "Health", "Live and ready."),
            json(503, "Health", "One of the two is not."),
        ],
    },
    Route {
        method: "GET",
        path: "/metrics",
        needs: Needs::Read,
        handler: Handler::Counted(scrape::metrics),
        id: "metrics",
        summary: "Metrics of this server in Prometheus' text format.",
        query: &[],
        answers: &[text("text/plain", "The metrics.")],
    },
    Route {
        method: "GET",
        path: "/openapi.json",
        needs: Needs::Token,
        handler: Handler::Now(open_api::document),
        id: "description",
        summary: "This document.",
        query: &[],
        answers: &[json(200, "Object", "The document.")],
    },
    Route {
        method: "GET",
        path: "/",
        needs: Needs::Token,
        handler: Handler::Now(page::dashboard),
        id: "root",
        summary: "A page that says what there is.",
        query: &[],
        answers: &[text("text/html", "The page.")],
    },
    Route {
        method: "GET",
        path: "/dashboard",
        needs: Needs::Token,
        handler: Handler::Now(page::dashboard),
        id: "dashboard",
        summary: "A page that says what there is instead of a dashboard.",
        query: &[],
        answers: &[text("text/html", "The page.")],
    },
    Route {
        method: "GET",
        path: "/dashboard/{page...}",
        needs: Needs::Token,
        handler: Handler::Now(page::dashboard),
        id: "dashboardPage",
        summary: "The same page at every path below.",
        query: &[],
        answers: &[text("text/html", "The page.")],
    },
    Route {
        method: "GET",
        path: "/client/v4/user/tokens/verify",
        needs: Needs::Token,
        handler: Handler::Now(account::verify_token),
        id: "verifyToken",
        summary: "Whether the token of the request is valid.",
        query: &[],
        answers: &[json(200, "Envelope", "It is.")],
    },
    Route {
        method: "GET",
        path: "/client/v4/accounts",
        needs: Needs::Read,
        handler: Handler::Now(account::accounts),
        id: "listAccounts",
        summary: "The one account of this server.",
        query: PAGES,
        answers: &[json(200, "Envelope", "A page of accounts.")],
    },
    Route {
        method: "POST",
        path: "/client/v4/graphql",
        needs: Needs::Read,
        handler: Handler::Now(analytics::graphql),
        id: "graphql",
        summary: "Analytics by GraphQL: a JSON object with `query`, and with `variables` and `operationName` if needed.",
        query: &[],
        answers: &[
            json(
                200,
                "Object",
                "The answer: `data`, and `errors` where there are some.",
            ),
            json(400, "Object", "The body holds no query."),
        ],
    },
];

/// The entry that a request leads to, or the refusal.
pub fn find(call: &ApiCall) -> Result<&'static Route, ApiAnswer> {
    find_in(&ROUTES, call)
}

fn find_in<'a>(routes: &'a [Route], call: &ApiCall) -> Result<&'a Route, ApiAnswer> {
    let (path, _) = split(&call.target);
    let method = match &*call.method {
        "HEAD" => "GET",
        method => method,
    };
    let mut allowed: Vec<&str> = Vec::new();
    for route in routes.iter().filter(|route| fits(route.path, path)) {
        if route.method == method {
            if route.needs.met_by(call) {
                return Ok(route);
            }
            return Err(envelope::failure(
                403,
                envelope::CODE_TOKEN,
                "the token is valid but lacks the permission for this",
            ));
        }
        allowed.push(route.method);
        if route.method == "GET" {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() {
        return Err(envelope::failure(
            404,
            envelope::CODE_NO_ROUTE,
            "nothing is served at this path; /openapi.json lists what is",
        ));
    }
    let mut refusal = envelope::failure(
        405,
        envelope::CODE_REQUEST,
        "this path does not take this method; the field Allow lists those that it takes",
    );
    refusal.fields.push(("allow", allowed.join(", ")));
    Err(refusal)
}

/// Path and query of a request's target.
pub fn split(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

impl Needs {
    fn met_by(self, call: &ApiCall) -> bool {
        match self {
            Self::Nothing => true,
            Self::Token => call.read || call.edit,
            Self::Read => call.read,
        }
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(_)) if wanted.ends_with("...}") => return true,
            (Some(wanted), Some(given)) if wanted.starts_with('{') => {
                if given.is_empty() {
                    return false;
                }
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, target: &str) -> ApiCall {
        ApiCall {
            method: method.into(),
            target: target.into(),
            content_type: "".into(),
            body: Vec::new(),
            read: true,
            edit: false,
        }
    }

    #[track_caller]
    fn check(call: &ApiCall, expected: Result<&str, (u16, Option<&str>)>) {
        let found = find(call);
        let found = match &found {
            Ok(route) => Ok(route.id),
            Err(refusal) => Err((
                refusal.status,
                refusal.fields.first().map(|(_, value)| value.as_str()),
            )),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_request_leads_to_its_entry_whatever_its_query() {
        check(&call("GET", "/livez"), Ok("live"));
        check(&call("HEAD", "/metrics?x=/livez"), Ok("metrics"));
        check(&call("GET", "/dashboard"), Ok("dashboard"));
        check(&call("GET", "/dashboard/"), Ok("dashboardPage"));
        check(&call("GET", "/dashboard/a/b"), Ok("dashboardPage"));
        check(
            &call("GET", "/client/v4/accounts?page=2"),
            Ok("listAccounts"),
        );
    }

    #[test]
    fn unknown_paths_and_wrong_methods_are_told_apart() {
        check(
            &call("GET", "/client/v4/accounts/a/ai-gateway/gateways"),
            Err((404, None)),
        );
        check(&call("POST", "/client/v4/zones"), Err((404, None)));
        check(&call("GET", "/livez/"), Err((404, None)));
        check(&call("POST", "/metrics"), Err((405, Some("GET, HEAD"))));
        check(&call("get", "/livez"), Err((405, Some("GET, HEAD"))));
    }

    #[test]
    fn a_token_must_permit_what_is_asked() {
        let bare = ApiCall {
            read: false,
            ..call("GET", "/metrics")
        };
        check(&bare, Err((403, None)));
        check(
            &ApiCall {
                edit: true,
                ..bare.clone()
            },
            Err((403, None)),
        );
        check(
            &ApiCall {
                target: "/livez".into(),
                ..bare.clone()
            },
            Ok("live"),
        );
        let verify = "/client/v4/user/tokens/verify";
        check(
            &ApiCall {
                edit: true,
                target: verify.into(),
                ..bare
            },
            Ok("verifyToken"),
        );
    }

    #[test]
    fn patterns_stand_for_segments() {
        for (pattern, path, expected) in [
            ("/a/{id}", "/a/1", true),
            ("/a/{id}", "/a/", false),
            ("/a/{id}", "/a/1/b", false),
            ("/a/{id}/b", "/a/1/b", true),
            ("/a/{rest...}", "/a", false),
            ("/a/{rest...}", "/a/1/b", true),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
    }
}
