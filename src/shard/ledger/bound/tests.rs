use proptest::prelude::*;

use super::*;
use crate::domain::money::Prices;

const OPEN: Found = Found {
    answers: 1,
    pictures: 0,
    priority: false,
};

#[track_caller]
fn check(dialect: Dialect, body: &str, found: Option<Found>) {
    assert_eq!(scan(body.as_bytes(), dialect), found, "{body}");
}

fn dearest(input: &str, output: &str) -> Dearest {
    Dearest {
        max_output_tokens: Some(100),
        ..Dearest::of([Prices {
            input: Rate::per_million(input),
            output: Rate::per_million(output),
            ..Prices::default()
        }])
    }
}

fn request(body: &str, max_tokens: Option<u64>) -> Request<'_> {
    Request {
        dialect: Dialect::OpenAi,
        body: Some(body.as_bytes()),
        max_tokens,
    }
}

#[test]
fn the_bound_is_each_byte_and_every_answer_at_the_dearest_price() {
    let dearest = dearest("1", "10");
    let input = |body: &str| (body.len() as u64 + AROUND_INPUT) * 1_000_000;
    let body = r#"{"messages":[],"n":3}"#;
    let all = |output: u64| CostBound::AtMost(input(body) + output * 10_000_000 + ROUNDING_PICOS);
    let ask = |max_tokens| bound(Some(&dearest), &request(body, max_tokens));
    assert_eq!(ask(Some(7)), all(21));
    assert_eq!(ask(None), all(300), "what the model can make");
    assert_eq!(ask(Some(u64::MAX)), CostBound::Unbounded);
    assert_eq!(bound(None, &request("{}", None)), CostBound::Unpriced);
}

#[test]
fn what_has_no_price_or_no_bound_is_told() {
    let priced = dearest("1", "10");
    let endless = Dearest {
        max_output_tokens: None,
        ..priced
    };
    let free_output = Dearest {
        output: Some(Rate::ZERO),
        ..endless
    };
    let by_piece = Dearest {
        by_piece: true,
        ..priced
    };
    let ask = |dearest: &Dearest| bound(Some(dearest), &request("{}", None));
    assert_eq!(ask(&endless), CostBound::Unbounded);
    assert!(matches!(ask(&free_output), CostBound::AtMost(1..)));
    assert_eq!(ask(&by_piece), CostBound::Unbounded);
    assert_eq!(ask(&Dearest::of([])), CostBound::Unpriced);
    let gone = Request {
        body: None,
        ..request("", Some(1))
    };
    assert_eq!(bound(Some(&priced), &gone), CostBound::Unbounded);
}

#[test]
fn a_dearer_class_of_service_needs_a_price_of_its_own() {
    let listed = dearest("1", "10");
    let without = Dearest {
        priority: false,
        ..listed
    };
    for (body, is_dearer) in [
        (r#"{"service_tier":"priority"}"#, true),
        (r#"{"service_tier":"ultra"}"#, true),
        (r#"{"service_tier":"flex"}"#, false),
        (r#"{"service_tier":"default"}"#, false),
        (r#"{"service_tier":"standard_only"}"#, false),
        (r#"{"service_tier":null}"#, false),
        (r#"{"metadata":{"service_tier":"priority"}}"#, false),
    ] {
        let ask = |dearest| bound(Some(dearest), &request(body, Some(1)));
        assert!(matches!(ask(&listed), CostBound::AtMost(1..)), "{body}");
        assert_eq!(ask(&without) == CostBound::Unpriced, is_dearer, "{body}");
    }
}

#[test]
fn ordinary_requests_have_a_bound() {
    for body in [
        r#"{"model":"m","messages":[{"role":"user","content":"see \"file_id\": 7 \\"}]}"#,
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"type"}]}],"n":null}"#,
        r#"{"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object",
            "properties":{"type":{"type":["string","null"]},"n":{"type":"integer"},
            "file_id":{"type":"string"},"models":{"type":"array"},"document":{"type":"string"}}}}}]}"#,
        r#"{"prompt":"a","conversation":null,"background":false}"#,
        r#"{"input":["a","b"],"tool":{"url":"https://a.example"}}"#,
        "{}",
    ] {
        check(Dialect::OpenAi, body, Some(OPEN));
    }
    check(
        Dialect::Gemini,
        r#"{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"candidateCount":4}}"#,
        Some(Found { answers: 4, ..OPEN }),
    );
}

#[test]
fn what_is_not_in_the_body_has_no_bound() {
    for body in [
        r#"{"previous_response_id":"r"}"#,
        r#"{"previous_\u0072esponse_id":"r"}"#,
        r#"{"\u0070\u0072\u0065\u0076\u0069\u006f\u0075\u0073_response_id":"r"}"#,
        r#"{"prompt":{"id":"p"}}"#,
        r#"{"tools":[{"type":"web_search"}]}"#,
        r#"{"tools":[{"typ\u0065" : "web_search"}]}"#,
        r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"f"}}]}]}"#,
        r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://a.example"}}]}]}"#,
        r#"{"messages":[{"content":[{"type":"document","source":{"type":"url"}}]}]}"#,
        r#"{"models":["a","b"]}"#,
        r#"{"n":1e1}"#,
        r#"{"n":"2"}"#,
        r#"{"n":2.0}"#,
        r#"{"n":99999999999999999999}"#,
        r#"{"cached_content":"c"}"#,
        "[]",
        "",
        "{",
        "}",
        r#"{"a"#,
        r#"{"a\"#,
        r#"{"\x":1}"#,
    ] {
        check(Dialect::OpenAi, body, None);
    }
    for body in [
        r#"{"contents":[{"parts":[{"fileData":{"fileUri":"gs://a"}}]}]}"#,
        r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"video/mp4","data":"AA"}}]}]}"#,
        r#"{"tools":[{"googleSearch":{}}]}"#,
    ] {
        check(Dialect::Gemini, body, None);
    }
    let body = r#"{"messages":[{"content":[{"document":{"source":{}}}]}]}"#;
    check(Dialect::Bedrock, body, None);
    check(Dialect::Unknown, body, None);
}

#[test]
fn pictures_that_came_along_are_counted() {
    let two = Some(Found {
        pictures: 2,
        ..OPEN
    });
    let part = r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}"#;
    let body = format!(r#"{{"messages":[{{"content":[{part},{part}]}}]}}"#);
    check(Dialect::OpenAi, &body, two);
    let part = r#"{"type":"image","source":{"type":"base64","data":"AA"}}"#;
    let body = format!(r#"{{"messages":[{{"content":[{part},{part}]}}]}}"#);
    check(Dialect::Anthropic, &body, two);
    let part = r#"{"inline_data":{"mime_type":"image/png","data":"AA"}}"#;
    let body = format!(r#"{{"contents":[{{"parts":[{part},{part}]}}]}}"#);
    check(Dialect::Gemini, &body, two);
}

proptest! {
    #[test]
    fn any_bytes_are_looked_through(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&body, Dialect::Unknown);
    }

    #[test]
    fn a_text_is_never_taken_for_a_member(text in any::<String>()) {
        let body = serde_json::json!({"messages": [{"role": "user", "content": text}]});
        let found = scan(body.to_string().as_bytes(), Dialect::Unknown);
        prop_assert_eq!(found, Some(OPEN));
    }
}
