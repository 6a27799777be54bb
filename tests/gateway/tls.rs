//! TLS on both sides: our listener with a certificate that can be replaced, providers whose
//! certificate is checked.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tempfile::TempDir;

use crate::support::{
    client::{Client, chat, chat_stream, get, post},
    server::{OPEN, Server, Setup},
    upstream::{Upstream, mock},
    wait::{SOON, wait_until},
};

type Secure = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap()
}

fn write(folder: &Path, certificate: &CertifiedKey<KeyPair>) {
    fs::write(
        folder.join("key.pem"),
        certificate.signing_key.serialize_pem(),
    )
    .unwrap();
    fs::write(folder.join("cert.pem"), certificate.cert.pem()).unwrap();
}

/// Connects, trusting that certificate alone.
fn connect(address: SocketAddr, trusted: &CertifiedKey<KeyPair>) -> Client<Secure> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    Client::over(StreamOwned::new(session, stream))
}

/// The certificate that the listener shows now.
fn shown(address: SocketAddr, trusted: &CertifiedKey<KeyPair>) -> Option<CertificateDer<'static>> {
    let mut client = connect(address, trusted);
    client.send(&get("/livez", ""));
    client.try_head()?;
    let shown = client.stream.conn.peer_certificates()?;
    Some(shown[0].clone().into_owned())
}

fn serve(mock: SocketAddr, folder: &Path) -> Server {
    Setup::over(mock)
        .folder(folder)
        .tables("[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"")
        .start()
}

#[test]
fn the_listener_serves_https() {
    let mock = mock();
    let folder = TempDir::new().unwrap();
    let certificate = certificate();
    write(folder.path(), &certificate);
    let server = serve(mock.addr(), folder.path());
    let path = format!("{OPEN}/openai/chat/completions");
    let mut client = connect(server.address, &certificate);
    for body in [
        chat(""),
        chat_stream("+events=300"),
        chat("+size=3000000"),
        chat(""),
    ] {
        let wanted = Client::connect(mock.addr()).ask(&post("/openai/v1/chat/completions", &body));
        let answer = client.ask(&post(&path, &body));
        assert_eq!(
            (answer.status, answer.whole),
            (200, true),
            "{}",
            answer.text()
        );
        assert!(answer.body == wanted.body);
    }
    let large = format!(
        r#"{{"model":"gpt-4o","padding":"{}"}}"#,
        "x".repeat(3 << 20)
    );
    assert_eq!(client.ask(&post(&path, &large)).status, 200);

    // An end without a goodbye while an answer is due is a hang-up.
    client.send(&post(&path, &chat("+hang")));
    let hangs = || crate::support::upstream::count(&mock, "in_flight");
    wait_until("the provider to be asked", || hangs() == 1);
    drop(client);
    wait_until("the provider to hear of it", || hangs() == 0);
}

#[test]
fn what_is_no_tls_gets_nothing_and_harms_nobody() {
    let mock = mock();
    let folder = TempDir::new().unwrap();
    let certificate = certificate();
    write(folder.path(), &certificate);
    let server = serve(mock.addr(), folder.path());
    let mut plain = server.connect();
    plain.send(&get("/livez", ""));
    let answer = plain.rest();
    assert!(
        !answer.starts_with(b"HTTP"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let other = self::certificate();
    let mut stranger = connect(server.address, &other);
    stranger.send(&get("/livez", ""));
    assert_eq!(stranger.try_head(), None);
    assert!(shown(server.address, &certificate).is_some());
}

#[test]
fn a_replaced_certificate_is_served_without_a_restart() {
    let mock = mock();
    let folder = TempDir::new().unwrap();
    let (first, second) = (certificate(), certificate());
    write(folder.path(), &first);
    let server = serve(mock.addr(), folder.path());
    assert_eq!(
        shown(server.address, &first).as_ref(),
        Some(first.cert.der())
    );
    let mut open = connect(server.address, &first);
    assert_eq!(open.ask(&get("/livez", "")).status, 200);

    // Damaged files change nothing.
    fs::write(folder.path().join("cert.pem"), "no certificate").unwrap();
    server.signal(Signal::HUP);
    wait_until("it to complain", || server.said().contains("cert.pem"));
    assert_eq!(
        shown(server.address, &first).as_ref(),
        Some(first.cert.der())
    );

    write(folder.path(), &second);
    server.signal(Signal::HUP);
    wait_until("the new certificate", || {
        shown(server.address, &second).as_ref() == Some(second.cert.der())
    });
    // Connections that stand, stand.
    assert_eq!(open.ask(&get("/livez", "")).status, 200);
}

/// A provider with that certificate; its script reads one request after the other.
fn provider(certificate: &CertifiedKey<KeyPair>) -> (Upstream, Arc<Mutex<Option<String>>>) {
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let name: Arc<Mutex<Option<String>>> = Arc::default();
    let noted = Arc::clone(&name);
    let upstream = Upstream::start(move |peer| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let stream = peer.stream.try_clone().unwrap();
        let mut stream = Client::over(StreamOwned::new(session, stream));
        while let Some(head) = stream.try_head() {
            *noted.lock().unwrap() = stream.stream.conn.server_name().map(str::to_owned);
            let length = crate::support::upstream::field(&head, "content-length").unwrap();
            let body = stream.take(length.parse().unwrap());
            stream.send(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
            );
            stream.send(&body);
            if body == b"cut" {
                return;
            }
        }
    });
    (upstream, name)
}

#[test]
fn a_provider_is_called_over_tls_and_its_certificate_is_checked() {
    let folder = TempDir::new().unwrap();
    let (trusted, other) = (certificate(), certificate());
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, trusted.cert.pem()).unwrap();
    let (good, name) = provider(&trusted);
    let (bad, _) = provider(&other);
    let (plain_port, good_port, bad_port) = (mock(), good.address.port(), bad.address.port());
    let server = Setup::new()
        .provider(
            "openai",
            &format!("base_url = \"https://localhost:{good_port}/v1\""),
        )
        .provider(
            "groq",
            &format!("base_url = \"https://localhost:{bad_port}/v1\""),
        )
        .provider(
            "mistral",
            &format!(
                "base_url = \"https://127.0.0.1:{}/v1\"",
                plain_port.addr().port()
            ),
        )
        .provider(
            "deepseek",
            &format!("base_url = \"https://other.localhost:{good_port}/v1\""),
        )
        .top("shards = 1")
        .env("SSL_CERT_FILE", roots.to_str().unwrap())
        .start();
    let mut client = server.connect();
    let large = "x".repeat(2 << 20);
    for body in ["{}", "hello", &large, "{}"] {
        let answer = client.ask(&post(&format!("{OPEN}/openai/chat/completions"), body));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body == body.as_bytes());
    }
    assert_eq!(name.lock().unwrap().as_deref(), Some("localhost"));
    assert_eq!(good.connections(), 1, "the connection is used again");

    for (slug, why) in [
        ("groq", "an untrusted certificate"),
        ("mistral", "no TLS at all"),
        ("deepseek", "another name"),
    ] {
        let answer = client.ask(&post(&format!("{OPEN}/{slug}/v1/chat/completions"), "{}"));
        assert_eq!(answer.status, 502, "{why}: {}", answer.text());
        assert_eq!(answer.code(), 2005, "{why}");
    }
    assert_eq!(bad.requests(), 0);
}
