//! Audio, images, uploads, and the echo of what has no shape of its own.

use serde_json::{Value, json};

use super::answer::Answer;
use super::ask::Ask;
use super::digest::{self, base64};

/// Speech: bytes that are no text, 16 KiB unless `size` says otherwise.
pub(super) fn speech(ask: &Ask<'_>) -> Answer {
    let len = ask.command.size.map_or(SPEECH_BYTES, |size| {
        usize::try_from(size).unwrap_or(usize::MAX).min(NOISE_BYTES)
    });
    Answer::whole(200, "audio/mpeg", noise(&ask.digest, len))
}

/// A transcription whose text is the upload's SHA-256 in hex.
pub(super) fn transcription(ask: &Ask<'_>) -> Answer {
    let file = uploaded_file(ask);
    let sha256 = file.map_or_else(|| ask.upload_sha256.clone(), digest::Sha256::of);
    let bytes = file.map_or(ask.body.len(), <[u8]>::len);
    match ask.route.provider {
        "deepgram" => Answer::json(
            200,
            &json!({
                "metadata": { "request_id": ask.digest, "sha256": sha256, "duration": 1.0, "channels": 1 },
                "results": { "channels": [{ "alternatives": [{ "transcript": sha256, "confidence": 1.0, "words": [] }] }] },
            }),
        ),
        _ => Answer::json(
            200,
            &json!({
                "text": sha256,
                "bytes": bytes,
                "usage": {
                    "type": "tokens",
                    "input_tokens": ask.usage.input,
                    "input_token_details": { "text_tokens": 0, "audio_tokens": ask.usage.input },
                    "output_tokens": ask.usage.output,
                    "total_tokens": ask.usage.total(),
                },
            }),
        ),
    }
}

/// One picture: a PNG of one pixel, in base64.
pub(super) fn images(ask: &Ask<'_>) -> Answer {
    if ask.route.provider == "ideogram" {
        let data = json!([{ "url": "https://example.com/tide.png", "is_image_safe": true, "seed": 1, "resolution": "1024x1024", "prompt": ask.digest }]);
        return Answer::json(
            200,
            &json!({ "created": "2025-01-01T00:00:00Z", "data": data }),
        );
    }
    let body = json!({
        "created": Ask::created(),
        "data": [{ "b64_json": base64(ONE_PIXEL), "revised_prompt": ask.digest }],
        "usage": {
            "input_tokens": ask.usage.input,
            "input_tokens_details": { "text_tokens": ask.usage.input, "image_tokens": 0 },
            "output_tokens": ask.usage.output,
            "total_tokens": ask.usage.total(),
        },
    });
    Answer::json(200, &body)
}

/// The answer of endpoints without a shape here: what was asked, as JSON.
pub(super) fn echo(ask: &Ask<'_>) -> Answer {
    let mut body = match ask.route.provider {
        "huggingface" => json!([{ "generated_text": ask.text() }]),
        "replicate" => json!({
            "id": ask.digest, "model": ask.model, "version": "mock", "status": "succeeded",
            "input": {}, "output": [ask.text()], "error": null, "logs": "",
            "created_at": "2025-01-01T00:00:00Z",
            "metrics": { "input_token_count": ask.usage.input, "output_token_count": ask.usage.output },
            "urls": { "get": format!("https://example.com/predictions/{}", ask.digest) },
        }),
        provider => json!({
            "object": "echo",
            "provider": provider,
            "digest": ask.digest,
            "bytes": ask.body.len(),
            "text": ask.text(),
        }),
    };
    if let Some(object) = body
        .as_object_mut()
        .filter(|_| !ask.upload_sha256.is_empty())
    {
        object.insert("sha256".to_owned(), Value::from(ask.upload_sha256.as_str()));
    }
    Answer::json(200, &body)
}

/// The bytes of the part of a multipart body that has a file name.
fn uploaded_file<'a>(ask: &Ask<'a>) -> Option<&'a [u8]> {
    file_part(ask.content_type, ask.body)
}

/// The file of a multipart body.
pub(super) fn file_part<'a>(content_type: &str, body: &'a [u8]) -> Option<&'a [u8]> {
    part(content_type, body, "filename")
}

/// The text field `name` of a multipart body.
pub(super) fn text_part(content_type: &str, body: &[u8], name: &str) -> Option<String> {
    let text = part(content_type, body, &format!("name=\"{name}\""))?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The first part of a multipart body whose head holds `mark`.
fn part<'a>(content_type: &str, body: &'a [u8], mark: &str) -> Option<&'a [u8]> {
    if !content_type.starts_with("multipart/") {
        return None;
    }
    let (_, boundary) = content_type.split_once("boundary=")?;
    let boundary = boundary.split(';').next()?.trim().trim_matches('"');
    let delimiter = format!("--{boundary}");
    let starts: Vec<usize> = memchr::memmem::find_iter(body, delimiter.as_bytes()).collect();
    starts.windows(2).find_map(|pair| {
        let part = body.get(pair[0] + delimiter.len()..pair[1])?;
        let head_end = memchr::memmem::find(part, b"\r\n\r\n")?;
        let (head, rest) = part.split_at(head_end);
        memchr::memmem::find(head, mark.as_bytes())?;
        rest.get(4..)?.strip_suffix(b"\r\n")
    })
}

/// Bytes without pattern, always the same for one digest.
fn noise(digest: &str, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 8);
    let mut counter = 0;
    while out.len() < len {
        let word = xxhash_rust::xxh3::xxh3_64_with_seed(digest.as_bytes(), counter);
        out.extend_from_slice(&word.to_le_bytes());
        counter += 1;
    }
    out.truncate(len);
    out
}

const SPEECH_BYTES: usize = 16 * 1024;

/// Most bytes of noise; beyond, padding fills the answer.
const NOISE_BYTES: usize = 8 * 1024 * 1024;

const ONE_PIXEL: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0,
    1, 0, 0, 0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 13, b'I', b'D', b'A', b'T',
    0x78, 0x9c, 0x63, 0x60, 0, 0, 0, 2, 0, 1, 0xe5, 0x27, 0xde, 0xfc, 0, 0, 0, 0, b'I', b'E', b'N',
    b'D', 0xae, 0x42, 0x60, 0x82,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_multipart_body_is_found() {
        let body = b"--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
            --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\x00\r\n\x01\r\n--b--\r\n";
        let file = file_part("multipart/form-data; boundary=\"b\"", body);
        assert_eq!(file, Some(&b"\x00\r\n\x01"[..]));
        assert_eq!(file_part("application/json", body), None);
        let model = text_part("multipart/form-data; boundary=b", body, "model");
        assert_eq!(model.as_deref(), Some("whisper-1"));
    }
}
