//! Workers AI's native form: the model's answer inside the API's envelope.

use serde_json::{Value, json};

use super::answer::{Answer, Deltas, Event, Form, TEXT};
use super::ask::Ask;

/// `POST …/ai/run/@cf/{author}/{model}`.
pub(super) fn run(ask: &Ask<'_>) -> Answer {
    if ask.model.contains("/bge-") || ask.model.contains("embed") {
        let data: Vec<Vec<f32>> = (0..ask.inputs()).map(|index| ask.vector(index)).collect();
        let width = data.first().map_or(0, Vec::len);
        return enveloped(&json!({
            "shape": [data.len(), width], "data": data, "pooling": "mean",
        }));
    }
    if ask.model.contains("whisper") {
        return enveloped(&json!({ "text": ask.upload_sha256, "word_count": 1 }));
    }
    if ask.streams() {
        let deltas = Deltas::story(ask, "", &json!({ "response": TEXT, "p": "abcdefgh" }));
        let last = json!({ "response": "", "usage": usage(ask) });
        let closing = vec![Event::new("", &last), Event::done()];
        return Answer::events(ask, Form::Sse, Vec::new(), deltas, closing);
    }
    let mut result = json!({ "response": ask.text(), "usage": usage(ask) });
    if let Some(tool) = ask.tool() {
        result["response"] = Value::Null;
        result["tool_calls"] = json!([{ "name": tool, "arguments": ask.tool_input() }]);
    }
    enveloped(&result)
}

fn enveloped(result: &Value) -> Answer {
    let body = json!({ "result": result, "success": true, "errors": [], "messages": [] });
    Answer::json(200, &body)
}

fn usage(ask: &Ask<'_>) -> Value {
    json!({
        "prompt_tokens": ask.usage.input,
        "completion_tokens": ask.usage.output,
        "total_tokens": ask.usage.total(),
    })
}
