//! Stage 5 of an exchange: the cache is asked before the provider, and gets what that answers.

use std::{cell::Cell, future::pending, rc::Rc, sync::Arc, time::Duration};

use super::{Ended, Errand, Stopped, resume, step::Step};
use crate::{
    domain::{
        cache::PartDigests, money::PicoDollars, outcome::Outcome, record::flag, usage::Usage,
    },
    http::{
        head::{ResponseFraming, ResponseHead, Version},
        header::{FieldName, is_gateway_only},
    },
    shard::{
        Shard,
        body::Body,
        cache::{
            self, Intent, Keeper, Lookup,
            admission::{self, Candidate, Wish},
            cached::{Cached, Front, FrontParts, Rest},
            failure,
            key::{CredentialDigest, HashedRow, Key, KeyParts, is_plain_field},
            live::LiveHead,
            run::RunId,
        },
        connection::{Downstream, Interrupt},
        emit::{self, CachedHead, Framing},
        record::{Draft, Gathered},
        relay::{
            After, Pace,
            shared::{self, Delivered, Fetched},
        },
        reply::CacheStatus,
        track::{self, Cut, Track},
    },
};

/// The time for which an answer is kept whose request names a key where caching is off (contract
/// `data-plane.md` section 11).
const CUSTOM_KEY_TTL: Duration = Duration::from_mins(5);

/// Longest time that a request waits for another one that fetches the same answer. A model that
/// thinks for longer is asked twice.
const PATIENCE: Duration = Duration::from_mins(10);

/// What the cache said.
pub(super) enum Looked {
    /// It had the answer, which is sent.
    Ended(Ended),
    /// The provider is asked. What it answers may be kept, if there is leave.
    Miss(Option<Keep>),
}

/// Leave to keep an answer.
pub(super) struct Keep {
    keeper: Keeper,
    ttl: Duration,
    wish: Wish,
    key: Key,
}

/// Asks the cache, if it concerns the request at all.
pub(super) async fn look(
    errand: &mut Errand<'_, '_>,
    step: &Step<'_, '_>,
    body: &Body,
    draft: &mut Draft<'_>,
    body_read: bool,
) -> Result<Looked, Stopped> {
    let shard = errand.shard;
    if !errand.gateway.resume_for.is_zero()
        && let Some(id) = step.head.field(FieldName::CfAigRunId)
    {
        let resumed = Box::pin(resume::resume(errand, step, id, draft, body_read)).await?;
        return Ok(Looked::Ended(resumed));
    }
    let Some(ttl) = ttl(errand, step) else {
        return Ok(Looked::Miss(None));
    };
    let rules = errand.gateway.cache;
    let wishes = step.wishes;
    let asked = wishes.cache_ttl.is_some() || wishes.cache_key.is_some();
    let concerned = shard.cache.is_on()
        && step.route.upgrade.is_none()
        && matches!(body, Body::Whole(_))
        && (rules.streams || !draft.wants_stream)
        && admission::may_be_answered(step.head.method, &step.head.fields, asked);
    if !concerned {
        return Ok(Looked::Miss(None));
    }
    let body = bytes_of(body);
    let (key, digests) = key(errand, step, body, draft);
    draft.cache = Some(CacheStatus::Miss);
    draft.key_digests = Some(Box::new(digests));
    let intent = if wishes.skip_cache == Some(true) {
        Intent::Fresh
    } else {
        Intent::Share
    };
    let started = shard.clock.now();
    errand.peer.deadline.set(None);
    let look = cache::look(shard, &key, body, intent, PATIENCE);
    let peer = &mut *errand.peer;
    let looked =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, look).await;
    draft.waited_micros += shard.clock.now().micros_since(started);
    match looked {
        Ok(Lookup::Hit(cached)) => {
            let ended = Box::pin(send(errand, step, &cached, draft, body_read)).await?;
            Ok(Looked::Ended(ended))
        }
        Ok(Lookup::Live(head, reader)) => {
            let ended = Box::pin(follow(
                errand,
                step,
                &head,
                reader,
                &[],
                None,
                draft,
                body_read,
            ))
            .await;
            Ok(Looked::Ended(ended))
        }
        Ok(Lookup::Miss(keeper)) => Ok(Looked::Miss(keeper.map(|keeper| Keep {
            keeper,
            ttl,
            wish: Wish {
                asked,
                shared: rules.shared,
                streams: rules.streams,
                answer_bytes_max: shard.cache.answer_bytes_max(),
            },
            key,
        }))),
        Err(Interrupt::Gone | Interrupt::Late) => Err(Stopped::Gone),
    }
}

/// For how long the answer is kept; `None`: the cache is off.
fn ttl(errand: &Errand<'_, '_>, step: &Step<'_, '_>) -> Option<Duration> {
    let of_gateway = errand.gateway.cache.ttl;
    let ttl = match step.wishes.cache_ttl {
        Some(ttl) => ttl,
        None if of_gateway.is_zero() && step.wishes.cache_key.is_some() => CUSTOM_KEY_TTL,
        None => of_gateway,
    };
    (!ttl.is_zero()).then_some(ttl)
}

/// Digests the credentials as they go to the provider: the caller's own, or those that are stored.
pub(super) fn credential(
    errand: &Errand<'_, '_>,
    step: &Step<'_, '_>,
    draft: &Draft<'_>,
) -> CredentialDigest {
    let of_head = (0..)
        .zip(&step.head.fields)
        .filter(|(_, field)| !is_plain_field(field) && !is_gateway_only(field.name))
        .filter(|(place, field)| !step.caller.is_token(*place) && !step.route.replaces(field))
        .map(|(_, field)| (field.name, field.value));
    let added = step.route.added.iter();
    let added = added.map(|(name, value)| (name.as_slice(), value.as_slice()));
    let shard = errand.shard;
    let mut row = shard.buffers.small();
    let digest = CredentialDigest::of(
        &shard.cache.secret,
        of_head.chain(added),
        &step.route.path,
        &draft.path,
        &mut row,
    );
    shard.buffers.give_back(row);
    digest
}

/// The key of a request with such a body, and digests of its parts.
fn key(
    errand: &mut Errand<'_, '_>,
    step: &Step<'_, '_>,
    body: &[u8],
    draft: &Draft<'_>,
) -> (Key, PartDigests) {
    let secret = &errand.shard.cache.secret;
    // Of a step of several nothing is known from its request's head.
    let is_whole = std::ptr::eq(step.head, errand.request);
    let remembered = &errand.peer.remembered;
    if is_whole && let Some(known) = remembered.key_row(errand.snapshot) {
        return known.key(secret, body);
    }
    let row = key_row(errand, step, draft);
    let key = row.key(secret, body);
    if is_whole {
        let remembered = &mut errand.peer.remembered;
        remembered.keep_key_row(errand.snapshot, row);
    }
    key
}

/// What stands in a key besides the body: of a request that is one step by itself it depends on the
/// request's head, the snapshot and the connection alone.
fn key_row(errand: &Errand<'_, '_>, step: &Step<'_, '_>, draft: &Draft<'_>) -> HashedRow {
    let (shard, rules) = (errand.shard, errand.gateway.cache);
    let credential = (!rules.shared).then(|| credential(errand, step, draft));
    let parts = KeyParts {
        account: step.account.as_bytes(),
        gateway: draft.gateway.as_bytes(),
        revision: rules.revision,
        provider: step.provider.slug.as_bytes(),
        method: step.head.method.as_bytes(),
        credential: credential.as_ref(),
        offered: emit::offered(&step.head.fields),
        custom: step.wishes.cache_key,
        origin: &step.route.origin,
        path: &draft.path,
        fields: &step.head.fields,
    };
    let mut rows = shard.cache.rows.borrow_mut();
    let mut row = shard.buffers.small();
    let hashed = parts.row(&shard.cache.secret, &mut rows, &mut row);
    shard.buffers.give_back(row);
    hashed
}

/// The bytes of a body that is here, as those in a key are.
fn bytes_of(body: &Body) -> &[u8] {
    match body {
        Body::Whole(bytes) => bytes,
        Body::Passing { .. } => &[],
    }
}

/// Notes what a hit has that its head tells.
fn note_hit(
    draft: &mut Draft<'_>,
    shard: &Shard,
    status: u16,
    content_type: &[u8],
    stream: bool,
) -> u64 {
    draft.cache = Some(CacheStatus::Hit);
    draft.flags |= flag::CACHED;
    draft.status = status;
    draft.response_type.extend_from_slice(content_type);
    if stream {
        draft.flags |= flag::STREAM;
    }
    let overhead = shard.clock.now().micros_since(draft.received);
    let overhead = overhead.saturating_sub(draft.waited_micros);
    draft.overhead_micros = Some(overhead);
    overhead
}

/// Notes what a hit costs: nothing, and what it saved is told apart by the record's flag.
fn note_saved(errand: &Errand<'_, '_>, draft: &mut Draft<'_>, model: &[u8], usage: &Usage) {
    let prices = &errand.snapshot.prices;
    let model = errand.shard.models.find(prices, draft.provider, model);
    let cost = &mut draft.cost;
    cost.model = Some(model);
    cost.metered.usage.input = usage.input;
    cost.metered.usage.output = usage.output;
    cost.cost = Some(0);
}

/// Sends an answer that another request is fetching, as it comes: `first`, then what the reader gives.
/// `run` is what a resumed one is called.
#[expect(
    clippy::too_many_arguments,
    reason = "an answer and its parties, each once"
)]
pub(super) async fn follow(
    errand: &mut Errand<'_, '_>,
    step: &Step<'_, '_>,
    live: &LiveHead,
    mut reader: track::Reader,
    first: &[u8],
    run: Option<RunId>,
    draft: &mut Draft<'_>,
    body_read: bool,
) -> Ended {
    let (shard, request) = (errand.shard, errand.request);
    let overhead = note_hit(draft, shard, live.status, &live.content_type, live.stream);
    if run.is_some() {
        // It is no hit: a caller gets his own answer again.
        draft.cache = None;
    }
    let framing = match live.length {
        Some(bytes) => Framing::Length(bytes),
        None if request.version == Version::Http11 => Framing::Chunked,
        None => Framing::Close,
    };
    let keep = request.keep_alive && body_read && framing != Framing::Close && !shard.is_draining();
    let mut out = shard.buffers.large();
    emit::cached(
        &mut out,
        &CachedHead {
            status: live.status,
            fields: &live.fields,
            framing,
            keep,
            ids: draft.ids(),
            overhead_micros: overhead,
        },
    );
    if let Some(run) = run {
        emit::add_field(&mut out, "cf-aig-run-id", &run.to_string());
    }
    if !first.is_empty() {
        shared::put(&mut out, first, framing);
        draft.response_piece(shard, first);
    }
    let _stream = live.stream.then(|| shard.stream_open());
    // The provider's pauses are bounded where it is asked.
    let pace = Pace {
        idle: step.provider.idle_timeout,
        end: None,
    };
    let peer = &mut *errand.peer;
    let delivered = shared::deliver(
        shard,
        peer,
        &mut reader,
        out,
        framing,
        &pace,
        |_| {},
        |bytes| draft.response_piece(shard, bytes),
    )
    .await;
    if let Some(error) = delivered.error() {
        error.clone_into(&mut draft.error);
    }
    let after = match delivered.after(peer, framing) {
        After::Keep if !keep => After::Close,
        after => after,
    };
    let outcome = match delivered {
        Delivered::Whole => Outcome::Ok,
        Delivered::Cut(Cut::Aborted) => Outcome::UpstreamCut,
        Delivered::Cut(Cut::Behind) | Delivered::Gone | Delivered::Late => Outcome::Cancelled,
    };
    note_saved(errand, draft, &live.model, &reader.usage());
    Ended { outcome, after }
}

/// Sends an answer of the cache.
async fn send(
    errand: &mut Errand<'_, '_>,
    step: &Step<'_, '_>,
    cached: &Cached,
    draft: &mut Draft<'_>,
    body_read: bool,
) -> Result<Ended, Stopped> {
    let (shard, request) = (errand.shard, errand.request);
    let keep = request.keep_alive && body_read && !shard.is_draining();
    let stream = cached.is_stream();
    let overhead = note_hit(draft, shard, cached.status, cached.content_type(), stream);
    let mut out = shard.buffers.large();
    emit::cached(
        &mut out,
        &CachedHead {
            status: cached.status,
            fields: cached.fields(),
            framing: Framing::Length(cached.body().len() as u64),
            keep,
            ids: draft.ids(),
            overhead_micros: overhead,
        },
    );
    draft.response_piece(shard, cached.body());
    let peer = &mut *errand.peer;
    let sent = if stream && wants_first_pace(step) {
        send_paced(shard, peer, cached, &mut out).await
    } else {
        send_at_once(shard, peer, cached, &mut out).await
    };
    shard.buffers.give_back(out);
    note_saved(errand, draft, cached.model(), &cached.usage);
    if !sent {
        "the caller went away before the end of the answer".clone_into(&mut draft.error);
    }
    Ok(Ended {
        outcome: if sent {
            Outcome::Ok
        } else {
            Outcome::Cancelled
        },
        after: match (sent, keep) {
            (true, true) => After::Keep,
            (true, false) => After::Close,
            (false, _) => After::Drop,
        },
    })
}

/// Sends a cached answer behind the head in `out`; false: its caller did not take it.
async fn send_at_once(
    shard: &Shard,
    peer: &mut Downstream,
    cached: &Cached,
    out: &mut Vec<u8>,
) -> bool {
    let body = cached.body();
    match peer.writer.post(&[out, body]) {
        Ok(false) => {}
        posted => return posted.is_ok(),
    }
    peer.limit(&shard.clock, SEND_LIMIT);
    let writer = &mut peer.writer;
    let whole = out.len() + body.len() <= ONE_SEND_BYTES;
    let send = async {
        if whole {
            out.extend_from_slice(body);
            return writer.send(out).await;
        }
        writer.send(out).await?;
        writer.send(body).await
    };
    let sent =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send).await;
    matches!(sent, Ok(Ok(())))
}

/// Says whether a caller wants a cached stream at the pace at which it first came: `tg-replay: original`.
fn wants_first_pace(step: &Step<'_, '_>) -> bool {
    let mut fields = step.head.fields.iter();
    let field = fields.find(|field| field.name.eq_ignore_ascii_case(b"tg-replay"));
    field.is_some_and(|field| field.value.eq_ignore_ascii_case(b"original"))
}

/// Sends a cached stream behind the head in `out`, each frame when it came after the first answer's
/// head, to the tick; false: its caller did not take it.
async fn send_paced(
    shard: &Shard,
    peer: &mut Downstream,
    cached: &Cached,
    out: &mut Vec<u8>,
) -> bool {
    let began = shard.clock.now();
    let mut frames = cached.frames.iter().peekable();
    let mut from = 0;
    loop {
        let passed = shard.clock.now().micros_since(began);
        let mut end = from;
        while let Some(frame) = frames.next_if(|frame| u64::from(frame.micros) <= passed) {
            end = usize::try_from(frame.end).unwrap_or(usize::MAX);
        }
        out.extend_from_slice(cached.body().get(from..end).unwrap_or_default());
        from = end;
        if !out.is_empty() {
            peer.limit(&shard.clock, SEND_LIMIT);
            let send = peer.writer.send(out);
            let sent =
                Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send);
            if !matches!(sent.await, Ok(Ok(()))) {
                return false;
            }
            out.clear();
        }
        let Some(next) = frames.peek() else {
            return true;
        };
        let due = began.after(Duration::from_micros(next.micros.into()));
        peer.deadline.set(Some(due));
        let wait = pending::<()>();
        let waited =
            Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, wait);
        if waited.await == Err(Interrupt::Gone) {
            return false;
        }
    }
}

/// Longest time for a caller to take an answer of the cache.
const SEND_LIMIT: Duration = Duration::from_mins(5);

/// Answers up to this size go out in one send with their head.
const ONE_SEND_BYTES: usize = 64 * 1024;

/// What is remembered of an answer's head until its body has passed.
pub(super) struct Keeping {
    keeper: Keeper,
    ttl: Duration,
    answer_bytes_max: u64,
    status: u16,
    /// What its body is gathered behind. While that is gathered its bytes are there.
    front: Front,
    /// What was fetched, where others read along.
    track: Option<Track>,
    /// How it was fetched, where that is told apart from the caller's own end.
    fetched: Option<Fetched>,
}

/// Answers up to this size get all their memory when their length is known; that of larger ones grows
/// as they come.
const AT_ONCE_BYTES: u64 = 64 * 1024;

impl Keep {
    /// Decides by the head whether the answer may be kept, and begins with what is known of it.
    pub(super) fn begin(
        self,
        shard: &Shard,
        step: &Step<'_, '_>,
        body: &Body,
        head: &ResponseHead<'_>,
        draft: &Draft<'_>,
    ) -> Option<Keeping> {
        let candidate = candidate(head, draft);
        if admission::head_may_be_kept(&candidate, &self.wish).is_err() {
            self.keeper.not_kept();
            return None;
        }
        let mut fields = shard.buffers.small();
        emit::kept_fields(&mut fields, head, step.head.method);
        let parts = FrontParts {
            key: self.key.pieces(bytes_of(body)),
            gateway: draft.gateway,
            provider: &step.provider.slug,
            fields: &fields,
            content_type: &draft.response_type,
            model: &draft.model,
        };
        let room = match head.framing {
            ResponseFraming::Length(bytes @ ..=AT_ONCE_BYTES) => bytes,
            _ => 0,
        };
        let front = Front::new(&parts, usize::try_from(room).unwrap_or_default());
        shard.buffers.give_back(fields);
        Some(Keeping {
            keeper: self.keeper,
            ttl: self.ttl,
            answer_bytes_max: self.wish.answer_bytes_max,
            status: head.status,
            front,
            track: None,
            fetched: None,
        })
    }

    /// Set while others wait for the answer.
    pub(super) fn followed(&self) -> Option<Rc<Cell<bool>>> {
        self.keeper.followed()
    }

    /// There was no answer.
    pub(super) fn failed(self) {
        self.keeper.failed();
    }
}

/// What others who read an answer along need of its head. `fields` are those that are kept.
pub(super) fn live_head(
    key: &[u8],
    fields: &[u8],
    head: &ResponseHead<'_>,
    draft: &Draft<'_>,
) -> LiveHead {
    LiveHead {
        key: key.into(),
        status: head.status,
        fields: fields.into(),
        content_type: draft.response_type.as_slice().into(),
        length: match head.framing {
            ResponseFraming::Length(bytes) => Some(bytes),
            ResponseFraming::None => Some(0),
            ResponseFraming::Chunked | ResponseFraming::Close => None,
        },
        stream: draft.flags & flag::STREAM != 0,
        model: draft.model.as_slice().into(),
    }
}

fn candidate<'h>(head: &'h ResponseHead<'_>, draft: &Draft<'_>) -> Candidate<'h> {
    Candidate {
        status: head.status,
        fields: &head.fields,
        framing: head.framing,
        whole: true,
        failed: false,
        body_bytes: 0,
        stream: draft.flags & flag::STREAM != 0,
    }
}

impl Keeping {
    /// Gathers the answer's body beside its relay.
    pub(super) fn gather(&mut self, shard: &Shard, draft: &mut Draft<'_>) {
        let front = std::mem::take(&mut self.front.bytes);
        let is_stream = draft.flags & flag::STREAM != 0;
        let since = is_stream.then(|| shard.clock.now());
        draft.gathered = Some(Gathered::new(front, since, self.answer_bytes_max));
    }

    /// Lets others read along, where the exchange leads.
    pub(super) fn go_live(
        &self,
        head: &ResponseHead<'_>,
        draft: &Draft<'_>,
    ) -> Option<(track::Writer, Track)> {
        if !self.keeper.leads() {
            return None;
        }
        let live = live_head(self.front.key(), self.front.fields(), head, draft);
        self.keeper.go_live(Arc::new(live))
    }

    /// Notes how an answer was fetched.
    pub(super) fn fetched(&mut self, track: Option<Track>, fetched: Fetched) {
        self.track = track;
        self.fetched = Some(fetched);
    }

    /// Keeps the answer, if it came whole and reports no failure.
    pub(super) fn end(self, draft: &mut Draft<'_>, outcome: Outcome) {
        let Self {
            keeper,
            ttl,
            answer_bytes_max,
            status,
            mut front,
            track,
            fetched,
        } = self;
        let gathered = draft.gathered.take();
        let frames = match track {
            None => gathered.map(|it| {
                front.bytes = it.bytes;
                it.frames.into_boxed_slice()
            }),
            Some(track) => track.whole(&mut front.bytes),
        };
        let outcome = match fetched {
            None => outcome,
            // Whatever became of the leader's own caller.
            Some(Fetched::Whole) => Outcome::Ok,
            Some(Fetched::Cut) => Outcome::UpstreamCut,
            Some(Fetched::Unread | Fetched::Abandoned) => Outcome::Cancelled,
        };
        match outcome {
            Outcome::Ok => {}
            // Dropped, the keeper says that the exchange went away: another one leads on.
            Outcome::Cancelled => return,
            _ => return keeper.failed(),
        }
        let Some(frames) = frames else {
            return keeper.not_kept();
        };
        let stream = draft.flags & flag::STREAM != 0;
        let answer = front.bytes.get(front.body_start()..).unwrap_or_default();
        if answer.len() as u64 > answer_bytes_max {
            return keeper.not_kept();
        }
        if draft.response_encoding.is_empty() && failure::reports_error(answer, stream) {
            return keeper.not_kept();
        }
        let rest = Rest {
            status,
            frames: if stream { frames } else { Box::default() },
            usage: draft.cost.metered.usage,
            cost: draft.cost.cost.map(PicoDollars),
            origin: draft.id,
            digests: draft.key_digests.as_deref().copied().unwrap_or_default(),
        };
        keeper.keep(Arc::new(Cached::new(front, rest)), ttl);
    }
}
