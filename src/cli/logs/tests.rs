use clap::Parser;

use super::*;
use crate::{
    control::{
        data_dir::DataDir,
        logs::{self, LogOptions},
    },
    domain::{
        outcome::Outcome,
        record::{Record, TEXTS, Text, Texts, flag},
    },
    handoff::body_parts::{BodyCursor, Direction},
};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    logs: LogsArgs,
}

fn id(n: u8) -> RequestId {
    let mut ids = crate::domain::id::RequestIds::new([n; 6]);
    ids.next(1_795_262_400_000 + u64::from(n) * 1_000)
}

fn record(n: u8) -> Record {
    let model = if n.is_multiple_of(2) {
        "gpt-4o"
    } else {
        "claude-sonnet"
    };
    let provider = if n.is_multiple_of(2) {
        "openai"
    } else {
        "anthropic"
    };
    let metadata = format!(r#"{{"user":{n},"team":"a, \"b\""}}"#);
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Gateway as usize] = b"default";
    texts[Text::Provider as usize] = provider.as_bytes();
    texts[Text::Model as usize] = model.as_bytes();
    texts[Text::Method as usize] = b"POST";
    texts[Text::Path as usize] = b"/v1/chat/completions";
    texts[Text::Metadata as usize] = metadata.as_bytes();
    texts[Text::UserAgent as usize] = b"sneaky \x1b[31mred\r\n";
    let id = id(n);
    Record {
        id: id.0,
        at_micros: id.unix_millis() * 1_000 + 456,
        duration_micros: 1_234_567 * u64::from(n),
        first_token_micros: (n > 1).then_some(98_765),
        overhead_micros: 21,
        status: if n == 3 { 0 } else { 200 },
        outcome: if n == 3 {
            Outcome::Cancelled
        } else {
            Outcome::Ok
        } as u8,
        flags: flag::PAYLOAD | if n == 4 { flag::CACHED } else { 0 },
        tokens_input: Some(10 * u64::from(n)),
        tokens_output: (n != 3).then_some(5),
        cost: (n != 3).then_some(150_000 * u64::from(n)),
        texts: Texts::pack(&texts),
        ..Record::default()
    }
}

/// A store with four records, and bodies for three of them.
fn store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let (mut senders, logs) = logs::start(&data_dir, &LogOptions::new(1)).unwrap();
    let bodies: [(u8, &[u8], &[u8]); 3] = [
        (
            1,
            br#"{"b":1,"a":[1.50]}"#,
            b"data: {\"x\":1}\r\n\r\ndata: [DONE]\r\n\r\n",
        ),
        (2, b"plain \x1b[2J text", &gzip(br#"{"unpacked":true}"#)),
        (4, &[0, 159, 146, 150], b""),
    ];
    for (n, request, response) in bodies {
        for (direction, body) in [
            (Direction::Request, request),
            (Direction::Response, response),
        ] {
            let mut cursor = BodyCursor::new(id(n), direction);
            senders[0].body(&mut cursor, body);
            if n != 4 || direction == Direction::Request {
                senders[0].end_body(&mut cursor);
            }
        }
    }
    for n in 1..=4 {
        assert!(senders[0].record(Box::new(record(n))));
    }
    drop(senders);
    logs.stop();
    dir
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn run_on(dir: &Path, words: &[&str], terminal: Option<usize>) -> String {
    let cli = Cli::try_parse_from(["logs"].iter().chain(words)).unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let mut face = Face {
        out: &mut out,
        notes: &mut notes,
        terminal,
    };
    let result = run_until(&cli.logs, dir, &mut face, &mut || false);
    let mut text = String::from_utf8(out).unwrap();
    text.push_str(&String::from_utf8(notes).unwrap());
    if let Err(error) = result {
        text = format!("{text}error: {error}\n");
    }
    text
}

#[test]
fn a_page_is_a_table_on_a_terminal() {
    let store = store();
    insta::assert_snapshot!(run_on(store.path(), &["query"], Some(200)));
    insta::assert_snapshot!(run_on(store.path(), &["query", "--limit", "2"], Some(100)));
}

#[test]
fn a_page_elsewhere_is_one_object_a_line() {
    let store = store();
    let text = run_on(store.path(), &["query", "--limit", "1"], None);
    insta::assert_snapshot!(text);
    let json = run_on(store.path(), &["query", "--output", "json"], None);
    let all: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(all[0]["id"], id(4).to_string());
    assert_eq!(
        run_on(
            store.path(),
            &["query", "nothing", "--output", "json"],
            None
        ),
        "[]\n"
    );
}

#[test]
fn lines_of_csv_are_quoted() {
    let store = store();
    let text = run_on(
        store.path(),
        &["export", "--output", "csv", "model:gpt-*"],
        None,
    );
    insta::assert_snapshot!(text.replace("\r\n", "␍\n"));
}

#[test]
fn filters_and_options_choose_records() {
    let store = store();
    let ids = |words: &[&str]| {
        let text = run_on(store.path(), words, None);
        let lines = text.lines().map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["metadata"]["user"].as_u64().unwrap()
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(ids(&["query"]), [4, 3, 2, 1], "newest first");
    assert_eq!(ids(&["export"]), [1, 2, 3, 4], "oldest first");
    assert_eq!(ids(&["tail", "--no-follow"]), [1, 2, 3, 4]);
    assert_eq!(ids(&["tail", "--lines", "1"]), [4]);
    assert_eq!(ids(&["query", "cost:>0 -model:gpt-4o"]), [1]);
    assert_eq!(ids(&["query", "--not", "model:gpt-4o", "cost:>0"]), [1]);
    assert_eq!(ids(&["query", "cost:>0", "--limit", "1"]), [4]);
    assert_eq!(ids(&["query", "--model", "gpt-*", "--limit", "1"]), [4]);
    assert_eq!(ids(&["query", "--outcome", "cancelled"]), [3]);
    assert_eq!(
        ids(&[
            "query",
            "--since",
            "2026-11-21T12:00:03Z",
            "meta.user:1,2,3"
        ]),
        [3]
    );
    assert_eq!(ids(&["query", "--until", "2026-11-21T12:00:02Z"]), [1]);
}

#[test]
fn sums_are_exact_and_the_dearest_comes_first() {
    let store = store();
    let table = |key| run_on(store.path(), &["query", "--group-by", key], Some(100));
    insta::assert_snapshot!(table("model"));
    insta::assert_snapshot!(table("meta.user"));
    let csv = ["query", "--group-by", "outcome", "--output", "csv"];
    insta::assert_snapshot!(run_on(store.path(), &csv, None).replace("\r\n", "␍\n"));
    let json = [
        "query",
        "--group-by",
        "day,model",
        "--limit",
        "1",
        "--output",
        "ndjson",
    ];
    insta::assert_snapshot!(run_on(store.path(), &json, None));
    let order = |order| {
        let words = [
            "query",
            "--group-by",
            "model",
            "--order-by",
            order,
            "--output",
            "csv",
        ];
        let text = run_on(store.path(), &words, None);
        let names = text
            .lines()
            .skip(1)
            .map(|line| line.split(',').next().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order("name"), "claude-sonnet gpt-4o");
    assert_eq!(order("cost"), "gpt-4o claude-sonnet");
    assert!(order("x").is_empty());
}

#[test]
fn rollups_answer_as_the_records_do_and_say_what_they_do_not_know() {
    let store = store();
    let ask = |keys: &str, more: &[&str]| {
        let words = ["query", "--output", "csv", "--group-by", keys];
        run_on(store.path(), &[&words[..], more].concat(), None)
    };
    for keys in [
        "model",
        "key,minute,provider",
        "meta.user",
        "meta.team,day",
        "hour,meta.user,gateway",
        "meta.nobody",
    ] {
        for more in [
            &[][..],
            &["--order-by", "name"],
            &["--limit", "1"],
            &["--gateway", "default", "--since", "2026-11-21"],
            &["--since", "2026-11-22"],
        ] {
            let rolled = ask(keys, &[more, &["--rollups"]].concat());
            assert_eq!(rolled, ask(keys, more), "{keys} {more:?}");
        }
    }
    for more in [
        "meta.user:2,3",
        "--filter=-meta.user:2",
        "meta.user:*",
        "--filter=-meta.user:*",
    ] {
        let rolled = ask("meta.user", &["--rollups", more]);
        assert_eq!(rolled, ask("meta.user", &[more]), "{more}");
    }
    let rolled = ask("provider", &["--rollups", "model:gpt-*"]);
    assert_eq!(rolled, ask("provider", &["model:gpt-*"]));
    for (keys, more) in [
        ("status", &["--rollups"][..]),
        ("day,hour", &["--rollups"]),
        ("meta.user,meta.team", &["--rollups"]),
        ("meta.user,model", &["--rollups"]),
        ("meta.user", &["--rollups", "--model", "gpt-4o"]),
        ("model", &["--rollups", "--filter=-model:gpt-4o"]),
        ("model", &["--rollups", "meta.user:2"]),
        ("model", &["--rollups", "cost:>0"]),
        ("model", &["--rollups", "words"]),
    ] {
        let text = ask(keys, more);
        assert!(
            text.starts_with("error: rollups do not know"),
            "{keys} {more:?}: {text}"
        );
    }
    assert!(Cli::try_parse_from(["logs", "query", "--rollups"]).is_err());
}

#[test]
fn pages_follow_each_other_in_any_order() {
    let store = store();
    let users = |words: &[&str]| {
        let text = run_on(store.path(), words, None);
        let users = text.lines().map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            row["metadata"]["user"].as_u64().unwrap_or(0)
        });
        users.collect::<Vec<_>>()
    };
    let third = id(3).to_string();
    assert_eq!(users(&["query", "--cursor", &third]), [2, 1]);
    assert_eq!(
        users(&["query", "--cursor", &third, "--order-by", "created_at:asc"]),
        [4]
    );
    assert_eq!(
        users(&["query", "--order-by", "cost"]),
        [4, 2, 1, 3],
        "unknown is least"
    );
    assert_eq!(
        users(&["query", "--order-by", "tokens_in:asc", "--limit", "2"]),
        [1, 2]
    );
    assert_eq!(
        users(&["query", "--filter", "cost:>0 -user_agent:x", "model:gpt-*"]),
        [4, 2]
    );
    let page = run_on(store.path(), &["query", "--limit", "2"], Some(100));
    assert!(
        page.ends_with(&format!("the next page: --cursor {third}\n")),
        "{page}"
    );
    let error = |words: &[&str]| run_on(store.path(), words, None);
    assert!(error(&["query", "--order-by", "up"]).starts_with("error: `up` is no order; write "));
    assert_eq!(
        error(&["query", "--order-by", "cost", "--cursor", &third]),
        "error: `--cursor` goes with the order of created_at only\n"
    );
}

#[test]
fn free_text_is_found_in_bodies_too() {
    let store = store();
    let count = |text| run_on(store.path(), &["query", text], None).lines().count();
    assert_eq!(count("[DONE]"), 1);
    assert_eq!(count("PLAIN"), 1);
    assert_eq!(count("completions"), 4, "in the path");
    let words = ["query", "--not", "[DONE]"];
    assert_eq!(run_on(store.path(), &words, None).lines().count(), 3);
    assert_eq!(count("unpacked"), 1, "in a compressed body");
}

#[test]
fn an_export_is_a_whole_file_or_none() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};

    let store = store();
    let path = |name: &str| store.path().join(name);
    let export = |format: &str, to: &Path| {
        let words = [
            "export",
            "--format",
            format,
            "--to",
            to.to_str().unwrap(),
            "cost:>0",
        ];
        run_on(store.path(), &words, None)
    };
    for format in ["csv", "ndjson", "parquet"] {
        assert_eq!(export(format, &path(format)), "");
    }
    let csv = std::fs::read_to_string(path("csv")).unwrap();
    assert_eq!(csv.matches("/v1/chat/completions").count(), 3);
    assert_eq!(
        std::fs::read_to_string(path("ndjson"))
            .unwrap()
            .lines()
            .count(),
        3
    );
    let file = std::fs::File::open(path("parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 3);
    let folder = path("folder");
    std::fs::create_dir(&folder).unwrap();
    assert!(export("parquet", &folder).starts_with("error: cannot write "));
    assert!(!path("folder.part").exists());
    assert_eq!(
        run_on(store.path(), &["export", "--format", "parquet"], None),
        "error: a Parquet file is written with `--to FILE`\n"
    );
}

#[test]
fn one_record_is_shown_with_its_bodies() {
    let store = store();
    for n in 1..=4 {
        let name = id(n).to_string();
        insta::assert_snapshot!(run_on(store.path(), &["show", &name], Some(80)));
    }
    let name = id(2).to_string();
    let json = run_on(store.path(), &["show", &name, "--output", "json"], None);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["response_body"]["text"], r#"{"unpacked":true}"#);
    assert_eq!(json["response_body"]["end"], "whole");
    let name = id(1).to_string();
    assert_eq!(
        run_on(store.path(), &["show", &name, "--body", "request"], None),
        r#"{"b":1,"a":[1.50]}"#
    );
}

#[test]
fn mistakes_are_one_sentence() {
    let store = store();
    let run = |words: &[&str]| run_on(store.path(), words, None);
    assert_eq!(
        run(&["show", "x"]),
        "error: `x` is no record id; ids look like 01932f5e-7a30-7000-8000-0123456789ab\n"
    );
    assert!(run(&["show", &id(9).to_string()]).starts_with("error: there is no record 01"));
    let name = id(3).to_string();
    assert_eq!(
        run(&["show", &name, "--body", "response"]),
        format!("error: the response body of {name} is not stored\n")
    );
    assert!(run(&["query", "--status", "bad"]).starts_with("error: `bad` is not `200`"));
    assert_eq!(
        run_on(&store.path().join("none"), &["tail"], None),
        format!(
            "error: there is no data folder {}; name it with `--data-dir`, or start the server \
             first\n",
            store.path().join("none").display()
        )
    );
    assert_eq!(
        run_on(store.path(), &["query", "nothing"], Some(80)),
        "no record matches (4 looked at)\n"
    );
    assert!(Cli::try_parse_from(["logs", "query", "--group-by", "x"]).is_err());
}

#[test]
fn following_prints_what_comes() {
    let store = store();
    let data_dir = DataDir::lock(store.path()).unwrap();
    let (senders, logs) = logs::start(&data_dir, &LogOptions::new(1)).unwrap();
    let cli = Cli::try_parse_from(["logs", "tail", "--lines", "1", "model:gpt-*"]).unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let mut face = Face {
        out: &mut out,
        notes: &mut notes,
        terminal: None,
    };
    let mut polls = 0u8;
    let mut again = || {
        polls += 1;
        if polls < 3 {
            assert!(senders[0].record(Box::new(record(10 + polls))));
            while logs.health().records_written() < u64::from(polls) {
                thread::yield_now();
            }
        }
        polls < 4
    };
    run_until(&cli.logs, store.path(), &mut face, &mut again).unwrap();
    let users: Vec<u64> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|row| row["metadata"]["user"].as_u64().unwrap())
        .collect();
    assert_eq!(users, [4, 12], "11 is no gpt model");
    drop(senders);
    logs.stop();
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let store = store();
    for verb in ["query", "export"] {
        let cli = Cli::try_parse_from(["logs", verb]).unwrap();
        let mut face = Face {
            out: &mut Closed,
            notes: &mut Vec::new(),
            terminal: None,
        };
        run(&cli.logs, store.path(), &mut face).unwrap();
    }
}

#[test]
fn compressing_tells_what_it_cost_and_changes_no_body() {
    let store = store();
    let words = ["compress", "--now", "--output", "json"];
    let done: serde_json::Value =
        serde_json::from_str(&run_on(store.path(), &words, None)).unwrap();
    assert_eq!((&done["files"], &done["exchanges"]), (&1.into(), &2.into()));
    assert!(done["cpu_seconds"].is_number(), "{done}");
    let name = id(1).to_string();
    assert_eq!(
        run_on(store.path(), &["show", &name, "--body", "request"], None),
        r#"{"b":1,"a":[1.50]}"#
    );
}
