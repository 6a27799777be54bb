//! Answers that break HTTP, each in one way.

/// The static form of a word that [`bytes`] knows.
pub(super) fn word(text: &str) -> Option<&'static str> {
    WORDS
        .iter()
        .map(|(word, _)| *word)
        .find(|word| *word == text)
}

/// What goes to the wire for `word`; `body` is that of the ordinary answer.
pub(super) fn bytes(word: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let ordinary = format!("{STATUS_LINE}\r\n{TYPE}\r\ncontent-length: {len}\r\n");
    let chunked = format!("{STATUS_LINE}\r\n{TYPE}\r\ntransfer-encoding: chunked\r\n");
    let with = |head: String| {
        let mut out = head.into_bytes();
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        out
    };
    match word {
        "cl" => with(format!(
            "{STATUS_LINE}\r\n{TYPE}\r\ncontent-length: +{len}\r\n"
        )),
        "cllist" => with(format!(
            "{STATUS_LINE}\r\n{TYPE}\r\ncontent-length: {len},{len}\r\n"
        )),
        "clhuge" => with(format!(
            "{STATUS_LINE}\r\ncontent-length: 18446744073709551616\r\n"
        )),
        "clempty" => with(format!("{STATUS_LINE}\r\ncontent-length:\r\n")),
        "dupcl" => with(format!("{ordinary}content-length: {}\r\n", len + 1)),
        "clte" => with_chunks(&format!("{ordinary}transfer-encoding: chunked\r\n"), body),
        "te" => with_chunks(
            &format!("{STATUS_LINE}\r\ntransfer-encoding: xchunked\r\n"),
            body,
        ),
        "telist" => with_chunks(
            &format!("{STATUS_LINE}\r\ntransfer-encoding: gzip, chunked\r\n"),
            body,
        ),
        "chunk" => with(format!("{chunked}\r\nzz")),
        "hugechunk" => with(format!("{chunked}\r\n10000000000000000")),
        "chunkend" => {
            let mut out = format!("{chunked}\r\n{len:x}\r\n").into_bytes();
            out.extend_from_slice(body);
            out.extend_from_slice(b"!!0\r\n\r\n");
            out
        }
        "status" => with(ordinary.replacen("200 OK", "2000 OK", 1)),
        "badversion" => with(ordinary.replacen("HTTP/1.1", "HTTP/3.7", 1)),
        "obsfold" => with(format!("{ordinary}x-folded: one\r\n two\r\n")),
        "nul" => with(format!("{ordinary}x-nul: a\0b\r\n")),
        "cr" => with(format!("{ordinary}x-cr: a\rb\r\n")),
        "colonspace" => with(format!("{ordinary}x-space : a\r\n")),
        "lf" => {
            let mut out = ordinary.replace("\r\n", "\n").into_bytes();
            out.push(b'\n');
            out.extend_from_slice(body);
            out
        }
        "bighead" => with(format!(
            "{ordinary}x-big: {}\r\n",
            "b".repeat(BIG_HEAD_BYTES)
        )),
        "manyheaders" => {
            let fields: Vec<String> = (0..MANY_FIELDS)
                .map(|i| format!("x-{i}: {i}\r\n"))
                .collect();
            with(ordinary + &fields.concat())
        }
        "early100" => with("HTTP/1.1 100 Continue\r\n\r\n".repeat(MANY_INTERIM) + &ordinary),
        "badgzip" => with(format!("{ordinary}content-encoding: gzip\r\n")),
        _ => b"\x16\x03\x01\x00\x05garbage\r\n\r\n".to_vec(),
    }
}

fn with_chunks(head: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("{head}\r\n{:x}\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n0\r\n\r\n");
    out
}

/// The words, and what each breaks.
const WORDS: &[(&str, &str)] = &[
    ("cl", "content-length with a plus sign"),
    ("cllist", "content-length as a list"),
    ("clhuge", "content-length of 2^64"),
    ("clempty", "content-length without digits"),
    ("dupcl", "two content-lengths that differ"),
    ("clte", "content-length beside chunked"),
    ("te", "an unknown transfer-encoding"),
    ("telist", "gzip before chunked as transfer-encoding"),
    ("chunk", "a chunk size that is no number"),
    ("hugechunk", "a chunk size of 2^64"),
    ("chunkend", "a chunk without its CRLF"),
    ("status", "a status of four digits"),
    ("badversion", "HTTP/3.7"),
    ("obsfold", "a folded field"),
    ("nul", "NUL in a field"),
    ("cr", "a bare CR in a field"),
    ("colonspace", "space before a colon"),
    ("lf", "bare LF as line ends"),
    ("bighead", "a field of 2 MiB"),
    ("manyheaders", "2,000 fields"),
    ("early100", "1,000 interim answers before the real one"),
    ("badgzip", "content-encoding gzip around plain bytes"),
    ("garbage", "bytes that are not HTTP"),
];

const STATUS_LINE: &str = "HTTP/1.1 200 OK";
const TYPE: &str = "content-type: application/json";

/// Larger than any sensible limit of a head.
const BIG_HEAD_BYTES: usize = 2 * 1024 * 1024;

/// More than any sensible limit of fields.
const MANY_FIELDS: usize = 2000;

/// More interim answers than anyone should skip.
const MANY_INTERIM: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_bytes_of_its_own() {
        let mut seen: Vec<Vec<u8>> = WORDS.iter().map(|(word, _)| bytes(word, b"{}")).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), WORDS.len());
    }
}
