//! Stage 9: what is learnt about an exchange on its way, and the record made of it at its end.

use std::rc::Rc;

use super::{
    Shard,
    cache::cached::Frame,
    clock::{Clock, Moment},
    ledger::Standings,
    models::Known,
    reply::{CacheStatus, Ids},
};
use crate::{
    domain::{
        cache::PartDigests,
        id::RequestId,
        outcome::Outcome,
        record::{Record, TEXTS, Text, Texts, flag},
    },
    handoff::body_parts::{BodyCursor, Direction},
    provider::{
        meter::Metered,
        scanner::{RequestFacts, RequestScan},
    },
};

/// Largest bodies, both together, that are stored (contract `observability.md` 1.2: over 10 MB is
/// not stored). Beyond it the record is kept, and says that its bodies were dropped.
const STORED_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// What is known of an exchange so far.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of an exchange, each with its name"
)]
pub struct Draft<'a> {
    /// The id of this attempt's record.
    pub id: RequestId,
    /// The exchange's id: that of its first attempt and, unless the caller named one, its event's.
    pub request: RequestId,
    /// Which step this is, from 0.
    pub step: u8,
    /// Which attempt at the step, from 0.
    pub attempt: u8,
    /// The answer says which step it came from.
    pub shows_step: bool,
    /// When the attempt came to nothing, if what followed was a wait for another one.
    pub ended: Option<Moment>,
    /// When its head was complete.
    pub received: Moment,
    /// Time until now that was spent waiting for the caller or the provider.
    pub waited_micros: u64,
    /// The request went upstream.
    pub sent: Option<Moment>,
    /// The first byte of the answer came.
    pub first_byte: Option<Moment>,
    /// The first token of the answer came.
    pub first_token: Option<Moment>,
    /// Time that tidegate added, once it is known.
    pub overhead_micros: Option<u64>,
    /// A record is to be made that is served.
    pub logged: bool,
    /// Where that is not so, a record is made that only counts in rollups. Strangers leave
    /// neither.
    pub counted: bool,
    /// See [`flag`].
    pub flags: u32,
    /// Status sent to the caller; 0 if none was.
    pub status: u16,
    /// Gateway id.
    pub gateway: &'a str,
    /// Provider slug.
    pub provider: &'a str,
    /// The caller's event id.
    pub event_id: Option<&'a [u8]>,
    /// Name of the key.
    pub key: &'a str,
    /// Request method.
    pub method: &'a [u8],
    /// `user-agent`.
    pub user_agent: &'a [u8],
    /// `content-type` of the request.
    pub request_type: &'a [u8],
    /// The provider's path, redacted.
    pub path: Vec<u8>,
    /// Metadata as JSON.
    pub metadata: Vec<u8>,
    /// `content-type` of the answer.
    pub response_type: Vec<u8>,
    /// `content-encoding` of the answer.
    pub response_encoding: Vec<u8>,
    /// The provider's id for the request.
    pub upstream_id: Vec<u8>,
    /// The model by request or path.
    pub model: Vec<u8>,
    /// Looks for the model in a body that is passing, until it has passed.
    pub scan: Option<RequestScan>,
    /// What went wrong.
    pub error: String,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// The bodies on their way into the log, while they are stored.
    pub bodies: Option<Bodies>,
    /// The answer's body as it passes, where the cache may keep it.
    pub gathered: Option<Gathered>,
    /// Whether the cache had the answer, where caching can apply.
    pub cache: Option<CacheStatus>,
    /// Digests of the cache key's parts, where there is a key.
    pub key_digests: Option<Box<PartDigests>>,
    /// The request asks for a stream.
    pub wants_stream: bool,
    /// The most output tokens that the request allows.
    pub max_tokens: Option<u64>,
    /// How the limits stand.
    pub limits: Option<Box<Standings>>,
    /// What was used and what that costs; nothing, as far as anybody knows, until the end.
    pub cost: Costed,
}

/// An answer's body on its way into the cache.
pub struct Gathered {
    /// What it is gathered behind, and the bytes so far.
    pub bytes: Vec<u8>,
    /// Where each piece of a stream ends in the body and when it came.
    pub frames: Vec<Frame>,
    front: usize,
    since: Option<Moment>,
    max: u64,
}

impl Gathered {
    /// Gathers up to `max` bytes from now on, behind those of `front`. Pieces of a stream are noted,
    /// which began at `since`.
    pub fn new(front: Vec<u8>, since: Option<Moment>, max: u64) -> Self {
        Self {
            front: front.len(),
            bytes: front,
            frames: Vec::new(),
            since,
            max,
        }
    }

    fn add(&mut self, clock: &Clock, bytes: &[u8]) -> bool {
        let grown = self.bytes.len() - self.front + bytes.len();
        if grown as u64 > self.max {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        if let Some(since) = self.since {
            self.frames.push(Frame {
                end: u32::try_from(grown).unwrap_or(u32::MAX),
                micros: u32::try_from(clock.now().micros_since(since)).unwrap_or(u32::MAX),
            });
        }
        true
    }
}

/// Both bodies of an exchange, as the log takes them.
pub struct Bodies {
    request: BodyCursor,
    response: BodyCursor,
}

impl<'a> Draft<'a> {
    /// Opens the draft of the exchange whose head was complete at `received`.
    pub fn open(shard: &Shard, received: Moment) -> Self {
        let id = shard.next_id(received);
        Self {
            id,
            request: id,
            step: 0,
            attempt: 0,
            shows_step: false,
            ended: None,
            received,
            waited_micros: 0,
            sent: None,
            first_byte: None,
            first_token: None,
            overhead_micros: None,
            logged: false,
            counted: false,
            flags: 0,
            status: 0,
            gateway: "",
            provider: "",
            event_id: None,
            key: "",
            method: b"",
            user_agent: b"",
            request_type: b"",
            path: Vec::new(),
            metadata: Vec::new(),
            response_type: Vec::new(),
            response_encoding: Vec::new(),
            upstream_id: Vec::new(),
            model: Vec::new(),
            scan: None,
            error: String::new(),
            request_bytes: 0,
            response_bytes: 0,
            bodies: None,
            gathered: None,
            cache: None,
            key_digests: None,
            wants_stream: false,
            max_tokens: None,
            limits: None,
            cost: Costed::default(),
        }
    }

    /// The ids that the answer carries.
    pub fn ids(&self) -> Ids<'a> {
        Ids {
            request: self.request,
            event: self.event_id,
            log: self.logged.then_some(self.id),
            step: self.shows_step.then_some(self.step),
            cache: self.cache,
        }
    }

    /// Starts storing bodies.
    pub fn store_bodies(&mut self) {
        self.flags |= flag::PAYLOAD;
        self.bodies = Some(Bodies {
            request: BodyCursor::new(self.id, Direction::Request),
            response: BodyCursor::new(self.id, Direction::Response),
        });
    }

    /// Stores no bodies.
    pub fn leave_bodies(&mut self) {
        self.flags &= !flag::PAYLOAD;
        self.bodies = None;
    }

    /// Closes the draft of an attempt that came to nothing, and becomes the one of what follows:
    /// `next` is its step and attempt.
    pub fn pass_on(&mut self, shard: &Shard, outcome: Outcome, next: (u8, u8)) {
        let (step, attempt) = next;
        let mut kept = flag::AUTHENTICATED | flag::PAYLOAD;
        let mut following = Draft {
            request: self.request,
            step,
            attempt,
            shows_step: self.shows_step,
            logged: self.logged,
            counted: self.counted,
            gateway: self.gateway,
            event_id: self.event_id,
            key: self.key,
            method: self.method,
            user_agent: self.user_agent,
            request_type: self.request_type,
            metadata: self.metadata.clone(),
            ..Self::open(shard, shard.clock.now())
        };
        if step == self.step {
            kept |= flag::STORED_CREDENTIAL;
            following.provider = self.provider;
            following.path.clone_from(&self.path);
            following.model.clone_from(&self.model);
            following.cache = self.cache;
            following.key_digests = self.key_digests.take();
            following.wants_stream = self.wants_stream;
            following.max_tokens = self.max_tokens;
            following.limits = self.limits.take();
        }
        following.flags = self.flags & kept;
        if following.flags & flag::PAYLOAD != 0 {
            following.store_bodies();
        }
        let mut done = std::mem::replace(self, following);
        done.flags |= flag::FOLLOWED;
        done.close(shard, outcome);
    }

    /// A piece of the request's body passes.
    pub fn request_piece(&mut self, shard: &Shard, bytes: &[u8]) {
        self.request_bytes += bytes.len() as u64;
        let so_far = self.request_bytes + self.response_bytes;
        if let Some(bodies) = &mut self.bodies
            && bodies.fit(so_far)
        {
            shard.log.borrow_mut().body(&mut bodies.request, bytes);
        }
    }

    /// A piece of a request's body passes that is too large to be held.
    pub fn passing_piece(&mut self, bytes: &[u8]) {
        self.request_bytes += bytes.len() as u64;
        if let Some(scan) = &mut self.scan {
            scan.feed(bytes);
        }
    }

    /// The request's body has passed, or as much of it as ever will: its model is known now.
    pub fn end_scan(&mut self) {
        if let Some(scan) = self.scan.take() {
            self.note_facts(scan.facts());
        }
    }

    /// What the request's body says of itself is known.
    pub fn note_facts(&mut self, facts: RequestFacts) {
        self.wants_stream = facts.stream == Some(true);
        self.max_tokens = facts.max_tokens;
        if let Some(model) = facts.model.filter(|_| self.model.is_empty()) {
            self.model = model.into_string().into_bytes();
        }
    }

    /// A piece of the answer's body passes.
    pub fn response_piece(&mut self, shard: &Shard, bytes: &[u8]) {
        if let Some(gathered) = &mut self.gathered
            && !gathered.add(&shard.clock, bytes)
        {
            self.gathered = None;
        }
        self.response_bytes += bytes.len() as u64;
        let so_far = self.request_bytes + self.response_bytes;
        if let Some(bodies) = &mut self.bodies
            && bodies.fit(so_far)
        {
            shard.log.borrow_mut().body(&mut bodies.response, bytes);
        }
    }

    /// Gives up storing the request's body, because it is too large to be held.
    pub fn drop_request_body(&mut self) {
        if let Some(bodies) = &mut self.bodies {
            bodies.request.drop_rest();
        }
    }

    /// Closes the draft: counts the exchange and hands its record to the log. One that is not
    /// wanted there goes without what the caller sent: rollups count it. Nothing is to follow.
    pub fn close(&mut self, shard: &Shard, outcome: Outcome) {
        let ended = self.ended.unwrap_or_else(|| shard.clock.now());
        let micros = |from: Option<Moment>, to: Option<Moment>| Some(to?.micros_since(from?));
        if let Some(bodies) = &mut self.bodies {
            let mut log = shard.log.borrow_mut();
            log.end_body(&mut bodies.request);
            log.end_body(&mut bodies.response);
            if bodies.request.is_dropped() {
                self.flags |= flag::REQUEST_BODY_DROPPED;
            }
            if bodies.response.is_dropped() {
                self.flags |= flag::RESPONSE_BODY_DROPPED;
            }
        }
        let duration = ended.micros_since(self.received);
        let cost = &self.cost;
        // Boxed from the start: a record is large, and goes to the log as it is.
        let mut record = Box::new(Record {
            id: self.id.0,
            at_micros: shard.clock.unix_micros(self.received),
            duration_micros: duration,
            first_byte_micros: micros(self.sent, self.first_byte),
            first_token_micros: micros(self.sent, self.first_token),
            overhead_micros: self
                .overhead_micros
                .unwrap_or_else(|| duration.saturating_sub(self.waited_micros)),
            status: self.status,
            outcome: outcome as u8,
            step: self.step,
            attempt: self.attempt,
            flags: self.flags | cost.flags,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            cost: cost.cost,
            price_table: cost.price_table,
            ..Record::default()
        });
        record.set_usage(&cost.metered.usage);
        let model_name = cost.model.as_ref().map_or("", |model| &model.name);
        let streamed =
            micros(self.first_token, Some(ended)).filter(|_| self.flags & flag::STREAM != 0);
        shard.counters.borrow_mut().exchange(
            self.gateway,
            self.provider,
            model_name,
            &record,
            streamed,
        );
        if !self.logged {
            if !self.counted {
                return;
            }
            record.flags |= flag::UNLOGGED;
        }
        let detail = cost.metered.usage.detail();
        let reported = cost.metered.model.as_deref().unwrap_or("");
        let model = if self.model.is_empty() {
            reported.as_bytes()
        } else {
            &self.model
        };
        // What follows a first attempt says whose event it is part of.
        let event = (self.id != self.request).then(|| self.request.text());
        let event = event.as_ref().map(|id| &id[..]);
        let mut digests = Vec::new();
        if let Some(parts) = &self.key_digests {
            digests.reserve(PartDigests::TEXT_BYTES_MAX);
            parts.write(&mut digests);
        }
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        for (text, value) in [
            (Text::Gateway, self.gateway.as_bytes()),
            (Text::Provider, self.provider.as_bytes()),
            (Text::Model, model),
            (Text::ModelName, model_name.as_bytes()),
            (Text::Method, self.method),
            (Text::Path, &self.path),
            (Text::UserAgent, self.user_agent),
            (Text::Metadata, &self.metadata),
            (Text::EventId, self.event_id.or(event).unwrap_or_default()),
            (Text::Key, self.key.as_bytes()),
            (Text::RequestContentType, self.request_type),
            (Text::ResponseContentType, &self.response_type),
            (Text::ResponseContentEncoding, &self.response_encoding),
            (Text::Error, self.error.as_bytes()),
            (Text::PriceKey, cost.price_key.as_bytes()),
            (Text::UpstreamRequestId, &self.upstream_id),
            (Text::UsageDetail, detail.as_bytes()),
            (Text::CacheKey, &digests),
        ] {
            if self.logged || text.is_kept_unlogged() {
                texts[text as usize] = value;
            }
        }
        record.texts = Texts::pack(&texts);
        // The queue counts what it takes and what it drops.
        shard.log.borrow().record(record);
    }
}

impl Bodies {
    /// Says whether bodies of `so_far` bytes together are stored; otherwise gives up both.
    fn fit(&mut self, so_far: u64) -> bool {
        let fits = so_far <= STORED_BYTES_MAX;
        if !fits {
            self.request.drop_rest();
            self.response.drop_rest();
        }
        fits
    }
}

/// What an exchange used and what that costs. At first that is nothing, as far as anybody knows.
#[derive(Default)]
pub struct Costed {
    /// Usage, and the model as the answer named it.
    pub metered: Metered,
    /// The model, if the exchange came so far that one could be known.
    pub model: Option<Rc<Known>>,
    /// Pico-dollars; `None` if unknown.
    pub cost: Option<u64>,
    /// Key of the price-table entry.
    pub price_key: Box<str>,
    /// Hash of the price table.
    pub price_table: u64,
    /// Flags that follow from the cost.
    pub flags: u32,
}
