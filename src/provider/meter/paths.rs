//! Where the answers of all dialects keep their figures.
//!
//! Sources: the API references of the providers, and the bodies under `tests/fixtures/usage/`.

use crate::provider::scanner::{Names, Path, Take};

/// The slots of the scanner. A slot stands for one meaning, whatever a dialect calls it.
pub(super) mod slot {
    /// Input tokens, cached ones included.
    pub(crate) const PROMPT: u8 = 0;
    /// Output tokens of a dialect that counts its input as [`PROMPT`].
    pub(crate) const COMPLETION: u8 = 1;
    /// Input and output together.
    pub(crate) const TOTAL: u8 = 2;
    /// Input tokens; those of [`READ_APART`] and [`WRITE_APART`] come on top where they are given.
    pub(crate) const INPUT: u8 = 3;
    /// Output tokens.
    pub(crate) const OUTPUT: u8 = 4;
    /// Part of the input that was read from the prompt cache.
    pub(crate) const READ: u8 = 5;
    /// The same, of a dialect that leaves it out of its input.
    pub(crate) const READ_APART: u8 = 6;
    /// Part of the input that was written to the prompt cache.
    pub(crate) const WRITE: u8 = 7;
    /// The same, of a dialect that leaves it out of its input.
    pub(crate) const WRITE_APART: u8 = 8;
    /// Part of what was written that is kept for an hour.
    pub(crate) const WRITE_HOUR: u8 = 9;
    /// Reasoning, part of the output.
    pub(crate) const REASONING: u8 = 10;
    /// Reasoning, on top of the output (Gemini).
    pub(crate) const THOUGHTS: u8 = 11;
    /// Reasoning stated beside the output: part of it or on top of it (Perplexity).
    pub(crate) const REASONING_BESIDE: u8 = 12;
    /// Input of tools, on top of the prompt (Gemini).
    pub(crate) const TOOL_PROMPT: u8 = 13;
    /// Input that is charged (Cohere).
    pub(crate) const BILLED_INPUT: u8 = 14;
    /// Output that is charged (Cohere).
    pub(crate) const BILLED_OUTPUT: u8 = 15;
    /// Input, added up over the parts of an answer.
    pub(crate) const INPUT_SUM: u8 = 16;
    /// Output, added up over the parts of an answer.
    pub(crate) const OUTPUT_SUM: u8 = 17;
    /// Input as headers and Bedrock's own metrics say, cached tokens left out.
    pub(crate) const METRIC_INPUT: u8 = 18;
    /// Output as they say.
    pub(crate) const METRIC_OUTPUT: u8 = 19;
    /// Cache reads as they say.
    pub(crate) const METRIC_READ: u8 = 20;
    /// Cache writes as they say.
    pub(crate) const METRIC_WRITE: u8 = 21;
    /// Cost in ten-thousand-millionths of a dollar (xAI).
    pub(crate) const COST_TICKS: u8 = 22;
    /// The answer holds embeddings.
    pub(crate) const EMBEDDED: u8 = 23;
    /// The answer holds model output.
    pub(crate) const DELTA: u8 = 24;
    /// Part of the input that was sound.
    pub(crate) const INPUT_AUDIO: u8 = 25;
    /// Part of the output that was sound.
    pub(crate) const OUTPUT_AUDIO: u8 = 26;
    /// Part of the input that was pictures.
    pub(crate) const INPUT_IMAGE: u8 = 27;
    /// Pictures made.
    pub(crate) const IMAGES: u8 = 28;
    /// Searches that are charged (Cohere).
    pub(crate) const SEARCHES: u8 = 29;
    /// How many numbers there are.
    pub(crate) const NUMBERS: usize = 30;

    /// The model's name.
    pub(crate) const MODEL: u8 = 0;
    /// The cost in dollars, as the provider states it.
    pub(crate) const COST: u8 = 1;
    /// Base64 of an event inside an event (Bedrock).
    pub(crate) const BYTES: u8 = 2;
    /// The class of service, in the provider's word.
    pub(crate) const CLASS: u8 = 3;
    /// Seconds of sound taken in, as decimal text.
    pub(crate) const SECONDS: u8 = 4;
    /// How many texts there are.
    pub(crate) const TEXTS: usize = 5;
}

/// Longest model name that is kept, in bytes of JSON text.
const MODEL_BYTES_MAX: u32 = 1024;

/// Longest cost that is kept: digits of an amount.
const COST_BYTES_MAX: u32 = 48;

/// Longest name of a class of service, quotes included, and longest number of seconds.
const WORD_BYTES_MAX: u32 = 32;

/// Longest event inside an event that is read, in bytes of base64; those with usage are small.
const BYTES_MAX: u32 = 64 * 1024;

/// The header that gives a number, by the slot it belongs to.
const HEADERS: [(&str, u8); 6] = [
    ("x-amzn-bedrock-input-token-count", slot::METRIC_INPUT),
    ("x-amzn-bedrock-output-token-count", slot::METRIC_OUTPUT),
    (
        "x-amzn-bedrock-cache-read-input-token-count",
        slot::METRIC_READ,
    ),
    (
        "x-amzn-bedrock-cache-write-input-token-count",
        slot::METRIC_WRITE,
    ),
    // Text generation servers of Hugging Face.
    ("x-prompt-tokens", slot::METRIC_INPUT),
    ("x-generated-tokens", slot::METRIC_OUTPUT),
];

/// The slot of a header that counts tokens.
pub(super) fn slot_of_header(name: &[u8]) -> Option<u8> {
    if !matches!(name, [b'x' | b'X', b'-', ..]) {
        return None;
    }
    HEADERS
        .iter()
        .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
        .map(|(_, slot)| *slot)
}

const fn count(name: &'static str, slot: u8) -> Path {
    // Streams say null in events that have nothing to report.
    Path::to(name, Take::LatestNumber(slot))
}

const fn model(name: &'static str) -> Path {
    let take = Take::Text {
        slot: slot::MODEL,
        max: MODEL_BYTES_MAX,
    };
    Path::to(name, take)
}

const COST: Take = Take::Text {
    slot: slot::COST,
    max: COST_BYTES_MAX,
};

const fn word(name: &'static str, slot: u8) -> Path {
    let max = WORD_BYTES_MAX;
    Path::to(name, Take::Text { slot, max })
}

const fn picture(name: &'static str) -> Path {
    Path::to(name, Take::Count(slot::IMAGES))
}

const OUTPUT_SEEN: Take = Take::Presence(slot::DELTA);

const fn output(name: &'static str) -> Path {
    Path::to(name, OUTPUT_SEEN)
}

const fn embedded(name: &'static str) -> Path {
    Path::to(name, Take::Presence(slot::EMBEDDED))
}

/// An answer, or one event of a stream.
pub(super) static ANSWER: Names = Names::of(&[
    Path::into("choices", &CHOICE),
    Path::into("usage", &USAGE),
    model("model"),
    // A responses event has an object here, a Workers AI event the text itself.
    Path::either("response", OUTPUT_SEEN, &RESPONSE),
    // A responses event has the text here, most others an object.
    Path::either("delta", OUTPUT_SEEN, &DELTA),
    Path::into("message", &MESSAGE_START),
    Path::into("candidates", &CANDIDATE),
    Path::into("usageMetadata", &GEMINI_USAGE),
    model("modelVersion"),
    word("service_tier", slot::CLASS),
    Path::into("x_groq", &RESPONSE),
    // Workers AI's envelope.
    Path::into("result", &RESPONSE),
    // Cohere v1.
    Path::into("meta", &COHERE_USAGE),
    output("text"),
    embedded("embeddings"),
    embedded("embedding"),
    // Bedrock: every event of a binary stream of a native model.
    Path::to(
        "bytes",
        Take::Text {
            slot: slot::BYTES,
            max: BYTES_MAX,
        },
    ),
    Path::into("amazon-bedrock-invocationMetrics", &METRICS),
    // Nova. Elsewhere this is the caller's own, echoed: nothing but Nova's figures is read.
    Path::into("metadata", &NOVA_METADATA),
    Path::into("contentBlockDelta", &DELTA_OF_BLOCK),
    // Titan.
    count("inputTextTokenCount", slot::PROMPT),
    count("totalOutputTextTokenCount", slot::OUTPUT),
    Path::into("results", &TITAN_RESULT),
    output("outputText"),
    embedded("embeddingsByType"),
    // Llama.
    count("prompt_token_count", slot::PROMPT),
    count("generation_token_count", slot::OUTPUT),
    output("generation"),
    // Mistral on Bedrock.
    Path::into("outputs", &TOKEN),
    // Embeddings on Vertex.
    Path::into("predictions", &PREDICTION),
    // Images and speech of OpenAI.
    output("partial_image_b64"),
    output("audio"),
    // Pictures, and embeddings of those who wrap them.
    Path::into("data", &DATA),
    // Transcriptions: OpenAI's whisper has it in `usage`, others here.
    word("duration", slot::SECONDS),
    // Text generation servers of Hugging Face.
    Path::into("token", &TOKEN),
    Path::into("details", &GENERATION_DETAILS),
]);

/// `usage`, wherever it stands.
static USAGE: Names = Names::of(&[
    count("prompt_tokens", slot::PROMPT),
    count("completion_tokens", slot::COMPLETION),
    count("total_tokens", slot::TOTAL),
    Path::into("prompt_tokens_details", &INPUT_DETAILS),
    Path::into("completion_tokens_details", &OUTPUT_DETAILS),
    count("input_tokens", slot::INPUT),
    count("output_tokens", slot::OUTPUT),
    Path::into("input_tokens_details", &INPUT_DETAILS),
    Path::into("input_token_details", &INPUT_DETAILS),
    Path::into("output_tokens_details", &OUTPUT_DETAILS),
    // Anthropic.
    count("cache_read_input_tokens", slot::READ_APART),
    count("cache_creation_input_tokens", slot::WRITE_APART),
    Path::into("cache_creation", &CACHE_CREATION),
    // Bedrock converse, and Nova with `Count`.
    count("inputTokens", slot::INPUT),
    count("outputTokens", slot::OUTPUT),
    count("totalTokens", slot::TOTAL),
    count("cacheReadInputTokens", slot::READ_APART),
    count("cacheWriteInputTokens", slot::WRITE_APART),
    count("cacheReadInputTokenCount", slot::READ_APART),
    count("cacheWriteInputTokenCount", slot::WRITE_APART),
    // DeepSeek; Moonshot and Cohere; Mistral.
    count("prompt_cache_hit_tokens", slot::READ),
    count("cached_tokens", slot::READ),
    count("num_cached_tokens", slot::READ),
    Path::into("billed_units", &BILLED_UNITS),
    Path::into("tokens", &TOKENS),
    // Perplexity.
    count("reasoning_tokens", slot::REASONING_BESIDE),
    // OpenRouter has the amount here, Perplexity an object.
    Path::either("cost", COST, &COST_PARTS),
    count("cost_in_usd_ticks", slot::COST_TICKS),
    // Anthropic says it here, OpenAI beside `usage`.
    word("service_tier", slot::CLASS),
    word("seconds", slot::SECONDS),
]);

static DATA: Names = Names::of(&[picture("b64_json"), picture("url")]);

static INPUT_DETAILS: Names = Names::of(&[
    count("cached_tokens", slot::READ),
    count("cache_write_tokens", slot::WRITE),
    count("audio_tokens", slot::INPUT_AUDIO),
    count("image_tokens", slot::INPUT_IMAGE),
]);

static OUTPUT_DETAILS: Names = Names::of(&[
    count("reasoning_tokens", slot::REASONING),
    count("thinking_tokens", slot::REASONING),
    count("audio_tokens", slot::OUTPUT_AUDIO),
]);

static CACHE_CREATION: Names = Names::of(&[count("ephemeral_1h_input_tokens", slot::WRITE_HOUR)]);

static COST_PARTS: Names = Names::of(&[Path::to("total_cost", COST)]);

/// What holds a `usage` and a model: a responses object, an envelope.
static RESPONSE: Names = Names::of(&[
    Path::into("usage", &USAGE),
    model("model"),
    // Cohere v1 ends its streams with the whole response.
    Path::into("meta", &COHERE_USAGE),
    embedded("data"),
    word("service_tier", slot::CLASS),
]);

static NOVA_METADATA: Names = Names::of(&[Path::into("usage", &NOVA_USAGE)]);

static NOVA_USAGE: Names = Names::of(&[
    count("inputTokens", slot::INPUT),
    count("outputTokens", slot::OUTPUT),
    count("cacheReadInputTokenCount", slot::READ_APART),
    count("cacheWriteInputTokenCount", slot::WRITE_APART),
]);

/// A choice of chat completions and completions.
static CHOICE: Names = Names::of(&[
    Path::into("delta", &CHAT_DELTA),
    output("text"),
    // Moonshot ends its streams so.
    Path::into("usage", &USAGE),
]);

static CHAT_DELTA: Names = Names::of(&[
    output("content"),
    output("reasoning_content"),
    output("reasoning"),
    output("reasoning_details"),
    output("tool_calls"),
    output("function_call"),
    output("refusal"),
    output("audio"),
]);

/// `message_start` of Anthropic. Its `output_tokens` is a placeholder and is left unknown.
static MESSAGE_START: Names = Names::of(&[Path::into("usage", &START_USAGE), model("model")]);

static START_USAGE: Names = Names::of(&[
    count("input_tokens", slot::INPUT),
    count("cache_read_input_tokens", slot::READ_APART),
    count("cache_creation_input_tokens", slot::WRITE_APART),
    Path::into("cache_creation", &CACHE_CREATION),
    word("service_tier", slot::CLASS),
]);

/// A delta of Anthropic, Bedrock converse and Cohere v2.
static DELTA: Names = Names::of(&[
    output("text"),
    output("thinking"),
    output("partial_json"),
    output("toolUse"),
    output("reasoningContent"),
    Path::into("message", &COHERE_MESSAGE),
    Path::into("usage", &USAGE),
]);

static DELTA_OF_BLOCK: Names = Names::of(&[Path::into("delta", &DELTA)]);

static COHERE_MESSAGE: Names = Names::of(&[
    Path::into("content", &COHERE_CONTENT),
    output("tool_plan"),
    output("tool_calls"),
]);

static COHERE_CONTENT: Names = Names::of(&[output("text"), output("thinking")]);

static COHERE_USAGE: Names = Names::of(&[
    Path::into("billed_units", &BILLED_UNITS),
    Path::into("tokens", &TOKENS),
]);

static BILLED_UNITS: Names = Names::of(&[
    count("input_tokens", slot::BILLED_INPUT),
    count("output_tokens", slot::BILLED_OUTPUT),
    count("search_units", slot::SEARCHES),
]);

static TOKENS: Names = Names::of(&[
    count("input_tokens", slot::INPUT),
    count("output_tokens", slot::OUTPUT),
]);

static CANDIDATE: Names = Names::of(&[Path::into("content", &CANDIDATE_CONTENT)]);

static CANDIDATE_CONTENT: Names = Names::of(&[Path::into("parts", &PART)]);

static PART: Names = Names::of(&[
    output("text"),
    output("functionCall"),
    output("inlineData"),
    output("executableCode"),
    output("codeExecutionResult"),
]);

static GEMINI_USAGE: Names = Names::of(&[
    count("promptTokenCount", slot::PROMPT),
    count("candidatesTokenCount", slot::COMPLETION),
    count("totalTokenCount", slot::TOTAL),
    count("cachedContentTokenCount", slot::READ),
    count("thoughtsTokenCount", slot::THOUGHTS),
    count("toolUsePromptTokenCount", slot::TOOL_PROMPT),
]);

static METRICS: Names = Names::of(&[
    count("inputTokenCount", slot::METRIC_INPUT),
    count("outputTokenCount", slot::METRIC_OUTPUT),
    count("cacheReadInputTokenCount", slot::METRIC_READ),
    count("cacheWriteInputTokenCount", slot::METRIC_WRITE),
]);

static TITAN_RESULT: Names = Names::of(&[Path::to("tokenCount", Take::Sum(slot::OUTPUT_SUM))]);

static PREDICTION: Names = Names::of(&[Path::into("embeddings", &PREDICTED_EMBEDDING)]);

static PREDICTED_EMBEDDING: Names = Names::of(&[
    Path::into("statistics", &EMBEDDING_STATISTICS),
    embedded("values"),
]);

static EMBEDDING_STATISTICS: Names =
    Names::of(&[Path::to("token_count", Take::Sum(slot::INPUT_SUM))]);

static TOKEN: Names = Names::of(&[output("text")]);

static GENERATION_DETAILS: Names = Names::of(&[count("generated_tokens", slot::OUTPUT)]);
