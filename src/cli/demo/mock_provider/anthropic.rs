//! Anthropic's messages, whole and as events, and its token count.

use serde_json::{Value, json};

use super::answer::{Answer, Deltas, Event, Form, TEXT};
use super::ask::Ask;

/// `POST …/v1/messages`.
pub(super) fn messages(ask: &Ask<'_>) -> Answer {
    if ask.streams() {
        let (opening, deltas, closing) = events(ask);
        return Answer::events(ask, Form::Sse, opening, deltas, closing);
    }
    Answer::json(200, &message(ask))
}

/// The message as a whole; Bedrock serves it too.
pub(super) fn message(ask: &Ask<'_>) -> Value {
    let mut content = Vec::new();
    if ask.thinks() {
        content
            .push(json!({ "type": "thinking", "thinking": THOUGHT, "signature": signature(ask) }));
    }
    content.push(match ask.tool() {
        Some(tool) => json!({
            "type": "tool_use", "id": tool_id(ask), "name": tool, "input": ask.tool_input(),
        }),
        None => json!({ "type": "text", "text": ask.text() }),
    });
    let mut message = empty_message(ask);
    message["content"] = json!(content);
    message["stop_reason"] = json!(stop_reason(ask));
    message["usage"] = usage(ask, ask.usage.output);
    message
}

/// The events of a streamed message; Bedrock serves them too.
pub(super) fn events(ask: &Ask<'_>) -> (Vec<Event>, Deltas, Vec<Event>) {
    let mut opening = Vec::new();
    let mut push = |name: &'static str, mut value: Value| {
        value["type"] = json!(name);
        opening.push(Event::new(name, &value));
    };
    push(
        "message_start",
        json!({ "type": "", "message": empty_message(ask) }),
    );
    let mut index = 0;
    if ask.thinks() {
        let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
        push(
            "content_block_start",
            json!({ "type": "", "index": 0, "content_block": block }),
        );
        push("ping", json!({ "type": "" }));
        for delta in [
            json!({ "type": "thinking_delta", "thinking": THOUGHT }),
            json!({ "type": "signature_delta", "signature": signature(ask) }),
        ] {
            push(
                "content_block_delta",
                json!({ "type": "", "index": 0, "delta": delta }),
            );
        }
        push("content_block_stop", json!({ "type": "", "index": 0 }));
        index = 1;
    }
    let tool = ask.tool();
    let (block, delta) = match &tool {
        Some(tool) => (
            json!({ "type": "tool_use", "id": tool_id(ask), "name": tool, "input": {} }),
            json!({ "type": "input_json_delta", "partial_json": TEXT }),
        ),
        None => (
            json!({ "type": "text", "text": "" }),
            json!({ "type": "text_delta", "text": TEXT }),
        ),
    };
    push(
        "content_block_start",
        json!({ "type": "", "index": index, "content_block": block }),
    );
    if !ask.thinks() {
        push("ping", json!({ "type": "" }));
    }
    let template = json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let deltas = if tool.is_some() {
        Deltas::tool(ask, "content_block_delta", &template)
    } else {
        Deltas::story(ask, "content_block_delta", &template)
    };
    let closing = vec![
        Event::new(
            "content_block_stop",
            &json!({ "type": "content_block_stop", "index": index }),
        ),
        Event::new(
            "message_delta",
            &json!({
                "type": "message_delta",
                "delta": { "stop_reason": stop_reason(ask), "stop_sequence": null },
                "usage": final_usage(ask),
            }),
        ),
        Event::new("message_stop", &json!({ "type": "message_stop" })),
    ];
    (opening, deltas, closing)
}

/// `POST …/v1/messages/count_tokens`.
pub(super) fn count_tokens(ask: &Ask<'_>) -> Answer {
    Answer::json(200, &json!({ "input_tokens": ask.usage.input }))
}

fn empty_message(ask: &Ask<'_>) -> Value {
    json!({
        "id": format!("msg_{}", ask.digest),
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage(ask, 1),
    })
}

fn usage(ask: &Ask<'_>, output: u64) -> Value {
    json!({
        "input_tokens": ask.usage.uncached(),
        "cache_creation_input_tokens": ask.usage.cache_written,
        "cache_read_input_tokens": ask.usage.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": ask.usage.cache_written,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": output,
        "service_tier": "standard",
    })
}

fn final_usage(ask: &Ask<'_>) -> Value {
    json!({
        "input_tokens": ask.usage.uncached(),
        "cache_creation_input_tokens": ask.usage.cache_written,
        "cache_read_input_tokens": ask.usage.cached,
        "output_tokens": ask.usage.output,
    })
}

fn stop_reason(ask: &Ask<'_>) -> &'static str {
    if ask.tool().is_some() {
        "tool_use"
    } else {
        "end_turn"
    }
}

fn tool_id(ask: &Ask<'_>) -> String {
    format!("toolu_{}", ask.digest)
}

fn signature(ask: &Ask<'_>) -> String {
    super::digest::base64(ask.digest.as_bytes())
}

const THOUGHT: &str = "It is a tide.";
