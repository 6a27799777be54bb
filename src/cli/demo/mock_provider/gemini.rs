//! Gemini's `generateContent` and relatives, on AI Studio and Vertex.

use serde_json::{Value, json};

use super::answer::{Answer, Deltas, Event, Form, TEXT};
use super::ask::Ask;

/// `POST …/models/{model}:generateContent` and `:streamGenerateContent`; a stream is an array
/// unless the query says `alt=sse`.
pub(super) fn generate(ask: &Ask<'_>, stream: bool) -> Answer {
    let finish = json!("STOP");
    if !stream {
        let mut parts = thoughts(ask);
        parts.push(answer_part(ask));
        let mut body = candidate(ask, &json!(parts), Some(&finish));
        body["usageMetadata"] = usage(ask, true);
        return Answer::json(200, &body);
    }
    let form = if ask.query.split('&').any(|pair| pair == "alt=sse") {
        Form::SseCrlf
    } else {
        Form::JsonArray
    };
    let chunk = |parts: &Value| {
        let mut chunk = candidate(ask, parts, None);
        chunk["usageMetadata"] = usage(ask, false);
        chunk
    };
    let opening: Vec<Event> = thoughts(ask)
        .into_iter()
        .map(|part| Event::new("", &chunk(&json!([part]))))
        .collect();
    let called = ask.tool().is_some();
    let deltas = if called {
        Deltas::none()
    } else {
        Deltas::story(ask, "", &chunk(&json!([{ "text": TEXT }])))
    };
    // A call comes in one piece, with the finish reason.
    let parts = if called {
        json!([answer_part(ask)])
    } else {
        json!([{ "text": "" }])
    };
    let mut last = candidate(ask, &parts, Some(&finish));
    last["usageMetadata"] = usage(ask, true);
    Answer::events(ask, form, opening, deltas, vec![Event::new("", &last)])
}

/// `POST …/models/{model}:countTokens`.
pub(super) fn count_tokens(ask: &Ask<'_>) -> Answer {
    let input = ask.usage.input;
    let body = json!({
        "totalTokens": input,
        "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": input }],
    });
    Answer::json(200, &body)
}

/// `POST …/models/{model}:embedContent` and `:batchEmbedContents`.
pub(super) fn embed(ask: &Ask<'_>, batch: bool) -> Answer {
    let body = if batch {
        let all: Vec<Value> = (0..ask.inputs())
            .map(|index| json!({ "values": ask.vector(index) }))
            .collect();
        json!({ "embeddings": all })
    } else {
        json!({ "embedding": { "values": ask.vector(0) } })
    };
    Answer::json(200, &body)
}

fn answer_part(ask: &Ask<'_>) -> Value {
    match ask.tool() {
        Some(tool) => json!({ "functionCall": { "name": tool, "args": ask.tool_input() } }),
        None => json!({ "text": ask.text() }),
    }
}

fn thoughts(ask: &Ask<'_>) -> Vec<Value> {
    if ask.thinks() {
        vec![json!({ "text": "It is a tide.", "thought": true })]
    } else {
        Vec::new()
    }
}

fn candidate(ask: &Ask<'_>, parts: &Value, finish: Option<&Value>) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.clone();
    }
    json!({
        "candidates": [candidate],
        "modelVersion": ask.model,
        "responseId": ask.digest,
    })
}

/// Usage so far; only at the end are candidates counted.
fn usage(ask: &Ask<'_>, end: bool) -> Value {
    let usage = ask.usage;
    let mut metadata = json!({
        "promptTokenCount": usage.input,
        "totalTokenCount": if end { usage.total() } else { usage.input },
        "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": usage.input }],
    });
    if end {
        metadata["candidatesTokenCount"] = json!(usage.visible());
    }
    if end && usage.reasoning > 0 {
        metadata["thoughtsTokenCount"] = json!(usage.reasoning);
    }
    if usage.cached > 0 {
        metadata["cachedContentTokenCount"] = json!(usage.cached);
    }
    metadata
}
