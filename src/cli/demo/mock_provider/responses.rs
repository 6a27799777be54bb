//! OpenAI's Responses API: whole, and as its sequence of numbered events.

use serde_json::{Value, json};

use super::answer::{Answer, Deltas, Event, Form, SEQUENCE, TEXT};
use super::ask::Ask;

/// `POST …/responses`.
pub(super) fn responses(ask: &Ask<'_>) -> Answer {
    if ask.streams() {
        return stream(ask);
    }
    let mut body = response(ask, "completed", &output(ask));
    body["usage"] = usage(ask);
    Answer::json(200, &body)
}

fn stream(ask: &Ask<'_>) -> Answer {
    let mut events = Numbered::default();
    let begun = response(ask, "in_progress", &[]);
    events.push("response.created", json!({ "response": begun }));
    events.push("response.in_progress", json!({ "response": begun }));
    let output = output(ask);
    let index = output.len() - 1;
    if index > 0 {
        let reasoning = &output[0];
        events.push(
            "response.output_item.added",
            json!({ "output_index": 0, "item": reasoning }),
        );
        events.push(
            "response.output_item.done",
            json!({ "output_index": 0, "item": reasoning }),
        );
    }
    let last = &output[index];
    let mut begun = last.clone();
    begun["status"] = json!("in_progress");
    let tool = last["type"] == "function_call";
    let place = |mut value: Value| {
        value["item_id"] = last["id"].clone();
        value["output_index"] = json!(index);
        if !tool {
            value["content_index"] = json!(0);
        }
        value
    };
    if tool {
        begun["arguments"] = json!("");
    } else {
        begun["content"] = json!([]);
    }
    events.push(
        "response.output_item.added",
        json!({ "output_index": index, "item": begun }),
    );
    if !tool {
        let part = json!({ "part": text_part("") });
        events.push("response.content_part.added", place(part));
    }

    let first = events.next;
    let (delta_name, mut template) = if tool {
        (
            "response.function_call_arguments.delta",
            json!({ "delta": TEXT }),
        )
    } else {
        (
            "response.output_text.delta",
            json!({ "delta": TEXT, "logprobs": [] }),
        )
    };
    template = numbered(delta_name, &json!(SEQUENCE), place(template));
    let deltas = if tool {
        Deltas::tool(ask, delta_name, &template)
    } else {
        Deltas::story(ask, delta_name, &template)
    }
    .numbered_from(first);
    let opening = std::mem::take(&mut events.events);
    events.next = first + usize::try_from(deltas.count()).unwrap_or(usize::MAX);

    if tool {
        let done = json!({ "arguments": last["arguments"], "name": last["name"] });
        events.push("response.function_call_arguments.done", place(done));
    } else {
        let text = last["content"][0]["text"].clone();
        events.push(
            "response.output_text.done",
            place(json!({ "text": text, "logprobs": [] })),
        );
        events.push(
            "response.content_part.done",
            place(json!({ "part": last["content"][0] })),
        );
    }
    events.push(
        "response.output_item.done",
        json!({ "output_index": index, "item": last }),
    );
    let mut done = response(ask, "completed", &output);
    done["usage"] = usage(ask);
    events.push("response.completed", json!({ "response": done }));
    Answer::events(ask, Form::Sse, opening, deltas, events.events)
}

/// Events with a running `sequence_number`.
#[derive(Default)]
struct Numbered {
    events: Vec<Event>,
    next: usize,
}

impl Numbered {
    fn push(&mut self, name: &'static str, value: Value) {
        let value = numbered(name, &json!(self.next), value);
        self.events.push(Event::new(name, &value));
        self.next += 1;
    }
}

/// `value` behind its type and number, where the API puts them.
fn numbered(name: &str, number: &Value, value: Value) -> Value {
    let mut numbered = json!({ "type": name, "sequence_number": number });
    if let (Some(members), Value::Object(rest)) = (numbered.as_object_mut(), value) {
        members.extend(rest);
    }
    numbered
}

/// The output items: a reasoning item where the model reasons, then a message or a call.
fn output(ask: &Ask<'_>) -> Vec<Value> {
    let mut items = Vec::new();
    if ask.usage.reasoning > 0 {
        items.push(
            json!({ "id": format!("rs_{}", ask.digest), "type": "reasoning", "summary": [] }),
        );
    }
    items.push(match ask.tool() {
        Some(tool) => json!({
            "id": format!("fc_{}", ask.digest),
            "type": "function_call",
            "status": "completed",
            "arguments": ask.tool_arguments(),
            "call_id": format!("call_{}", ask.digest),
            "name": tool,
        }),
        None => json!({
            "id": format!("msg_{}", ask.digest),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [text_part(&ask.text())],
        }),
    });
    items
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn response(ask: &Ask<'_>, status: &str, output: &[Value]) -> Value {
    json!({
        "id": format!("resp_{}", ask.digest),
        "object": "response",
        "created_at": Ask::created(),
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": null,
        "model": ask.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": { "effort": null, "summary": null },
        "service_tier": "default",
        "store": false,
        "temperature": 1.0,
        "text": { "format": { "type": "text" } },
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": null,
        "user": null,
        "metadata": {},
    })
}

fn usage(ask: &Ask<'_>) -> Value {
    json!({
        "input_tokens": ask.usage.input,
        "input_tokens_details": { "cached_tokens": ask.usage.cached },
        "output_tokens": ask.usage.output,
        "output_tokens_details": { "reasoning_tokens": ask.usage.reasoning },
        "total_tokens": ask.usage.total(),
    })
}
