//! Replays every past finding of the fuzzers, and holds generated input to the same laws.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests read their corpus from files"
)]

use std::path::Path;

use proptest::prelude::*;

#[path = "fuzz/laws.rs"]
mod laws;

#[track_caller]
fn replay(target: &str, law: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{} has too few files", folder.display());
    for file in files {
        let input = std::fs::read(&file).unwrap();
        let outcome = std::panic::catch_unwind(|| {
            law(&input);
            // A message cut anywhere breaks no law either.
            for end in 0..input.len().min(600) {
                law(&input[..end]);
            }
        });
        assert!(outcome.is_ok(), "{} breaks a law", file.display());
    }
}

#[test]
fn heads_of_the_corpus_keep_the_laws() {
    replay("head", laws::head);
}

#[test]
fn bodies_of_the_corpus_keep_the_laws() {
    replay("body", laws::body);
}

#[test]
fn event_streams_of_the_corpus_keep_the_laws() {
    replay("event_stream", laws::event_stream);
}

#[test]
fn websockets_of_the_corpus_keep_the_laws() {
    replay("websocket", laws::websocket);
}

#[test]
fn request_bodies_of_the_corpus_keep_the_laws() {
    replay("scanner", laws::scanner);
}

#[test]
fn answers_of_the_corpus_keep_the_laws() {
    replay("meter", laws::meter);
}

#[test]
fn log_files_of_the_corpus_keep_the_laws() {
    replay("frame", laws::frame);
}

#[test]
fn configurations_of_the_corpus_keep_the_laws() {
    replay("config", laws::config);
}

/// Joins a few of `words`, so that a good part of what is made is nearly well-formed.
fn made_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        9 => prop::sample::select(words).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn generated_heads_keep_the_laws(fields in made_of(&[
        "\r\n", "\r\n", "\r\n", "\r", "\n", "Host: a\r\n", "Host: b:80\r\n", "Content-Length: 5\r\n",
        "Content-Length:", " 5", "Transfer-Encoding: chunked\r\n", "X: y\r\n", " z\r\n", "X :1\r\n",
        "Connection: upgrade, close\r\n", "Upgrade: websocket\r\n", "content_length: 3\r\n", "\t",
    ])) {
        for start in ["GET / HTTP/1.1\r\n", "\r\n\r\nPOST http://a/b HTTP/1.0\r\n", "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 101 \r\n", "HTTP/1.0 304\r\n", ""] {
            laws::head(&[start.as_bytes(), &fields, b"\r\n"].concat());
        }
    }

    #[test]
    fn generated_targets_keep_the_laws(path in made_of(&[
        "/", ".", "..", "%2e", "%2E", "%2f", "%5C", "\\", ";", "?", "a", "%", "%2", "%3b", "%3f", "#",
    ])) {
        laws::head(&[b"GET /".as_slice(), &path, b" HTTP/1.0\r\n\r\n"].concat());
        laws::head(&path);
    }

    #[test]
    fn generated_bodies_keep_the_laws(body in made_of(&[
        "5\r\nhello\r\n", "A;x=y\r\n0123456789\r\n", "0\r\n\r\n", "0\r\n", "000", "1", "ffffffffffffffff",
        "\r\n", "\r", "\n", "X: 1\r\n", "7fffffffffffffff\r\n", ";", " ", "+5", "0x5", "3\r\nabc",
    ])) {
        laws::body(&body);
    }

    #[test]
    fn generated_event_streams_keep_the_laws(stream in made_of(&[
        "data: ", "data:", "data", "event: ", "event:", "event", "\n", "\n", "\n\n", "\r", "\r\n",
        "\r\n\r\n", ": comment", "id: 7", "{\"a\":1}", "[DONE]", " ", "\u{feff}", "0123456789",
    ])) {
        laws::event_stream(&stream);
    }

    #[test]
    fn generated_websockets_keep_the_laws(frames in prop::collection::vec(
        (
            prop_oneof![
                8 => prop::sample::select(&[0x81, 0x01, 0x00, 0x80, 0x88, 0x89, 0x8a][..]),
                1 => any::<u8>(),
            ],
            prop_oneof![12 => Just(true), 1 => Just(false)],
            prop_oneof![
                4 => prop::collection::vec(0x20..0x7f_u8, 0..200),
                1 => prop::collection::vec(any::<u8>(), 0..9),
                1 => (999..1020_u16).prop_map(|code| code.to_be_bytes().to_vec()),
            ],
        ),
        0..9,
    )) {
        let mut bytes = Vec::new();
        for (first, masked, payload) in frames {
            let (masked, mask) = if masked { (0x80, [9, 8, 7, 6]) } else { (0, [0; 4]) };
            bytes.push(first);
            match u8::try_from(payload.len()) {
                Ok(short @ ..126) => bytes.push(masked | short),
                _ => bytes.extend([masked | 0x7e, 0, u8::try_from(payload.len()).unwrap()]),
            }
            bytes.extend(mask.iter().filter(|_| masked != 0));
            bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
        laws::websocket(&bytes);
    }

    #[test]
    fn generated_request_bodies_keep_the_laws(body in made_of(&[
        "{", "}", "[", "]", ",", ":", "\"model\":", "\"m\"", "\"stream\":true", "\"max_tokens\":5", "\"messages\":",
        "\"generationConfig\":{\"maxOutputTokens\":7}", "\"a\\\"b\\\\\"", "\"mod\\u0065l\":", "1.0", "null", " ",
        "--x\r\n", "Content-Disposition: form-data; name=\"model\"\r\n\r\n",
    ])) {
        laws::scanner(&body);
        laws::scanner(&[b"{\"model\":\"m\",".as_slice(), &body, b"}"].concat());
    }

    #[test]
    fn generated_answers_keep_the_laws(choice in 0..32u8, body in made_of(&[
        "{", "}", "[", "]", ",", "\"usage\":", "{\"prompt_tokens\":3,\"completion_tokens\":4}", "\"model\":\"m\"",
        "\"choices\":[{\"delta\":{\"content\":\"x\"}}]", "data: ", "\n\n", "\r\n", "[DONE]", "null", "\"type\":\"a\"",
    ])) {
        laws::meter(&[&[choice], body.as_slice()].concat());
    }

    #[test]
    fn generated_configurations_keep_the_laws(text in made_of(&[
        "[", "]", "\n", "=", "\"", "{", "}", "listen = ", "\"127.0.0.1:1\"", "[[tokens]]\n", "token = ", "\"env:A\"",
        "[providers.openai]\n", "key = ", "[gateways.a]\n", "authentication = false\n", "#", "'", "limits", "1",
    ])) {
        laws::config(&text);
    }
}
