//! The management API as a whole: who may ask, what a refusal looks like, pages. And what the
//! tests of its resources share.

use serde_json::{Value, json};

use crate::support::{
    client::{Answer, Client},
    server::{API_TOKEN, READ_TOKEN, Server, Setup, TOKEN},
};

/// Where the gateways of the one account are.
pub(crate) const GATEWAYS: &str = "/client/v4/accounts/me/ai-gateway/gateways";

/// A client of the management API with the manager's token, on one connection.
pub(crate) struct Manager {
    client: Client,
    token: &'static str,
}

impl Manager {
    pub(crate) fn of(server: &Server) -> Self {
        Self {
            client: server.connect(),
            token: API_TOKEN,
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let kind = match &*body {
            "" => "",
            _ => "Content-Type: application/json\r\n",
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.client.ask(request.as_bytes())
    }

    /// What must succeed; gives the whole body.
    #[track_caller]
    pub(crate) fn whole(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        let whole = answer.json();
        assert_eq!(whole["success"], true, "{whole}");
        whole
    }

    /// What must succeed; gives the result.
    #[track_caller]
    pub(crate) fn result(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.whole(method, path, body)["result"].take()
    }

    /// What must be refused: status, then code and place of each error.
    #[track_caller]
    pub(crate) fn refused(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        status: u16,
        errors: &[(u64, &str)],
    ) {
        let answer = self.ask(method, path, body);
        check_refusal(&answer, status, errors);
    }
}

/// A refusal in the contract's envelope: code and place of each error.
#[track_caller]
pub(crate) fn check_refusal(answer: &Answer, status: u16, errors: &[(u64, &str)]) {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    assert_eq!(body["success"], false, "{body}");
    assert_eq!(body["messages"], json!([]), "{body}");
    assert_eq!(body["result"], Value::Null, "{body}");
    let found: Vec<_> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            assert!(!error["message"].as_str().unwrap().is_empty(), "{body}");
            let path = error["path"].as_array().map(Vec::as_slice);
            let path: Vec<_> = path
                .unwrap_or_default()
                .iter()
                .map(|name| name.as_str().unwrap())
                .collect();
            (error["code"].as_u64().unwrap(), path.join("."))
        })
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|(code, path)| (*code, path.as_str()))
        .collect();
    assert_eq!(found, errors, "{body}");
}

/// The body of a gateway with what must be said, and what a test says on top.
pub(crate) fn gateway(id: &str, more: &Value) -> Value {
    let mut body = json!({
        "id": id,
        "cache_invalidate_on_update": false,
        "cache_ttl": 0,
        "collect_logs": true,
        "rate_limiting_interval": 0,
        "rate_limiting_limit": 0,
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn head(method: &str, path: &str, lines: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn a_token_must_be_known_and_permit_what_is_asked() {
    let server = Setup::new().start();
    let body = gateway("made", &json!({})).to_string();
    let ask = |method: &str, lines: &str| {
        let json = "Content-Type: application/json\r\n";
        server.ask(&head(method, GATEWAYS, &format!("{lines}{json}"), &body))
    };
    check_refusal(&ask("GET", ""), 401, &[(10_000, "")]);
    check_refusal(
        &ask("GET", "Authorization: Bearer wrong\r\n"),
        401,
        &[(10_000, "")],
    );
    // It may run, and nothing else.
    let run = format!("Authorization: Bearer {TOKEN}\r\n");
    check_refusal(&ask("GET", &run), 403, &[(10_000, "")]);
    let read = format!("Authorization: Bearer {READ_TOKEN}\r\n");
    assert_eq!(ask("GET", &read).status, 200);
    check_refusal(&ask("POST", &read), 403, &[(10_000, "")]);
    for lines in [
        format!("X-Auth-Email: a@example.com\r\nX-Auth-Key: {API_TOKEN}\r\n"),
        format!("X-Auth-User-Service-Key: {API_TOKEN}\r\n"),
    ] {
        assert_eq!(ask("GET", &lines).status, 200);
    }
    assert_eq!(
        ask("POST", &format!("Authorization: Bearer {API_TOKEN}\r\n")).status,
        200
    );
}

#[test]
fn a_body_that_is_none_is_refused_with_a_sentence() {
    let server = Setup::new().start();
    let ask = |lines: &str, body: &str| {
        let token = format!("Authorization: Bearer {API_TOKEN}\r\n{lines}");
        server.ask(&head("POST", GATEWAYS, &token, body))
    };
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    for body in ["", "{", "[]", "null", "\"text\"", "{\"id\":\u{0}}"] {
        check_refusal(&ask(json, body), 400, &[(7000, "body")]);
    }
    let deep = "[".repeat(100_000);
    check_refusal(&ask(json, &deep), 400, &[(7000, "body")]);
    check_refusal(
        &ask("Content-Type: text/plain\r\n", "{}"),
        415,
        &[(7000, "")],
    );
    let large = format!("{{\"id\":\"{}\"}}", "x".repeat(5 << 20));
    check_refusal(&ask(json, &large), 413, &[(7000, "")]);
}

#[test]
fn paths_that_lead_nowhere_and_other_accounts_are_refused() {
    let server = Setup::new().top("account_id = \"me\"").start();
    let mut manager = Manager::of(&server);
    for path in [
        "/client/v4/zones",
        "/client/v4/accounts/me/ai-gateway",
        "/client/v4/accounts/other/ai-gateway/gateways",
        "/client/v4/accounts/me/ai-gateway/gateways/a/b",
    ] {
        manager.refused("GET", path, None, 404, &[(7003, "")]);
    }
    let answer = manager.ask("PATCH", GATEWAYS, Some(&json!({})));
    assert_eq!(
        (answer.status, answer.field("allow")),
        (405, Some("GET, HEAD, POST"))
    );
}

#[test]
fn every_page_of_a_list_can_be_read_and_the_one_behind_the_last_is_empty() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    for number in 0..45 {
        let body = gateway(&format!("page-{number}"), &json!({}));
        manager.result("POST", GATEWAYS, Some(&body));
    }
    let mut found = Vec::new();
    for page in 1.. {
        let path = format!("{GATEWAYS}?search=page-&page={page}");
        let list = manager.whole("GET", &path, None);
        let result = list["result"].as_array().unwrap();
        let info = json!({
            "page": page, "per_page": 20, "count": result.len(), "total_count": 45, "total_pages": 3,
        });
        assert_eq!(list["result_info"], info);
        if result.is_empty() {
            assert_eq!(page, 4);
            break;
        }
        found.extend(result.iter().map(|gateway| gateway["id"].clone()));
    }
    let expected: Vec<_> = (0..45)
        .map(|number| json!(format!("page-{number}")))
        .collect();
    assert_eq!(found, expected);
}
