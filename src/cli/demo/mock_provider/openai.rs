//! OpenAI's chat completions, completions, embeddings, models and moderations, and the same in
//! the manner of those who copied them.

use serde_json::{Value, json};

use super::answer::{Answer, Deltas, Event, Form, TEXT};
use super::ask::{Ask, PADDING_MARK, Usage};
use super::digest::base64;

/// When a stream tells its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UsageWhen {
    /// In an event of its own after the last choice, if `include_usage` asks for it.
    Asked,
    /// In the event with the finish reason, asked or not.
    Last,
    /// In every event.
    Every,
}

/// `POST …/chat/completions`.
pub(super) fn chat(ask: &Ask<'_>) -> Answer {
    if ask.streams() {
        return chat_stream(ask);
    }
    let message = if let Some(tool) = ask.tool() {
        json!({
            "role": "assistant",
            "content": null,
            "tool_calls": [tool_call(ask, &tool, &ask.tool_arguments())],
            "refusal": null,
        })
    } else if is_plain(ask) {
        return plain_chat(ask);
    } else {
        let mut message = json!({
            "role": "assistant",
            "content": ask.text(),
            "refusal": null,
            "annotations": [],
        });
        if ask.usage.reasoning > 0 && reasons_aloud(ask) {
            message["reasoning_content"] = json!("It is a tide.");
        }
        message
    };
    let mut body = json!({
        "id": id(ask),
        "object": "chat.completion",
        "created": Ask::created(),
        "model": ask.model,
        "choices": [{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": finish_reason(ask),
        }],
        "usage": usage(ask),
        "service_tier": "default",
        "system_fingerprint": fingerprint(ask),
    });
    add_manners(ask, &mut body);
    Answer::json(200, &body)
}

/// The ordinary answer without a detour through a JSON tree: load tests ask for nothing else.
fn plain_chat(ask: &Ask<'_>) -> Answer {
    let usage = ask.usage;
    let model = Value::from(ask.model.as_str());
    let body = format!(
        concat!(
            r#"{{"id":"{id}","object":"chat.completion","created":{created},"model":{model},"#,
            r#""choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"#,
            r#""logprobs":null,"finish_reason":"stop"}}],"#,
            r#""usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total},"#,
            r#""prompt_tokens_details":{{"cached_tokens":{cached},"audio_tokens":0}},"#,
            r#""completion_tokens_details":{{"reasoning_tokens":{reasoning},"audio_tokens":0,"#,
            r#""accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}},"#,
            r#""service_tier":"default","system_fingerprint":"{fingerprint}"}}"#,
        ),
        id = id(ask),
        created = Ask::created(),
        model = model,
        text = ask.text(),
        input = usage.input,
        output = usage.output,
        total = usage.total(),
        cached = usage.cached,
        reasoning = usage.reasoning,
        fingerprint = fingerprint(ask),
    );
    Answer::whole(200, "application/json", body.into_bytes())
}

fn is_plain(ask: &Ask<'_>) -> bool {
    ask.route.provider == "openai" && ask.fields.response_format.is_none()
}

fn chat_stream(ask: &Ask<'_>) -> Answer {
    let when = usage_when(ask);
    let mut opening = Vec::new();
    if ask.route.provider == "openrouter" {
        opening.push(Event::text("", ": OPENROUTER PROCESSING"));
    }
    if ask.route.provider == "azure-openai" {
        opening.push(Event::new(
            "",
            &json!({
                "choices": [], "created": 0, "id": "", "model": "", "object": "",
                "prompt_filter_results": [{ "prompt_index": 0, "content_filter_results": {
                    "hate": { "filtered": false, "severity": "safe" },
                }}],
            }),
        ));
    }
    let mut first = json!({ "role": "assistant", "content": "" });
    let mut deltas = Deltas::story(
        ask,
        "",
        &chunk(ask, when, &json!({ "content": TEXT }), None),
    );
    if let Some(tool) = ask.tool() {
        if ask.route.provider == "mistral" {
            // Mistral sends a call in one piece, with the finish reason.
            let delta = json!({ "role": "assistant", "content": "", "tool_calls": [tool_call(ask, &tool, &ask.tool_arguments())] });
            let mut last = chunk(ask, when, &delta, Some(finish_reason(ask)));
            last["usage"] = usage(ask);
            let closing = vec![Event::new("", &last), Event::done()];
            return Answer::events(ask, Form::Sse, opening, Deltas::none(), closing);
        }
        first["content"] = Value::Null;
        first["tool_calls"] = json!([tool_call(ask, &tool, "")]);
        let delta = json!({ "tool_calls": [{ "index": 0, "function": { "arguments": TEXT } }] });
        deltas = Deltas::tool(ask, "", &chunk(ask, when, &delta, None));
    }
    let mut head = chunk(ask, when, &first, None);
    if ask.route.provider == "groq" {
        head["x_groq"] = json!({ "id": format!("req_{}", ask.digest) });
    }
    opening.push(Event::new("", &head));
    if ask.usage.reasoning > 0 && reasons_aloud(ask) {
        let delta = json!({ "reasoning_content": "It is a tide.", "content": null });
        opening.push(Event::new("", &chunk(ask, when, &delta, None)));
    }

    let mut last = chunk(ask, when, &json!({}), Some(finish_reason(ask)));
    if when != UsageWhen::Asked {
        last["usage"] = usage(ask);
    }
    if ask.route.provider == "groq" {
        last["x_groq"] = json!({ "id": format!("req_{}", ask.digest), "usage": usage(ask) });
    }
    let mut closing = vec![Event::new("", &last)];
    if when == UsageWhen::Asked && includes_usage(ask) {
        let mut told = chunk(ask, when, &json!({}), None);
        told["choices"] = json!([]);
        told["usage"] = usage(ask);
        closing.push(Event::new("", &told));
    }
    closing.push(Event::done());
    Answer::events(ask, Form::Sse, opening, deltas, closing)
}

fn chunk(ask: &Ask<'_>, when: UsageWhen, delta: &Value, finish_reason: Option<&str>) -> Value {
    let mut chunk = json!({
        "id": id(ask),
        "object": "chat.completion.chunk",
        "created": Ask::created(),
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": fingerprint(ask),
        "choices": [{
            "index": 0,
            "delta": delta,
            "logprobs": null,
            "finish_reason": finish_reason,
        }],
    });
    match when {
        UsageWhen::Every => chunk["usage"] = usage(ask),
        UsageWhen::Asked if includes_usage(ask) => chunk["usage"] = Value::Null,
        UsageWhen::Asked | UsageWhen::Last => {}
    }
    chunk
}

/// `POST …/completions`.
pub(super) fn completions(ask: &Ask<'_>) -> Answer {
    let body = |text: &str, finish_reason: Option<&str>| {
        json!({
            "id": format!("cmpl-{}", ask.digest),
            "object": "text_completion",
            "created": Ask::created(),
            "model": ask.model,
            "choices": [{ "index": 0, "text": text, "logprobs": null, "finish_reason": finish_reason }],
        })
    };
    if !ask.streams() {
        let mut whole = body(&ask.text(), Some("stop"));
        whole["usage"] = usage(ask);
        return Answer::json(200, &whole);
    }
    let mut closing = vec![Event::new("", &body("", Some("stop")))];
    if includes_usage(ask) || usage_when(ask) != UsageWhen::Asked {
        let mut told = body("", None);
        told["choices"] = json!([]);
        told["usage"] = usage(ask);
        closing.push(Event::new("", &told));
    }
    closing.push(Event::done());
    let deltas = Deltas::story(ask, "", &body(TEXT, None));
    Answer::events(ask, Form::Sse, Vec::new(), deltas, closing)
}

/// `POST …/embeddings`: floats, or little-endian base64 where asked.
pub(super) fn embeddings(ask: &Ask<'_>) -> Answer {
    let encoded = ask.fields.encoding_format.as_ref().and_then(Value::as_str) == Some("base64");
    let data: Vec<Value> = (0..ask.inputs())
        .map(|index| {
            let vector = ask.vector(index);
            let embedding = if encoded {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                json!(base64(&bytes))
            } else {
                json!(vector)
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let mut body = json!({
        "object": "list",
        "data": data,
        "model": ask.model,
        "usage": { "prompt_tokens": ask.usage.input, "total_tokens": ask.usage.input },
    });
    if ask.route.provider == "mistral" {
        body["id"] = json!(ask.digest);
        body["usage"]["completion_tokens"] = json!(0);
    }
    if ask.command.size.is_some() {
        body["padding"] = json!(PADDING_MARK);
    }
    Answer::json(200, &body)
}

/// `GET …/models`, in the asked provider's form.
pub(super) fn models(ask: &Ask<'_>) -> Answer {
    let body = match ask.route.provider {
        "anthropic" => json!({
            "data": [anthropic_model("claude-sonnet-4-5"), anthropic_model("claude-haiku-4-5")],
            "has_more": false, "first_id": "claude-sonnet-4-5", "last_id": "claude-haiku-4-5",
        }),
        "google-ai-studio" | "google-vertex-ai" => json!({
            "models": [gemini_model("gemini-2.5-flash"), gemini_model("gemini-2.5-pro")],
        }),
        "cohere" => json!({
            "models": [{ "name": "command-a-03-2025", "endpoints": ["chat"], "context_length": 256_000 }],
        }),
        _ => {
            json!({ "object": "list", "data": [model_entry("gpt-4o"), model_entry("gpt-4o-mini")] })
        }
    };
    Answer::json(200, &body)
}

/// `GET …/models/{model}`.
pub(super) fn model(ask: &Ask<'_>) -> Answer {
    let body = match ask.route.provider {
        "anthropic" => anthropic_model(&ask.model),
        "google-ai-studio" | "google-vertex-ai" => gemini_model(&ask.model),
        _ => model_entry(&ask.model),
    };
    Answer::json(200, &body)
}

fn model_entry(id: &str) -> Value {
    json!({
        "id": id, "object": "model", "created": Ask::created(), "owned_by": "tidegate",
        // Mistral's SDK wants these two.
        "type": "base", "capabilities": {},
    })
}

fn anthropic_model(id: &str) -> Value {
    json!({ "type": "model", "id": id, "display_name": id, "created_at": "2025-01-01T00:00:00Z" })
}

fn gemini_model(id: &str) -> Value {
    json!({
        "name": format!("models/{id}"), "version": "001", "displayName": id,
        "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    })
}

/// `POST …/moderations`.
pub(super) fn moderations(ask: &Ask<'_>) -> Answer {
    let categories = [
        "harassment",
        "harassment/threatening",
        "hate",
        "hate/threatening",
        "illicit",
        "illicit/violent",
        "self-harm",
        "self-harm/intent",
        "self-harm/instructions",
        "sexual",
        "sexual/minors",
        "violence",
        "violence/graphic",
    ];
    let each = |value: Value| -> Value {
        categories
            .iter()
            .map(|name| ((*name).to_owned(), value.clone()))
            .collect()
    };
    let results: Vec<Value> = (0..ask.inputs())
        .map(|_| {
            json!({
                "flagged": false,
                "categories": each(json!(false)),
                "category_scores": each(json!(0.0)),
                "category_applied_input_types": each(json!(["text"])),
            })
        })
        .collect();
    let body =
        json!({ "id": format!("modr-{}", ask.digest), "model": ask.model, "results": results });
    Answer::json(200, &body)
}

/// The usage object of chat completions, with what the provider adds to it.
pub(super) fn usage(ask: &Ask<'_>) -> Value {
    let Usage {
        input,
        output,
        cached,
        reasoning,
        ..
    } = ask.usage;
    let mut usage = json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": ask.usage.total(),
    });
    let cached_details = json!({ "cached_tokens": cached, "audio_tokens": 0 });
    let reasoning_details = json!({
        "reasoning_tokens": reasoning,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    });
    match ask.route.provider {
        "mistral" => {
            if cached > 0 {
                usage["prompt_tokens_details"] = json!({ "cached_tokens": cached });
            }
        }
        "deepseek" => {
            usage["prompt_tokens_details"] = json!({ "cached_tokens": cached });
            usage["completion_tokens_details"] = json!({ "reasoning_tokens": reasoning });
            usage["prompt_cache_hit_tokens"] = json!(cached);
            usage["prompt_cache_miss_tokens"] = json!(input - cached.min(input));
        }
        "groq" => {
            usage["queue_time"] = json!(0.001);
            usage["prompt_time"] = json!(0.002);
            usage["completion_time"] = json!(0.003);
            usage["total_time"] = json!(0.005);
            if cached > 0 {
                usage["prompt_tokens_details"] = json!({ "cached_tokens": cached });
            }
            if reasoning > 0 {
                usage["completion_tokens_details"] = json!({ "reasoning_tokens": reasoning });
            }
        }
        "openrouter" => {
            usage["cost"] = json!(0.000_123);
            usage["prompt_tokens_details"] = cached_details;
            usage["completion_tokens_details"] = reasoning_details;
        }
        "perplexity-ai" => {
            usage["search_context_size"] = json!("low");
        }
        _ => {
            usage["prompt_tokens_details"] = cached_details;
            usage["completion_tokens_details"] = reasoning_details;
        }
    }
    usage
}

/// A member or two by which one provider's answers differ.
fn add_manners(ask: &Ask<'_>, body: &mut Value) {
    match ask.route.provider {
        "groq" => body["x_groq"] = json!({ "id": format!("req_{}", ask.digest) }),
        "perplexity-ai" => body["citations"] = json!(["https://example.com/tides"]),
        "openrouter" => body["provider"] = json!("Mock"),
        "cerebras" => body["time_info"] = json!({ "queue_time": 0.001, "total_time": 0.005 }),
        _ => {}
    }
}

fn tool_call(ask: &Ask<'_>, name: &str, arguments: &str) -> Value {
    json!({
        "index": 0,
        // Nine letters and digits: Mistral accepts no other ids.
        "id": ask.digest.get(..9).unwrap_or_default(),
        "type": "function",
        "function": { "name": name, "arguments": arguments },
    })
}

fn usage_when(ask: &Ask<'_>) -> UsageWhen {
    match ask.route.provider {
        "mistral" | "deepseek" | "grok" | "openrouter" | "cerebras" | "fireworks"
        | "workers-ai" => UsageWhen::Last,
        "perplexity-ai" => UsageWhen::Every,
        _ => UsageWhen::Asked,
    }
}

/// Providers that show their reasoning in `reasoning_content`.
fn reasons_aloud(ask: &Ask<'_>) -> bool {
    matches!(ask.route.provider, "deepseek" | "grok" | "fireworks")
}

fn includes_usage(ask: &Ask<'_>) -> bool {
    ask.fields
        .stream_options
        .as_ref()
        .and_then(|options| options.include_usage)
        == Some(true)
}

fn finish_reason(ask: &Ask<'_>) -> &'static str {
    if ask.tool().is_some() {
        "tool_calls"
    } else {
        "stop"
    }
}

fn id(ask: &Ask<'_>) -> String {
    format!("chatcmpl-{}", ask.digest)
}

fn fingerprint(ask: &Ask<'_>) -> String {
    format!("fp_{}", ask.digest.get(..10).unwrap_or_default())
}
