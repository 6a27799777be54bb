//! What a request asks for, and the numbers and words that any dialect's answer is made of.

use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

use super::command::Command;
use super::route::{Endpoint, Route};

/// A request, understood as far as an answer needs it.
pub(super) struct Ask<'a> {
    pub(super) route: &'a Route,
    /// The model without its commands.
    pub(super) model: String,
    /// 16 hex digits of the body.
    pub(super) digest: String,
    pub(super) fields: Fields<'a>,
    pub(super) usage: Usage,
    pub(super) story: Story,
    pub(super) command: &'a Command,
    /// The query, undecoded, without the question mark.
    pub(super) query: &'a str,
    /// The kept part of the body.
    pub(super) body: &'a [u8],
    pub(super) content_type: &'a str,
    /// SHA-256 of a body that is no JSON; empty otherwise.
    pub(super) upload_sha256: String,
}

/// The members of a JSON request that change the answer, whatever the dialect.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "modelId")]
    pub(super) model_id: Option<Cow<'a, str>>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) tools: Option<Value>,
    pub(super) tool_choice: Option<Value>,
    #[serde(rename = "toolConfig")]
    pub(super) tool_config: Option<Value>,
    pub(super) thinking: Option<Value>,
    #[serde(rename = "generationConfig", alias = "generation_config")]
    pub(super) generation_config: Option<Value>,
    pub(super) input: Option<Value>,
    pub(super) inputs: Option<Value>,
    pub(super) texts: Option<Value>,
    pub(super) requests: Option<Value>,
    pub(super) text: Option<Value>,
    pub(super) documents: Option<Value>,
    pub(super) encoding_format: Option<Value>,
    pub(super) dimensions: Option<u64>,
    pub(super) response_format: Option<Value>,
    pub(super) embedding_types: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
}

/// Token counts of an answer; the formula stands in the front page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    /// All input, cached included.
    pub(super) input: u64,
    /// All output, reasoning included.
    pub(super) output: u64,
    pub(super) cached: u64,
    pub(super) cache_written: u64,
    pub(super) reasoning: u64,
}

/// The text of an answer, piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) digest: String,
    pub(super) pieces: u64,
}

impl Ask<'_> {
    /// The function to call, if the answer is to be a tool call.
    pub(super) fn tool(&self) -> Option<String> {
        if self.fields.tool_choice.as_ref().and_then(Value::as_str) == Some("none") {
            return None;
        }
        let tools = match (&self.fields.tools, &self.fields.tool_config) {
            (Some(tools), _) => tools,
            (None, Some(config)) => config.get("tools")?,
            (None, None) => return None,
        };
        let first = tools.get(0)?;
        let declared = ["functionDeclarations", "function_declarations"]
            .iter()
            .find_map(|name| first.get(name)?.get(0));
        let function = declared
            .or_else(|| first.get("function"))
            .or_else(|| first.get("toolSpec"))
            .unwrap_or(first);
        let name = function.get("name")?.as_str()?.to_owned();
        let answered = TOOL_RESULTS
            .iter()
            .any(|mark| memchr::memmem::find(self.body, mark).is_some());
        (!answered).then_some(name)
    }

    /// The arguments of the tool call, as JSON text in [`TOOL_PIECES`] pieces.
    pub(super) fn tool_pieces(&self) -> [String; TOOL_PIECES] {
        [
            "{\"city\"".to_owned(),
            ":\"Kiel\"".to_owned(),
            ",\"digest\":\"".to_owned(),
            self.digest.clone(),
            "\"}".to_owned(),
        ]
    }

    /// The same arguments as one text.
    pub(super) fn tool_arguments(&self) -> String {
        self.tool_pieces().concat()
    }

    /// The same arguments as JSON.
    pub(super) fn tool_input(&self) -> Value {
        serde_json::json!({ "city": "Kiel", "digest": self.digest })
    }

    /// Whether thinking is asked for, in Anthropic's or Gemini's way.
    pub(super) fn thinks(&self) -> bool {
        thinks(&self.fields)
    }

    /// The visible text; with `size`, ending in the mark that padding replaces.
    pub(super) fn text(&self) -> String {
        let mut text = self.story.text();
        if self
            .fields
            .response_format
            .as_ref()
            .is_some_and(asks_for_json)
        {
            text = format!("{{\"digest\":\"{}\"}}", self.digest);
        } else if self.command.size.is_some() && !self.streams() {
            text.push_str(PADDING_MARK);
        }
        text
    }

    pub(super) fn streams(&self) -> bool {
        let by_path = matches!(
            self.route.endpoint,
            Endpoint::Generate { stream: true }
                | Endpoint::Invoke { stream: true }
                | Endpoint::Converse { stream: true }
        );
        by_path || self.fields.stream == Some(true)
    }

    /// How many inputs an embedding request holds, within reason.
    pub(super) fn inputs(&self) -> usize {
        let fields = &self.fields;
        let given = [
            &fields.input,
            &fields.inputs,
            &fields.texts,
            &fields.requests,
            &fields.text,
        ];
        match given.into_iter().flatten().next() {
            // One array of numbers is one tokenised input.
            Some(Value::Array(items)) if !items.first().is_some_and(Value::is_number) => {
                items.len().clamp(1, INPUTS_MAX)
            }
            _ => 1,
        }
    }

    /// A vector for one input: binary fractions, so that every number is exact as text.
    pub(super) fn vector(&self, index: usize) -> Vec<f32> {
        let len = self
            .fields
            .dimensions
            .unwrap_or(VECTOR_LEN)
            .clamp(1, VECTOR_LEN_MAX);
        let mut state = xxhash_rust::xxh3::xxh3_64_with_seed(self.digest.as_bytes(), index as u64);
        (0..len)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let [top, ..] = state.to_be_bytes();
                (f32::from(top) - 127.5) / 128.0
            })
            .collect()
    }

    /// A made-up time, fixed so that answers can be compared: seconds since the epoch.
    pub(super) fn created() -> u64 {
        CREATED
    }
}

impl Usage {
    pub(super) fn of(
        body_len: u64,
        model: &str,
        fields: &Fields<'_>,
        command: &Command,
        visible: u64,
    ) -> Self {
        let input = command.input.unwrap_or_else(|| body_len.div_ceil(4).max(1));
        let cached = model.contains("cached");
        let reasons = model.contains("reason") || thinks(fields);
        let reasoning = if reasons {
            visible.saturating_mul(2)
        } else {
            0
        };
        Self {
            input,
            output: command
                .output
                .unwrap_or_else(|| visible.saturating_add(reasoning)),
            cached: if cached { input / 2 } else { 0 },
            cache_written: if cached { input / 4 } else { 0 },
            reasoning,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Output without reasoning.
    pub(super) fn visible(&self) -> u64 {
        self.output.saturating_sub(self.reasoning)
    }

    /// Input that was neither read from a prompt cache nor written to it.
    pub(super) fn uncached(&self) -> u64 {
        self.input
            .saturating_sub(self.cached)
            .saturating_sub(self.cache_written)
    }
}

impl Story {
    /// One delta's text. None needs escaping in JSON.
    pub(super) fn piece(&self, index: u64) -> &str {
        if index == 0 {
            return &self.digest;
        }
        usize::try_from(index % WORDS.len() as u64).map_or(" ", |at| WORDS[at])
    }

    /// All of it; of a very long one, the start.
    pub(super) fn text(&self) -> String {
        (0..self.pieces.min(TEXT_PIECES_MAX))
            .map(|index| self.piece(index))
            .collect()
    }
}

fn thinks(fields: &Fields<'_>) -> bool {
    let kind = fields
        .thinking
        .as_ref()
        .and_then(|thinking| thinking.get("type")?.as_str());
    // Google's own SDK writes the inner names with underscores.
    let gemini = fields.generation_config.as_ref().and_then(|config| {
        let thinking = either(config, "thinkingConfig", "thinking_config")?;
        either(thinking, "includeThoughts", "include_thoughts")?.as_bool()
    });
    matches!(kind, Some("enabled" | "adaptive")) || gemini == Some(true)
}

fn either<'v>(value: &'v Value, one: &str, other: &str) -> Option<&'v Value> {
    value.get(one).or_else(|| value.get(other))
}

fn asks_for_json(format: &Value) -> bool {
    format
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.starts_with("json"))
}

/// Stands where padding goes, until the answer's other bytes are counted.
pub(super) const PADDING_MARK: &str = "@PADDING@";

/// Pieces of a tool call's arguments; its visible tokens.
pub(super) const TOOL_PIECES: usize = 5;

/// What shows that a conversation already holds a tool's result.
const TOOL_RESULTS: [&[u8]; 7] = [
    b"\"role\":\"tool\"",
    b"\"role\": \"tool\"",
    b"tool_result",
    b"toolResult",
    b"functionResponse",
    b"function_response",
    b"function_call_output",
];

/// Words of the text; one has several bytes a character, so that reads may split it.
const WORDS: [&str; 16] = [
    " the", " tide", " comes", " in", ",", " 潮", " fills", " every", " pool", " and", " goes",
    " out", " again", ",", " slowly", ".",
];

/// Pieces that a text given as a whole holds at most: some 20 KB.
const TEXT_PIECES_MAX: u64 = 4096;

/// Visible tokens of an answer unless `events` says otherwise.
pub(super) const VISIBLE_TOKENS: u64 = 16;

/// Most inputs of one embedding request that are answered.
const INPUTS_MAX: usize = 2048;

/// Numbers of a vector unless `dimensions` says otherwise, and at most.
const VECTOR_LEN: u64 = 8;
const VECTOR_LEN_MAX: u64 = 4096;

/// 2025-01-01.
const CREATED: u64 = 1_735_689_600;

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(model: &str, commands: &str) -> Usage {
        let mut command = Command::default();
        command.extend(commands, ',').unwrap();
        Usage::of(101, model, &Fields::default(), &command, 16)
    }

    #[test]
    fn usage_follows_the_documented_formula() {
        let plain = Usage {
            input: 26,
            output: 16,
            ..Usage::default()
        };
        assert_eq!(usage("m", ""), plain);
        let cached = Usage {
            cached: 13,
            cache_written: 6,
            ..plain
        };
        assert_eq!(usage("cached-m", ""), cached);
        assert_eq!(cached.uncached(), 7);
        let reasoned = usage("m-reason", "");
        assert_eq!(
            (reasoned.output, reasoned.reasoning, reasoned.visible()),
            (48, 32, 16)
        );
        assert_eq!(
            (
                usage("m", "in=5,out=7").input,
                usage("m", "in=5,out=7").output
            ),
            (5, 7)
        );
    }

    #[test]
    fn a_text_starts_with_the_digest_and_is_the_sum_of_its_pieces() {
        let story = Story {
            digest: "0123456789abcdef".to_owned(),
            pieces: 3,
        };
        assert_eq!(story.text(), "0123456789abcdef tide comes");
    }
}
