//! All providers, one line each (contract `data-plane.md` section 2).
//!
//! A line names the slug, the address under which the provider is reached and where its
//! credential goes; what deviates from the plain case follows as further words. Whoever adds a
//! provider adds a line here, and a file beside this one if it has rules of its own.

use super::{
    Dialect,
    address::{self, Base, Realtime, RouteFn, TargetFn},
    azure, baseten, bedrock,
    credential::{self, Slot, SlotFn},
    fal, gemini,
    model::{self, DialectFn, ModelFn, StreamFn},
    vertex, workers_ai,
};

/// One provider: a line of the table.
#[derive(Debug)]
pub struct Provider {
    /// The URL segment, and the `provider` value in records and policies.
    pub slug: &'static str,
    /// Further slugs that mean the same provider.
    pub aliases: &'static [&'static str],
    /// What stands before the slash of a normalised model name: the catalogue's author where
    /// there is one, else the slug.
    pub author: &'static str,
    /// The upstream base; `None` if nobody knows it.
    pub base: Option<Base>,
    /// What a path may repeat of the base's end, with its final slash: `v1/` where the contract
    /// says "v1 optional", and the longer forms that the providers' own SDKs send.
    pub repeats: &'static [&'static str],
    /// The parts of a path that a `base_url` may name in braces.
    pub parts: &'static [&'static str],
    /// Header places of a credential, the native one first. `Authorization` is accepted besides.
    pub slots: &'static [Slot],
    /// Query parameters that hold a credential.
    pub query_keys: &'static [&'static str],
    /// The dialect of its native paths; [`model::dialect_of`] knows the exceptions.
    pub dialect: Dialect,
    /// Environment variables from which a key is picked up, in order of preference.
    pub env: &'static [&'static str],
    /// What stands before the first slash of `model` on the unified API; empty: not reachable
    /// there.
    pub prefixes: &'static [&'static str],
    /// Where a WebSocket goes that names no path of its own.
    pub realtime: Realtime,
    pub(super) route: RouteFn,
    pub(super) target: Option<TargetFn>,
    pub(super) slot: SlotFn,
    pub(super) model: ModelFn,
    pub(super) streams: StreamFn,
    pub(super) dialect_at: DialectFn,
}

/// Names a provider of the table in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId(u8);

impl ProviderId {
    /// Every provider, in the table's order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).zip(&PROVIDERS).map(|(index, _)| Self(index))
    }

    /// Its place in the table: below [`PROVIDER_COUNT`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its line in the table.
    pub fn provider(self) -> &'static Provider {
        provider(self)
    }

    /// Its slug.
    pub fn slug(self) -> &'static str {
        provider(self).slug
    }
}

/// The line of a provider.
pub fn provider(id: ProviderId) -> &'static Provider {
    // An id is made from an index of the table only, so the first line is never a substitute.
    PROVIDERS.get(id.index()).unwrap_or(&PROVIDERS[0])
}

/// Finds a provider by slug: exact and lower case, aliases included.
pub fn by_slug(slug: &str) -> Option<ProviderId> {
    find(|provider| provider.slug == slug || provider.aliases.contains(&slug))
}

/// Finds a provider by the prefix of a unified API's model name (contract section 7.1).
pub fn by_prefix(prefix: &str) -> Option<ProviderId> {
    find(|provider| provider.prefixes.contains(&prefix))
}

fn find(is_it: impl Fn(&Provider) -> bool) -> Option<ProviderId> {
    (0..)
        .zip(&PROVIDERS)
        .find(|(_, provider)| is_it(provider))
        .map(|(index, _)| ProviderId(index))
}

/// How many providers there are.
pub const PROVIDER_COUNT: usize = 26;

use Dialect::{Anthropic, Cohere, Gemini, Mistral, OpenAi, Unknown, WorkersAi};
use Realtime::{At, FalSocket, GeminiLive, ModelInPath};
use credential::{API_KEY, API_KEY_HEADER, BEARER, GOOG, KEY, TOKEN, X_API_KEY, XI};

/// The table. `adobe-firefly` has no known base: it works with a `base_url` or `origin` only.
#[rustfmt::skip]
static PROVIDERS: [Provider; PROVIDER_COUNT] = [
    line("openai", "api.openai.com", "/v1", &[BEARER]).repeats(&["v1/"]).speaks(OpenAi).env(&["OPENAI_API_KEY"]).unified(&["openai"]).realtime(At("realtime")).model(model::query_model),
    line("anthropic", "api.anthropic.com", "", &[X_API_KEY, BEARER]).speaks(Anthropic).env(&["ANTHROPIC_API_KEY"]).unified(&["anthropic"]),
    line("google-ai-studio", "generativelanguage.googleapis.com", "", &[GOOG, BEARER]).alias(&["google"]).author("google").query_keys(&["key", "api_key", "access_token"]).speaks(Gemini).dialects(gemini::dialect).env(&["GEMINI_API_KEY", "GOOGLE_API_KEY"]).unified(&["google-ai-studio", "google"]).realtime(GeminiLive).model(gemini::model).streams(gemini::streams),
    line("google-vertex-ai", "{region}-aiplatform.googleapis.com", "", &[BEARER, GOOG]).parts(&["region"]).routed(vertex::route).stored_in(vertex::slot).query_keys(&["key"]).speaks(Gemini).dialects(vertex::dialect).unified(&["google-vertex-ai"]).model(gemini::model).streams(gemini::streams),
    line("azure-openai", "{resource}.openai.azure.com", "/openai/deployments/{deployment}", &[API_KEY_HEADER, BEARER]).parts(&["resource", "deployment"]).routed(azure::route).query_keys(&["api-key"]).speaks(OpenAi).env(&["AZURE_OPENAI_API_KEY"]).unified(&["azure-openai"]).model(azure::model),
    line("aws-bedrock", "bedrock-runtime.{region}.amazonaws.com", "", &[BEARER, X_API_KEY]).parts(&["service", "region"]).routed(bedrock::route).stored_in(bedrock::slot).query_keys(&["X-Amz-Signature"]).speaks(Dialect::Bedrock).dialects(bedrock::dialect).env(&["AWS_BEARER_TOKEN_BEDROCK"]).unified(&["aws-bedrock"]).model(bedrock::model).streams(bedrock::streams),
    line("workers-ai", "api.cloudflare.com", "/client/v4/accounts/{account_id}/ai/run", &[BEARER]).parts(&["account_id"]).routed(workers_ai::route).speaks(WorkersAi).dialects(workers_ai::dialect).env(&["CLOUDFLARE_API_TOKEN"]).unified(&["workers-ai"]).realtime(ModelInPath).model(workers_ai::model),
    line("huggingface", "api-inference.huggingface.co", "/models", &[BEARER]).speaks(Unknown).env(&["HF_TOKEN"]).model(model::hugging_face_model),
    line("groq", "api.groq.com", "/openai/v1", &[BEARER]).repeats(&["openai/v1/", "v1/"]).speaks(OpenAi).env(&["GROQ_API_KEY"]).unified(&["groq"]),
    line("replicate", "api.replicate.com", "/v1", &[BEARER, TOKEN]).repeats(&["v1/"]).env(&["REPLICATE_API_TOKEN"]).model(model::replicate_model),
    line("cohere", "api.cohere.com", "", &[BEARER, TOKEN]).speaks(Cohere).dialects(model::cohere_dialect).env(&["CO_API_KEY"]).unified(&["cohere"]),
    line("mistral", "api.mistral.ai", "", &[BEARER]).speaks(Mistral).env(&["MISTRAL_API_KEY"]).unified(&["mistral"]),
    line("deepseek", "api.deepseek.com", "", &[BEARER]).speaks(OpenAi).env(&["DEEPSEEK_API_KEY"]).unified(&["deepseek"]),
    line("grok", "api.x.ai", "/v1", &[BEARER]).repeats(&["v1/"]).author("xai").speaks(OpenAi).env(&["XAI_API_KEY"]).unified(&["grok", "xai"]).model(model::query_model),
    line("perplexity-ai", "api.perplexity.ai", "", &[BEARER]).speaks(OpenAi).env(&["PERPLEXITY_API_KEY"]).unified(&["perplexity", "perplexity-ai"]),
    line("openrouter", "openrouter.ai", "/api/v1", &[BEARER]).repeats(&["api/v1/", "v1/"]).speaks(OpenAi).env(&["OPENROUTER_API_KEY"]).unified(&["openrouter"]),
    line("cerebras", "api.cerebras.ai", "/v1", &[BEARER]).repeats(&["v1/"]).speaks(OpenAi).env(&["CEREBRAS_API_KEY"]).unified(&["cerebras"]),
    line("fireworks", "api.fireworks.ai", "/inference/v1", &[BEARER]).repeats(&["inference/v1/", "v1/"]).speaks(OpenAi).env(&["FIREWORKS_API_KEY"]).unified(&["fireworks"]),
    line("elevenlabs", "api.elevenlabs.io", "", &[XI]).query_keys(&["xi-api-key", "xi_api_key", "token"]).env(&["ELEVENLABS_API_KEY"]).realtime(At("v1/convai/conversation")).model(model::query_model_id),
    line("cartesia", "api.cartesia.ai", "", &[X_API_KEY, BEARER]).query_keys(&["api_key", "access_token"]).env(&["CARTESIA_API_KEY"]).realtime(At("tts/websocket")).model(model::query_model),
    line("fal", "fal.run", "", &[KEY, BEARER]).targeted(fal::target).query_keys(&["fal_jwt_token"]).env(&["FAL_KEY"]).realtime(FalSocket).model(fal::model),
    line("ideogram", "api.ideogram.ai", "", &[API_KEY_HEADER]).env(&["IDEOGRAM_API_KEY"]).model(model::ideogram_model),
    line("deepgram", "api.deepgram.com", "", &[TOKEN, BEARER]).query_keys(&["access_token"]).env(&["DEEPGRAM_API_KEY"]).model(model::query_model),
    line("baseten", "inference.baseten.co", "/v1", &[BEARER, API_KEY]).repeats(&["v1/"]).parts(&["model"]).routed(baseten::route).stored_in(baseten::slot).speaks(OpenAi).dialects(baseten::dialect).env(&["BASETEN_API_KEY"]).unified(&["baseten"]).model(baseten::model),
    line("parallel", "api.parallel.ai", "", &[X_API_KEY, BEARER]).env(&["PARALLEL_API_KEY"]).unified(&["parallel"]),
    homeless("adobe-firefly", &[BEARER, X_API_KEY]),
];

const fn line(
    slug: &'static str,
    host: &'static str,
    path: &'static str,
    slots: &'static [Slot],
) -> Provider {
    based(slug, Some(Base::https(host, path)), slots)
}

const fn homeless(slug: &'static str, slots: &'static [Slot]) -> Provider {
    based(slug, None, slots)
}

const fn based(slug: &'static str, base: Option<Base>, slots: &'static [Slot]) -> Provider {
    Provider {
        slug,
        aliases: &[],
        author: slug,
        base,
        repeats: &[],
        parts: &[],
        slots,
        query_keys: &[],
        dialect: Unknown,
        env: &[],
        prefixes: &[],
        realtime: Realtime::AsSent,
        route: address::plain,
        target: None,
        slot: credential::native,
        model: model::none,
        streams: model::body_says,
        dialect_at: model::plain_dialect,
    }
}

/// The words of a line.
impl Provider {
    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn author(mut self, author: &'static str) -> Self {
        self.author = author;
        self
    }

    const fn repeats(mut self, repeats: &'static [&'static str]) -> Self {
        self.repeats = repeats;
        self
    }

    const fn parts(mut self, parts: &'static [&'static str]) -> Self {
        self.parts = parts;
        self
    }

    const fn routed(mut self, route: RouteFn) -> Self {
        self.route = route;
        self
    }

    const fn targeted(mut self, target: TargetFn) -> Self {
        self.target = Some(target);
        self
    }

    const fn query_keys(mut self, names: &'static [&'static str]) -> Self {
        self.query_keys = names;
        self
    }

    const fn stored_in(mut self, slot: SlotFn) -> Self {
        self.slot = slot;
        self
    }

    const fn speaks(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    const fn dialects(mut self, dialect_at: DialectFn) -> Self {
        self.dialect_at = dialect_at;
        self
    }

    const fn env(mut self, names: &'static [&'static str]) -> Self {
        self.env = names;
        self
    }

    const fn unified(mut self, prefixes: &'static [&'static str]) -> Self {
        self.prefixes = prefixes;
        self
    }

    const fn realtime(mut self, realtime: Realtime) -> Self {
        self.realtime = realtime;
        self
    }

    const fn model(mut self, model: ModelFn) -> Self {
        self.model = model;
        self
    }

    const fn streams(mut self, streams: StreamFn) -> Self {
        self.streams = streams;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slug_and_alias_finds_its_own_line() {
        for id in ProviderId::all() {
            assert_eq!(by_slug(id.slug()), Some(id));
            for alias in provider(id).aliases {
                assert_eq!(by_slug(alias), Some(id));
            }
            for prefix in provider(id).prefixes {
                assert_eq!(by_prefix(prefix), Some(id));
            }
        }
        assert_eq!(ProviderId::all().count(), PROVIDER_COUNT);
    }

    #[test]
    fn slugs_are_matched_exactly_and_catalogue_names_are_unknown() {
        for slug in [
            "OpenAI",
            "openai ",
            "",
            "alibaba",
            "minimax",
            "xai",
            "compat",
            "perplexity",
        ] {
            assert_eq!(by_slug(slug), None, "{slug}");
        }
    }

    #[test]
    fn unified_prefixes_of_the_contract_are_all_known() {
        let known = "openai anthropic google-ai-studio google google-vertex-ai grok xai groq mistral cohere \
             perplexity perplexity-ai workers-ai deepseek cerebras baseten parallel aws-bedrock openrouter \
             azure-openai fireworks";
        for prefix in known.split_whitespace() {
            assert!(by_prefix(prefix).is_some(), "{prefix}");
        }
        assert_eq!(by_prefix("elevenlabs"), None);
    }

    #[test]
    fn environment_names_belong_to_one_provider_each() {
        let mut names: Vec<_> = PROVIDERS.iter().flat_map(|provider| provider.env).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
