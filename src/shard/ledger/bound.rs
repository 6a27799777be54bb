//! What a request can cost at most: the amount that a hard limit reserves.
//!
//! The bound is that of the input, a token for each byte of the body and some for what providers
//! put around it, and of the output, as much as the request or the model allows for each of the
//! answers asked for; both at the dearest price that the model has in any class of service.
//!
//! What is not in the body has no bound: files, links, earlier conversations, tools that run at
//! the provider. Such requests are told by the names and types in the body. Types are known or
//! refused; so are a few members of each dialect. A JSON document inside a text (the arguments of
//! a tool, say) is text.

#[cfg(test)]
mod tests;

use memchr::{memchr, memchr2};

use crate::{
    domain::{money::Rate, usage::ServiceClass},
    provider::{dialect::Dialect, price::Dearest},
    snapshot::limits::CostBound,
};

/// What a request says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The dialect of its path.
    pub dialect: Dialect,
    /// Its body as JSON; `None` if it is not here as a whole, or is something else.
    pub body: Option<&'a [u8]>,
    /// The most output tokens it allows for an answer.
    pub max_tokens: Option<u64>,
}

/// Tokens that providers put around what they are sent: the description of a tool's use, marks
/// of turns. The longest that is documented has some 800.
const AROUND_INPUT: u64 = 2_048;

/// The most tokens that a model makes of a picture, with room: the dearest counting known makes
/// 48,000 of one.
const PICTURE_TOKENS: u64 = 64_000;

/// Products that are summed up in a cost, each rounded on its own: what rounding may add.
const ROUNDING_PICOS: u64 = 16;

/// What a request of a model with these prices can cost at most.
pub fn bound(dearest: Option<&Dearest>, request: &Request<'_>) -> CostBound {
    let Some(dearest) = dearest else {
        return CostBound::Unpriced;
    };
    let (Some(input_rate), Some(output_rate)) = (dearest.input, dearest.output) else {
        return if dearest.by_piece {
            CostBound::Unbounded
        } else {
            CostBound::Unpriced
        };
    };
    let found = request.body.and_then(|body| scan(body, request.dialect));
    let (Some(body), Some(found)) = (request.body, found) else {
        return CostBound::Unbounded;
    };
    if dearest.by_piece {
        return CostBound::Unbounded;
    }
    if found.priority && !dearest.priority {
        return CostBound::Unpriced;
    }
    let input = (body.len() as u64)
        .saturating_add(AROUND_INPUT)
        .saturating_add(found.pictures.saturating_mul(PICTURE_TOKENS));
    let output = match (
        request.max_tokens.or(dearest.max_output_tokens),
        output_rate,
    ) {
        (Some(most), _) => most.checked_mul(found.answers),
        // Costs nothing, however much it is (vectors).
        (None, Rate::ZERO) => Some(0),
        (None, _) => None,
    };
    let cost = output.and_then(|output| {
        let input = input_rate.times(input)?.0;
        let output = output_rate.times(output)?.0;
        input.checked_add(output)?.checked_add(ROUNDING_PICOS)
    });
    cost.map_or(CostBound::Unbounded, CostBound::AtMost)
}

/// What a body asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    /// Answers.
    answers: u64,
    /// Pictures in it.
    pictures: u64,
    /// It asks for a class of service that costs more than the list says.
    priority: bool,
}

/// Values of `type` that bring nothing from elsewhere: parts of messages, of schemas and of
/// settings.
const TYPES: [&[u8]; 38] = [
    b"text",
    b"input_text",
    b"output_text",
    b"summary_text",
    b"reasoning_text",
    b"refusal",
    b"message",
    b"function",
    b"function_call",
    b"function_call_output",
    b"custom",
    b"custom_tool_call",
    b"custom_tool_call_output",
    b"tool_use",
    b"tool_result",
    b"tool",
    b"thinking",
    b"redacted_thinking",
    b"reasoning",
    b"ephemeral",
    b"enabled",
    b"disabled",
    b"adaptive",
    b"auto",
    b"any",
    b"none",
    b"json_object",
    b"json_schema",
    b"grammar",
    b"base64",
    b"object",
    b"array",
    b"string",
    b"number",
    b"integer",
    b"boolean",
    b"null",
    b"allowed_tools",
];

/// Values of `type` that are a picture.
const PICTURES: [&[u8]; 3] = [b"image", b"image_url", b"input_image"];

/// Members of the document itself that bring something from elsewhere, or make a model do more
/// than answer: earlier turns, searches, other models, predictions that are paid for, speed or a
/// place that costs more.
const OUTER_MEMBERS: [&[u8]; 16] = [
    b"previous_response_id",
    b"previous_interaction_id",
    b"conversation",
    b"conversation_id",
    b"web_search_options",
    b"search_parameters",
    b"connectors",
    b"mcp_servers",
    b"container",
    b"plugins",
    b"models",
    b"prediction",
    b"input_file_id",
    b"background",
    b"speed",
    b"inference_geo",
];

/// The same wherever they stand, in dialects whose parts and tools have no `type`.
const INNER_MEMBERS: [&[u8]; 18] = [
    b"fileData",
    b"file_data",
    b"fileUri",
    b"file_uri",
    b"fileSearch",
    b"file_search",
    b"googleSearch",
    b"google_search",
    b"googleSearchRetrieval",
    b"google_search_retrieval",
    b"googleMaps",
    b"google_maps",
    b"codeExecution",
    b"code_execution",
    b"urlContext",
    b"url_context",
    b"computerUse",
    b"computer_use",
];

/// The same of Bedrock's parts.
const BEDROCK_MEMBERS: [&[u8]; 4] = [b"document", b"video", b"audio", b"image"];

/// The same in any dialect.
const CACHE_MEMBERS: [&[u8]; 2] = [b"cachedContent", b"cached_content"];

/// Members of the document itself that say how many answers are made.
const OUTER_ANSWERS: [&[u8]; 4] = [
    b"n",
    b"best_of",
    b"num_generations",
    b"num_return_sequences",
];

/// The same wherever they stand.
const INNER_ANSWERS: [&[u8]; 2] = [b"candidateCount", b"candidate_count"];

/// Members of the document itself that name a class of service; one that nobody knows may cost
/// anything.
const CLASSES: [&[u8]; 2] = [b"service_tier", b"serviceTier"];

/// What Anthropic calls the class of the list.
const STANDARD_ONLY: &[u8] = b"standard_only";

/// Members that hold a link, where something is linked to.
const LINKS: [&[u8]; 4] = [b"url", b"image_url", b"uri", b"imageUrl"];

/// Members that say what kind of thing stands beside them (Gemini).
const KINDS: [&[u8]; 2] = [b"mimeType", b"mime_type"];

/// Longer text is neither a name nor a type that is looked for, also with every letter escaped.
const WORD_BYTES_MAX: usize = 256;

/// Looks through a body; `None` if something in it has no bound, or it is no JSON object.
fn scan(body: &[u8], dialect: Dialect) -> Option<Found> {
    let mut texts = Texts {
        rest: body,
        depth: 0,
    };
    let mut found = Found {
        answers: 1,
        pictures: 0,
        priority: false,
    };
    let mut links = false;
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    while let Some(text) = texts.next()? {
        let Some(value) = after_colon(texts.rest) else {
            continue;
        };
        let mut decoded = String::new();
        let name = word(text, &mut decoded)?;
        let is_outer = texts.depth == 1;
        if is_elsewhere(name, value, is_outer, dialect) {
            return None;
        }
        if is_outer && OUTER_ANSWERS.contains(&name) || INNER_ANSWERS.contains(&name) {
            found.answers = found.answers.max(number_or_null(value)?);
        }
        let [b'"', tail @ ..] = value else {
            continue;
        };
        let (text, _) = split_text(tail)?;
        let mut decoded = String::new();
        let value = word(text, &mut decoded)?;
        if name == b"type" {
            if PICTURES.contains(&value) {
                found.pictures += 1;
            } else if !TYPES.contains(&value) {
                return None;
            }
        }
        if KINDS.contains(&name) {
            if value.starts_with(b"image/") {
                found.pictures += 1;
            } else if !value.starts_with(b"text/") {
                return None;
            }
        }
        if is_outer && CLASSES.contains(&name) && value != STANDARD_ONLY {
            let class = std::str::from_utf8(value).ok();
            let class = class.and_then(ServiceClass::of_word);
            found.priority |= class.is_none_or(|class| class == ServiceClass::Priority);
        }
        links |= LINKS.contains(&name) && !text.starts_with(b"data:");
    }
    let is_linked = links && found.pictures > 0;
    (texts.depth == 0 && !is_linked).then_some(found)
}

/// Says whether a member brings in what is not in the body.
fn is_elsewhere(name: &[u8], value: &[u8], is_outer: bool, dialect: Dialect) -> bool {
    // A member that is null or false asks for nothing.
    if matches!(value.first(), Some(b'n' | b'f')) {
        return false;
    }
    let has_types = matches!(
        dialect,
        Dialect::OpenAi | Dialect::Anthropic | Dialect::Mistral
    );
    let may_be_bedrock = matches!(dialect, Dialect::Bedrock | Dialect::Unknown);
    CACHE_MEMBERS.contains(&name)
        || is_outer && OUTER_MEMBERS.contains(&name)
        // A stored prompt; a text or a list of texts is one of its own.
        || is_outer && name == b"prompt" && value.first() == Some(&b'{')
        || !has_types && INNER_MEMBERS.contains(&name)
        || may_be_bedrock && BEDROCK_MEMBERS.contains(&name)
}

/// The texts of a JSON document, names and values alike, in their order.
struct Texts<'a> {
    rest: &'a [u8],
    /// How many objects and arrays are open.
    depth: usize,
}

impl<'a> Texts<'a> {
    /// The inside of the next text as it is written; the outer `None` if the document is broken.
    #[expect(clippy::option_option, reason = "no document, and no further text")]
    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        let quote = memchr(b'"', self.rest);
        let between = self.rest.get(..quote.unwrap_or(self.rest.len()))?;
        for byte in between {
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.checked_sub(1)?,
                _ => {}
            }
        }
        let Some(quote) = quote else {
            self.rest = &[];
            return Some(None);
        };
        let (text, rest) = split_text(self.rest.get(quote + 1..)?)?;
        self.rest = rest;
        Some(Some(text))
    }
}

/// Splits what follows an opening quote at the closing one.
fn split_text(inside: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        let tail = inside.get(at..)?;
        let mark = at + memchr2(b'"', b'\\', tail)?;
        if inside.get(mark) == Some(&b'"') {
            return Some((inside.get(..mark)?, inside.get(mark + 1..)?));
        }
        at = mark + 2;
    }
}

/// The value after the colon that makes a text a name; `None` if there is no colon.
fn after_colon(rest: &[u8]) -> Option<&[u8]> {
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    Some(value.trim_ascii_start())
}

/// A text without its escapes, where it is short enough to be a word that is looked for; else
/// nothing. `None` if it cannot be read.
fn word<'a>(text: &'a [u8], decoded: &'a mut String) -> Option<&'a [u8]> {
    if text.len() > WORD_BYTES_MAX {
        return Some(b"");
    }
    if memchr(b'\\', text).is_none() {
        return Some(text);
    }
    let quoted = [b"\"", text, b"\""].concat();
    *decoded = serde_json::from_slice(&quoted).ok()?;
    Some(decoded.as_bytes())
}

/// The whole number that a value begins with, 1 for null; `None` for anything else.
fn number_or_null(value: &[u8]) -> Option<u64> {
    if value.starts_with(b"null") {
        return Some(1);
    }
    let digits = value
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (number, rest) = value.split_at_checked(digits)?;
    let ends = rest
        .first()
        .is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b'}'));
    if !ends {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}
