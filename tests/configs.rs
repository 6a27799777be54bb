//! Loads every example file of `tests/configs`: what the documentation shows, works.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io;
use std::path::Path;

use tidegate::config::{Config, Flags, Loaded, Sources, load};

/// Loads an example with every variable and file that it names present.
fn example(name: &str) -> Loaded {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let flags = Flags::default();
    let sources = Sources {
        env: &|name| {
            let ours = name.starts_with("TIDEGATE_") || name.starts_with("XDG_");
            (!ours).then(|| format!("/value-of-{name}"))
        },
        read_file: &|path| {
            if !path.is_absolute() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(format!("content-of-{}\n", path.display()))
        },
        known_provider: &|slug| {
            ["openai", "anthropic", "azure-openai", "workers-ai"].contains(&slug)
        },
        picked_up_keys: &[("anthropic", &["ANTHROPIC_API_KEY"])],
        flags: &flags,
    };
    match load(&text, name, Path::new("/etc/tidegate"), &sources) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{name} does not load:\n{problems}"),
    }
}

#[test]
fn every_example_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let loaded = example(&name);
        assert!(!loaded.config.listen.is_empty(), "{name}");
        count += 1;
    }
    assert!(count >= 4, "{count} examples");
}

#[test]
fn examples_for_newcomers_have_nothing_to_warn_of() {
    for name in ["minimal.toml", "readme.toml"] {
        assert_eq!(example(name).warnings, [], "{name}");
    }
}

#[test]
fn the_readme_shows_its_example_as_it_is() {
    let shown = include_str!("../README.md").split("```toml\n").skip(1);
    let shown: Vec<_> = shown.filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(shown, [include_str!("configs/readme.toml")]);
}

/// The parts of the table that a key adds to are read from the mirror's own list of keys, so a
/// key that is added there has to be added to the example.
#[test]
fn the_full_example_has_every_key() {
    let mirror = include_str!("../src/config/file.rs");
    let full = include_str!("configs/full.toml");
    let keys = mirror
        .lines()
        .filter_map(|line| line.strip_prefix("    pub(super) "))
        .filter_map(|line| line.split_once(':'))
        .filter(|(_, kind)| {
            kind.contains("Field<") || kind.contains("Vec<") || kind.contains("Map<")
        })
        .map(|(key, _)| {
            if key == "limit_type" {
                "limitType"
            } else {
                key
            }
        });
    let mut count = 0;
    for key in keys.filter(|key| *key != "problems") {
        let written = full.lines().any(|line| {
            let line = line.split('#').next().unwrap_or_default();
            line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
                .any(|word| word == key)
        });
        assert!(written, "full.toml lacks `{key}`");
        count += 1;
    }
    assert!(count > 90, "{count} keys found");
}

#[test]
fn the_full_example_becomes_these_values() {
    let Config {
        listen,
        gateways,
        providers,
        custom_providers,
        tokens,
        prices,
        tls,
        data_dir,
        ..
    } = example("full.toml").config;
    assert_eq!(listen.len(), 2);
    assert_eq!(data_dir, Path::new("/etc/tidegate/data"));
    let tls = tls.unwrap();
    assert_eq!(tls.cert, Path::new("/etc/tidegate/cert.pem"));
    assert_eq!(tls.key, Path::new("/etc/tidegate/key.pem"));
    assert_eq!(tokens.len(), 2);
    assert_eq!(
        tokens[1].secret.expose(),
        "content-of-/etc/tidegate/operator.token"
    );
    let default = &gateways["default"];
    assert!(!default.authentication);
    let rule = &default.spend_limits.rules[0];
    assert_eq!(rule.limit.to_string(), "20.5");
    assert!(rule.hard && rule.metadata.len() == 2);
    assert_eq!(gateways.len(), 2);
    assert_eq!(providers["openai"].credentials.len(), 2);
    assert_eq!(providers["openai"].credentials[0].weight, 2);
    assert_eq!(providers["custom-local"].credentials.len(), 1);
    assert_eq!(custom_providers["local"].headers.len(), 2);
    assert_eq!(prices.len(), 5);
}
