//! A provider that speaks HTTP/2 over TLS, the gateway and callers, all on one runtime.
#![expect(
    clippy::disallowed_methods,
    reason = "the provider and the callers have no shard whose clock they could ask"
)]

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use monoio::{
    io::{AsyncReadRent, AsyncWriteRentExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use monoio_http::h2::server::{self, SendResponse};
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer};

use super::{
    pipe::{Outbox, Pipe},
    *,
};
use crate::{
    config::{self, Flags, Sources},
    handoff::{counters::Plain, log_health::LogHealth, log_queue::log_queue, mailbox::letterbox},
    shard::{
        Parts, accept,
        connection::{Door, serve},
        runtime::{self, Choice},
        stream::Stream,
        tls,
    },
    snapshot::{KeyTable, Snapshot},
};

const EVENTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(40);
const BIG_BYTES: usize = 24 * 1024 * 1024;

/// What the provider saw.
#[derive(Default)]
struct Seen {
    connections: Cell<usize>,
    streams: Cell<usize>,
    resets: RefCell<Vec<(Reason, Instant)>>,
    sent: Cell<usize>,
    refused: Cell<bool>,
    heads: RefCell<Vec<Request<()>>>,
}

struct World {
    shard: Rc<Shard>,
    gateway: SocketAddr,
    seen: Rc<Seen>,
}

/// Runs `test` in a world with one provider, which offers `alpn` and so many streams at once.
fn world<F: Future<Output = ()>>(alpn: &[&[u8]], streams: u32, test: impl FnOnce(World) -> F) {
    let (mut runtime, _, _) = runtime::build(Choice::Auto).unwrap();
    runtime.block_on(async {
        let (server, client) = certificates(alpn);
        let seen = Rc::new(Seen::default());
        let provider = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = provider.local_addr().unwrap().port();
        monoio::spawn(be_provider(provider, server, streams, Rc::clone(&seen)));

        let shard = Rc::new(Shard::new(parts(port, client)));
        let ticking = Rc::clone(&shard);
        monoio::spawn(async move {
            loop {
                sleep(Duration::from_millis(20)).await;
                ticking.deadlines.tick(ticking.clock.now());
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = listener.local_addr().unwrap();
        let serving = Rc::clone(&shard);
        monoio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let door = Door {
                    loopback: true,
                    admin: false,
                };
                monoio::spawn(serve(
                    Rc::clone(&serving),
                    Stream::plain(socket, &serving.outbox),
                    door,
                ));
            }
        });
        let world = World {
            shard,
            gateway,
            seen,
        };
        timeout(Duration::from_secs(30), test(world))
            .await
            .expect("the test hangs");
    });
}

fn certificates(alpn: &[&[u8]]) -> (ServerConfig, ClientConfig) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, client)
}

fn parts(port: u16, client: ClientConfig) -> Parts {
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\n[providers.openai]\norigin = \"https://127.0.0.1:{port}\"\nhttp2 = \"alpn\"\n\
         first_byte_timeout = \"400ms\"\nidle_timeout = \"3s\"\n"
    );
    let flags = Flags::default();
    let sources = Sources {
        env: &|_| None,
        read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        known_provider: &|slug| slug == "openai",
        picked_up_keys: &[],
        flags: &flags,
    };
    let loaded = config::load(&text, "test.toml", Path::new("/"), &sources).unwrap();
    let snapshot = Snapshot::compile(&loaded.config, KeyTable::new([7; 32])).unwrap();
    let (mut senders, receiver) = log_queue(1).unwrap();
    // Nobody reads the log; what does not fit is dropped and counted.
    std::mem::forget(receiver);
    let (worn, _) = crossbeam_channel::unbounded();
    let (resolve, names) = letterbox().unwrap();
    let (api, calls) = letterbox().unwrap();
    std::mem::forget((names, calls));
    let mut h2 = client.clone();
    h2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Parts {
        snapshot: Arc::new(snapshot),
        worn,
        log: senders.pop().unwrap(),
        health: Arc::new(LogHealth::default()),
        resolve,
        api,
        tls: Arc::new(client),
        tls_h2: Arc::new(h2),
        ..accept::tests::parts(0, accept::tests::lone_end())
    }
}

async fn be_provider(listener: TcpListener, config: ServerConfig, streams: u32, seen: Rc<Seen>) {
    let config = Arc::new(config);
    while let Ok((socket, _)) = listener.accept().await {
        seen.connections.set(seen.connections.get() + 1);
        let stream = tls::accept(Stream::plain(socket, &Rc::default()), Arc::clone(&config))
            .await
            .unwrap();
        if config.alpn_protocols.iter().any(|name| name == b"h2") {
            monoio::spawn(speak_h2(stream, streams, Rc::clone(&seen)));
        } else {
            monoio::spawn(speak_h1(stream));
        }
    }
}

async fn speak_h1(mut stream: Stream) {
    let (_, request) = stream.reader.read(Vec::with_capacity(4096)).await;
    assert!(request.starts_with(b"POST /v1/json HTTP/1.1\r\n"));
    let _ = stream
        .writer
        .send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        .await;
    sleep(Duration::from_secs(5)).await;
}

async fn speak_h2(stream: Stream, streams: u32, seen: Rc<Seen>) {
    let outbox = Rc::new(Outbox::default());
    let sending = Rc::clone(&outbox);
    let mut writer = stream.writer;
    let pipe = Pipe::new(stream.reader, Rc::default(), usize::MAX, outbox);
    let work = async {
        let mut connection = server::Builder::new()
            .max_concurrent_streams(streams)
            .handshake::<_, Bytes>(pipe)
            .await
            .unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            if request.uri().path() == "/v1/goaway" {
                connection.graceful_shutdown();
            }
            if request.uri().path() == "/v1/mute" {
                // Open, and nobody home: not even a ping is answered.
                std::future::pending::<()>().await;
            }
            if request.uri().path() == "/v1/die" {
                return;
            }
            seen.streams.set(seen.streams.get() + 1);
            monoio::spawn(answer(request, respond, Rc::clone(&seen)));
        }
    };
    let mut work = Box::pin(work);
    let mut send = Box::pin(sending.send_all(&mut writer));
    poll_fn(|cx| {
        loop {
            if work.as_mut().poll(cx).is_ready() {
                let _ = send.as_mut().poll(cx);
                return Poll::Ready(());
            }
            let _ = send.as_mut().poll(cx);
            if !sending.has_made_room() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

async fn answer(
    request: Request<monoio_http::h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: Rc<Seen>,
) {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    seen.heads.borrow_mut().push(Request::from_parts(parts, ()));
    match path.as_str() {
        "/v1/json" | "/v1/goaway" => {
            let head = plain(200)
                .header("content-length", "13")
                .header("x-request-id", "r-7")
                .header("cf-aig-log-id", "forged");
            let mut send = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            send.send_data(Bytes::from_static(b"{\"answer\": 1}"), true)
                .unwrap();
        }
        "/v1/refuse" if !seen.refused.replace(true) => respond.send_reset(Reason::REFUSED_STREAM),
        "/v1/refuse" | "/v1/empty" => {
            drop(respond.send_response(plain(200).body(()).unwrap(), true));
        }
        "/v1/stream" => {
            let head = Response::builder()
                .status(200)
                .header("content-type", "text/event-stream");
            let mut send = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            for event in 0..EVENTS {
                send.send_data(Bytes::from(format!("data: {event}\n\n")), false)
                    .unwrap();
                sleep(PAUSE).await;
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-trailer", "1".parse().unwrap());
            send.send_trailers(trailers).unwrap();
        }
        "/v1/cut" | "/v1/cut-length" => {
            let head = if path == "/v1/cut" {
                plain(200)
            } else {
                plain(200).header("content-length", "10")
            };
            let mut send = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            send.send_data(Bytes::from_static(b"12345"), false).unwrap();
            sleep(PAUSE).await;
            send.send_reset(Reason::INTERNAL_ERROR);
        }
        "/v1/short" | "/v1/long" => {
            let length = if path == "/v1/short" { "10" } else { "3" };
            let head = plain(200).header("content-length", length);
            let mut send = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            sleep(PAUSE).await;
            send.send_data(Bytes::from_static(b"12345"), true).unwrap();
        }
        "/v1/hang" => {
            let reason = poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
            seen.resets.borrow_mut().push((reason, Instant::now()));
        }
        "/v1/hang-later" => {
            let mut send = respond
                .send_response(plain(200).body(()).unwrap(), false)
                .unwrap();
            send.send_data(Bytes::from_static(b"begun"), false).unwrap();
            if let Ok(reason) = poll_fn(|cx| send.poll_reset(cx)).await {
                seen.resets.borrow_mut().push((reason, Instant::now()));
            }
        }
        _ => answer_body(&path, body, respond, &seen).await,
    }
}

fn plain(status: u16) -> http::response::Builder {
    Response::builder()
        .status(status)
        .header("content-type", "text/plain")
}

/// Answers that have to do with large bodies.
async fn answer_body(
    path: &str,
    mut body: monoio_http::h2::RecvStream,
    mut respond: SendResponse<Bytes>,
    seen: &Seen,
) {
    match path {
        "/v1/early" => {
            let head = plain(413).header("content-length", "0");
            drop(respond.send_response(head.body(()).unwrap(), true));
            sleep(PAUSE).await;
        }
        "/v1/echo" => {
            let mut bytes = 0;
            while let Some(Ok(piece)) = body.data().await {
                bytes += piece.len();
                let _ = body.flow_control().release_capacity(piece.len());
            }
            let text = bytes.to_string();
            let mut send = respond
                .send_response(plain(200).body(()).unwrap(), false)
                .unwrap();
            send.send_data(text.into(), true).unwrap();
        }
        "/v1/big" => {
            let mut send = respond
                .send_response(plain(200).body(()).unwrap(), false)
                .unwrap();
            while seen.sent.get() < BIG_BYTES {
                let want = (BIG_BYTES - seen.sent.get()).min(64 * 1024);
                send.reserve_capacity(want);
                while send.capacity() == 0 {
                    if poll_fn(|cx| send.poll_capacity(cx)).await.is_none() {
                        return;
                    }
                }
                let room = send.capacity().min(want);
                seen.sent.set(seen.sent.get() + room);
                send.send_data(Bytes::from(vec![b'x'; room]), seen.sent.get() == BIG_BYTES)
                    .unwrap();
            }
        }
        other => panic!("{other}"),
    }
}

async fn call(world: &World, head: &str, body: &[u8]) -> TcpStream {
    let mut caller = TcpStream::connect(world.gateway).await.unwrap();
    let mut request = head.replace('\n', "\r\n").into_bytes();
    request.extend_from_slice(body);
    caller.write_all(request).await.0.unwrap();
    caller
}

async fn ask(world: &World, path: &str) -> TcpStream {
    let head = format!(
        "POST /v1/acc/default/openai/{path} HTTP/1.1\nHost: 127.0.0.1\nConnection: close\nAuthorization: Bearer k\nContent-Length: 2\n\n"
    );
    call(world, &head, b"{}").await
}

/// Everything up to the connection's end; `Err`: it was reset.
async fn read_all(mut caller: TcpStream) -> std::io::Result<String> {
    let mut all = Vec::new();
    loop {
        let (result, part) = caller.read(Vec::with_capacity(64 * 1024)).await;
        if result? == 0 {
            return Ok(String::from_utf8_lossy(&all).into_owned());
        }
        all.extend_from_slice(&part);
    }
}

async fn get(world: &World, path: &str) -> String {
    read_all(ask(world, path).await).await.unwrap()
}

fn counted(world: &World, plain: Plain) -> u64 {
    world.shard.counters.borrow().plain(plain)
}

const H2: &[&[u8]] = &[b"h2", b"http/1.1"];

#[test]
fn an_answer_with_a_length_arrives_as_http_1() {
    world(H2, 100, async |world| {
        let answer = get(&world, "json").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n{\"answer\": 1}"), "{answer}");
        assert!(answer.contains("\r\ncontent-length: 13\r\n"), "{answer}");
        assert!(answer.contains("\r\nx-request-id: r-7\r\n"), "{answer}");
        assert!(!answer.contains("forged"), "{answer}");
        let heads = world.seen.heads.borrow();
        let fields = heads[0].headers();
        assert_eq!(heads[0].uri().path(), "/v1/json");
        assert_eq!(fields["authorization"], "Bearer k");
        assert_eq!(fields["content-length"], "2");
        assert!(!fields.contains_key("connection") && !fields.contains_key("host"));
        assert_eq!(heads[0].uri().authority().unwrap().host(), "127.0.0.1");
    });
}

#[test]
fn many_exchanges_share_one_connection() {
    world(H2, 100, async |world| {
        let callers: Vec<_> = (0..20).map(|_| get(&world, "json")).collect();
        for answer in join(callers).await {
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        assert_eq!(world.seen.connections.get(), 1);
        assert_eq!(world.seen.streams.get(), 20);
        assert_eq!(counted(&world, Plain::UpstreamConnects), 1);
        assert_eq!(counted(&world, Plain::UpstreamReuses), 19);
    });
}

#[test]
fn a_full_connection_gets_a_second_one_beside_it() {
    world(H2, 2, async |world| {
        get(&world, "json").await;
        let callers: Vec<_> = (0..6).map(|_| get(&world, "stream")).collect();
        for answer in join(callers).await {
            assert!(answer.ends_with("data: 4\n\n\r\n0\r\n\r\n"), "{answer}");
        }
        assert!(
            (2..=4).contains(&world.seen.connections.get()),
            "{}",
            world.seen.connections.get()
        );
    });
}

#[test]
fn each_event_of_a_stream_goes_out_when_it_comes() {
    world(H2, 100, async |world| {
        let started = Instant::now();
        let mut caller = ask(&world, "stream").await;
        let mut times = Vec::new();
        let mut all = Vec::new();
        loop {
            let (result, part) = caller.read(Vec::with_capacity(4096)).await;
            if result.unwrap() == 0 {
                break;
            }
            times.push(started.elapsed());
            all.extend_from_slice(&part);
        }
        let all = String::from_utf8(all).unwrap();
        assert!(all.contains("transfer-encoding: chunked"), "{all}");
        assert!(all.contains("\r\n9\r\ndata: 0\n\n\r\n"), "{all}");
        assert!(all.ends_with("9\r\ndata: 4\n\n\r\n0\r\n\r\n"), "{all}");
        assert!(!all.contains("x-trailer"), "trailers are dropped: {all}");
        // Head and first event come together, the others one by one.
        assert!(times.len() >= EVENTS, "{times:?}");
        assert!(times[0] + PAUSE * 3 < *times.last().unwrap(), "{times:?}");
    });
}

#[test]
fn a_caller_of_http_1_0_reads_to_the_end_of_the_connection() {
    world(H2, 100, async |world| {
        let head = "POST /v1/acc/default/openai/stream HTTP/1.0\nHost: 127.0.0.1\nAuthorization: Bearer k\nContent-Length: 2\n\n";
        let answer = read_all(call(&world, head, b"{}").await).await.unwrap();
        assert!(!answer.contains("chunked"), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\ndata: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n"),
            "{answer}"
        );
    });
}

#[test]
fn a_cut_answer_never_looks_whole() {
    world(H2, 100, async |world| {
        let answer = get(&world, "cut").await;
        assert!(answer.ends_with("5\r\n12345\r\n"), "{answer}");
        let answer = get(&world, "cut-length").await;
        assert!(
            answer.contains("content-length: 10") && answer.ends_with("\r\n\r\n12345"),
            "{answer}"
        );
        let head = "POST /v1/acc/default/openai/cut HTTP/1.0\nHost: 127.0.0.1\nAuthorization: Bearer k\nContent-Length: 2\n\n";
        let answer = read_all(call(&world, head, b"{}").await).await;
        assert!(
            answer.is_err(),
            "a caller that reads to the end is reset: {answer:?}"
        );
        // One stream's failure leaves the connection alone.
        assert_eq!(world.seen.connections.get(), 1);
    });
}

#[test]
fn a_length_that_disagrees_with_the_data_is_a_cut() {
    world(H2, 100, async |world| {
        for path in ["short", "long"] {
            let answer = get(&world, path).await;
            assert!(!answer.ends_with("\r\n\r\n12345"), "{answer}");
        }
    });
}

#[test]
fn a_request_that_was_sent_ahead_is_answered_in_its_turn() {
    world(H2, 100, async |world| {
        let head = |path: &str, more: &str| {
            format!(
                "POST /v1/acc/default/openai/{path} HTTP/1.1\nHost: 127.0.0.1\n{more}\
                 Authorization: Bearer k\nContent-Length: 2\n\n{{}}"
            )
        };
        let mut caller = call(&world, &head("stream", ""), b"").await;
        sleep(PAUSE).await;
        let second = head("json", "Connection: close\n").replace('\n', "\r\n");
        caller.write_all(second.into_bytes()).await.0.unwrap();
        let answers = read_all(caller).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
        assert!(answers.ends_with("{\"answer\": 1}"), "{answers}");
    });
}

#[test]
fn an_empty_answer_ends_at_once() {
    world(H2, 100, async |world| {
        let answer = get(&world, "empty").await;
        assert!(answer.ends_with("\r\n\r\n0\r\n\r\n"), "{answer}");
    });
}

#[test]
fn a_caller_that_goes_away_cancels_its_stream() {
    world(H2, 100, async |world| {
        for path in ["hang", "hang-later"] {
            let caller = ask(&world, path).await;
            sleep(Duration::from_millis(150)).await;
            let gone = Instant::now();
            drop(caller);
            sleep(Duration::from_millis(100)).await;
            let (reason, at) = world.seen.resets.borrow_mut().pop().expect("no reset came");
            assert_eq!(reason, Reason::CANCEL);
            assert!(at - gone < Duration::from_millis(50), "{:?}", at - gone);
        }
        assert_eq!(world.seen.connections.get(), 1);
    });
}

#[test]
fn a_provider_that_does_not_answer_in_time_is_cancelled() {
    world(H2, 100, async |world| {
        let answer = get(&world, "hang").await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(answer.contains("2005"), "{answer}");
        sleep(Duration::from_millis(50)).await;
        assert_eq!(world.seen.resets.borrow()[0].0, Reason::CANCEL);
    });
}

#[test]
fn a_request_that_was_refused_unread_is_sent_again() {
    world(H2, 100, async |world| {
        let answer = get(&world, "refuse").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(
            world.seen.connections.get(),
            2,
            "a connection that refuses is left"
        );
    });
}

#[test]
fn a_connection_that_says_goodbye_is_replaced() {
    world(H2, 100, async |world| {
        let answer = get(&world, "goaway").await;
        assert!(answer.ends_with("{\"answer\": 1}"), "{answer}");
        sleep(PAUSE).await;
        for _ in 0..2 {
            let answer = get(&world, "json").await;
            assert!(answer.ends_with("{\"answer\": 1}"), "{answer}");
        }
        assert_eq!(world.seen.connections.get(), 2);
    });
}

#[test]
fn a_connection_that_dies_fails_what_is_on_it_and_nothing_else() {
    world(H2, 100, async |world| {
        let stream = ask(&world, "hang-later").await;
        sleep(PAUSE).await;
        let answer = get(&world, "die").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        let cut = read_all(stream).await.unwrap();
        assert!(cut.ends_with("5\r\nbegun\r\n"), "{cut}");
        let answer = get(&world, "json").await;
        assert!(answer.ends_with("{\"answer\": 1}"), "{answer}");
        assert_eq!(world.seen.connections.get(), 2);
    });
}

#[test]
fn a_connection_that_fell_silent_keeps_only_one_waiting() {
    world(H2, 100, async |world| {
        get(&world, "json").await;
        let answer = get(&world, "mute").await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(get(&world, "json").await.ends_with("{\"answer\": 1}"));
        assert_eq!(world.seen.connections.get(), 2);
    });
}

#[test]
fn a_slow_caller_slows_the_provider_down() {
    world(H2, 100, async |world| {
        let caller = ask(&world, "big").await;
        sleep(Duration::from_millis(500)).await;
        let held = world.seen.sent.get();
        assert!(
            held < BIG_BYTES / 2,
            "{held} bytes went into a caller that reads nothing"
        );
        sleep(Duration::from_millis(200)).await;
        assert_eq!(world.seen.sent.get(), held);
        // Others on the connection are served meanwhile.
        assert!(get(&world, "json").await.ends_with("{\"answer\": 1}"));
        let answer = read_all(caller).await.unwrap();
        assert_eq!(
            answer.bytes().filter(|byte| *byte == b'x').count() - 1,
            BIG_BYTES,
            "one x is in the head"
        );
        assert!(answer.ends_with("\r\n0\r\n\r\n"));
        assert_eq!(world.seen.connections.get(), 1);
    });
}

#[test]
fn a_large_body_goes_out_as_the_provider_takes_it() {
    world(H2, 100, async |world| {
        let bytes = 3_000_000;
        let head = format!(
            "POST /v1/acc/default/openai/echo HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer k\nConnection: close\nContent-Length: {bytes}\n\n"
        );
        let answer = read_all(call(&world, &head, &vec![b' '; bytes]).await)
            .await
            .unwrap();
        assert!(answer.ends_with("7\r\n3000000\r\n0\r\n\r\n"), "{answer}");
    });
}

#[test]
fn a_chunked_body_that_is_not_held_passes_through() {
    world(H2, 100, async |world| {
        let head = "POST /v1/acc/default/openai/echo HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer k\nConnection: close\nTransfer-Encoding: chunked\n\n";
        let mut body = Vec::new();
        for _ in 0..30 {
            body.extend_from_slice(b"100000\r\n");
            body.extend_from_slice(&vec![b' '; 0x10_0000]);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let answer = read_all(call(&world, head, &body).await).await.unwrap();
        assert!(
            answer.contains(&format!("\r\n{}\r\n", 30 * 0x10_0000)),
            "{answer}"
        );
        let heads = world.seen.heads.borrow();
        assert!(!heads[0].headers().contains_key("transfer-encoding"));
    });
}

#[test]
fn an_answer_may_come_before_the_body_is_sent() {
    world(H2, 100, async |world| {
        let bytes = 3_000_000;
        let head = format!(
            "POST /v1/acc/default/openai/early HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer k\nConnection: close\nContent-Length: {bytes}\n\n"
        );
        let answer = read_all(call(&world, &head, &vec![b' '; bytes]).await)
            .await
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(get(&world, "json").await.ends_with("{\"answer\": 1}"));
    });
}

#[test]
fn a_provider_that_chooses_http_1_is_spoken_to_in_it() {
    world(&[b"http/1.1"], 100, async |world| {
        let answer = get(&world, "json").await;
        assert!(answer.ends_with("\r\n\r\n{}"), "{answer}");
        assert_eq!(
            world.shard.hosts.idle_count(),
            1,
            "the connection is kept like any other"
        );
    });
}

#[test]
fn a_link_without_exchanges_ends_when_it_is_retired() {
    world(H2, 100, async |world| {
        get(&world, "json").await;
        world.shard.hosts.close_idle();
        sleep(PAUSE).await;
        // The provider's side has seen the goodbye: a new request needs a new connection.
        get(&world, "json").await;
        assert_eq!(world.seen.connections.get(), 2);
    });
}

async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    poll_fn(|cx| {
        let mut all = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(ready) => *output = Some(ready),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}
