//! How long records stay, changed while the server runs.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::{
    control::logs::{
        frame::{self, FrameBuffer, Kind},
        segment::{Appender, LogDir, write_at},
        snapshot::LogReader,
    },
    domain::{
        id::RequestIds,
        record::{Record, TEXTS, Text, Texts},
    },
};

use super::management::{GATEWAYS, Manager, gateway};
use crate::support::{
    client::{chat, post_with},
    server::{Server, Setup},
    upstream::mock,
    wait::wait_until,
};

const DAY_MICROS: u64 = 86_400_000_000;

fn now_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap().as_micros()).unwrap()
}

/// Journal `number` of a server that ran earlier: `count` records of a gateway, made so many days
/// ago.
fn journal(folder: &Path, number: u64, gateway: &str, count: u64, days: u64) {
    let log = LogDir::of(&folder.join("data"));
    let at = now_micros() - days * DAY_MICROS;
    let mut ids = RequestIds::new([7; 6]);
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Gateway as usize] = gateway.as_bytes();
    let records: Vec<_> = (0..count)
        .map(|n| {
            Box::new(Record {
                id: ids.next((at + n) / 1_000).0,
                at_micros: at + n,
                status: 200,
                texts: Texts::pack(&texts),
                ..Record::default()
            })
        })
        .collect();
    let mut appender = Appender::create(&log.journal(number), Kind::Rows, at, write_at()).unwrap();
    for batch in records.chunks(4_096) {
        let (mut buffer, header) = frame::encode_rows(batch, FrameBuffer::new()).unwrap();
        appender.append(&mut buffer, header).unwrap();
    }
}

/// Records of a gateway: those that are served, and those of all gateways that only count.
fn kept(server: &Server, gateway: &str) -> (usize, usize) {
    let log = LogDir::of(&server.data_dir());
    let snapshot = LogReader::new(log).snapshot().unwrap();
    let (mut served, mut counted) = (0, 0);
    for at in snapshot.blocks() {
        let open = at.open().unwrap();
        let block = open.block().unwrap();
        let mask = snapshot.visible(&block).unwrap();
        let gateways = block.texts(Text::Gateway).unwrap();
        counted += block.zone().unlogged as usize;
        served += (0..block.rows())
            .filter(|row| {
                let is_visible = |mask: &Vec<u64>| mask[row / 64] >> (row % 64) & 1 == 1;
                mask.as_ref().is_none_or(is_visible) && gateways.get(*row) == gateway.as_bytes()
            })
            .count();
    }
    (served, counted)
}

/// Changes the file, and has the server read it.
fn reload(server: &Server, from: &str, to: &str) {
    let file = server.folder().join("tidegate.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
    server.signal(Signal::HUP);
}

#[test]
fn a_shorter_retention_takes_effect_with_a_reload() {
    let folder = TempDir::new().unwrap();
    for (number, days) in [(1, 90), (2, 40), (3, 1)] {
        journal(folder.path(), number, "default", 10, days);
    }
    let server = Setup::new().folder(folder.path()).start();
    assert_eq!(kept(&server, "default").0, 30, "for ever, by default");
    reload(&server, "data_dir", "log_retention = \"60d\"\ndata_dir");
    wait_until("the oldest to go", || kept(&server, "default").0 == 20);
    reload(&server, "\"60d\"", "\"30d\"");
    wait_until("the next to go", || kept(&server, "default").0 == 10);
    // The files that are left are longer than this.
    reload(&server, "data_dir", "log_bytes_max = \"1KiB\"\ndata_dir");
    wait_until("all to go", || kept(&server, "default").0 == 0);
    assert!(!server.said().contains("restart"), "{}", server.said());
}

#[test]
fn a_gateways_limit_takes_effect_when_it_is_set() {
    const LIMIT: usize = 10_000;
    let mock = mock();
    let folder = TempDir::new().unwrap();
    journal(folder.path(), 1, "mine", LIMIT as u64, 1);
    journal(folder.path(), 2, "default", LIMIT as u64 + 5, 1);
    let server = Setup::over(mock.addr()).folder(folder.path()).start();
    let mut manager = Manager::of(&server);
    let call = |id: &str| {
        let path = format!("/v1/me/{id}/openai/chat/completions");
        let answer = server.ask(&post_with(&path, "", chat("").as_bytes()));
        assert_eq!(answer.status, 200);
    };

    // By the management API: a full gateway takes no more.
    let open = json!({"authentication": false});
    manager.result("POST", GATEWAYS, Some(&gateway("mine", &open)));
    call("mine");
    wait_until("the record", || kept(&server, "mine").0 == LIMIT + 1);
    let full = json!({"log_management": LIMIT, "log_management_strategy": "STOP_INSERTING"});
    let mine = format!("{GATEWAYS}/mine");
    manager.result("PUT", &mine, Some(&full));
    wait_until("the limit", || {
        call("mine");
        kept(&server, "mine").1 > 0
    });
    let (served, _) = kept(&server, "mine");
    for _ in 0..3 {
        call("mine");
    }
    wait_until("the records", || kept(&server, "mine").1 >= 4);
    assert_eq!(kept(&server, "mine").0, served, "none is kept");
    manager.result("PUT", &mine, Some(&json!({"log_management": Value::Null})));
    call("mine");
    wait_until("the record", || kept(&server, "mine").0 == served + 1);

    // By the file: the oldest make room.
    assert_eq!(kept(&server, "default").0, LIMIT + 5);
    let table = "[gateways.default]\n";
    let limit = format!("{table}log_management = {LIMIT}\n");
    reload(&server, table, &limit);
    wait_until("the oldest to go", || kept(&server, "default").0 <= LIMIT);
    assert!(kept(&server, "default").0 >= LIMIT - 10, "and no more");
}
