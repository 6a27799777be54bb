//! All that is kept about one attempt, one cache hit or one refusal.
//!
//! A record is made on a shard, crosses to the log writer by value, and is archived as it is in
//! a row frame. Its numbers are plain fields; its texts lie packed in one buffer, so that making
//! a record costs one allocation.

use std::ops::Range;

use rkyv::{
    Archive, Archived, Deserialize, Place, Serialize,
    rancor::Fallible,
    ser::{Allocator, Writer},
    vec::{ArchivedVec, VecResolver},
    with::{ArchiveWith, DeserializeWith, SerializeWith},
};

use super::{id::RequestId, money::PicoDollars, outcome::Outcome, usage::Usage};

/// The texts of a record, in the order in which they lie in [`Texts`].
///
/// New ones go at the end: the number of a field is part of the file format, and a reader takes
/// a missing field as empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Text {
    /// Gateway id.
    Gateway = 0,
    /// Provider slug.
    Provider = 1,
    /// Model as the caller or the answer named it; empty if unknown.
    Model = 2,
    /// Normalised `provider/model` name (contract `observability.md` 1.3).
    ModelName = 3,
    /// Request method.
    Method = 4,
    /// The provider's path with its query, secrets replaced by `***`.
    Path = 5,
    /// `user-agent` of the caller.
    UserAgent = 6,
    /// Metadata as a JSON object, at most five entries; empty if none.
    Metadata = 7,
    /// Event id if the caller named one; empty: the record's own id.
    EventId = 8,
    /// Name of the key the caller proved; empty if none.
    Key = 9,
    /// `content-type` of the request.
    RequestContentType = 10,
    /// `content-type` of the answer.
    ResponseContentType = 11,
    /// `content-encoding` of the answer; empty if none.
    ResponseContentEncoding = 12,
    /// What went wrong, in plain words; empty if nothing did.
    Error = 13,
    /// The key of the price-table entry that priced it; empty if unpriced.
    PriceKey = 14,
    /// The provider's own request id (`x-request-id` or its like).
    UpstreamRequestId = 15,
    /// What was consumed beyond the tokens that have columns of their own, as [`Usage::detail`]
    /// writes it; empty if nothing was.
    UsageDetail = 16,
    /// Digests of the parts of the cache key ([`PartDigests`](super::cache::PartDigests)); empty
    /// where the cache did not concern the exchange.
    CacheKey = 17,
}

/// How many texts a record has.
pub const TEXTS: usize = 18;

impl Text {
    /// Every text, in the order of its number.
    pub const ALL: [Self; TEXTS] = [
        Self::Gateway,
        Self::Provider,
        Self::Model,
        Self::ModelName,
        Self::Method,
        Self::Path,
        Self::UserAgent,
        Self::Metadata,
        Self::EventId,
        Self::Key,
        Self::RequestContentType,
        Self::ResponseContentType,
        Self::ResponseContentEncoding,
        Self::Error,
        Self::PriceKey,
        Self::UpstreamRequestId,
        Self::UsageDetail,
        Self::CacheKey,
    ];

    /// Says whether a record keeps the text although its caller wanted no log: what rollups group
    /// by, and nothing of what the caller sent.
    pub fn is_kept_unlogged(self) -> bool {
        match self {
            Self::Gateway
            | Self::Provider
            | Self::Model
            | Self::ModelName
            | Self::Key
            | Self::PriceKey
            | Self::UsageDetail => true,
            Self::Method
            | Self::Path
            | Self::UserAgent
            | Self::Metadata
            | Self::EventId
            | Self::RequestContentType
            | Self::ResponseContentType
            | Self::ResponseContentEncoding
            | Self::Error
            | Self::UpstreamRequestId
            | Self::CacheKey => false,
        }
    }
}

/// The texts of a record, one after another in one buffer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub struct Texts {
    bytes: Vec<u8>,
    #[rkyv(with = AsList)]
    ends: [u32; TEXTS],
}

/// Archives an array as a list, whose length is archived too.
struct AsList;

impl ArchiveWith<[u32; TEXTS]> for AsList {
    type Archived = ArchivedVec<Archived<u32>>;
    type Resolver = VecResolver;

    fn resolve_with(ends: &[u32; TEXTS], resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(ends, resolver, out);
    }
}

impl<S: Fallible + Allocator + Writer + ?Sized> SerializeWith<[u32; TEXTS], S> for AsList {
    fn serialize_with(ends: &[u32; TEXTS], serializer: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::serialize_from_slice(ends, serializer)
    }
}

impl<D: Fallible + ?Sized> DeserializeWith<ArchivedVec<Archived<u32>>, [u32; TEXTS], D> for AsList {
    /// Texts that the list does not have are empty.
    fn deserialize_with(
        list: &ArchivedVec<Archived<u32>>,
        _: &mut D,
    ) -> Result<[u32; TEXTS], D::Error> {
        let mut last = 0;
        Ok(std::array::from_fn(|index| {
            last = list.get(index).map_or(last, |end| end.to_native());
            last
        }))
    }
}

impl Texts {
    /// Packs `texts`, which are given in the order of [`Text`]. Bytes that are not UTF-8 are
    /// replaced when the text is read.
    pub fn pack(texts: &[&[u8]; TEXTS]) -> Self {
        let mut bytes = Vec::with_capacity(texts.iter().map(|text| text.len()).sum());
        let mut ends = [0; TEXTS];
        for (text, end) in texts.iter().zip(&mut ends) {
            bytes.extend_from_slice(text);
            *end = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        }
        Self { bytes, ends }
    }

    /// The bytes of one text; empty if the record has none.
    pub fn get(&self, text: Text) -> &[u8] {
        slice(&self.bytes, text as usize, |index| {
            self.ends.get(index).map(|end| *end as usize)
        })
    }

    /// All texts, in the order of [`Text`]: for who wants each of them.
    pub fn all(&self) -> [&[u8]; TEXTS] {
        let mut from = 0;
        std::array::from_fn(|index| {
            let to = self.ends.get(index).map_or(0, |end| *end as usize);
            let text = self.bytes.get(from..to).unwrap_or_default();
            from = to;
            text
        })
    }

    /// Says whether those texts whose numbers are in `range` are the same as `other`'s: one comparison
    /// of their lengths and one of their bytes.
    pub fn same(&self, other: &Self, range: Range<usize>) -> bool {
        let (Some(mine), Some(theirs)) = (self.run(range.clone()), other.run(range)) else {
            return false;
        };
        let (start, their_start) = (mine.start, theirs.start);
        let mut differs = 0;
        for (end, their_end) in mine.ends.iter().zip(theirs.ends) {
            differs |= end.wrapping_sub(start) ^ their_end.wrapping_sub(their_start);
        }
        differs == 0 && mine.bytes == theirs.bytes
    }

    fn run(&self, range: Range<usize>) -> Option<Run<'_>> {
        let start = match range.start {
            0 => 0,
            first => *self.ends.get(first - 1)?,
        };
        let ends = self.ends.get(range)?;
        let end = ends.last().map_or(start, |end| *end);
        let bytes = self.bytes.get(start as usize..end as usize)?;
        Some(Run { start, ends, bytes })
    }

    /// Bytes of all texts together.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Some texts that follow one another.
struct Run<'a> {
    start: u32,
    ends: &'a [u32],
    bytes: &'a [u8],
}

impl ArchivedTexts {
    /// The bytes of one text; empty if the record has none.
    pub fn get(&self, text: Text) -> &[u8] {
        slice(&self.bytes, text as usize, |index| {
            self.ends.get(index).map(|end| end.to_native() as usize)
        })
    }
}

fn slice(bytes: &[u8], index: usize, end: impl Fn(usize) -> Option<usize>) -> &[u8] {
    let from = match index {
        0 => 0,
        _ => end(index - 1).unwrap_or(usize::MAX),
    };
    let to = end(index).unwrap_or(0);
    bytes.get(from..to).unwrap_or_default()
}

/// What is kept about one attempt, one cache hit or one refusal.
///
/// Times are microseconds. Numbers that can be unknown are `None` then, which is not zero.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub struct Record {
    /// The record's id (see [`RequestId`]).
    pub id: [u8; 16],
    /// When the request's head was complete: microseconds since the Unix epoch.
    pub at_micros: u64,
    /// From there to the last byte handed to the caller's socket.
    pub duration_micros: u64,
    /// From the request sent upstream to the first byte of the answer's head.
    pub first_byte_micros: Option<u64>,
    /// From the request sent upstream to the first token: for a stream the first event that
    /// carries a delta, else the first byte of the body.
    pub first_token_micros: Option<u64>,
    /// Time that tidegate itself added.
    pub overhead_micros: u64,
    /// Status sent to the caller; 0 if none was sent. Of an attempt that another one followed, the
    /// status that it would have had.
    pub status: u16,
    /// [`Outcome`] as its number.
    pub outcome: u8,
    /// Index of the step that this attempt belongs to.
    pub step: u8,
    /// Number of the attempt within its exchange, from 0.
    pub attempt: u8,
    /// See [`flag`].
    pub flags: u32,
    /// Bytes of the request's body as received.
    pub request_bytes: u64,
    /// Bytes of the answer's body as relayed.
    pub response_bytes: u64,
    /// See [`Usage::input`].
    pub tokens_input: Option<u64>,
    /// See [`Usage::output`].
    pub tokens_output: Option<u64>,
    /// See [`Usage::cache_read`].
    pub tokens_cache_read: Option<u64>,
    /// See [`Usage::cache_write`].
    pub tokens_cache_write: Option<u64>,
    /// See [`Usage::cache_write_hour`].
    pub tokens_cache_write_hour: Option<u64>,
    /// See [`Usage::reasoning`].
    pub tokens_reasoning: Option<u64>,
    /// Cost in pico-dollars; `None` if the price or the usage is unknown.
    pub cost: Option<u64>,
    /// Hash of the price table that `cost` was computed with; 0 if none.
    pub price_table: u64,
    /// The texts.
    pub texts: Texts,
}

/// Bits of [`Record::flags`].
pub mod flag {
    /// The answer was a stream of events.
    pub const STREAM: u32 = 1;
    /// The cost came from the caller's own prices.
    pub const CUSTOM_COST: u32 = 1 << 1;
    /// Bodies were to be stored (payload logging was on).
    pub const PAYLOAD: u32 = 1 << 2;
    /// The body of the request was not stored whole: too large, or the log was behind.
    pub const REQUEST_BODY_DROPPED: u32 = 1 << 3;
    /// The body of the answer was not stored whole.
    pub const RESPONSE_BODY_DROPPED: u32 = 1 << 4;
    /// The caller proved a gateway token.
    pub const AUTHENTICATED: u32 = 1 << 5;
    /// The provider was called with a stored credential.
    pub const STORED_CREDENTIAL: u32 = 1 << 6;
    /// The answer came from the cache.
    pub const CACHED: u32 = 1 << 7;
    /// The connection became a WebSocket.
    pub const WEB_SOCKET: u32 = 1 << 8;
    /// The answer's usage could not be read although it was expected.
    pub const USAGE_UNKNOWN: u32 = 1 << 9;
    /// Logging was off for the exchange: the record counts in rollups and is never served.
    pub const UNLOGGED: u32 = 1 << 10;
    /// Another attempt followed this one: the exchange ended there.
    pub const FOLLOWED: u32 = 1 << 11;
    /// Of several stored credentials, the place of the one that was used: the first of six bits.
    pub const STORED_PLACE_SHIFT: u32 = 16;
    /// The bits of that place.
    pub const STORED_PLACE: u32 = 0x3f << STORED_PLACE_SHIFT;
}

impl Record {
    /// The record's id.
    pub fn id(&self) -> RequestId {
        RequestId(self.id)
    }

    /// The place of the stored credential that was used among those of its provider, from 0; `None` if
    /// none was.
    pub fn stored_place(&self) -> Option<u32> {
        let place = (self.flags & flag::STORED_PLACE) >> flag::STORED_PLACE_SHIFT;
        (self.flags & flag::STORED_CREDENTIAL != 0).then_some(place)
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        Outcome::from_number(self.outcome).unwrap_or(Outcome::Internal)
    }

    /// Input and output tokens that a provider was asked for: none if the cache answered, whatever
    /// that saved (contract `observability.md` section 1).
    pub fn tokens_used(&self) -> (Option<u64>, Option<u64>) {
        if self.flags & flag::CACHED == 0 {
            (self.tokens_input, self.tokens_output)
        } else {
            (Some(0), Some(0))
        }
    }

    /// The tokens, brought back to one value.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage {
            input: self.tokens_input,
            output: self.tokens_output,
            cache_read: self.tokens_cache_read,
            cache_write: self.tokens_cache_write,
            cache_write_hour: self.tokens_cache_write_hour,
            reasoning: self.tokens_reasoning,
            ..Usage::UNKNOWN
        };
        usage.note_detail(&self.text(Text::UsageDetail));
        usage
    }

    /// Its tokens: input, output, read from and written to the prompt cache, reasoning.
    pub fn token_kinds(&self) -> [Option<u64>; 5] {
        [
            self.tokens_input,
            self.tokens_output,
            self.tokens_cache_read,
            self.tokens_cache_write,
            self.tokens_reasoning,
        ]
    }

    /// Notes the tokens of `usage` that have columns of their own; the rest goes into
    /// [`Text::UsageDetail`].
    pub fn set_usage(&mut self, usage: &Usage) {
        self.tokens_input = usage.input;
        self.tokens_output = usage.output;
        self.tokens_cache_read = usage.cache_read;
        self.tokens_cache_write = usage.cache_write;
        self.tokens_cache_write_hour = usage.cache_write_hour;
        self.tokens_reasoning = usage.reasoning;
    }

    /// What it cost, if that is known.
    pub fn cost(&self) -> Option<PicoDollars> {
        self.cost.map(PicoDollars)
    }

    /// One text, made printable.
    pub fn text(&self, text: Text) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.texts.get(text))
    }

    /// Says whether a [`flag`] is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Says whether the record may be served; otherwise it counts in rollups only.
    pub fn is_logged(&self) -> bool {
        !self.has(flag::UNLOGGED)
    }

    /// Makes it one that only counts in rollups: what the caller sent is forgotten.
    pub fn unlog(&mut self) {
        self.flags |= flag::UNLOGGED;
        let texts = Text::ALL.map(|text| {
            let kept = text.is_kept_unlogged().then(|| self.texts.get(text));
            kept.unwrap_or_default()
        });
        self.texts = Texts::pack(&texts);
    }
}

impl ArchivedRecord {
    /// Says whether the record may be served; otherwise it counts in rollups only.
    pub fn is_logged(&self) -> bool {
        self.flags.to_native() & flag::UNLOGGED == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_were_packed() {
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[Text::Gateway as usize] = b"default";
        texts[Text::Model as usize] = b"gpt-4o";
        texts[Text::UpstreamRequestId as usize] = b"req_1";
        let packed = Texts::pack(&texts);
        assert_eq!(packed.get(Text::Gateway), b"default");
        assert_eq!(packed.get(Text::Provider), b"");
        assert_eq!(packed.get(Text::Model), b"gpt-4o");
        assert_eq!(packed.get(Text::UpstreamRequestId), b"req_1");
        assert_eq!(Texts::default().get(Text::Model), b"");
        assert_eq!(packed.all(), texts);
        assert_eq!(Texts::default().all(), [b""; TEXTS]);
    }

    #[test]
    fn texts_are_listed_by_their_numbers() {
        for (number, text) in Text::ALL.into_iter().enumerate() {
            assert_eq!(text as usize, number);
        }
    }

    #[test]
    fn archived_bytes_hold_the_record() {
        let record = Record {
            id: [7; 16],
            cost: Some(5),
            texts: Texts::pack(&[b"x"; TEXTS]),
            ..Record::default()
        };
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&record).unwrap();
        let archived = rkyv::access::<ArchivedRecord, rkyv::rancor::Error>(&bytes).unwrap();
        assert_eq!(archived.texts.get(Text::Error), b"x");
        let back: Record = rkyv::deserialize::<Record, rkyv::rancor::Error>(archived).unwrap();
        assert_eq!(back, record);
    }
}
