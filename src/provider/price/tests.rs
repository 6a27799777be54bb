use super::*;
use crate::domain::{money::PicoDollars, usage::ServiceClass};

/// Tokens: input, output, of the input read from and written to the cache, of that for an hour;
/// of the output reasoning.
fn usage(
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_hour: u64,
    reasoning: u64,
) -> Usage {
    Usage {
        input: Some(input),
        output: Some(output),
        cache_read: Some(cache_read),
        cache_write: Some(cache_write),
        cache_write_hour: Some(cache_write_hour),
        reasoning: Some(reasoning),
        ..Usage::UNKNOWN
    }
}

#[track_caller]
fn check(provider: &str, model: &str, usage: Usage, picos: u64) {
    let table = PriceTable::embedded();
    let priced = table
        .lookup(provider, model, "", &usage)
        .unwrap_or_else(|| panic!("no price for {provider}/{model}"));
    let cost = priced.prices.cost(&usage);
    assert_eq!(cost, Some(PicoDollars(picos)), "{provider}/{model}");
    // As an exchange asks.
    let place = table.find_place(provider, model, "").unwrap();
    assert_eq!(table.cost_at(place, &usage), Some((priced.key, cost)));
}

// The sums in these tests are worked out by hand from the providers' prices per million tokens.

#[test]
fn models_of_openai() {
    // 0.15, cached 0.075, out 0.60: 600 × 150,000 + 400 × 75,000 + 200 × 600,000
    check(
        "openai",
        "gpt-4o-mini-2024-07-18",
        usage(1000, 200, 400, 0, 0, 0),
        240_000_000,
    );
    // 1.25, cached 0.125, out 10: 93 × 1,250,000 + 1024 × 125,000 + 46 × 10,000,000
    check(
        "openai",
        "gpt-5-2025-08-07",
        usage(1117, 46, 1024, 0, 0, 20),
        704_250_000,
    );
    // 2, out 8
    check("openai", "o3", usage(100, 50, 0, 0, 0, 10), 600_000_000);
    // 0.02
    check(
        "openai",
        "text-embedding-3-small",
        usage(8, 0, 0, 0, 0, 0),
        160_000,
    );
    // fine-tuned: 0.30, out 1.20
    let tuned = "ft:gpt-4o-mini-2024-07-18:acme::abc123";
    check("openai", tuned, usage(10, 10, 0, 0, 0, 0), 15_000_000);
    // 2.50, cached 1.25, out 10
    check(
        "azure-openai",
        "gpt-4o",
        usage(1000, 100, 500, 0, 0, 0),
        2_875_000_000,
    );
}

#[test]
fn models_of_anthropic() {
    // 3, read 0.30, write 3.75, hour 6, out 15:
    // 2095 × 3,000,000 + 1000 × 300,000 + 200 × 3,750,000 + 100 × 6,000,000 + 503 × 15,000,000
    let used = usage(3395, 503, 1000, 300, 100, 0);
    check(
        "anthropic",
        "claude-sonnet-4-5-20250929",
        used,
        15_480_000_000,
    );
    // 1, out 5
    check(
        "anthropic",
        "claude-haiku-4-5",
        usage(10, 10, 0, 0, 0, 0),
        60_000_000,
    );
    let vertex = "publishers/anthropic/models/claude-haiku-4-5@default";
    check(
        "google-vertex-ai",
        vertex,
        usage(1, 1, 0, 0, 0, 0),
        6_000_000,
    );
}

#[test]
fn a_class_of_service_has_its_own_prices_or_none() {
    let in_class = |class| Usage {
        class,
        ..usage(1000, 100, 400, 0, 0, 0)
    };
    // gpt-5: 1.25, cached 0.125, out 10; half of that in batches and flex, twice with priority.
    let half = 600 * 625_000 + 400 * 62_500 + 100 * 5_000_000;
    for class in [ServiceClass::Batch, ServiceClass::Flex] {
        check("openai", "gpt-5", in_class(Some(class)), half);
    }
    let priority = in_class(Some(ServiceClass::Priority));
    check("openai", "gpt-5", priority, 4 * half);
    // claude-sonnet-4-5: 3, write 3.75, out 15; half in batches.
    let batch = Usage {
        class: Some(ServiceClass::Batch),
        ..usage(1000, 100, 0, 200, 0, 0)
    };
    let half = 800 * 1_500_000 + 200 * 1_875_000 + 100 * 7_500_000;
    check("anthropic", "claude-sonnet-4-5", batch, half);
    // Groq's flex costs what its standard does; its other classes, and those that nobody lists, have
    // no price.
    let table = PriceTable::embedded();
    let lookup = |provider, class| {
        let model = if provider == "groq" {
            "openai/gpt-oss-20b"
        } else {
            "gpt-5"
        };
        table.lookup(provider, model, "", &in_class(class))
    };
    let standard = lookup("groq", Some(ServiceClass::Standard)).unwrap();
    assert_eq!(lookup("groq", Some(ServiceClass::Flex)), Some(standard));
    assert_eq!(lookup("groq", Some(ServiceClass::Batch)), None);
    assert_eq!(lookup("openai", None), None);
}

#[test]
fn pictures_sound_and_searches_cost_what_is_listed() {
    // gpt-image-1: text in 5, pictures in 10, pictures out 40.
    let image = Usage {
        input_image: Some(40),
        images: Some(1),
        ..usage(50, 50, 0, 0, 0, 0)
    };
    let picos = 10 * 5_000_000 + 40 * 10_000_000 + 50 * 40_000_000;
    check("openai", "gpt-image-1", image, picos);
    // whisper-1: 0.0001 a second.
    let sound = Usage {
        audio_millis: Some(9_000),
        ..Usage::UNKNOWN
    };
    check("openai", "whisper-1", sound, 900_000_000);
    // rerank-v3.5: 0.002 a search.
    let search = Usage {
        searches: Some(3),
        ..Usage::UNKNOWN
    };
    check("cohere", "rerank-v3.5", search, 6_000_000_000);
    // gpt-audio: 2.50 and 10, sound 32 and 64.
    let spoken = Usage {
        input_audio: Some(20),
        output_audio: Some(33),
        ..usage(31, 42, 0, 0, 0, 0)
    };
    let picos = 11 * 2_500_000 + 20 * 32_000_000 + 9 * 10_000_000 + 33 * 64_000_000;
    check("openai", "gpt-audio", spoken, picos);
}

#[test]
fn models_of_google_with_their_tiers() {
    // 1.25, out 10; above 200,000: 2.50, cached 0.25, out 15
    let at = usage(200_000, 1, 0, 0, 0, 0);
    check("google-ai-studio", "gemini-2.5-pro", at, 250_010_000_000);
    let above = usage(200_001, 1, 1, 0, 0, 0);
    check("google-ai-studio", "gemini-2.5-pro", above, 500_015_250_000);
    // 0.30, cached 0.03, out 2.50, thoughts too: 230 × 300,000 + 1000 × 30,000 + 150 × 2,500,000
    let used = usage(1230, 150, 1000, 0, 0, 100);
    check(
        "google-ai-studio",
        "models/gemini-2.5-flash-001",
        used,
        474_000_000,
    );
}

#[test]
fn models_on_bedrock() {
    let nova = usage(30, 628, 0, 0, 0, 0);
    // 0.80, out 3.20; a region without prices of its own
    check("aws-bedrock", "amazon.nova-pro-v1:0", nova, 2_033_600_000);
    check(
        "aws-bedrock",
        "ca.amazon.nova-pro-v1:0",
        nova,
        2_033_600_000,
    );
    // 3.30, read 0.33, write 4.125, out 16.50: a region that costs a tenth more
    let claude = usage(180, 10, 100, 50, 0, 0);
    let profile = "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    check("aws-bedrock", profile, claude, 503_250_000);
    // 3, out 15; by the name that the answer gives
    check(
        "aws-bedrock",
        "claude-3-7-sonnet-20250219",
        nova,
        9_510_000_000,
    );
}

#[test]
fn models_of_the_others() {
    let check = |name: &str, model, input, output, cached, picos| {
        check(name, model, usage(input, output, cached, 0, 0, 0), picos);
    };
    check("mistral", "mistral-small-latest", 16, 34, 8, 21_720_000);
    check("deepseek", "deepseek-chat", 512, 90, 448, 68_264_000);
    check("cohere", "command-r-plus-08-2024", 5, 418, 0, 4_192_500_000);
    check("perplexity-ai", "sonar", 14, 70, 0, 84_000_000);
    check("groq", "openai/gpt-oss-120b", 41, 9, 0, 11_550_000);
    check("cerebras", "gpt-oss-120b", 36, 11, 0, 20_850_000);
    let llama = "@cf/meta/llama-3.1-8b-instruct-fp8";
    check("workers-ai", llama, 23, 41, 0, 15_263_000);
    let full = "accounts/fireworks/models/deepseek-v3p1";
    check("fireworks", full, 36, 11, 0, 38_640_000);
    check("fireworks", "deepseek-v3p1", 36, 11, 0, 38_640_000);
    // 1, out 2; above 200,000 twice that
    check("grok", "grok-code-fast-1", 200_000, 1, 0, 200_002_000_000);
    check("grok", "grok-code-fast-1", 200_001, 1, 0, 400_006_000_000);
    let scout = "meta/llama-4-scout-17b-16e-instruct-maas";
    check("google-vertex-ai", scout, 100, 100, 0, 95_000_000);
    let scout = "llama-4-scout-17b-16e-instruct-maas";
    check("google-vertex-ai", scout, 100, 100, 0, 95_000_000);
}

#[test]
fn reasoning_with_a_price_of_its_own() {
    // 0.05, out 0.20, reasoning 0.50
    let used = usage(10, 30, 0, 0, 0, 20);
    check("alibaba", "qwen-turbo", used, 12_500_000);
}

#[test]
fn every_line_of_the_table_reads() {
    let table = PriceTable::embedded();
    let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(table.len(), lines);
    assert!(table.entries.is_sorted_by(|one, next| one.key < next.key));
    for entry in &table.entries {
        let tiers = entry.tiers_from as usize..(entry.tiers_from + entry.tiers) as usize;
        let tiers = table.tiers.get(tiers).unwrap_or_default();
        let place = |tier: &Tier| (tier.class as u8, tier.above);
        assert!(tiers.is_sorted_by(|low, high| place(low) < place(high)));
    }
    for line in table.all() {
        let priced = line.prices.all().iter().any(Option::is_some);
        assert!(priced, "{} {:?} {}", line.key, line.class, line.above);
    }
}

#[test]
fn the_table_is_compact() {
    let table = PriceTable::embedded();
    let bytes = table.entries.capacity() * size_of::<Entry>()
        + table.tiers.capacity() * size_of::<Tier>()
        + TABLE.len();
    assert!(bytes < 600_000, "{bytes}");
}

#[test]
fn what_is_not_listed_is_unpriced() {
    let table = PriceTable::embedded();
    for (provider, model) in [
        ("openai", "gpt-4o-minimal"),
        ("openai", "gpt-4"),
        ("openai", ""),
        ("openai", "claude-sonnet-4-5"),
        ("anthropic", "gpt-4o"),
        ("openrouter", "openai/gpt-4o"),
        ("nobody", "gpt-4o"),
        ("", ""),
        ("openai", "ft:"),
        ("aws-bedrock", "arn:"),
        ("aws-bedrock", "us."),
    ] {
        let listed = TABLE.contains(&format!("\n{provider}/{model}\t"));
        let found = table.lookup(provider, model, "", &Usage::UNKNOWN);
        assert_eq!(found.is_some(), listed, "{provider}/{model}");
    }
}

#[test]
fn the_normalised_name_helps_where_it_is_the_providers_own() {
    let table = PriceTable::embedded();
    let key = |provider, normalised| {
        let priced = table.lookup(provider, "my-deployment", normalised, &Usage::UNKNOWN);
        priced.map(|priced| priced.key)
    };
    assert_eq!(
        key("azure-openai", "openai/gpt-4o"),
        Some("azure-openai/gpt-4o")
    );
    assert_eq!(key("openai", "openai/gpt-4o"), Some("openai/gpt-4o"));
    assert_eq!(
        key("google-ai-studio", "google/gemini-2.5-pro"),
        Some("google-ai-studio/gemini-2.5-pro")
    );
    assert_eq!(key("custom-mine", "openai/gpt-4o"), None);
}

#[test]
fn overrides_come_first() {
    let prices = |input| Prices {
        input: Rate::per_million(input),
        output: Some(Rate::ZERO),
        ..Prices::default()
    };
    let listed = PriceTable::embedded();
    let hash = listed.hash();
    let table = listed.with_overrides([
        ("openai/gpt-4o", prices("7")),
        ("custom-mine/llama", prices("1")),
        ("openai/gpt-4o", prices("9")),
        ("meta/llama-9", prices("5")),
    ]);
    let found = |provider, model, normalised| {
        let priced = table.lookup(provider, model, normalised, &Usage::UNKNOWN)?;
        Some((priced.key, priced.prices.input))
    };
    let nine = Some(("openai/gpt-4o", Rate::per_million("9")));
    assert_eq!(found("openai", "gpt-4o", ""), nine);
    // A date is taken off for list prices alone.
    assert_ne!(found("openai", "gpt-4o-2024-08-06", ""), nine);
    assert_eq!(found("openai", "gpt-4o-2024-08-06", "openai/gpt-4o"), nine);
    let mine = Some(("custom-mine/llama", Rate::per_million("1")));
    assert_eq!(found("custom-mine", "llama", ""), mine);
    let five = Some(("meta/llama-9", Rate::per_million("5")));
    assert_eq!(found("custom-mine", "llama-9-q4", "meta/llama-9"), five);
    assert_ne!(table.hash(), hash);
    assert_eq!(PriceTable::embedded().hash(), hash);
}

#[test]
fn versions_come_off_one_after_another() {
    let stems = |provider, model| -> Vec<String> {
        names_of(provider, model)
            .into_iter()
            .flatten()
            .map(|name| [name.prefix, name.stem, name.suffix].concat())
            .collect()
    };
    assert_eq!(
        stems("aws-bedrock", "us.x.y-20250101-v1:0"),
        [
            "us.x.y-20250101-v1:0",
            "us.x.y-20250101-v1",
            "us.x.y-20250101",
            "us.x.y",
            "x.y-20250101-v1:0",
            "x.y-20250101-v1",
            "x.y-20250101",
            "x.y"
        ]
    );
    assert_eq!(stems("openai", "m-2024-08-06"), ["m-2024-08-06", "m"]);
    assert_eq!(stems("mistral", "m-2402"), ["m-2402"]);
    assert_eq!(stems("grok", "m-0709"), ["m-0709", "m"]);
    assert_eq!(
        stems("azure-openai", "gpt-3.5-turbo"),
        ["gpt-3.5-turbo", "gpt-35-turbo"]
    );
}

#[test]
fn the_provenance_stands_in_the_table() {
    let header: Vec<&str> = TABLE
        .lines()
        .take_while(|line| line.starts_with('#'))
        .collect();
    let header = header.join("\n");
    assert!(
        header.contains("sha256 ") && header.contains("10^-15"),
        "{header}"
    );
    assert!(include_str!("../prices.LICENSE").contains("MIT License"));
    assert!(TABLE.len() < 400_000);
}

#[test]
fn the_dearest_price_is_that_of_any_class_tier_or_kind() {
    let table = PriceTable::of_text(
        "p/m\tchat\t500\t100\t200\t10\t150\t-\t900\t1000:300:250:-:-:-:- p0:400:1000:-:-:-:-\ta:350\n\
         p/n\tchat\t-\t7\t-\t-\t-\t-\t-\t-\ti:5\n",
    );
    let dearest = |model| {
        let place = table.find_place("p", model, "")?;
        table.dearest(place)
    };
    let rate = |units: u128| Rate::from_units(units * RATE_UNITS);
    assert_eq!(
        dearest("m"),
        Some(Dearest {
            input: rate(400),
            output: rate(1_000),
            by_piece: false,
            priority: true,
            max_output_tokens: Some(500),
        })
    );
    assert_eq!(
        dearest("n"),
        Some(Dearest {
            input: rate(7),
            output: None,
            by_piece: true,
            priority: false,
            max_output_tokens: None,
        })
    );
    let own = Prices {
        output: rate(3),
        ..Prices::default()
    };
    let table = table.with_overrides([("p/m", own)]);
    let place = table.find_place("p", "m", "").unwrap();
    let dearest = table.dearest(place).unwrap();
    assert_eq!((dearest.input, dearest.output), (None, rate(3)));
}
