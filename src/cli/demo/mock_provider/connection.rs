//! One connection's life: request after request, each read, understood, answered, counted.

use serde_json::json;

use super::answer::Answer;
use super::ask::{Ask, Fields, Story, TOOL_PIECES, Usage, VISIBLE_TOKENS};
use super::command::{Command, CommandError, Early};
use super::peer::Peer;
use super::request::{Body, BodyFraming, Handshake, Head, ReadError, Reader};
use super::route::{Endpoint, Family, Route, decode};
use super::send::{Asked, End, send};
use super::{
    anthropic, bedrock, cohere, digest, gemini, media, openai, refusal, responses, websocket,
    workers_ai,
};

/// Serves a connection until either side is done with it.
pub(super) fn serve(peer: &Peer) {
    let mut reader = Reader::new(peer);
    loop {
        match exchange(peer, &mut reader) {
            Next::Request => {}
            Next::Finish => return peer.finish(),
            Next::Reset => return peer.reset(),
            Next::Gone => return,
        }
    }
}

/// What follows an exchange.
enum Next {
    Request,
    Finish,
    Reset,
    Gone,
}

/// A request as far as it was read.
struct Request<'a> {
    head: &'a Head,
    route: &'a Route,
    query: &'a str,
    /// The commands of header and query.
    given: &'a str,
    body: Body,
}

fn exchange(peer: &Peer, reader: &mut Reader<'_>) -> Next {
    let head = match reader.head() {
        Ok(Some(head)) => head,
        Ok(None) => return Next::Gone,
        Err(error) => return unreadable(peer, error),
    };
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    if let Some(name) = path.strip_prefix("/__mock/") {
        let answer = inspect(peer, &head.method, name, query);
        return aside(peer, reader, &head, answer);
    }
    let route = Route::of(path);
    let given = given_commands(&head, query);
    let mut command = peer.shared.standing.clone();
    if let Err(error) = command.extend(&given, ',') {
        return aside(peer, reader, &head, misunderstood(&error));
    }
    let mut request = Request {
        head: &head,
        route: &route,
        query,
        given: &given,
        body: Body::default(),
    };
    if let Some(handshake) = &head.websocket {
        return upgrade(peer, reader, &request, handshake, command);
    }
    if let Some(early) = command.early {
        let next = answer(peer, &request, command);
        return match (early, next) {
            // Whoever waited for a 100 has its answer and keeps its body.
            (Early::Read, Next::Request) if head.expects_continue => Next::Finish,
            (Early::Read, Next::Request) => match reader.body(&head, None) {
                Ok(_) => Next::Request,
                Err(_) => Next::Finish,
            },
            (Early::Close, Next::Request) => Next::Finish,
            (_, next) => next,
        };
    }
    if head.expects_continue
        && head.framing != BodyFraming::None
        && peer.write(b"HTTP/1.1 100 Continue\r\n\r\n").is_err()
    {
        return Next::Gone;
    }
    match reader.body(&head, command.read) {
        Ok(body) => request.body = body,
        Err(error) => return unreadable(peer, error),
    }
    answer(peer, &request, command)
}

/// Answers a request that was read, and counts both.
fn answer(peer: &Peer, request: &Request<'_>, mut command: Command) -> Next {
    let Request {
        head, route, body, ..
    } = request;
    let counters = &peer.shared.counters;
    let place = (route.provider, route.endpoint.name());
    let running = counters.begin(peer.id(), place, head, body);
    let (answer, tokens) = match compose(peer, request, &mut command) {
        Ok((answer, usage)) if answer.status < 400 => (answer, (usage.input, usage.output)),
        Ok((refusal, _)) | Err(refusal) => (refusal, (0, 0)),
    };
    let answer = add_request_id(route, &command, answer);
    let status = answer.status;
    let sent = send(peer, asked(head), answer, &command);
    counters.end(&running, status, sent, tokens, peer.shared.peers.closing());
    match sent.end {
        End::Complete { keep_alive: true } => Next::Request,
        End::Complete { keep_alive: false } | End::Cut { reset: false } => Next::Finish,
        End::Cut { reset: true } => Next::Reset,
        End::Aborted => Next::Gone,
    }
}

/// The answer and its usage; an error is the answer to a request that makes no sense. The
/// commands of the model's name are added to `command` on the way.
fn compose(
    peer: &Peer,
    request: &Request<'_>,
    command: &mut Command,
) -> Result<(Answer, Usage), Answer> {
    let Request {
        head, route, body, ..
    } = request;
    let (model, suffix, fields) = understand(route, &head.content_type, body)?;
    command
        .extend(&suffix, '+')
        .map_err(|error| misunderstood(&error))?;
    if let Some(max) = command.first {
        let key = format!("{}+{suffix}", request.given);
        if !peer.shared.counters.is_among_first(&key, max) {
            *command = peer.shared.standing.clone();
        }
    }
    let digest = digest_of(&head.content_type, body);
    let opaque = body.len > 0 && !is_json(body);
    let mut ask = Ask {
        route,
        model,
        story: Story {
            digest: digest.clone(),
            pieces: command.events.unwrap_or(VISIBLE_TOKENS),
        },
        digest,
        fields,
        usage: Usage::default(),
        command,
        query: request.query,
        body: &body.kept,
        content_type: &head.content_type,
        upload_sha256: if opaque { body.sha256() } else { String::new() },
    };
    ask.usage = usage(&ask, body.len);
    Ok((shape(&ask, &head.method), ask.usage))
}

/// The model, its commands and the other members that matter.
fn understand<'b>(
    route: &Route,
    content_type: &str,
    body: &'b Body,
) -> Result<(String, String, Fields<'b>), Answer> {
    let fields = if is_json(body) {
        match serde_json::from_slice(&body.kept) {
            Ok(fields) => fields,
            // An endpoint of unknown shape has members of unknown types.
            Err(_) if route.endpoint == Endpoint::Echo => Fields::default(),
            Err(error) => {
                let message = format!("We could not parse the JSON body of your request: {error}");
                return Err(refusal::refuse(route, 400, &message, "", None));
            }
        }
    } else {
        Fields::default()
    };
    let named = route
        .model
        .clone()
        .or_else(|| fields.model.as_deref().map(str::to_owned))
        .or_else(|| fields.model_id.as_deref().map(str::to_owned))
        .or_else(|| media::text_part(content_type, &body.kept, "model"))
        .unwrap_or_else(|| "mock-model".to_owned());
    let (model, suffix) = named.split_once('+').unwrap_or((&named, ""));
    Ok((model.to_owned(), suffix.to_owned(), fields))
}

fn usage(ask: &Ask<'_>, body_len: u64) -> Usage {
    let visible = if ask.tool().is_some() {
        TOOL_PIECES as u64
    } else {
        ask.story.pieces
    };
    let usage = Usage::of(body_len, &ask.model, &ask.fields, ask.command, visible);
    match ask.route.endpoint {
        Endpoint::Models | Endpoint::Model => Usage::default(),
        Endpoint::Embeddings
        | Endpoint::EmbedContent { .. }
        | Endpoint::CohereEmbed { .. }
        | Endpoint::Rerank
        | Endpoint::Moderations
        | Endpoint::MessagesCount
        | Endpoint::GenerateCount
        | Endpoint::Speech => Usage {
            output: 0,
            reasoning: 0,
            ..usage
        },
        _ => usage,
    }
}

/// The answer in the shape of its endpoint, or the refusal that was ordered.
fn shape(ask: &Ask<'_>, method: &str) -> Answer {
    let refuse = |status, message: &str| {
        refusal::refuse(
            ask.route,
            status,
            message,
            &ask.digest,
            ask.command.retry_after,
        )
    };
    match ask.command.status {
        Some(status @ (204 | 304)) => return Answer::empty(status),
        Some(status) if status >= 400 => return refuse(status, &refusal::message(status)),
        _ => {}
    }
    let readable = matches!(
        ask.route.endpoint,
        Endpoint::Models | Endpoint::Model | Endpoint::Echo | Endpoint::Unknown
    );
    if method == "GET" && !readable {
        return refuse(405, "This endpoint takes POST.");
    }
    let mut answer = match ask.route.endpoint {
        Endpoint::Chat => openai::chat(ask),
        Endpoint::Completions => openai::completions(ask),
        Endpoint::Responses => responses::responses(ask),
        Endpoint::Embeddings => openai::embeddings(ask),
        Endpoint::Models => openai::models(ask),
        Endpoint::Model => openai::model(ask),
        Endpoint::Moderations => openai::moderations(ask),
        Endpoint::Speech => media::speech(ask),
        Endpoint::Transcription => media::transcription(ask),
        Endpoint::Images => media::images(ask),
        Endpoint::Messages => anthropic::messages(ask),
        Endpoint::MessagesCount => anthropic::count_tokens(ask),
        Endpoint::Generate { stream } => gemini::generate(ask, stream),
        Endpoint::GenerateCount => gemini::count_tokens(ask),
        Endpoint::EmbedContent { batch } => gemini::embed(ask, batch),
        Endpoint::CohereChatV1 => cohere::chat_v1(ask),
        Endpoint::CohereChatV2 => cohere::chat_v2(ask),
        Endpoint::CohereEmbed { v2 } => cohere::embed(ask, v2),
        Endpoint::Rerank => cohere::rerank(ask),
        Endpoint::Invoke { stream } => bedrock::invoke(ask, stream),
        Endpoint::Converse { stream } => bedrock::converse(ask, stream),
        Endpoint::Run => workers_ai::run(ask),
        Endpoint::Echo => media::echo(ask),
        Endpoint::Unknown => return refuse(404, "Unknown request URL."),
    };
    if let Some(status) = ask.command.status {
        answer.status = status;
        if (300..400).contains(&status) {
            answer = answer.with("location", "/elsewhere");
        }
    }
    answer
}

/// Accepts a WebSocket, unless a status was ordered that refuses it.
fn upgrade(
    peer: &Peer,
    reader: &mut Reader<'_>,
    request: &Request<'_>,
    handshake: &Handshake,
    command: Command,
) -> Next {
    if command.status.is_some_and(|status| status >= 400) {
        return answer(peer, request, command);
    }
    let counters = &peer.shared.counters;
    let place = (request.route.provider, "websocket");
    let running = counters.begin(peer.id(), place, request.head, &request.body);
    let sent = websocket::serve(peer, reader, handshake, &command);
    counters.end(&running, 101, sent, (0, 0), peer.shared.peers.closing());
    match sent.end {
        End::Cut { reset: true } => Next::Reset,
        End::Aborted => Next::Gone,
        End::Complete { .. } | End::Cut { reset: false } => Next::Finish,
    }
}

/// Reads the body and answers; neither counts.
fn aside(peer: &Peer, reader: &mut Reader<'_>, head: &Head, answer: Answer) -> Next {
    if let Err(error) = reader.body(head, None) {
        return unreadable(peer, error);
    }
    match send(peer, asked(head), answer, &Command::default()).end {
        End::Complete { keep_alive: true } => Next::Request,
        _ => Next::Finish,
    }
}

fn inspect(peer: &Peer, method: &str, name: &str, query: &str) -> Answer {
    let counters = &peer.shared.counters;
    match (method, name) {
        ("GET" | "HEAD", "counters") => Answer::json(200, &counters.report(&peer.shared.peers)),
        ("GET" | "HEAD", "requests") => {
            let last = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("last=")?.parse().ok())
                .unwrap_or(LAST_REQUESTS);
            Answer::json(200, &counters.requests(last))
        }
        ("POST", "reset") => {
            counters.reset();
            Answer::empty(204)
        }
        _ => Answer::json(404, &json!({ "error": "no such inspection" })),
    }
}

fn unreadable(peer: &Peer, error: ReadError) -> Next {
    let reason = match error {
        ReadError::Gone => {
            if !peer.shared.peers.closing() {
                peer.shared.counters.cut_request();
            }
            return Next::Gone;
        }
        ReadError::Bad(reason) => reason,
    };
    peer.shared.counters.bad_request();
    let asked = Asked {
        head_only: false,
        version_11: true,
        keep_alive: false,
    };
    let answer = Answer::json(
        400,
        &json!({ "error": { "message": reason, "type": "bad_request" } }),
    );
    send(peer, asked, answer, &Command::default());
    Next::Finish
}

fn misunderstood(error: &CommandError) -> Answer {
    Answer::json(
        400,
        &json!({ "error": { "message": error.to_string(), "type": "mock_command" } }),
    )
}

fn add_request_id(route: &Route, command: &Command, answer: Answer) -> Answer {
    let Some(id) = &command.reqid else {
        return answer;
    };
    let name = match route.family() {
        Family::Anthropic => "request-id",
        Family::Bedrock => "x-amzn-requestid",
        _ => "x-request-id",
    };
    answer.with(name, if id.is_empty() { "req_mock" } else { id })
}

/// The commands of header and query.
fn given_commands(head: &Head, query: &str) -> String {
    let mut given = head.commands.clone();
    for value in query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("mock="))
    {
        given.push(',');
        given.push_str(&decode(value));
    }
    given
}

fn asked(head: &Head) -> Asked {
    Asked {
        head_only: head.method == "HEAD",
        version_11: head.version_11,
        keep_alive: head.keep_alive,
    }
}

/// The digest of a body; of a form with a file, that of the file, since boundaries are random.
fn digest_of(content_type: &str, body: &Body) -> String {
    digest::echo(media::file_part(content_type, &body.kept).unwrap_or(&body.kept))
}

/// Whether a body is to be read as JSON, whatever it calls itself.
fn is_json(body: &Body) -> bool {
    body.is_whole() && body.kept.trim_ascii_start().starts_with(b"{")
}

/// Requests that an inspection shows unless it says how many.
const LAST_REQUESTS: usize = 10;
