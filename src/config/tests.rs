//! What files, variables and flags become, and what the operator reads when they are wrong.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;

use proptest::prelude::*;

use super::gateway::{CacheScope, Technique};
use super::*;

const FULL: &str = include_str!("../../tests/configs/full.toml");

/// A machine for tests: some variables, some files.
struct Machine<'a> {
    variables: &'a [(&'a str, &'a str)],
    files: &'a [(&'a str, &'a str)],
    flags: Flags,
}

const PLAIN: Machine<'static> = Machine {
    variables: &[
        ("HOME", "/home/ada"),
        ("APP_TOKEN", "app-token-0123456789"),
        ("OPENAI_API_KEY", "sk-from-the-environment"),
        ("EMPTY", ""),
        ("TWO_LINES", "sk-first\nsk-second"),
    ],
    files: &[("/etc/tidegate/other.key", "sk-from-a-file\n")],
    flags: Flags {
        listen: Vec::new(),
        data_dir: None,
        shards: None,
        driver: None,
        admin: None,
        allow_open: false,
    },
};

impl Machine<'_> {
    fn load(&self, text: &str) -> Result<Loaded, Problems> {
        let sources = Sources {
            env: &|name| {
                let found = self.variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            },
            read_file: &|path| {
                let found = self
                    .files
                    .iter()
                    .find(|(known, _)| Path::new(known) == path);
                let content = found.map(|(_, content)| (*content).to_owned());
                content.ok_or_else(|| io::ErrorKind::NotFound.into())
            },
            known_provider: &|slug| ["openai", "anthropic", "groq", "workers-ai"].contains(&slug),
            picked_up_keys: &[
                ("openai", &["OPENAI_API_KEY"]),
                ("anthropic", &["ANTHROPIC_API_KEY"]),
            ],
            flags: &self.flags,
        };
        load(text, "tidegate.toml", Path::new("/etc/tidegate"), &sources)
    }
}

#[track_caller]
fn config(text: &str) -> Config {
    match PLAIN.load(text) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}"),
    }
}

#[track_caller]
fn problems(text: &str) -> String {
    match PLAIN.load(text) {
        Ok(loaded) => panic!("loads as {:?}", loaded.config),
        Err(problems) => problems.to_string(),
    }
}

fn warnings(text: &str) -> String {
    let loaded = PLAIN.load(text).unwrap();
    Problems(loaded.warnings).to_string()
}

/// Snapshots show the file beside what is said about it.
macro_rules! problems_of {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            let text: &str = &$text;
            insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
                insta::assert_snapshot!(stringify!($name), problems(text));
            });
        }
    )*};
}

problems_of! {
    an_unknown_key_names_its_neighbour: "lisen = \"127.0.0.1:1\"\n[limits]\nhead_byte = 1\nzebra = 1\n[providers.openai]\nkee = \"sk-live-424242424242\"\n";
    a_value_of_the_wrong_kind_says_what_is_expected: "\
listen = 8787
shards = \"two\"
auto_create_gateways = \"yes\"
log_sync_ms = 1.5
hosts = \"gateway.example.com\"
[limits]
head_timeout = 10
head_bytes = true
tls = 5
[gateways]
default = false
[prices]
\"openai/a\" = { input = 0.15 }
";
    a_key_given_twice_is_one_too_many: "data_dir = \"a\"\nshards = 2\ndata_dir = \"b\"\n[limits]\n[limits]\n";
    units_are_explained: "log_compress_after = \"1\"\n[limits]\nhead_timeout = \"10 parsecs\"\nbody_timeout = \"1.5s\"\nbody_bytes = \"100M\"\nhead_bytes = \"-1\"\n";
    values_out_of_range_name_the_range: "shards = 0\nlog_sync_ms = -5\n[limits]\nhead_bytes = \"10GiB\"\nidle_timeout = \"0s\"\n[gateways.a]\nretry_max_attempts = 9\nretry_delay = 60001\nlog_management = 5\ncache_ttl = -1\n";
    references_lead_somewhere: "\
[[tokens]]
name = \"a\"
token = \"app-token-in-the-file\"
[[tokens]]
name = \"b\"
token = \"env:NOT_THERE\"
[[tokens]]
name = \"c\"
token = \"file:not-there.key\"
[[tokens]]
name = \"d\"
token = \"env:EMPTY\"
[[tokens]]
name = \"e\"
token = \"env:sk-live-424242424242\"
[providers.openai]
key = \"env:TWO_LINES\"
[providers.groq]
keys = [{ key = \"gsk_424242424242\", weight = 0 }, { weight = 2 }, \"gsk_434343434343\"]
";
    tokens_are_told_apart: "\
[[tokens]]
token = \"env:APP_TOKEN\"
[[tokens]]
name = \"a\"
[[tokens]]
name = \"a\"
token = \"env:APP_TOKEN\"
permissions = []
[[tokens]]
name = \"b\"
token = \"env:APP_TOKEN\"
permissions = [\"run\", \"write\"]
[[tokens]]
name = \"c\"
token = \"env:APP_TOKEN\"
[[tokens]]
name = \"c\"
token = \"env:OPENAI_API_KEY\"
[[tokens]]
name = \"d\"
token = \"env:APP_TOKEN\"
budget = { limit = \"-1\", period = \"yearly\", time_zone = \"../etc\" }
";
    addresses_to_listen_on_are_plain: "listen = [\":8787\", \"8787\", \"127.0.0.1\", \"::1\", \"http://127.0.0.1:8787\", \"gateway.example.com:80\", \"localhost:99999\", \"127.0.0.1:1\", \"127.0.0.1:1\", \"\"]\nadmin = \"localhost\"\n";
    an_open_gateway_stays_on_this_machine: "listen = [\"127.0.0.1:8787\", \"0.0.0.0:8787\"]\n[gateways.open]\nauthentication = false\n[gateways.closed]\nauthentication = true\n[gateways.default]\n";
    what_is_no_toml_says_where: "listen = \"127.0.0.1:8787\n[limits\nfoo bar\n";
    json_is_not_toml: "{\n  \"listen\": \"127.0.0.1:8787\"\n}\n";
    a_nul_byte_is_shown_harmlessly: "data_dir = \"a\0b\"\n\x1b[31m = 1\n";
    providers_have_to_be_known: "\
[providers.opena]
key = \"env:OPENAI_API_KEY\"
[providers.custom-locl]
[providers.custom-local]
base_url = \"https://a\"
[custom_providers.local]
base_url = \"https://a\"
[custom_providers.Upper]
base_url = \"https://a\"
[prices]
\"gpt\" = { input = \"1\" }
\"opena/gpt\" = { input = \"1\" }
\"openai/gpt\" = { cache_read = \"1\" }
\"openai/gpt-2\" = { input = \"1,5\", output = \"-1\" }
";
    addresses_of_providers_are_strict: "\
[providers.openai]
base_url = \"https://user:hunter2@api.openai.com/v1\"
origin = \"api.openai.com\"
http2 = \"on\"
[providers.anthropic]
base_url = \"https://api.anthropic.com/v1?key=hunter2\"
connect_timeout = \"1h\"
[custom_providers.a]
base_url = \"http://10.0.0.1/v1\"
dialect = \"open-ai\"
[custom_providers.b]
headers = { Host = \"a\", x-api-key = \"hunter2\", \"a b\" = \"c\", X-Team = \"a\", x-team = \"b\" }
";
    gateways_follow_the_contract: "\
[gateways.\"a b\"]
[gateways.a]
rate_limiting_technique = \"slidng\"
log_management_strategy = \"delete_oldest\"
retry_backoff = \"quadratic\"
workers_ai_billing_mode = \"prepaid\"
logpush_public_key = \"-----BEGIN PRIVATE KEY----- hunter2\"
cache_scope = \"all\"
on_disconnect = \"ignore\"
resume_for = \"2h\"
guardrails = { prompt = { S14 = \"BLOCK\", S1 = \"block\" } }
dlp = { enabled = true, action = \"FLAG\", policies = [{ id = \"a\" }, { id = \"a\", action = \"BLOCK\", check = [\"BODY\"] }] }
spend_limits = { rules = [{ limit = -1, window = 60 }, { limit = 1, limitType = \"tokens\", window = 60, model = { mode = \"filter\" } }, { id = \"x\", limit = 1.0, limitType = \"cost\", window = 1 }, { id = \"x\", limit = 1.0, limitType = \"cost\", window = 1 }] }
request_limits = [{ limit = 1, window = 0, by = \"user\" }, {}]
otel = [{ headers = { authorization = \"Bearer hunter2\" } }]
stripe = {}
";
    https_takes_certificate_and_key: "[tls]\ncert = \"a.pem\"\n";
    one_thing_wrong_does_not_hide_another: "shard = 2\nlisten = 5\n[limits]\nhead_timeout = \"10\"\n[gateways.default]\ncache_ttl = \"1h\"\ncollect_log = true\nretry_delay = 99999\n";
    long_lines_are_cut_around_the_spot: format!("data_dir = \"a\"; {}", "x".repeat(5000));
}

#[test]
fn no_file_gives_the_defaults() {
    let config = config("");
    assert_eq!(config.listen, Config::default().listen);
    assert_eq!(
        config.data_dir,
        Path::new("/home/ada/.local/state/tidegate")
    );
    assert_eq!(config.limits, Limits::default());
    assert!(config.gateways.is_empty() && config.tokens.is_empty());
    assert!(!config.implied_gateway().authentication);
    assert!(config.implied_gateway().collect_logs);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let text = "#".repeat(limit::FILE_BYTES_MAX + 1);
    let said = problems(&text);
    assert!(
        said.starts_with("tidegate.toml: the file has 1048577 bytes"),
        "{said}"
    );
    config(&text[1..]);
}

#[test]
fn deep_and_wide_files_end_in_problems() {
    problems(&format!("a = {}", "[".repeat(100_000)));
    problems(&format!("{}x = 1", "a.".repeat(200_000)));
    problems(&format!("[{}x]\n", "a.".repeat(200_000)));
    problems(&format!("a = {}", "{b=".repeat(100_000)));
    let long_key = "k".repeat(400_000);
    let said = problems(&format!("[{long_key}]\n{}", "a = 1\n".repeat(3)));
    assert!(said.len() < 4096, "{} bytes said", said.len());
    let lines: Vec<String> = (0..50_000).map(|n| format!("k{n} = {n}")).collect();
    let wide = lines.join("\n");
    let said = problems(&wide);
    assert_eq!(said.matches("is not known").count(), limit::PROBLEMS_MAX);
}

#[test]
fn a_gateway_opens_by_itself_only_as_default_on_loopback() {
    let text = "[gateways.default]\n[gateways.other]\n";
    let here = config(text);
    assert!(!here.gateways["default"].authentication);
    assert!(here.gateways["other"].authentication);
    let there = config(&format!("listen = \"0.0.0.0:80\"\n{text}"));
    assert!(there.gateways["default"].authentication);
    assert!(there.implied_gateway().authentication);
}

#[test]
fn allow_open_turns_the_refusal_into_a_warning() {
    let machine = Machine {
        flags: Flags {
            allow_open: true,
            listen: vec!["0.0.0.0:8787".to_owned()],
            ..Flags::default()
        },
        ..PLAIN
    };
    let loaded = machine
        .load("[gateways.open]\nauthentication = false\n")
        .unwrap();
    assert!(loaded.config.allow_open && !loaded.config.gateways["open"].authentication);
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let text =
        "listen = \"127.0.0.1:1\"\ndata_dir = \"one\"\nshards = 1\nadmin = \"127.0.0.1:11\"\n";
    let mut machine = Machine {
        variables: &[
            ("TIDEGATE_LISTEN", "127.0.0.1:2, [::1]:2"),
            ("TIDEGATE_DATA_DIR", "/two"),
            ("TIDEGATE_SHARDS", "2"),
            ("TIDEGATE_DRIVER", "epoll"),
            ("TIDEGATE_LOG", "debug"),
            ("TIDEGATE_API_TOKEN", "0123456789abcdef"),
        ],
        ..PLAIN
    };
    let one = config(text);
    assert_eq!(one.listen, [SocketAddr::from(([127, 0, 0, 1], 1))]);
    assert_eq!(one.data_dir, Path::new("/etc/tidegate/one"));
    let two = machine.load(text).unwrap().config;
    assert_eq!(two.listen.len(), 2);
    assert_eq!(two.data_dir, Path::new("/two"));
    assert_eq!((two.shards, two.driver), (Some(2), Driver::Epoll));
    assert_eq!(two.log_filter.as_deref(), Some("debug"));
    assert_eq!(two.api_token.unwrap().expose(), "0123456789abcdef");
    machine.flags = Flags {
        listen: vec!["127.0.0.1:3".to_owned()],
        data_dir: Some("three".into()),
        shards: Some(3),
        driver: Some("uring".to_owned()),
        admin: Some("localhost:33".to_owned()),
        allow_open: false,
    };
    let three = machine.load(text).unwrap().config;
    assert_eq!(three.listen, [SocketAddr::from(([127, 0, 0, 1], 3))]);
    assert_eq!(three.data_dir, Path::new("three"));
    assert_eq!((three.shards, three.driver), (Some(3), Driver::Uring));
    assert_eq!(three.admin, Some("127.0.0.1:33".parse().unwrap()));
}

#[test]
fn variables_and_flags_are_named_in_what_is_wrong_with_them() {
    let machine = Machine {
        variables: &[
            ("TIDEGATE_LISTEN", ":8787"),
            ("TIDEGATE_ADMIN", "nowhere"),
            ("TIDEGATE_SHARDS", "many"),
            ("TIDEGATE_DRIVER", "kqueue"),
            ("TIDEGATE_API_TOKEN", "hunter2"),
            ("TIDEGATE_API_TOKEN_FILE", "/nowhere"),
        ],
        flags: Flags {
            shards: Some(1000),
            ..Flags::default()
        },
        ..PLAIN
    };
    let said = machine.load("").unwrap_err().to_string();
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(
            "variables_and_flags_are_named_in_what_is_wrong_with_them",
            said
        );
    });
    let machine = Machine {
        variables: &[("TIDEGATE_API_TOKEN_FILE", "/nowhere")],
        ..PLAIN
    };
    let said = machine.load("").unwrap_err().to_string();
    assert!(
        said.starts_with("TIDEGATE_API_TOKEN_FILE: cannot read `/nowhere`"),
        "{said}"
    );
}

#[test]
fn keys_of_sdks_are_picked_up_where_the_file_names_none() {
    let picked = config("");
    assert_eq!(
        picked.picked_up().collect::<Vec<_>>(),
        [("openai", "OPENAI_API_KEY")]
    );
    let settings = config("[providers.openai]\nhttp2 = \"alpn\"\n");
    assert_eq!(settings.picked_up().count(), 1);
    assert_eq!(settings.providers["openai"].http2, upstream::Http2::Alpn);
    let named = config("[providers.openai]\nkey = \"file:other.key\"\n");
    assert_eq!(named.picked_up().count(), 0);
    let credentials = &named.providers["openai"].credentials;
    assert_eq!(credentials.len(), 1);
    assert_eq!(credentials[0].secret.expose(), "sk-from-a-file");
    assert_eq!(
        credentials[0].source.to_string(),
        "file:/etc/tidegate/other.key"
    );
    assert!(!format!("{named:?}").contains("sk-"));
}

#[test]
fn what_is_not_built_yet_is_warned_of() {
    let said = warnings(FULL_OF_FUTURE);
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("what_is_not_built_yet_is_warned_of", said);
    });
    assert_eq!(
        warnings("[gateways.a]\non_disconnect = \"cancel\"\ncache_ttl = 0\nzdr = false\n"),
        ""
    );
}

const FULL_OF_FUTURE: &str = "\
log_compress_after = \"2h\"
[[tokens]]
name = \"a\"
token = \"env:APP_TOKEN\"
budget = { limit = 5, period = \"daily\" }
[gateways.default]
cache_ttl = 3600
cache_streams = true
rate_limiting_limit = 600
retry_max_attempts = 2
retry_delay = 200
on_disconnect = \"drain\"
resume_for = \"330s\"
zdr = true
";

#[test]
fn fields_of_gateways_keep_the_units_of_the_contract() {
    let config = config(
        "[gateways.a]\ncache_ttl = 3600\nretry_delay = 200\nrate_limiting_technique = \"sliding\"\ncache_scope = \"gateway\"\n",
    );
    let gateway = &config.gateways["a"];
    assert_eq!(gateway.cache_ttl, Duration::from_hours(1));
    assert_eq!(gateway.retry_delay, Some(Duration::from_millis(200)));
    assert_eq!(gateway.rate_limiting_technique, Technique::Sliding);
    assert_eq!(gateway.cache_scope, CacheScope::Gateway);
}

#[test]
fn amounts_are_exact_however_they_are_written() {
    let spent = |text: &str| {
        let rule = format!("{{ limit = {text}, limitType = \"cost\", window = 1 }}");
        let config = config(&format!("[gateways.a]\nspend_limits.rules = [{rule}]\n"));
        config.gateways["a"].spend_limits.rules[0].limit.to_string()
    };
    assert_eq!(spent("20.0"), "20");
    assert_eq!(spent("0.1"), "0.1");
    assert_eq!(spent("\"0.000000000001\""), "0.000000000001");
    assert_eq!(spent("1_000"), "1000");
    assert_eq!(spent("1e3"), "1000");
}

#[test]
fn problems_serialise_for_programs() {
    let problems = PLAIN.load("[limits]\nhead_bytes = \"x\"\n").unwrap_err();
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(
        json,
        serde_json::json!([{
            "origin": "tidegate.toml",
            "line": 2,
            "column": 14,
            "path": "limits.head_bytes",
            "message": "`x` is not a size: there is no whole number at its start",
            "help": unit::SIZE_HELP,
        }])
    );
}

#[test]
fn every_variable_that_is_asked_for_is_documented() {
    let asked = RefCell::new(BTreeSet::new());
    let sources = Sources {
        env: &|name| {
            asked.borrow_mut().insert(name.to_owned());
            None
        },
        read_file: &|_| Err(io::ErrorKind::NotFound.into()),
        known_provider: &|_| true,
        picked_up_keys: &[],
        flags: &Flags::default(),
    };
    load("", "", Path::new(""), &sources).unwrap();
    let asked: Vec<String> = asked.into_inner().into_iter().collect();
    assert_eq!(
        asked.join(" "),
        "CREDENTIALS_DIRECTORY HOME TIDEGATE_ADMIN TIDEGATE_API_TOKEN TIDEGATE_API_TOKEN_FILE TIDEGATE_DATA_DIR \
         TIDEGATE_DRIVER TIDEGATE_LISTEN TIDEGATE_LOG TIDEGATE_MASTER_KEY \
         TIDEGATE_MASTER_KEY_FILE TIDEGATE_REDIS_URL TIDEGATE_SHARDS XDG_STATE_HOME"
    );
}

/// A file with its secrets written into it, as nobody should.
fn careless() -> String {
    let text = FULL
        .replace("env:", "hunter2-")
        .replace("file:", "hunter2-");
    // What stands in gateways is guarded by its name only; the rest by its table as well.
    let gateways = text.find("[gateways.default]").unwrap();
    let providers = text.find("[providers.openai]").unwrap();
    let (before, rest) = text.split_at(gateways);
    let (_, after) = rest.split_at(providers - gateways);
    format!("{before}{after}")
}

/// Wherever a secret is written by mistake, it does not come back out.
#[test]
fn no_message_holds_a_secret() {
    const SECRET: &str = "hunter2-correct-horse";
    let places = [
        "[[tokens]]\nname = \"a\"\ntoken = \"§\"\n",
        "[[tokens]]\nname = \"a\"\ntoken = '''\n§'''\n",
        "[[tokens]]\nname = \"a\"\ntoken = [\"§\"]\n",
        "[[tokens]]\nname = \"a\"\ntoken = \"§\nx = 1",
        "[[tokens]]\nname = \"a\"\ntoken = §\n",
        "tokens = [{ name = 5, token = \"§\", permission = [] }]\n",
        "tokens = [{ name = 5, token = \"§\"\n",
        "tokens = [\n \"§\",\n \"§\n]\n",
        "tokens = \"§\"\n",
        "[providers.openai]\nkey = \"§\"\n",
        "[providers.openai]\nkey = { a = \"§\" }\n",
        "[providers.openai]\nkeys = \"§\"\n",
        "[providers.openai]\nkeys = [\"§\", { key = \"§\", weight = 0 }]\n",
        "[providers.openai]\nkeys = [\n  \"§\",\n  \"§\n]\n",
        "[providers]\nopenai = \"§\"\n",
        "[providers]\nopenai = { key = \"§\", kee = 1 }\n",
        "providers.openai.key = \"§\"\nproviders.openai.weigth = 5\n",
        "[providers.openai]\nbase_url = \"https://u:§@h/\"\n",
        "[providers.openai]\nbase_url = \"https://h/?k=§\"\n",
        "[custom_providers.a]\nbase_url = \"https://a\"\nheaders = { authorization = \"§\" }\n",
        "[custom_providers.a]\nbase_url = 1\nheaders = { x-a = \"§\", x-b = 1 }\n",
        "[gateways.a]\notel = [{ url = \"\", authorization = \"§\", headers = { a = \"§\" } }]\n",
        "[gateways.a.stripe]\nauthorization = \"§\"\n",
        "[tls]\nkey = \"-----BEGIN PRIVATE KEY-----\\n§\"\nsert = 1\n",
    ];
    for place in places {
        let text = place.replace('§', SECRET);
        let said = match PLAIN.load(&text) {
            Ok(loaded) => Problems(loaded.warnings).to_string(),
            Err(problems) => format!("{problems} {problems:?}"),
        };
        assert!(!said.contains("hunter2"), "{text}\n gave\n{said}");
        assert!(!said.contains("horse"), "{text}\n gave\n{said}");
    }
}

proptest! {
    // Findings become cases in this file, not files of their own.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "(?s).{0,400}") {
        let _ = PLAIN.load(&text).map_err(|problems| problems.to_string());
    }

    #[test]
    fn no_soup_of_toml_panics(
        pieces in prop::collection::vec(
            prop::sample::select(&[
                "[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", "\"", "'", "\"\"\"", "a", "key",
                "limits", "gateways", "default", "providers", "openai", "tokens", "1", "1.5", "true",
                "\"env:A\"", "\"x\"", "#", " ", "é", "\u{0}", "\r", "1979-05-27", "listen", "prices",
            ][..]),
            0..40,
        )
    ) {
        let _ = PLAIN.load(&pieces.concat()).map_err(|problems| problems.to_string());
    }

    #[test]
    fn a_slip_beside_a_secret_does_not_show_it(
        at in any::<prop::sample::Index>(),
        length in 0usize..12,
        new in prop::sample::select(&["", "x", "\"", "=", "\n", "[", "]", "{", "}", "#", ",", "'", "\"\"\"", " = 1\n"][..]),
    ) {
        let text = careless();
        let letters: Vec<(usize, char)> = text.char_indices().collect();
        let from = at.index(letters.len());
        let to = (from + length).min(letters.len());
        let kept: String = letters[..from].iter().map(|(_, c)| c).collect();
        let rest: String = letters[to..].iter().map(|(_, c)| c).collect();
        let changed = format!("{kept}{new}{rest}");
        let said = match PLAIN.load(&changed) {
            Ok(loaded) => Problems(loaded.warnings).to_string(),
            Err(problems) => format!("{problems} {problems:?}"),
        };
        prop_assert!(!said.contains("unter2"), "{changed}\n gave\n{said}");
    }

    #[test]
    fn no_change_to_a_good_file_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, "(?s).{0,6}"), 1..6)
    ) {
        let mut text: Vec<char> = FULL.chars().collect();
        for (at, length, new) in changes {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        let _ = PLAIN.load(&text).map_err(|problems| problems.to_string());
    }
}

#[test]
fn the_master_key_comes_from_one_of_three_places() {
    const KEY: &str = "a-good-master-key";
    let check = |variables: &[(&str, &str)],
                 file: io::Result<&str>,
                 expected: Result<Option<&str>, &str>| {
        let file = file.map(str::to_owned).map_err(|error| error.kind());
        let sources = Sources {
            env: &|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            },
            read_file: &|_| file.clone().map_err(io::Error::from),
            known_provider: &|_| true,
            picked_up_keys: &[],
            flags: &Flags::default(),
        };
        let loaded = load("", "", Path::new(""), &sources);
        match (loaded, expected) {
            (Ok(loaded), Ok(expected)) => {
                let key = loaded.config.master_key;
                assert_eq!(key.as_ref().map(Secret::expose), expected);
            }
            (Err(problems), Err(expected)) => {
                let text = problems.to_string();
                assert!(
                    text.contains(expected) && !text.contains("a-good-master"),
                    "{text}"
                );
            }
            (found, expected) => panic!("{found:?} {expected:?}"),
        }
    };
    let none = || Err(io::ErrorKind::NotFound.into());
    check(&[], none(), Ok(None));
    check(&[("TIDEGATE_MASTER_KEY", KEY)], none(), Ok(Some(KEY)));
    check(
        &[("TIDEGATE_MASTER_KEY_FILE", "/k")],
        Ok("a-good-master-key\n"),
        Ok(Some(KEY)),
    );
    check(
        &[("TIDEGATE_MASTER_KEY_FILE", "/k")],
        none(),
        Err("cannot read"),
    );
    check(
        &[("CREDENTIALS_DIRECTORY", "/run/c")],
        Ok(KEY),
        Ok(Some(KEY)),
    );
    check(&[("CREDENTIALS_DIRECTORY", "/run/c")], none(), Ok(None));
    check(
        &[("TIDEGATE_MASTER_KEY", "short")],
        none(),
        Err("shorter than 16"),
    );
    let both = [
        ("TIDEGATE_MASTER_KEY", KEY),
        ("TIDEGATE_MASTER_KEY_FILE", "/k"),
    ];
    check(&both, none(), Err("both"));
}
