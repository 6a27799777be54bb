//! What an exchange consumed: model tokens, and what is counted otherwise.

use std::fmt::{self, Write as _};

/// The class of service that an answer was made in; providers price some of them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServiceClass {
    /// At once, at list price. What an answer that names no class was made in.
    #[default]
    Standard,
    /// Later, for less.
    Batch,
    /// When there is room, for less.
    Flex,
    /// Before others, for more.
    Priority,
}

impl ServiceClass {
    /// All classes, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Batch, Self::Flex, Self::Priority];

    /// Reads the word that a provider uses; another word is a class of nobody's list.
    ///
    /// ```
    /// use tidegate::domain::usage::ServiceClass;
    ///
    /// assert_eq!(ServiceClass::of_word("on_demand"), Some(ServiceClass::Standard));
    /// assert_eq!(ServiceClass::of_word("scale"), None);
    /// ```
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            // Anthropic says `standard`, Groq `on_demand`; OpenAI echoes `auto` in events that come
            // before it has decided.
            "default" | "standard" | "on_demand" | "auto" => Self::Standard,
            "batch" => Self::Batch,
            "flex" => Self::Flex,
            "priority" | "performance" => Self::Priority,
            _ => return None,
        })
    }

    /// The word for it in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::Flex => "flex",
            Self::Priority => "priority",
        }
    }
}

/// What one exchange consumed. `None` is unknown, which is not zero.
///
/// Every dialect is brought to one meaning:
/// `input` is **all** input tokens, those read from and written to the provider's prompt cache
/// included; `output` is all output tokens, reasoning included. The other tokens are parts of
/// those two, never added to them. What is not measured in tokens comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: Option<u64>,
    /// All output tokens, reasoning included.
    pub output: Option<u64>,
    /// Part of `input` that was read from the provider's prompt cache.
    pub cache_read: Option<u64>,
    /// Part of `input` that was written to the provider's prompt cache, of any lifetime.
    pub cache_write: Option<u64>,
    /// Part of `cache_write` that is kept for an hour (Anthropic prices it apart).
    pub cache_write_hour: Option<u64>,
    /// Part of `output` that was spent on reasoning.
    pub reasoning: Option<u64>,
    /// Part of `input` that was sound; `None` also for none.
    pub input_audio: Option<u64>,
    /// Part of `output` that was sound; `None` also for none.
    pub output_audio: Option<u64>,
    /// Part of `input` that was pictures, where the provider counts them apart; `None` also for none.
    pub input_image: Option<u64>,
    /// Pictures made.
    pub images: Option<u64>,
    /// Milliseconds of sound taken in, where sound is counted in time.
    pub audio_millis: Option<u64>,
    /// Searches made (Cohere's search units).
    pub searches: Option<u64>,
    /// The class of service; `None`: one that has no name of ours.
    pub class: Option<ServiceClass>,
}

/// The names of what has no column of its own, in the order of the fields.
const DETAILS: [&str; 6] = [
    "input_audio",
    "output_audio",
    "input_image",
    "images",
    "audio_millis",
    "searches",
];

impl Default for Usage {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl Usage {
    /// Usage of which nothing is known.
    pub const UNKNOWN: Self = Self {
        input: None,
        output: None,
        cache_read: None,
        cache_write: None,
        cache_write_hour: None,
        reasoning: None,
        input_audio: None,
        output_audio: None,
        input_image: None,
        images: None,
        audio_millis: None,
        searches: None,
        class: Some(ServiceClass::Standard),
    };

    /// Says whether the answer reported nothing at all.
    pub fn is_unknown(&self) -> bool {
        let class = self.class;
        *self
            == Self {
                class,
                ..Self::UNKNOWN
            }
    }

    /// What has no column of its own in a record, as text: `input_audio=7 class=flex`. Empty for
    /// nearly every exchange, and then without allocation.
    pub fn detail(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: &dyn fmt::Display| {
            if !text.is_empty() {
                text.push(' ');
            }
            // Writing to a string does not fail.
            let _ = write!(text, "{name}={value}");
        };
        for (name, value) in DETAILS.into_iter().zip(self.details()) {
            if let Some(value) = value {
                add(name, &value);
            }
        }
        match self.class {
            Some(ServiceClass::Standard) => {}
            Some(class) => add("class", &class.word()),
            None => add("class", &"other"),
        }
        text
    }

    /// Takes over what [`Usage::detail`] wrote; words it does not know are left out.
    pub fn note_detail(&mut self, text: &str) {
        for (name, value) in text.split(' ').filter_map(|word| word.split_once('=')) {
            if name == "class" {
                self.class = ServiceClass::of_word(value);
            } else if let Some(at) = DETAILS.iter().position(|known| *known == name) {
                let fields = [
                    &mut self.input_audio,
                    &mut self.output_audio,
                    &mut self.input_image,
                    &mut self.images,
                    &mut self.audio_millis,
                    &mut self.searches,
                ];
                if let Some(field) = fields.into_iter().nth(at) {
                    *field = value.parse().ok();
                }
            }
        }
    }

    fn details(&self) -> [Option<u64>; 6] {
        [
            self.input_audio,
            self.output_audio,
            self.input_image,
            self.images,
            self.audio_millis,
            self.searches,
        ]
    }

    /// Takes every field that `later` knows, and keeps the others: streams report in parts
    /// (Anthropic: input at the start, output at the end), and a later figure replaces an earlier.
    pub fn update(&mut self, later: &Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.cache_write_hour = later.cache_write_hour.or(self.cache_write_hour);
        self.reasoning = later.reasoning.or(self.reasoning);
        self.input_audio = later.input_audio.or(self.input_audio);
        self.output_audio = later.output_audio.or(self.output_audio);
        self.input_image = later.input_image.or(self.input_image);
        self.images = later.images.or(self.images);
        self.audio_millis = later.audio_millis.or(self.audio_millis);
        self.searches = later.searches.or(self.searches);
        self.class = later.class;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_reads_back_as_it_was_written() {
        assert_eq!(Usage::UNKNOWN.detail(), "");
        let usage = Usage {
            input_audio: Some(7),
            images: Some(0),
            class: Some(ServiceClass::Flex),
            ..Usage::UNKNOWN
        };
        assert_eq!(usage.detail(), "input_audio=7 images=0 class=flex");
        for class in ServiceClass::ALL.into_iter().map(Some).chain([None]) {
            let written = Usage { class, ..usage };
            let mut read = Usage::UNKNOWN;
            read.note_detail(&written.detail());
            assert_eq!(read, written);
        }
        let mut read = Usage::UNKNOWN;
        read.note_detail("input_audio=x =  other=1 searches");
        assert_eq!(read, Usage::UNKNOWN);
    }

    #[test]
    fn a_later_report_replaces_only_what_it_knows() {
        let mut usage = Usage {
            input: Some(10),
            output: Some(1),
            ..Usage::UNKNOWN
        };
        usage.update(&Usage {
            output: Some(25),
            ..Usage::UNKNOWN
        });
        assert_eq!((usage.input, usage.output), (Some(10), Some(25)));
        assert!(Usage::UNKNOWN.is_unknown() && !usage.is_unknown());
    }
}
