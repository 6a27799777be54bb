//! The configuration of the demo: a file like any other, read like any other.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::usual_address;
use crate::cli::settings::SettingsError;
use crate::config::{self, Config, Flags, Sources};
use crate::provider;

/// Reads the demo's configuration. The environment is left alone: keys that SDKs keep there have
/// no business with a mock.
pub fn config(
    listen: Option<&str>,
    mock: SocketAddr,
    folder: &Path,
) -> Result<Config, SettingsError> {
    let flags = Flags {
        listen: vec![listen.map_or_else(usual_address, str::to_owned)],
        data_dir: Some(folder.to_path_buf()),
        driver: std::env::var("TIDEGATE_DRIVER")
            .ok()
            .filter(|driver| !driver.is_empty()),
        ..Flags::default()
    };
    let sources = Sources {
        env: &|name| (name == KEY_VARIABLE).then(|| KEY.to_owned()),
        read_file: &|_| Err(io::ErrorKind::NotFound.into()),
        known_provider: &|slug| provider::by_slug(slug).is_some(),
        picked_up_keys: &[],
        flags: &flags,
    };
    let text = FILE.replace("MOCK", &mock.to_string());
    let loaded = config::load(&text, "demo.toml", Path::new(""), &sources);
    Ok(loaded.map_err(SettingsError::Problems)?.config)
}

/// The variable by which the file below names the dummy credential.
const KEY_VARIABLE: &str = "DEMO_KEY";

/// What the mock gets as a credential; it takes any.
const KEY: &str = "demo-key";

const FILE: &str = r#"
[gateways.default]
authentication = false

[providers.openai]
key = "env:DEMO_KEY"
origin = "http://MOCK/openai"

[providers.anthropic]
key = "env:DEMO_KEY"
origin = "http://MOCK/anthropic"

[providers.google-ai-studio]
key = "env:DEMO_KEY"
origin = "http://MOCK/google-ai-studio"

[providers.custom-demo]
key = "env:DEMO_KEY"

[custom_providers.demo]
base_url = "http://MOCK/openai/v1"
dialect = "openai"
allow_http = true

[prices]
"custom-demo/tide-1" = { input = "0.15", output = "0.60" }
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_valid_and_leads_to_the_mock_only() {
        let mock = "127.0.0.1:9".parse().unwrap();
        let config = config(Some("127.0.0.1:0"), mock, Path::new("/tmp/x")).unwrap();
        assert_eq!(config.data_dir, Path::new("/tmp/x"));
        assert!(!config.gateways["default"].authentication);
        for slug in ["openai", "anthropic", "google-ai-studio"] {
            let settings = &config.providers[slug];
            let address = format!("{:?}", settings.address);
            assert!(
                address.contains("127.0.0.1") && address.contains("Origin"),
                "{address}"
            );
            assert_eq!(settings.credentials[0].secret.expose(), KEY);
        }
    }

    #[test]
    fn an_address_that_others_reach_is_refused() {
        let mock = "127.0.0.1:9".parse().unwrap();
        let error = config(Some("0.0.0.0:0"), mock, Path::new("/tmp/x")).unwrap_err();
        assert!(error.to_string().contains("without a token"), "{error}");
    }
}
