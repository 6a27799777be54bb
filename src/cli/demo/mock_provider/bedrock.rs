//! Bedrock: `converse` in Amazon's own shape, `invoke` in the model maker's, streams in binary
//! frames.

use serde_json::{Value, json};

use super::answer::{Answer, Deltas, Event, Form, TEXT};
use super::anthropic;
use super::ask::Ask;

/// `POST /model/{id}/converse` and `converse-stream`.
pub(super) fn converse(ask: &Ask<'_>, stream: bool) -> Answer {
    if stream {
        return converse_stream(ask);
    }
    let content = match ask.tool() {
        Some(tool) => json!([{ "toolUse": {
            "toolUseId": tool_id(ask), "name": tool, "input": ask.tool_input(),
        }}]),
        None => json!([{ "text": ask.text() }]),
    };
    let body = json!({
        "metrics": { "latencyMs": 1 },
        "output": { "message": { "content": content, "role": "assistant" } },
        "stopReason": stop_reason(ask),
        "usage": usage(ask),
    });
    Answer::json(200, &body)
}

fn converse_stream(ask: &Ask<'_>) -> Answer {
    let mut opening = vec![Event::new(
        "messageStart",
        &json!({ "p": "abcdefg", "role": "assistant" }),
    )];
    let deltas = if let Some(tool) = ask.tool() {
        let start = json!({ "toolUse": { "toolUseId": tool_id(ask), "name": tool } });
        opening.push(Event::new(
            "contentBlockStart",
            &json!({ "contentBlockIndex": 0, "p": "abc", "start": start }),
        ));
        let delta = json!({ "toolUse": { "input": TEXT } });
        Deltas::tool(
            ask,
            "contentBlockDelta",
            &json!({ "contentBlockIndex": 0, "delta": delta, "p": "ab" }),
        )
    } else {
        let delta = json!({ "text": TEXT });
        Deltas::story(
            ask,
            "contentBlockDelta",
            &json!({ "contentBlockIndex": 0, "delta": delta, "p": "ab" }),
        )
    };
    let closing = vec![
        Event::new(
            "contentBlockStop",
            &json!({ "contentBlockIndex": 0, "p": "abcd" }),
        ),
        Event::new(
            "messageStop",
            &json!({ "p": "ab", "stopReason": stop_reason(ask) }),
        ),
        Event::new(
            "metadata",
            &json!({ "metrics": { "latencyMs": 1 }, "p": "abc", "usage": usage(ask) }),
        ),
    ];
    Answer::events(ask, Form::Amazon, opening, deltas, closing)
}

/// `POST /model/{id}/invoke` and `invoke-with-response-stream`.
pub(super) fn invoke(ask: &Ask<'_>, stream: bool) -> Answer {
    let maker = Maker::of(&ask.model);
    if stream {
        let (opening, deltas, mut closing) = maker.events(ask);
        if let Some(last) = closing.last_mut()
            && let Ok(Value::Object(mut data)) = serde_json::from_slice(&last.data)
        {
            data.insert("amazon-bedrock-invocationMetrics".to_owned(), metrics(ask));
            last.data = Value::Object(data).to_string().into_bytes();
        }
        return Answer::events(ask, Form::AmazonChunks, opening, deltas, closing);
    }
    Answer::json(200, &maker.whole(ask))
        .with("x-amzn-bedrock-invocation-latency", "1")
        .with(
            "x-amzn-bedrock-input-token-count",
            ask.usage.input.to_string(),
        )
        .with(
            "x-amzn-bedrock-output-token-count",
            ask.usage.output.to_string(),
        )
}

/// Whose shape `invoke` speaks, by the model's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Anthropic,
    Nova,
    Llama,
    Mistral,
    Titan,
    Embedding,
}

impl Maker {
    fn of(model: &str) -> Self {
        if model.contains("embed") {
            Self::Embedding
        } else if model.contains("nova") {
            Self::Nova
        } else if model.contains("llama") {
            Self::Llama
        } else if model.contains("mistral") {
            Self::Mistral
        } else if model.contains("titan") {
            Self::Titan
        } else {
            Self::Anthropic
        }
    }

    fn whole(self, ask: &Ask<'_>) -> Value {
        let text = ask.text();
        match self {
            Self::Anthropic => anthropic::message(ask),
            Self::Nova => json!({
                "output": { "message": { "content": [{ "text": text }], "role": "assistant" } },
                "stopReason": "end_turn",
                "usage": usage(ask),
            }),
            Self::Llama => json!({
                "generation": text,
                "prompt_token_count": ask.usage.input,
                "generation_token_count": ask.usage.output,
                "stop_reason": "stop",
            }),
            Self::Mistral => json!({ "outputs": [{ "text": text, "stop_reason": "stop" }] }),
            Self::Titan => json!({
                "inputTextTokenCount": ask.usage.input,
                "results": [{
                    "tokenCount": ask.usage.output, "outputText": text, "completionReason": "FINISH",
                }],
            }),
            Self::Embedding => json!({
                "embedding": ask.vector(0), "inputTextTokenCount": ask.usage.input,
            }),
        }
    }

    fn events(self, ask: &Ask<'_>) -> (Vec<Event>, Deltas, Vec<Event>) {
        let simple = |delta: Value, last: Value| {
            (
                Vec::new(),
                Deltas::story(ask, "", &delta),
                vec![Event::new("", &last)],
            )
        };
        match self {
            Self::Anthropic => anthropic::events(ask),
            Self::Nova => {
                let (_, deltas, _) = simple(
                    json!({ "contentBlockDelta": { "delta": { "text": TEXT }, "contentBlockIndex": 0 } }),
                    Value::Null,
                );
                let closing = vec![
                    Event::new(
                        "",
                        &json!({ "contentBlockStop": { "contentBlockIndex": 0 } }),
                    ),
                    Event::new("", &json!({ "messageStop": { "stopReason": "end_turn" } })),
                    Event::new(
                        "",
                        &json!({ "metadata": { "usage": usage(ask), "metrics": {} } }),
                    ),
                ];
                let opening = vec![Event::new(
                    "",
                    &json!({ "messageStart": { "role": "assistant" } }),
                )];
                (opening, deltas, closing)
            }
            Self::Llama => simple(
                json!({ "generation": TEXT, "prompt_token_count": null, "generation_token_count": 1, "stop_reason": null }),
                json!({
                    "generation": "", "prompt_token_count": ask.usage.input,
                    "generation_token_count": ask.usage.output, "stop_reason": "stop",
                }),
            ),
            Self::Mistral => simple(
                json!({ "outputs": [{ "text": TEXT, "stop_reason": null }] }),
                json!({ "outputs": [{ "text": "", "stop_reason": "stop" }] }),
            ),
            Self::Titan | Self::Embedding => simple(
                json!({ "outputText": TEXT, "index": 0, "completionReason": null }),
                json!({
                    "outputText": "", "index": 0, "completionReason": "FINISH",
                    "inputTextTokenCount": ask.usage.input,
                    "totalOutputTextTokenCount": ask.usage.output,
                }),
            ),
        }
    }
}

fn usage(ask: &Ask<'_>) -> Value {
    let mut usage = json!({
        "inputTokens": ask.usage.uncached(),
        "outputTokens": ask.usage.output,
        "totalTokens": ask.usage.total(),
    });
    if ask.usage.cached > 0 {
        usage["cacheReadInputTokens"] = json!(ask.usage.cached);
        usage["cacheWriteInputTokens"] = json!(ask.usage.cache_written);
    }
    usage
}

fn metrics(ask: &Ask<'_>) -> Value {
    let mut metrics = json!({
        "inputTokenCount": ask.usage.uncached(),
        "outputTokenCount": ask.usage.output,
        "invocationLatency": 1,
        "firstByteLatency": 1,
    });
    if ask.usage.cached > 0 {
        metrics["cacheReadInputTokenCount"] = json!(ask.usage.cached);
        metrics["cacheWriteInputTokenCount"] = json!(ask.usage.cache_written);
    }
    metrics
}

fn stop_reason(ask: &Ask<'_>) -> &'static str {
    if ask.tool().is_some() {
        "tool_use"
    } else {
        "end_turn"
    }
}

fn tool_id(ask: &Ask<'_>) -> String {
    format!("tooluse_{}", ask.digest)
}
