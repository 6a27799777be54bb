use std::fs;

use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};

use super::*;

/// A certificate for localhost and its key, as PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[track_caller]
fn check(cert: &str, key: &str, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (cert_path, key_path) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert_path, cert).unwrap();
    fs::write(&key_path, key).unwrap();
    let text = server_config(&cert_path, &key_path)
        .unwrap_err()
        .to_string();
    let shown = text.replace(&dir.path().display().to_string(), "");
    assert_eq!(shown, expected);
}

#[test]
fn what_is_wrong_with_a_file_is_one_sentence_that_names_it() {
    let (cert, key) = pair();
    let (_, other) = pair();
    check(
        "",
        &key,
        "/cert.pem holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
    );
    check(
        &cert,
        &cert,
        "/key.pem holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)",
    );
    check(
        &cert,
        &other,
        "the key in /key.pem does not belong to the certificate in /cert.pem",
    );
    check(
        &cert[..60],
        &key,
        "/cert.pem is not whole PEM: a section has no end line",
    );
    let cut = key.replace('M', "!");
    check(
        &cert,
        &cut,
        "/key.pem is not whole PEM: a section is not base64",
    );
    let long = "x".repeat(1 << 20) + "x";
    let expected = "/key.pem has more than 1048576 bytes, so it is neither certificate nor key";
    check(&cert, &long, expected);
    let text = server_config(Path::new("/nowhere/c"), Path::new("/nowhere/k")).unwrap_err();
    assert_eq!(
        text.to_string(),
        "cannot read /nowhere/c: No such file or directory (os error 2)"
    );
}

/// Passes bytes between the two until both have finished their handshake.
fn shake(client: &mut ClientConnection, server: &mut ServerConnection) {
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
    }
}

#[test]
fn both_sides_agree_on_http1_and_on_a_key_exchange() {
    let (cert, key) = pair();
    let dir = tempfile::tempdir().unwrap();
    let (cert_path, key_path) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert_path, &cert).unwrap();
    fs::write(&key_path, key).unwrap();
    let server = Arc::new(server_config(&cert_path, &key_path).unwrap());
    let certs = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let (store, roots) = root_store(certs, "", String::new()).unwrap();
    assert_eq!(roots, Roots::System);
    let clients = client_configs(store, roots).unwrap();
    for (config, alpn) in [(clients.http1, None), (clients.http2, Some(ALPN_HTTP1))] {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(config, name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&server)).unwrap();
        shake(&mut client, &mut server);
        assert_eq!(client.alpn_protocol(), alpn);
        #[cfg(feature = "aws-lc-rs")]
        assert_eq!(
            client.negotiated_key_exchange_group().unwrap().name(),
            rustls::NamedGroup::X25519MLKEM768
        );
    }
}

#[test]
fn bundled_roots_stand_in_only_where_nobody_named_others() {
    let (store, roots) = root_store(Vec::new(), "", String::new()).unwrap();
    assert!(roots == Roots::Bundled && store.len() > 50);
    let error = root_store(Vec::new(), "SSL_CERT_FILE", ": no such file".to_owned()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "SSL_CERT_FILE names no usable root certificate: no such file; correct it, or unset it to trust the system's"
    );
}
