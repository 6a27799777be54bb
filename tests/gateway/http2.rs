//! Providers that speak HTTP/2: callers notice nothing of it, and one exchange nothing of another.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tempfile::TempDir;

use crate::{
    hangup::fill,
    support::{
        client::{Sent, chat, chat_stream, post},
        http2::{self, CANCEL, Event, Http2, INTERNAL_ERROR},
        process::{forget_resident_bytes_max, resident_bytes, resident_bytes_max},
        server::{OPEN, Server, Setup},
        upstream::Upstream,
        wait::{wait_until, wait_until_calm},
    },
    tls::certificate,
};

fn chat_path() -> String {
    format!("{OPEN}/openai/chat/completions")
}

/// A server of one shard whose provider speaks HTTP/2 and follows the script on each connection.
fn serve(script: impl Fn(&mut Http2) + Send + Sync + 'static) -> (Upstream, Server, TempDir) {
    let folder = TempDir::new().unwrap();
    let certificate = certificate();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, certificate.cert.pem()).unwrap();
    let upstream = http2::start(&certificate, script);
    let lines = format!(
        "base_url = \"https://localhost:{}\"\nhttp2 = \"alpn\"",
        upstream.address.port()
    );
    let server = Setup::new()
        .provider("openai", &lines)
        .top("shards = 1")
        .tables("[limits]\ngather_bytes = \"64KiB\"")
        .env("SSL_CERT_FILE", roots.to_str().unwrap())
        .start();
    (upstream, server, folder)
}

const USAGE: &str =
    r#"{"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7}}"#;

#[test]
fn json_passes_and_is_metered() {
    let (upstream, server, _folder) = serve(|peer| {
        while let Some((stream, _)) = peer.request() {
            peer.answer(stream, USAGE.as_bytes());
        }
    });
    for _ in 0..3 {
        let answer = server.ask(&post(&chat_path(), &chat("")));
        assert_eq!((answer.status, answer.whole), (200, true));
        assert_eq!(answer.text(), USAGE);
    }
    assert_eq!(upstream.connections(), 1, "the connection is shared");
    for record in server.records_once(3) {
        assert_eq!(record["outcome"], "ok", "{record:#}");
        assert_eq!(record["tokens_in"], 11, "{record:#}");
        assert_eq!(record["tokens_out"], 7, "{record:#}");
    }
}

#[test]
fn an_event_passes_before_the_next_one_is_sent() {
    let (next, events) = mpsc::channel::<&str>();
    let events = Mutex::new(events);
    let (_upstream, server, _folder) = serve(move |peer| {
        let (stream, _) = peer.request().unwrap();
        peer.head(
            stream,
            "200",
            &[("content-type", "text/event-stream")],
            false,
        );
        for event in events.lock().unwrap().iter() {
            peer.body(stream, event.as_bytes(), false);
        }
        peer.body(stream, b"", true);
        peer.rest();
    });
    let mut client = server.connect();
    client.send(&post(&chat_path(), &chat_stream("")));
    assert_eq!(client.answer_head().status, 200);
    for event in ["data: 1\n\n", "data: 2\n", "\ndata: [DONE]\n\n"] {
        next.send(event).unwrap();
        assert_eq!(client.chunk().as_deref(), Some(event.as_bytes()));
    }
    drop(next);
    assert_eq!(client.chunk().as_deref(), Some(&b""[..]));
    let record = &server.records_once(1)[0];
    assert_eq!(record["stream"], true, "{record:#}");
}

#[test]
fn trailers_are_dropped_and_interim_answers_do_not_disturb() {
    let (_upstream, server, _folder) = serve(|peer| {
        while let Some((stream, _)) = peer.request() {
            peer.head(stream, "103", &[("link", "</x>; rel=preload")], false);
            peer.head(
                stream,
                "200",
                &[("content-type", "application/json")],
                false,
            );
            peer.body(stream, b"{}", false);
            peer.trailers(stream, &[("x-checksum", "1"), ("grpc-status", "0")]);
        }
    });
    let mut client = server.connect();
    for _ in 0..2 {
        let answer = client.ask(&post(&chat_path(), &chat("")));
        assert_eq!((answer.status, answer.whole), (200, true));
        assert_eq!(answer.text(), "{}");
        assert_eq!(answer.field("x-checksum"), None);
        assert!(client.pending().is_empty());
    }
}

#[test]
fn an_answer_that_is_reset_never_looks_whole_and_harms_no_other() {
    let (upstream, server, _folder) = serve(|peer| {
        while let Some((stream, body)) = peer.request() {
            if body.ends_with(b"cut") {
                peer.head(
                    stream,
                    "200",
                    &[("content-type", "text/event-stream")],
                    false,
                );
                peer.body(stream, b"data: 1\n\n", false);
                peer.reset(stream, INTERNAL_ERROR);
            } else {
                peer.answer(stream, b"{}");
            }
        }
    });
    for _ in 0..2 {
        let answer = server.ask(&post(&chat_path(), "cut"));
        assert_eq!((answer.status, answer.whole), (200, false));
        assert_eq!(answer.text(), "data: 1\n\n");
        assert_eq!(server.ask(&post(&chat_path(), &chat(""))).text(), "{}");
    }
    assert_eq!(upstream.connections(), 1);
    let records = server.records_once(4);
    let cut = records
        .iter()
        .filter(|record| record["outcome"] == "upstream_cut");
    assert_eq!(cut.count(), 2);
}

#[test]
fn a_request_that_a_goodbye_turned_away_goes_out_again() {
    let (upstream, server, _folder) = serve(|peer| {
        while let Some((stream, _)) = peer.request() {
            if peer.place == 0 && stream > 1 {
                peer.goodbye(1);
                return peer.rest();
            }
            peer.answer(stream, b"{}");
        }
    });
    for _ in 0..3 {
        let answer = server.ask(&post(&chat_path(), &chat("")));
        assert_eq!(
            (answer.status, answer.whole),
            (200, true),
            "{}",
            answer.text()
        );
    }
    assert_eq!(upstream.connections(), 2);
    for record in server.records_once(3) {
        assert_eq!(record["outcome"], "ok", "{record:#}");
    }
}

/// Sends on what the provider heard of streams that were given up, until the connection ends.
fn tell_resets(peer: &mut Http2, told: &Mutex<mpsc::Sender<u32>>) {
    loop {
        match peer.event() {
            Event::Reset(_, code) => told.lock().unwrap().send(code).unwrap(),
            Event::End => return,
            _ => {}
        }
    }
}

#[test]
fn a_provider_hears_of_a_caller_who_leaves() {
    let (told, resets) = mpsc::channel();
    let told = Mutex::new(told);
    let (upstream, server, _folder) = serve(move |peer| {
        peer.request().unwrap();
        let (stream, _) = peer.request().unwrap();
        peer.head(
            stream,
            "200",
            &[("content-type", "text/event-stream")],
            false,
        );
        peer.body(stream, b"data: 1\n\n", false);
        tell_resets(peer, &told);
    });
    let mut waiting = server.connect();
    waiting.send(&post(&chat_path(), &chat("")));
    wait_until("the provider to be asked", || upstream.connections() == 1);
    let mut streaming = server.connect();
    streaming.send(&post(&chat_path(), &chat_stream("")));
    assert!(streaming.answer_head().status == 200 && streaming.chunk().is_some());
    for client in [waiting, streaming] {
        drop(client);
        assert_eq!(resets.recv_timeout(Duration::from_secs(20)), Ok(CANCEL));
    }
    for record in server.records_once(2) {
        assert_eq!(record["outcome"], "cancelled", "{record:#}");
    }
}

#[test]
fn a_provider_hears_of_a_caller_whose_upload_it_does_not_read() {
    let (told, resets) = mpsc::channel();
    let told = Mutex::new(told);
    let (began, asked) = mpsc::channel();
    let began = Mutex::new(began);
    let (_upstream, server, _folder) = serve(move |peer| {
        loop {
            match peer.event() {
                Event::Request(..) => break,
                Event::End => return,
                _ => {}
            }
        }
        began.lock().unwrap().send(()).unwrap();
        tell_resets(peer, &told);
    });
    let mut client = server.connect();
    client.send(format!("POST {OPEN}/openai/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n").as_bytes());
    client.send(&vec![7; 100_000]);
    asked.recv_timeout(Duration::from_secs(20)).unwrap();
    fill(&server, &mut client);
    let left = Instant::now();
    drop(client);
    assert_eq!(resets.recv_timeout(Duration::from_secs(20)), Ok(CANCEL));
    println!("until the provider heard: {:?}", left.elapsed());
    let record = &server.records_once(1)[0];
    assert_eq!(record["outcome"], "cancelled", "{record:#}");
}

#[test]
fn callers_that_stall_starve_nobody_on_their_connection() {
    const STALLED: usize = 6;
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let (upstream, server, _folder) = serve(move |peer| {
        let piece = [7; 16 * 1024];
        let mut endless = Vec::new();
        loop {
            for &stream in &endless {
                while peer.room(stream) >= piece.len() {
                    peer.body(stream, &piece, false);
                    counted.fetch_add(piece.len() as u64, Ordering::AcqRel);
                }
            }
            match peer.event() {
                Event::Body(stream, body, true) if body == b"endless" => {
                    peer.head(stream, "200", &[("content-type", "audio/wav")], false);
                    endless.push(stream);
                }
                Event::Body(stream, _, true) => peer.answer(stream, b"{}"),
                Event::Reset(stream, _) => endless.retain(|other| *other != stream),
                Event::End => return,
                _ => {}
            }
        }
    });
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut client = server.connect();
        // A small window, so that the kernel takes little on its own.
        set_socket_recv_buffer_size(&client.stream, 64 * 1024).unwrap();
        client.send(&post(&chat_path(), "endless"));
        assert_eq!(client.answer_head().status, 200);
        stalled.push(client);
    }
    wait_until_calm(Duration::from_millis(500), || sent.load(Ordering::Acquire));
    let answer = server.ask(&post(&chat_path(), &chat("")));
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    assert_eq!(upstream.connections(), 1);
    // Who reads again gets more.
    assert_eq!(stalled[0].take(8 << 20).len(), 8 << 20);
}

#[test]
fn a_body_that_passes_through_is_whole_and_its_model_is_found() {
    let (_upstream, server, _folder) = serve(|peer| {
        while let Some((stream, body)) = peer.request() {
            peer.answer(stream, body.len().to_string().as_bytes());
        }
    });
    let body = format!(
        r#"{{"messages":["{}"],"model":"at-the-end"}}"#,
        "x".repeat(10 << 20)
    );
    let mut client = server.connect();
    client.send(&post(&chat_path(), &body));
    let answer = client.answer(Sent::Other);
    assert_eq!(answer.text(), body.len().to_string());
    let record = &server.records_once(1)[0];
    assert_eq!(record["model"], "at-the-end", "{record:#}");
}

#[test]
fn trailers_without_end_are_cut_in_little_memory() {
    let (upstream, server, _folder) = serve(|peer| {
        while let Some((stream, body)) = peer.request() {
            if body == b"endless" {
                peer.head(
                    stream,
                    "200",
                    &[("content-type", "application/json")],
                    false,
                );
                peer.body(stream, b"{}", false);
                return peer.endless_trailers(stream, ("x-more", &"y".repeat(100)));
            }
            peer.answer(stream, b"{}");
        }
    });
    for _ in 0..20 {
        server.ask(&post(&chat_path(), &chat("")));
    }
    forget_resident_bytes_max(server.pid());
    let before = resident_bytes(server.pid());
    let answer = server.ask(&post(&chat_path(), "endless"));
    assert_eq!((answer.status, answer.whole), (200, false));
    let grown = resident_bytes_max(server.pid()).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    assert_eq!(server.ask(&post(&chat_path(), &chat(""))).text(), "{}");
    assert_eq!(upstream.connections(), 2);
}
