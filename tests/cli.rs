//! The command line as people and programs meet it: words, exit codes, signals.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A command that knows nothing of the machine but a folder of its own, its home and working
/// directory.
fn command(home: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(args)
        .env_clear()
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .current_dir(home.path())
        .stdin(Stdio::null());
    if let Some(driver) = std::env::var_os("TIDEGATE_DRIVER") {
        command.env("TIDEGATE_DRIVER", driver);
    }
    command
}

/// What a command said, and its exit code; `{home}` stands for its folder.
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

fn say(home: &TempDir, command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace(home.path().to_str().unwrap(), "{home}")
    };
    Said {
        out: text(output.stdout),
        err: text(output.stderr),
        code: output.status.code(),
    }
}

fn run(args: &[&str]) -> Said {
    let home = tempfile::tempdir().unwrap();
    say(&home, &mut command(&home, args))
}

fn config(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn help_is_for_newcomers() {
    let said = run(&["--help"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    insta::assert_snapshot!("help", said.out);
    insta::assert_snapshot!("help_short", run(&["-h"]).out);
}

#[test]
fn every_verb_has_help_with_an_example() {
    for verb in [
        "serve",
        "demo",
        "check",
        "logs",
        "cache",
        "doctor",
        "completions",
        "version",
    ] {
        let said = run(&[verb, "--help"]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{verb}");
        assert!(said.out.contains("Examples:\n  "), "{verb} has no example");
        insta::assert_snapshot!(format!("help_{verb}"), said.out);
    }
}

#[test]
fn a_wrong_word_is_told_with_the_right_one() {
    let said = run(&["srve"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    insta::assert_snapshot!(said.err);
    let said = run(&["serve", "--driver", "kqueue"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    insta::assert_snapshot!(said.err);
}

#[test]
fn version_names_itself() {
    let said = run(&["--version"]);
    assert_eq!(
        said.out,
        format!("tidegate {}\n", env!("CARGO_PKG_VERSION"))
    );
    let said = run(&["version", "--output", "json"]);
    let version: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["target"].as_str().unwrap().contains("linux"));
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let said = run(&["completions", shell]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{shell}");
        for word in ["serve", "doctor", "allow-open"] {
            assert!(said.out.contains(word), "{shell}: {word}");
        }
    }
}

/// The report of `check` without what belongs to the machine.
fn check(home: &TempDir, file: &str, variables: &[&str]) -> Said {
    let free = [
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--data-dir",
        "data",
    ];
    let mut command = command(home, &["check", file]);
    command.args(free);
    for name in variables {
        command.env(name, format!("value-of-{name}-in-full"));
    }
    let mut said = say(home, &mut command);
    if let Some(kernel) = said.out.find("\nKernel") {
        said.out.truncate(kernel);
    }
    said
}

#[test]
fn check_shows_the_settings_in_effect() {
    let home = tempfile::tempdir().unwrap();
    for name in ["minimal.toml", "readme.toml"] {
        fs::write(home.path().join(name), config(name)).unwrap();
        let said = check(&home, name, &["OPENAI_API_KEY", "APP_TOKEN"]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{name}");
        insta::assert_snapshot!(format!("check_{name}"), said.out);
    }
}

#[test]
fn check_shows_every_setting_and_warns_of_what_has_no_effect_yet() {
    let home = tempfile::tempdir().unwrap();
    let text = config("full.toml").replace("/etc/tidegate/key.pem", "key.pem");
    fs::write(home.path().join("full.toml"), text).unwrap();
    for name in ["operator.token", "openai-b.key", "cert.pem", "key.pem"] {
        fs::write(home.path().join(name), "a-secret-that-is-long-enough\n").unwrap();
    }
    let variables = [
        "APP_TOKEN",
        "OTEL_KEY",
        "OTEL_AUTHORIZATION",
        "STRIPE_KEY",
        "OPENAI_A",
        "AZURE_OPENAI_API_KEY",
        "LOCAL_KEY",
        "LOCAL_AUTHORIZATION",
    ];
    let said = check(&home, "full.toml", &variables);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.starts_with("warning: full.toml:"), "{}", said.err);
    for text in [&said.out, &said.err] {
        assert!(
            !text.contains("-in-full") && !text.contains("long-enough"),
            "{text}"
        );
    }
    let (_, settings) = said.out.split_once("\n\n").unwrap();
    insta::assert_snapshot!(settings);
}

#[test]
fn check_points_at_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let text = "listen = \"0.0.0.0:8787\"\n[gateways.default]\nauthenticaton = false\n\n[limits]\n\
                head_timeout = \"10 parsecs\"\n";
    fs::write(home.path().join("tidegate.toml"), text).unwrap();
    let said = say(&home, &mut command(&home, &["check"]));
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    insta::assert_snapshot!(said.err);
    // A start says the same.
    let started = say(&home, &mut command(&home, &[]));
    assert_eq!((started.code, started.out.as_str()), (Some(2), ""));
    let problems = |text: &str| text[..text.rfind("\n\n").unwrap()].to_owned();
    assert_eq!(problems(&started.err), problems(&said.err));
}

#[test]
fn check_says_the_same_to_programs() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("tidegate.toml"), "listn = 1\n").unwrap();
    let said = say(&home, &mut command(&home, &["check", "--output", "json"]));
    assert_eq!((said.code, said.err.as_str()), (Some(2), ""));
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["valid"], false);
    assert_eq!(report["problems"][0]["line"], 1);
    let line = ["check", "--output", "json", "--listen", "127.0.0.1:0", "-c"];
    assert_eq!(run(&line).code, Some(2), "-c is not an option of check");
    let said = run(&line[..5]);
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &report["valid"]), (Some(0), &true.into()));
    assert_eq!(report["settings"]["listen"][0], "127.0.0.1:0");
}

#[test]
fn a_file_that_cannot_be_read_is_one_sentence() {
    let expected = "tidegate: cannot read nowhere.toml: No such file or directory (os error 2)\n";
    for args in [["check", "nowhere.toml"], ["-c", "nowhere.toml"]] {
        let said = run(&args);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{args:?}");
        assert_eq!(said.err, expected);
    }
}

#[test]
fn a_taken_port_is_one_sentence() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let said = run(&["--listen", &address]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    let expected =
        format!("tidegate: cannot listen on {address}: the port is taken by another process\n");
    assert_eq!(said.err, expected);
    let said = run(&["check", "--listen", &address]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("cannot be listened on"), "{}", said.out);
}

#[test]
fn a_filter_nobody_understands_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut command = command(&home, &["--listen", "127.0.0.1:0"]);
    let said = say(&home, command.env("TIDEGATE_LOG", "server=loud"));
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.starts_with("tidegate: TIDEGATE_LOG: "),
        "{}",
        said.err
    );
}

#[test]
fn logs_say_where_they_looked() {
    let said = run(&["logs", "query"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    insta::assert_snapshot!(said.err);
}

#[test]
fn doctor_reports_to_people_and_programs() {
    let said = run(&["doctor"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(
        said.out.contains("io_uring") && said.out.contains("open files"),
        "{}",
        said.out
    );
    let said = run(&["doctor", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["can_run"], true);
    assert!(report["findings"].as_array().unwrap().len() > 8);
}

/// A server that is ended when the test is.
struct Running {
    child: Child,
    /// Its stderr, a line at a time.
    lines: BufReader<std::process::ChildStderr>,
    address: SocketAddr,
    intro: String,
}

impl Running {
    fn start(home: &TempDir, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(home, args);
        command.args(["--listen", "127.0.0.1:0", "--data-dir", "data"]);
        command.envs(variables.iter().copied());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut intro = String::new();
        let address = loop {
            let start = intro.len();
            assert!(
                lines.read_line(&mut intro).unwrap() > 0,
                "it ended: {intro}"
            );
            if let Some((_, address)) = intro[start..].split_once("http://") {
                break address.trim().parse().unwrap();
            }
        };
        while !intro.ends_with("\n\n") {
            assert!(
                lines.read_line(&mut intro).unwrap() > 0,
                "it ended: {intro}"
            );
        }
        Self {
            child,
            lines,
            address,
            intro,
        }
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Waits for its end: exit code, and what it said after its introduction.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }

    /// Closes the other end of its stderr.
    fn stop_reading(&mut self) {
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()).unwrap();
        self.lines = BufReader::new(null.into());
    }

    /// Reads lines until one has `text` in it.
    fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(
                self.lines.read_line(&mut line).unwrap() > 0,
                "it ended without {text}"
            );
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request whose answer is a quarter of its body: the server waits for the rest.
fn half_a_request(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    let head = "POST /v1/a/default/openai/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    socket.write_all(head.as_bytes()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The head is with the server once a health check behind it on another connection is answered.
    let mut other = TcpStream::connect(address).unwrap();
    other
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    other
        .write_all(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 "));
    socket
}

#[test]
fn a_server_introduces_itself_and_ends_cleanly() {
    let home = tempfile::tempdir().unwrap();
    let variables = [("OPENAI_API_KEY", "sk-never-shown")];
    let running = Running::start(&home, &[], &variables);
    let port = running.address.port().to_string();
    let intro = running.intro.replace(&port, "PORT");
    assert!(intro.contains("openai (env:OPENAI_API_KEY)"), "{intro}");
    assert!(!intro.contains("sk-never-shown"), "{intro}");
    assert!(
        intro.contains("http://127.0.0.1:PORT/v1/ACCOUNT/default/PROVIDER"),
        "{intro}"
    );
    running.signal(Signal::TERM);
    let (code, rest) = running.end();
    assert_eq!(code, Some(0), "{rest}");
}

#[test]
fn a_second_server_is_told_who_has_the_folder() {
    let home = tempfile::tempdir().unwrap();
    let running = Running::start(&home, &["serve"], &[]);
    let args = ["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"];
    let said = say(&home, &mut command(&home, &args));
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    let id = running.child.id();
    let expected = format!(
        "tidegate: another tidegate (process {id}) already uses the data folder data; give this one \
         its own `data_dir`\n"
    );
    assert_eq!(said.err, expected);
    running.signal(Signal::INT);
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn a_second_signal_does_not_wait_for_what_is_in_flight() {
    let home = tempfile::tempdir().unwrap();
    let mut running = Running::start(&home, &[], &[]);
    let _request = half_a_request(running.address);
    running.signal(Signal::TERM);
    running.wait_for("draining");
    running.signal(Signal::TERM);
    let (code, rest) = running.end();
    assert_eq!(code, Some(1), "{rest}");
    assert!(rest.contains("a second signal"), "{rest}");
}

#[test]
fn a_drain_ends_with_its_timeout() {
    let home = tempfile::tempdir().unwrap();
    // One shard: what it answered later came after what it was sent before.
    let text = "shards = 1\n[limits]\ndrain_timeout = \"200ms\"\n";
    fs::write(home.path().join("tidegate.toml"), text).unwrap();
    let running = Running::start(&home, &[], &[]);
    let _request = half_a_request(running.address);
    running.signal(Signal::TERM);
    let (code, rest) = running.end();
    assert_eq!(code, Some(1), "{rest}");
    assert!(rest.contains("drain timeout"), "{rest}");
}

#[test]
fn a_delayed_drain_still_accepts() {
    let home = tempfile::tempdir().unwrap();
    let text = "shards = 1\n[limits]\ndrain_delay = \"300s\"\n";
    fs::write(home.path().join("tidegate.toml"), text).unwrap();
    let mut running = Running::start(&home, &[], &[]);
    running.signal(Signal::TERM);
    running.wait_for("draining");
    drop(half_a_request(running.address));
    // Ctrl-C by hand is the second signal.
    running.signal(Signal::INT);
    assert_eq!(running.end().0, Some(1));
}

#[test]
fn it_obeys_signals_although_nobody_reads_what_it_says() {
    let home = tempfile::tempdir().unwrap();
    let mut running = Running::start(&home, &[], &[]);
    running.stop_reading();
    // Each has something to say.
    running.signal(Signal::HUP);
    running.signal(Signal::HUP);
    running.signal(Signal::TERM);
    let (ended, end) = mpsc::channel();
    let code = thread::scope(|scope| {
        let child = &mut running.child;
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        scope.spawn(move || ended.send(child.wait().unwrap().code()).unwrap());
        let code = end.recv_timeout(Duration::from_secs(20));
        if code.is_err() {
            kill_process(id, Signal::KILL).unwrap();
        }
        code
    });
    assert_eq!(code, Ok(Some(0)));
}

#[test]
fn hang_up_without_a_file_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut running = Running::start(&home, &[], &[]);
    running.signal(Signal::HUP);
    running.wait_for("there is no configuration file to read again");
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn the_service_manager_is_told() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "100000"),
    ];
    let running = Running::start(&home, &[], &variables);
    let receive = || {
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    assert_eq!(receive(), "READY=1");
    for _ in 0..3 {
        assert_eq!(receive(), "WATCHDOG=1");
    }
    running.signal(Signal::TERM);
    while receive() != "STOPPING=1" {}
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn diagnostics_for_machines_hold_no_token() {
    let home = tempfile::tempdir().unwrap();
    let mut command = command(&home, &["--listen", "127.0.0.1:0"]);
    command
        .env("TIDEGATE_LOG_FORMAT", "json")
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["fields"]["message"], "serving");
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    lines.read_to_string(&mut line).unwrap();
    assert!(child.wait().unwrap().success());
    let token = fs::read_to_string(home.path().join(".local/state/tidegate/api-token"));
    if let Ok(token) = token {
        assert!(!line.contains(token.trim()), "{line}");
    }
}

#[test]
fn the_demo_shows_a_record_for_each_of_its_requests() {
    let home = tempfile::tempdir().unwrap();
    let said = say(
        &home,
        &mut command(&home, &["demo", "--once", "--listen", "127.0.0.1:0"]),
    );
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    let (_, table) = said.out.split_once("TIME ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("20")).count();
    assert!(
        table.ends_with(&format!("\n{rows} requests, {rows} records\n")),
        "{table}"
    );
    for text in [
        "claude-sonnet-4-5",
        "google-ai-studio",
        "custom-demo",
        " 429 ",
        " 500 ",
        "cancelled",
    ] {
        assert!(table.contains(text), "{text} in {table}");
    }
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_demo_ends_by_a_signal_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut command = command(&home, &["demo", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("gemini") {
        assert!(lines.read_line(&mut text).unwrap() > 0, "it ended: {text}");
    }
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(id, Signal::INT).unwrap();
    lines.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    assert!(
        text.ends_with("The demo is over; its records are gone.\n"),
        "{text}"
    );
    assert!(fs::read_dir(home.path()).unwrap().next().is_none());
}

#[test]
fn the_demo_stays_on_this_machine() {
    let said = run(&["demo", "--listen", "0.0.0.0:0"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    assert!(said.err.contains("without a token"), "{}", said.err);
}
