use std::{cell::Cell, sync::Arc};

use monoio::io::{AsyncReadRentExt, AsyncWriteRentExt};

use super::*;
use crate::{
    config::Config,
    handoff::{
        log_health::LogHealth,
        log_queue::log_queue,
        mailbox::letterbox,
        mesh::{MeshEnd, mesh},
    },
    shard::{
        Parts,
        cache::{CacheParts, key::KeySecret},
        mesh::Message,
        runtime::{self, Choice},
    },
    snapshot::{KeyTable, Snapshot},
};

fn shard() -> Rc<Shard> {
    Rc::new(Shard::new(parts(0, lone_end())))
}

/// The mesh of a server with one shard.
pub(in crate::shard) fn lone_end() -> MeshEnd<Message> {
    mesh(&[Arc::new(Bell::new().unwrap())]).pop().unwrap()
}

/// What a shard is made of that nobody stands behind.
pub(in crate::shard) fn parts(number: usize, mesh: MeshEnd<Message>) -> Parts {
    let snapshot = Snapshot::compile(&Config::default(), KeyTable::new([7; 32])).unwrap();
    let (mut senders, _receiver) = log_queue(1).unwrap();
    let (resolve, _names) = letterbox().unwrap();
    let (api, _calls) = letterbox().unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let tls = Arc::new(tls);
    Parts {
        number,
        snapshot: Arc::new(snapshot),
        worn: crossbeam_channel::unbounded().0,
        seed: [1; 6],
        mesh,
        cache: CacheParts {
            share: 16 << 20,
            secret: KeySecret::derive(b"a secret of tests"),
        },
        charges: Vec::new(),
        journal: letterbox().unwrap().0,
        log: senders.pop().unwrap(),
        health: Arc::new(LogHealth::default()),
        resolve,
        api,
        tls: Arc::clone(&tls),
        tls_h2: tls,
    }
}

/// Panics when it is dropped, as well as when it is polled.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a panic on purpose, in a destructor");
    }
}

fn check(choice: Choice) {
    let (mut runtime, _, _) = runtime::build(choice).unwrap();
    runtime.block_on(async {
        let shard = shard();
        let alive = Rc::new(Cell::new(0));
        spawn(&shard, async { panic!("a panic on purpose") });
        spawn(&shard, async {
            let _bomb = Bomb;
            sleep(Duration::from_millis(1)).await;
        });
        let counted = Rc::clone(&alive);
        spawn(&shard, async move {
            for _ in 0..5 {
                sleep(Duration::from_millis(2)).await;
                counted.set(counted.get() + 1);
            }
        });
        while alive.get() < 5 {
            sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(shard.counters.borrow().plain(Plain::Panics), 2);
    });
}

#[test]
fn a_panic_ends_its_own_task_and_nothing_else() {
    check(Choice::Auto);
    check(Choice::Epoll);
}

/// Sends a byte and waits for it to come back, again and again.
async fn play(mut socket: UnixStream, serves: bool, rounds: usize) {
    for _ in 0..rounds {
        if serves {
            socket.write_all(vec![7]).await.0.unwrap();
        }
        socket.read_exact(vec![0]).await.0.unwrap();
        if !serves {
            socket.write_all(vec![7]).await.0.unwrap();
        }
    }
}

#[test]
fn a_shard_that_always_has_more_messages_still_does_its_io() {
    for choice in [Choice::Auto, Choice::Epoll] {
        let (mut runtime, _, _) = runtime::build(choice).unwrap();
        runtime.block_on(async {
            let shard = shard();
            let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
            let done = Rc::new(Cell::new(0));
            for (socket, serves) in [(one, true), (other, false)] {
                socket.set_nonblocking(true).unwrap();
                let socket = UnixStream::from_std(socket).unwrap();
                let done = Rc::clone(&done);
                spawn(&shard, async move {
                    play(socket, serves, 100).await;
                    done.set(done.get() + 1);
                });
            }
            let bell = Bell::new().unwrap();
            let stream = bell.try_clone_fd().unwrap().into();
            let stream = UnixStream::from_std(stream).unwrap();
            while done.get() < 2 {
                step_aside(&bell, &stream).await.unwrap();
            }
        });
    }
}

#[test]
fn load_is_what_was_used_of_the_time_that_passed() {
    let start = Moment::default();
    let mut watch = LoadWatch::start(start, Duration::from_secs(5));
    watch.tick(300);
    watch.tick(100);
    let second = start.after(Duration::from_secs(1));
    let used = Duration::from_millis(5_250);
    let load = watch.look(second, used);
    assert_eq!((load.busy_ppm, load.lag_micros), (250_000, 300));
    // The worst lag is kept for the rest of its term and for the next.
    for _ in 1..LOOKS_A_TERM * 2 - 1 {
        assert_eq!(watch.look(second, used).lag_micros, 300);
    }
    watch.look(second, used);
    assert_eq!(watch.look(second, used).lag_micros, 0);
}
