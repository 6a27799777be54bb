//! Cohere's chat (v1 and v2), embeddings and rerank.

use serde_json::{Value, json};

use super::answer::{Answer, Deltas, Event, Form, TEXT};
use super::ask::Ask;

/// `POST …/v2/chat`.
pub(super) fn chat_v2(ask: &Ask<'_>) -> Answer {
    if ask.streams() {
        return stream_v2(ask);
    }
    let message = match ask.tool() {
        Some(tool) => json!({
            "role": "assistant",
            "tool_plan": "I will ask the tide table.",
            "tool_calls": [tool_call(ask, &tool, &ask.tool_arguments())],
        }),
        None => json!({
            "role": "assistant",
            "content": [{ "type": "text", "text": ask.text() }],
        }),
    };
    let body = json!({
        "id": id(ask),
        "message": message,
        "finish_reason": finish_reason(ask),
        "usage": usage(ask),
    });
    Answer::json(200, &body)
}

fn stream_v2(ask: &Ask<'_>) -> Answer {
    let start = json!({
        "id": id(ask),
        "type": "message-start",
        "delta": { "message": {
            "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": [],
        }},
    });
    let mut opening = vec![Event::new("message-start", &start)];
    let mut closing = Vec::new();
    let deltas = if let Some(tool) = ask.tool() {
        let plan = json!({ "type": "tool-plan-delta", "delta": { "message": { "tool_plan": "I will ask the tide table." } } });
        opening.push(Event::new("tool-plan-delta", &plan));
        let begun = json!({
            "type": "tool-call-start", "index": 0,
            "delta": { "message": { "tool_calls": tool_call(ask, &tool, "") } },
        });
        opening.push(Event::new("tool-call-start", &begun));
        closing.push(Event::new(
            "tool-call-end",
            &json!({ "type": "tool-call-end", "index": 0 }),
        ));
        let delta = json!({
            "type": "tool-call-delta", "index": 0,
            "delta": { "message": { "tool_calls": { "function": { "arguments": TEXT } } } },
        });
        Deltas::tool(ask, "tool-call-delta", &delta)
    } else {
        let content = |kind: &str, content: Value| json!({ "type": kind, "index": 0, "delta": { "message": { "content": content } } });
        let begun = content("content-start", json!({ "type": "text", "text": "" }));
        opening.push(Event::new("content-start", &begun));
        closing.push(Event::new(
            "content-end",
            &json!({ "type": "content-end", "index": 0 }),
        ));
        Deltas::story(
            ask,
            "content-delta",
            &content("content-delta", json!({ "text": TEXT })),
        )
    };
    let end = json!({
        "type": "message-end",
        "delta": { "finish_reason": finish_reason(ask), "usage": usage(ask) },
    });
    closing.push(Event::new("message-end", &end));
    closing.push(Event::done());
    Answer::events(ask, Form::Sse, opening, deltas, closing)
}

/// `POST …/v1/chat`; its stream is a JSON document a line.
pub(super) fn chat_v1(ask: &Ask<'_>) -> Answer {
    let mut body = json!({
        "response_id": id(ask),
        "text": ask.text(),
        "generation_id": format!("gen-{}", ask.digest),
        "chat_history": [],
        "finish_reason": "COMPLETE",
        "meta": {
            "api_version": { "version": "1" },
            "billed_units": units(ask),
            "tokens": units(ask),
        },
    });
    let calls = ask
        .tool()
        .map(|tool| json!([{ "name": tool, "parameters": ask.tool_input() }]));
    if let Some(calls) = &calls {
        body["text"] = json!("");
        body["tool_calls"] = calls.clone();
    }
    if !ask.streams() {
        return Answer::json(200, &body);
    }
    let line = |kind: &str, mut value: Value| {
        value["event_type"] = json!(kind);
        value["is_finished"] = json!(kind == "stream-end");
        value
    };
    let opening = vec![Event::new(
        "",
        &line(
            "stream-start",
            json!({ "generation_id": body["generation_id"] }),
        ),
    )];
    let mut closing = Vec::new();
    let deltas = if let Some(calls) = calls {
        let generated = json!({ "text": "", "tool_calls": calls });
        closing.push(Event::new("", &line("tool-calls-generation", generated)));
        Deltas::none()
    } else {
        Deltas::story(ask, "", &line("text-generation", json!({ "text": TEXT })))
    };
    let end = json!({ "finish_reason": "COMPLETE", "response": body });
    closing.push(Event::new("", &line("stream-end", end)));
    Answer::events(ask, Form::JsonLines, opening, deltas, closing)
}

/// `POST …/v1/embed` and `…/v2/embed`.
pub(super) fn embed(ask: &Ask<'_>, v2: bool) -> Answer {
    let vectors: Vec<Vec<f32>> = (0..ask.inputs()).map(|index| ask.vector(index)).collect();
    let by_type = v2 || ask.fields.embedding_types.is_some();
    let body = json!({
        "id": id(ask),
        "response_type": if by_type { "embeddings_by_type" } else { "embeddings_floats" },
        "texts": ask.fields.texts,
        "embeddings": if by_type { json!({ "float": vectors }) } else { json!(vectors) },
        "meta": {
            "api_version": { "version": if v2 { "2" } else { "1" } },
            "billed_units": { "input_tokens": ask.usage.input },
        },
    });
    Answer::json(200, &body)
}

/// `POST …/v1/rerank` and `…/v2/rerank`: the documents in their order, each half as relevant.
pub(super) fn rerank(ask: &Ask<'_>) -> Answer {
    let documents = ask
        .fields
        .documents
        .as_ref()
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    let mut relevance = 1.0;
    let results: Vec<Value> = (0..documents.min(1000))
        .map(|index| {
            relevance /= 2.0;
            json!({ "index": index, "relevance_score": relevance })
        })
        .collect();
    let body = json!({
        "id": id(ask),
        "results": results,
        "meta": { "api_version": { "version": "2" }, "billed_units": { "search_units": 1 } },
    });
    Answer::json(200, &body)
}

fn usage(ask: &Ask<'_>) -> Value {
    let mut usage = json!({ "billed_units": units(ask), "tokens": units(ask) });
    if ask.usage.cached > 0 {
        usage["cached_tokens"] = json!(ask.usage.cached);
    }
    usage
}

fn units(ask: &Ask<'_>) -> Value {
    json!({ "input_tokens": ask.usage.input, "output_tokens": ask.usage.output })
}

fn tool_call(ask: &Ask<'_>, name: &str, arguments: &str) -> Value {
    json!({
        "id": format!("call_{}", ask.digest),
        "type": "function",
        "function": { "name": name, "arguments": arguments },
    })
}

fn finish_reason(ask: &Ask<'_>) -> &'static str {
    if ask.tool().is_some() {
        "TOOL_CALL"
    } else {
        "COMPLETE"
    }
}

fn id(ask: &Ask<'_>) -> String {
    // The shape of a UUID, which Cohere's ids have.
    let digest = &ask.digest;
    let part = |range| digest.get(range).unwrap_or_default();
    format!("{}-{}-4000-8000-{}", part(0..8), part(8..12), part(4..16))
}
