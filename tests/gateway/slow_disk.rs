//! A disk that does not answer: a real file system, frozen while the server runs on it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    client::{Sent, chat, get, post_with},
    server::{OPEN, Setup},
    upstream::mock,
    wait::wait_until,
};

/// A small ext4 in a file, mounted. Dropped, it is gone.
struct Disk(TempDir);

/// It does not answer until this is dropped, which must come before the end of whoever waits for it.
struct Frozen(PathBuf);

impl Disk {
    /// `None` where this process may not mount one, or has not the tools.
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let (image, point) = (folder.path().join("image"), folder.path().join("disk"));
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(256 << 20).unwrap();
        std::fs::create_dir(&point).unwrap();
        let made = run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &image]);
        let mounted = made && run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &point]);
        let disk = mounted.then_some(Self(folder))?;
        // Frozen once for nothing, to see whether it may be.
        drop(disk.freeze()?);
        Some(disk)
    }

    fn point(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    fn freeze(&self) -> Option<Frozen> {
        let frozen = run("fsfreeze", &["--freeze".as_ref(), &self.point()]);
        frozen.then(|| Frozen(self.point()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Gone when the last one who has a file there has ended.
        run("umount", &["--lazy".as_ref(), &self.point()]);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        run("fsfreeze", &["--unfreeze".as_ref(), &self.0]);
    }
}

fn run(program: &str, words: &[&Path]) -> bool {
    let output = Command::new(program).args(words).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn a_disk_that_hangs_degrades_the_log_and_no_request() {
    let Some(disk) = Disk::mount() else {
        eprintln!("no disk to freeze here; one that hangs is only played");
        return;
    };
    let mock = mock();
    let mut server = Setup::over(mock.addr())
        .top("shards = 1")
        .folder(&disk.point())
        .start();
    // Long paths fill the queue by their bytes.
    let path = format!("{OPEN}/openai/chat/completions?q={}", "x".repeat(30 << 10));
    let request = post_with(
        &path,
        "cf-aig-collect-log-payload: false\r\n",
        chat("").as_bytes(),
    );
    let mut client = server.connect();
    let mut call = || {
        client.send(&request);
        let answer = client.answer(Sent::of(&request));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    call();
    let frozen = disk.freeze().unwrap();
    let mut called = 1;
    wait_until("dropped records", || {
        for _ in 0..50 {
            call();
        }
        called += 50;
        figure(&server.figures(), "dropped") > 0
    });
    let mut degraded = Value::Null;
    wait_until("the log to be degraded", || {
        let answer = server.ask(&get("/readyz", ""));
        assert_eq!(answer.status, 200, "requests are served");
        degraded = answer.json()["degraded"].take();
        degraded[0]["component"] == "log"
    });
    let message = degraded[0]["message"].as_str().unwrap();
    let begin = "cannot write records: the disk has not answered for ";
    assert!(message.starts_with(begin), "{message}");

    drop(frozen);
    wait_until("the log", || {
        let answer = server.ask(&get("/readyz", "")).json();
        answer["degraded"].as_array().unwrap().is_empty()
    });
    call();
    called += 1;
    wait_until("every record to be written or dropped", || {
        let figures = server.figures();
        figure(&figures, "written") + figure(&figures, "dropped") == called
    });
    let figures = server.figures();
    assert_eq!(figure(&figures, "lost"), 0);
    server.signal(Signal::TERM);
    server.wait();
    let kept = server.records().len() as u64;
    assert_eq!(kept, figure(&figures, "written"));
}

/// How many records came to that end.
fn figure(figures: &str, end: &str) -> u64 {
    let line = figures
        .lines()
        .find(|line| line.starts_with("tidegate_log_records_total{") && line.contains(end));
    let number = line.and_then(|line| line.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
