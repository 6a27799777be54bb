"""Bytes through tidegate are the bytes of a direct call: bodies, streams, uploads, audio, gzip."""

import hashlib
import json

import httpx
import pytest

from sdks import TOOL, TOOL_INPUT, OpenAi
from stage import model_of

QUESTION = [{"role": "user", "content": "Count to ten, in words: \u00e9\u4e16\U0001f30d."}]
AUDIO = bytes(range(256)) * 1200  # larger than one read, every byte value

CHAT = {"model": model_of("openai"), "messages": QUESTION}
MESSAGES = {"model": model_of("anthropic"), "max_tokens": 512, "messages": QUESTION}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Count to ten."}]}]}
COHERE = {"model": model_of("cohere"), "messages": QUESTION}
GEMINI = f"google-ai-studio/v1beta/models/{model_of('google-ai-studio')}"
SPEECH = {"model": "tts-1", "voice": "alloy", "input": "Good morning."}

# name -> (path below the root, body)
CALLS = {
    "openai": ("openai/v1/chat/completions", CHAT),
    "openai-stream": ("openai/v1/chat/completions", CHAT | {"stream": True}),
    "openai-responses": ("openai/v1/responses", {"model": CHAT["model"], "input": "Hello."}),
    "openai-responses-stream": (
        "openai/v1/responses",
        {"model": CHAT["model"], "input": "Hello.", "stream": True},
    ),
    "openai-embeddings": (
        "openai/v1/embeddings",
        {"model": "text-embedding-3-small", "input": ["one", "two"]},
    ),
    "anthropic": ("anthropic/v1/messages", MESSAGES),
    "anthropic-stream": ("anthropic/v1/messages", MESSAGES | {"stream": True}),
    "openai-tool-stream": (
        "openai/v1/chat/completions",
        CHAT | {"stream": True, "tools": [{"type": "function", "function": {"name": TOOL}}]},
    ),
    "anthropic-tool-stream": (
        "anthropic/v1/messages",
        MESSAGES | {"stream": True, "tools": [{"name": TOOL, "input_schema": TOOL_INPUT}]},
    ),
    "gemini": (GEMINI + ":generateContent", CONTENTS),
    "gemini-stream": (GEMINI + ":streamGenerateContent?alt=sse", CONTENTS),
    "gemini-array": (GEMINI + ":streamGenerateContent", CONTENTS),
    "mistral-stream": ("mistral/v1/chat/completions", CHAT | {"stream": True}),
    "cohere": ("cohere/v2/chat", COHERE),
    "cohere-stream": ("cohere/v2/chat", COHERE | {"stream": True}),
    "speech": ("openai/v1/audio/speech", SPEECH),
}
# How the mock sends it.
MANNERS = {
    "as-usual": "",
    "gzip": "gzip",
    "chunked": "chunked",
    "length": "length",
    "until-closed": "close",
    "dripping": "drip=61:1,events=3",
    "long": "size=3000000",
}
# Told to the mock, and to nobody else.
HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-callers-own"}
# The head's fields that say what the bytes are.
FIELDS = ["content-type", "content-encoding"]


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("call", CALLS)
def test_answer_is_byte_identical(stage, gateway, call, manner):
    path, body = CALLS[call]
    content = json.dumps(body, ensure_ascii=False).encode()
    headers = HEADERS | {"accept-encoding": "gzip", "x-mock": MANNERS[manner]}
    direct = fetch(f"{stage.mock}/{path}", content, headers)
    through = fetch(f"{stage.root(gateway)}/{path}", content, headers)
    assert direct["status"] == 200 and direct["length"] > 0
    assert ("content-encoding" in direct) == (manner == "gzip"), "the mock did as it was told"
    assert through == direct


def test_request_body_is_byte_identical(stage, gateway):
    """White space, order, escapes and unknown members of a body are the caller's business."""
    content = b' {"model" : "%s",\n\t"x":1e5, "x":2, "messages":[{"role":"user","content":"\\u00e9"}]}\n'
    content %= CHAT["model"].encode()
    url = f"{stage.root(gateway)}/openai/v1/chat/completions"
    assert fetch(url, content, HEADERS)["status"] == 200
    assert uploaded(stage) == digest(content)


def test_upload_is_byte_identical(stage, gateway):
    """A multipart form with a file, by length and in chunks."""
    boundary = "----tidegate-sdk-test"
    content = multipart(boundary, AUDIO)
    headers = HEADERS | {"content-type": f"multipart/form-data; boundary={boundary}"}
    path = "openai/v1/audio/transcriptions"
    direct = fetch(f"{stage.mock}/{path}", content, headers)
    assert uploaded(stage) == digest(content)
    for body in (content, pieces(content)):
        through = fetch(f"{stage.root(gateway)}/{path}", body, headers)
        assert uploaded(stage) == digest(content)
        assert through == direct


def test_sdk_hears_the_same_audio(stage, gateway):
    direct = OpenAi(f"{stage.mock}/openai", "sk-callers-own")
    through = OpenAi(stage.url("openai", gateway), "sk-callers-own")
    heard = [digest(sdk.client.audio.speech.create(**SPEECH).read()) for sdk in (direct, through)]
    assert heard[0] == heard[1]


def test_sdk_uploads_audio(stage, gateway):
    sdk = OpenAi(stage.url("openai", gateway), "sk-callers-own")
    answer = sdk.client.audio.transcriptions.create(model="whisper-1", file=("a.wav", AUDIO))
    assert answer.text == digest(AUDIO), "the mock's transcript is what it heard"


def fetch(url, content, headers):
    """Status, the fields that matter, and a digest of the body as it came over the wire."""
    seen = hashlib.sha256()
    length = 0
    with httpx.stream("POST", url, content=content, headers=headers, timeout=60) as answer:
        for piece in answer.iter_raw():
            seen.update(piece)
            length += len(piece)
        fields = {name: answer.headers[name] for name in FIELDS if name in answer.headers}
        return {"status": answer.status_code, "length": length, "sha256": seen.hexdigest(), **fields}


def uploaded(stage):
    return stage.last_request()["body_sha256"]


def digest(content):
    return hashlib.sha256(content).hexdigest()


def pieces(content):
    """Sent chunked, in pieces of an odd size."""
    for at in range(0, len(content), 9973):
        yield content[at : at + 9973]


def multipart(boundary, file):
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        f"Content-Type: audio/wav\r\n\r\n"
    ).encode() + file + f"\r\n--{boundary}--\r\n".encode()
