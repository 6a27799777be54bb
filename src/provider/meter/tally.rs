//! Brings the figures of every dialect to the one meaning of [`Usage`].

use super::Figures;
use super::paths::slot;
use crate::domain::money::parse_thousandths;
use crate::domain::usage::{ServiceClass, Usage};

/// The usage that the figures amount to.
pub(super) fn usage(figures: &Figures) -> Usage {
    let get = |slot| figures.number(slot);
    // Most answers say 0 where there was no sound: not worth a text in every record.
    let some = |slot| get(slot).filter(|count| *count > 0);
    let input = input(figures);
    let (output, reasoning) = output(figures, input);
    Usage {
        input,
        output,
        cache_read: get(slot::READ)
            .or_else(|| get(slot::READ_APART))
            .or_else(|| get(slot::METRIC_READ)),
        cache_write: get(slot::WRITE)
            .or_else(|| get(slot::WRITE_APART))
            .or_else(|| get(slot::METRIC_WRITE)),
        cache_write_hour: get(slot::WRITE_HOUR),
        reasoning,
        input_audio: some(slot::INPUT_AUDIO),
        output_audio: some(slot::OUTPUT_AUDIO),
        input_image: some(slot::INPUT_IMAGE),
        images: get(slot::IMAGES),
        audio_millis: text(figures, slot::SECONDS).and_then(parse_thousandths),
        searches: get(slot::SEARCHES),
        class: match text(figures, slot::CLASS) {
            None => Some(ServiceClass::Standard),
            Some(word) => ServiceClass::of_word(word),
        },
    }
}

/// A short text without its quotes; `None` where it is empty, null, or no text at all.
fn text(figures: &Figures, slot: u8) -> Option<&str> {
    let text = std::str::from_utf8(figures.text(slot)).ok()?;
    let text = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    (!text.is_empty() && text != "null").then_some(text)
}

fn input(figures: &Figures) -> Option<u64> {
    let get = |slot| figures.number(slot);
    let and = |number: u64, slot| number.saturating_add(get(slot).unwrap_or(0));
    if let Some(billed) = get(slot::BILLED_INPUT) {
        return Some(billed);
    }
    if let Some(prompt) = get(slot::PROMPT) {
        return Some(and(prompt, slot::TOOL_PROMPT));
    }
    if let Some(fresh) = get(slot::INPUT) {
        return Some(and(and(fresh, slot::READ_APART), slot::WRITE_APART));
    }
    if let Some(sum) = get(slot::INPUT_SUM) {
        return Some(sum);
    }
    let fresh = get(slot::METRIC_INPUT)?;
    Some(and(and(fresh, slot::METRIC_READ), slot::METRIC_WRITE))
}

/// Output and the part of it that was reasoning.
fn output(figures: &Figures, input: Option<u64>) -> (Option<u64>, Option<u64>) {
    let get = |slot| figures.number(slot);
    let stated = get(slot::BILLED_OUTPUT)
        .or_else(|| get(slot::COMPLETION))
        .or_else(|| get(slot::OUTPUT))
        .or_else(|| get(slot::OUTPUT_SUM))
        .or_else(|| get(slot::METRIC_OUTPUT));
    // Gemini leaves out a count of zero, embeddings have no output to count.
    let rest = get(slot::TOTAL)
        .zip(input)
        .and_then(|(total, input)| total.checked_sub(input));
    let Some(stated) = stated else {
        let none = get(slot::EMBEDDED).map(|_| 0);
        return (rest.or(none), reasoning(figures));
    };
    let apart = if let Some(thoughts) = get(slot::THOUGHTS) {
        thoughts
    } else if let Some(beside) = get(slot::REASONING_BESIDE) {
        // More reasoning than output cannot be a part of it.
        if beside > stated { beside } else { 0 }
    } else {
        // xAI counts reasoning in its total and not in its output.
        let reasoning = get(slot::REASONING).unwrap_or(0);
        if rest == stated.checked_add(reasoning) {
            reasoning
        } else {
            0
        }
    };
    (Some(stated.saturating_add(apart)), reasoning(figures))
}

fn reasoning(figures: &Figures) -> Option<u64> {
    figures
        .number(slot::REASONING)
        .or_else(|| figures.number(slot::THOUGHTS))
        .or_else(|| figures.number(slot::REASONING_BESIDE))
}

/// The cost that the provider states, in dollars.
pub(super) fn cost(figures: &Figures) -> Option<Box<str>> {
    if let Some(ticks) = figures.number(slot::COST_TICKS) {
        return Some(format!("{ticks}e-10").into_boxed_str());
    }
    let text = std::str::from_utf8(figures.text(slot::COST)).ok()?;
    text.starts_with(|first: char| first.is_ascii_digit())
        .then(|| Box::from(text))
}
