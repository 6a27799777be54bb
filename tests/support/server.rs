//! The server under test: a process with a folder of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    client::{Client, Sent},
    wait::{SOON, wait_for, wait_until},
};

/// The token of the callers of gateways that ask for one; permission `run`.
pub(crate) const TOKEN: &str = "tide-caller-0123456789abcdef";

/// A valid token without the permission to run.
pub(crate) const READ_TOKEN: &str = "tide-reader-0123456789abcdef";

/// The management token.
pub(crate) const API_TOKEN: &str = "tide-manager-0123456789abcdef";

/// The stored credential of every provider that [`Setup::provider`] adds.
pub(crate) const STORED: &str = "stored-credential-0123456789";

/// Where requests of most tests go.
pub(crate) const OPEN: &str = "/v1/me/default";

/// A gateway that asks for a token.
pub(crate) const LOCKED: &str = "/v1/me/locked";

/// What a server is started with. The file has one open gateway (`default`), one that asks for a
/// token (`locked`), and the tokens above.
#[derive(Default)]
pub(crate) struct Setup {
    top: String,
    tables: String,
    gateway: String,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    listen: Option<String>,
    folder: Option<PathBuf>,
    whole_file: Option<String>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// OpenAI and Anthropic at the mock provider.
    pub(crate) fn over(mock: SocketAddr) -> Self {
        Self::new()
            .provider("openai", &format!("origin = \"http://{mock}/openai\""))
            .provider(
                "anthropic",
                &format!("origin = \"http://{mock}/anthropic\""),
            )
    }

    /// OpenAI at a scripted provider, without a path of its own.
    pub(crate) fn scripted(upstream: SocketAddr) -> Self {
        Self::new().provider("openai", &format!("base_url = \"http://{upstream}\""))
    }

    /// Settings of the gateway `default`.
    pub(crate) fn gateway(mut self, lines: &str) -> Self {
        self.gateway.push_str(lines);
        self.gateway.push('\n');
        self
    }

    /// A provider with a stored credential and these lines.
    pub(crate) fn provider(self, slug: &str, lines: &str) -> Self {
        self.tables(&format!(
            "[providers.{slug}]\nkey = \"env:STORED_CREDENTIAL\"\n{lines}\n"
        ))
    }

    /// Lines of the file before its first table.
    pub(crate) fn top(mut self, lines: &str) -> Self {
        self.top.push_str(lines);
        self.top.push('\n');
        self
    }

    /// Tables of the file.
    pub(crate) fn tables(mut self, lines: &str) -> Self {
        self.tables.push_str(lines);
        self.tables.push('\n');
        self
    }

    /// A variable of the server's environment, which has few others.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A command that starts the server, whose command line is appended.
    pub(crate) fn wrapper(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Listens here instead of on a port of the system's choice.
    pub(crate) fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// The whole file, instead of the usual gateways and tokens.
    pub(crate) fn whole_file(mut self, text: &str) -> Self {
        self.whole_file = Some(text.to_owned());
        self
    }

    /// Uses this folder, with the file and the data in it, and leaves it there.
    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_path_buf());
        self
    }

    /// Starts the server and waits until it serves.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        let (mut child, folder, own_folder) = self.spawn();
        let (serving, listening) = mpsc::channel();
        let said: Arc<Mutex<String>> = Arc::default();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let listener = {
            let said = Arc::clone(&said);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    if let Some(url) = line.trim().strip_prefix("listening") {
                        let url = url.trim();
                        let address = url
                            .strip_prefix("http://")
                            .or_else(|| url.strip_prefix("https://"));
                        // Only the first address is waited for.
                        let _ = serving.send(address.unwrap_or(url).parse().unwrap());
                    }
                    let mut said = said.lock().unwrap();
                    said.push_str(&line);
                    said.push('\n');
                }
            }
        };
        thread::spawn(listener);
        let Ok(address) = listening.recv_timeout(SOON) else {
            let _ = child.kill();
            panic!("the server does not serve:\n{}", said.lock().unwrap());
        };
        Server {
            child,
            address,
            folder,
            said,
            _own_folder: own_folder,
        }
    }

    /// Starts a server that is expected not to serve, and waits for its end.
    #[track_caller]
    pub(crate) fn fail(self) -> Output {
        let (mut child, _, _own_folder) = self.spawn();
        wait_for("the server to give up", || child.try_wait().unwrap());
        child.wait_with_output().unwrap()
    }

    fn spawn(self) -> (Child, PathBuf, Option<TempDir>) {
        let own_folder = self.folder.is_none().then(|| TempDir::new().unwrap());
        let folder = self
            .folder
            .unwrap_or_else(|| own_folder.as_ref().unwrap().path().to_path_buf());
        let listen = self.listen.as_deref().unwrap_or("127.0.0.1:0");
        let mut top = self.top;
        for (key, value) in [("data_dir", "\"data\""), ("shards", "2")] {
            if !top.lines().any(|line| line.starts_with(key)) {
                top.push_str(&format!("{key} = {value}\n"));
            }
        }
        let tables = self.tables;
        let open = "authentication = false\n";
        let standing = STANDING.replace(open, &format!("{open}{}", self.gateway));
        let file = folder.join("tidegate.toml");
        let text = self
            .whole_file
            .unwrap_or_else(|| format!("listen = \"{listen}\"\n{top}\n{standing}\n{tables}"));
        fs::write(&file, text).unwrap();
        let mut words = self.wrapper;
        words.push(binary());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["serve", "--config"])
            .arg(&file)
            .env_clear()
            .env("CALLER_TOKEN", TOKEN)
            .env("READER_TOKEN", READ_TOKEN)
            .env("TIDEGATE_API_TOKEN", API_TOKEN)
            .env("STORED_CREDENTIAL", STORED)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for name in ["PATH", "TMPDIR", "TIDEGATE_DRIVER"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.environment);
        (command.spawn().unwrap(), folder, own_folder)
    }
}

/// In every file.
const STANDING: &str = r#"
[[tokens]]
name = "app"
token = "env:CALLER_TOKEN"
permissions = ["run"]

[[tokens]]
name = "reader"
token = "env:READER_TOKEN"
permissions = ["read"]

[gateways.default]
authentication = false

[gateways.locked]
authentication = true
"#;

/// The binary under test: the one built with the tests, unless `TIDEGATE_TEST_BINARY` names
/// another build.
pub(crate) fn binary() -> String {
    std::env::var("TIDEGATE_TEST_BINARY")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_tidegate").to_owned())
}

/// A running server. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    said: Arc<Mutex<String>>,
    _own_folder: Option<TempDir>,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new connection to it.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one request on a connection of its own and reads the whole answer.
    #[track_caller]
    pub(crate) fn ask(&self, request: &[u8]) -> super::client::Answer {
        let mut client = self.connect();
        client.send(request);
        client.answer(Sent::of(request))
    }

    /// What `/metrics` says.
    #[track_caller]
    pub(crate) fn figures(&self) -> String {
        let lines = format!("Authorization: Bearer {API_TOKEN}\r\n");
        let answer = self.ask(&super::client::get("/metrics", &lines));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// Connections from downstream that are established, as the system sees it.
    pub(crate) fn connections(&self) -> usize {
        super::process::established(self.address.port())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the server to end", || child.try_wait().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// All records on disk, oldest first.
    #[track_caller]
    pub(crate) fn records(&self) -> Vec<Value> {
        records(&self.data_dir())
    }

    /// The records once there are `count`, in the order in which they began. More are an error.
    #[track_caller]
    pub(crate) fn records_once(&self, count: usize) -> Vec<Value> {
        let mut found = Vec::new();
        wait_until("records", || {
            found = self.records();
            found.len() >= count
        });
        assert_eq!(found.len(), count, "{found:#?}");
        // The log has them as they ended, and those of two shards as they were written.
        found.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
        found
    }
}

/// All records in a data folder, oldest first, as `logs export` prints them.
#[track_caller]
pub(crate) fn records(data_dir: &Path) -> Vec<Value> {
    let output = Command::new(binary())
        .args(["logs", "export", "--output", "ndjson", "--data-dir"])
        .arg(data_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// One body of a record, as it is stored.
#[track_caller]
pub(crate) fn stored_body(data_dir: &Path, id: &str, which: &str) -> Output {
    Command::new(binary())
        .args(["logs", "show", id, "--body", which, "--data-dir"])
        .arg(data_dir)
        .output()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- the server said:\n{}----", self.said());
        }
    }
}
