//! What the management side serves: one table, from which requests are routed and the API's
//! description is made. Here what an entry is; the entries are in [`table`].

use super::{
    ApiParts, archive::ArchiveHandler, count::Counted, envelope, failure::Failure,
    office::OfficeHandler, request::Request,
};
use crate::handoff::mailbox::{ApiAnswer, ApiCall};

mod table;

use table::ROUTES;

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
    /// Query parameters.
    pub query: &'static [&'static [Parameter]],
    /// Name of the schema of the body; empty: none is taken.
    pub body: &'static str,
    /// What it may answer.
    pub answers: &'static [Answer],
}

/// One query parameter, for the API's description.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// `integer`, `boolean` or `string`.
    pub kind: &'static str,
    /// What it does.
    pub about: &'static str,
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
    /// `edit`.
    Edit,
}

/// What answers.
#[derive(Debug, Clone, Copy)]
pub enum Handler {
    /// At once.
    Now(fn(&ApiParts, &Request<'_>) -> ApiAnswer),
    /// When the shards have told their counts, or had the time to.
    Counted(fn(&ApiParts, &Counted<'_>) -> ApiAnswer),
    /// In the office: `control.db` is read or changed.
    Stored(OfficeHandler),
    /// In the archive: the log is read.
    Scanned(ArchiveHandler),
}

impl Route {
    /// The same with query parameters.
    #[must_use]
    const fn query(self, query: &'static [&'static [Parameter]]) -> Self {
        Self { query, ..self }
    }

    /// The same with a body.
    #[must_use]
    const fn body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    /// The same with other answers than an envelope.
    #[must_use]
    const fn answers(self, answers: &'static [Answer]) -> Self {
        Self { answers, ..self }
    }
}

/// The entry that a request leads to, or the refusal.
pub fn find(call: &ApiCall) -> Result<&'static Route, ApiAnswer> {
    find_in(all(), call)
}

/// The refusal of an account that is not this server's.
pub fn unknown_account() -> ApiAnswer {
    let message = "the account in the path is not the one of this server (account_id in the file)";
    Failure::new(404, envelope::CODE_NO_ROUTE, message).answer()
}

/// Every entry of the table.
pub fn all() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().copied().flatten()
}

fn find_in<'a>(
    mut routes: impl Iterator<Item = &'a Route>,
    call: &ApiCall,
) -> Result<&'a Route, ApiAnswer> {
    let (path, _) = split(&call.target);
    let method = match &*call.method {
        "HEAD" => "GET",
        method => method,
    };
    let mut allowed: Vec<&str> = Vec::new();
    for route in routes.by_ref().filter(|route| fits(route.path, path)) {
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
            Self::Edit => call.edit,
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
            host: "localhost".into(),
            content_type: "".into(),
            body: Vec::new(),
            key: "app".into(),
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
            &call("GET", "/client/v4/accounts/a/ai-gateway/nothing"),
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
