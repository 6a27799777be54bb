//! Identity: what two requests must have in common to get one answer, and who owns it.
//!
//! A key is the parts of [`Part`], each with its length, in one row of bytes. Two keys are one if
//! those rows are: a hash finds an entry, it never is the identity. Nothing is normalised, so
//! another order of members or another white space in a body is another key.
//!
//! * [`KeyParts`] borrows the parts of a request. [`KeyParts::row`] puts them in a row and hashes them:
//!   all but the body, which [`HashedRow::key`] reads where it lies.
//! * [`Key::matches`] compares that with the bytes of an entry, [`Key::pieces`] are such bytes, when an
//!   answer is stored.
//! * [`HashedRow::key`] gives digests of the parts besides, which the record keeps for `cache explain`.
//!
//! **Fields.** The credential is a part, whatever field holds it; so is what content codings the
//! provider was offered. Of the other fields those are part of the key that choose a version, a
//! feature, an account or a form of the answer: [`is_key_field`] is the list. Fields that only
//! tell about the caller (trace ids, telemetry, user agents) are not: with them no two requests
//! were ever the same.
//!
//! **The caller's own key** (`cf-aig-cache-key`) stands for address, path, fields and body. Account,
//! gateway, provider, method, credential and coding remain: nobody reads another's answers by
//! guessing a word, nor gets bytes that he cannot decode.

use std::rc::Rc;

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{
    domain::cache::{KeyHash, Part, PartDigests},
    http::{
        head::Field,
        header::{FieldName, is_gateway_only},
    },
    provider::address::Origin,
    shard::emit,
};

/// What makes keys of this server unlike those of another: nobody outside can foresee where a key
/// falls, or test a guess at a credential against a digest. To be derived from a secret that
/// outlives a restart, so that digests of records before and after can be compared.
#[derive(Clone)]
pub struct KeySecret {
    seed: u64,
    credentials: [u8; 32],
}

impl KeySecret {
    /// Derives it from a secret of this server's.
    pub fn derive(secret: &[u8]) -> Self {
        let seed = blake3::derive_key("tidegate 2026 cache key seed", secret);
        let seed = seed.first_chunk().copied().unwrap_or_default();
        Self {
            seed: u64::from_le_bytes(seed),
            credentials: blake3::derive_key("tidegate 2026 cache credential digest", secret),
        }
    }
}

impl KeySecret {
    /// The token of a run, which nobody outside can foresee.
    pub fn run_token(&self, shard: usize, number: u64) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(&self.credentials);
        hasher.update(b"run");
        hasher.update(&(shard as u64).to_le_bytes());
        hasher.update(&number.to_le_bytes());
        let token = hasher.finalize();
        let token = token.as_bytes().first_chunk().copied();
        u128::from_le_bytes(token.unwrap_or_default())
    }
}

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySecret(***)")
    }
}

/// A request's key: its parts in a row and its hash. The body is the request's, and handed in with
/// each question.
#[derive(Debug)]
pub struct Key {
    row: Rc<[u8]>,
    /// The head of the body's part, where it is a part.
    body_head: Option<[u8; PART_HEAD_BYTES]>,
    /// Of the whole key.
    pub hash: KeyHash,
}

impl Key {
    /// The bytes that an entry of this key has, in the order in which they follow each other.
    pub fn pieces<'k>(&'k self, body: &'k [u8]) -> [&'k [u8]; 3] {
        match &self.body_head {
            Some(head) => [&self.row, head, body],
            None => [&self.row, &[], &[]],
        }
    }

    /// The same in one piece.
    pub fn to_bytes(&self, body: &[u8]) -> Box<[u8]> {
        self.pieces(body).concat().into_boxed_slice()
    }

    /// Says whether `key` is this request's, byte for byte.
    pub fn matches(&self, body: &[u8], key: &[u8]) -> bool {
        let pieces = self.pieces(body);
        let rest = pieces
            .into_iter()
            .try_fold(key, |rest, piece| rest.strip_prefix(piece));
        rest.is_some_and(<[u8]>::is_empty)
    }
}

/// Rows of one shard that were hashed before. What is remembered is compared whole.
#[derive(Debug, Default)]
pub struct Rows {
    /// Empty until the first row.
    places: Vec<Option<HashedRow>>,
}

/// The row of a key, all but the body: what requests have in common that differ in their bodies alone.
#[derive(Debug, Clone)]
pub struct HashedRow {
    row: Rc<[u8]>,
    hash: u128,
    /// Of all parts but the body.
    digests: PartDigests,
    /// The body is a part.
    has_body: bool,
}

impl HashedRow {
    /// The key of a request with such a body, and the digests of its parts.
    pub fn key(&self, secret: &KeySecret, body: &[u8]) -> (Key, PartDigests) {
        let mut digests = self.digests;
        let mut hash = self.hash;
        let body_head = self.has_body.then(|| {
            let of_body = xxh3_128_with_seed(body, secret.seed);
            let [_, low] = halves(of_body);
            digests.set(Part::Body, low);
            let mut both = [0; 40];
            let (row_place, body_place) = both.split_at_mut(16);
            row_place.copy_from_slice(&self.hash.to_le_bytes());
            let (length_place, body_place) = body_place.split_at_mut(8);
            length_place.copy_from_slice(&(body.len() as u64).to_le_bytes());
            body_place.copy_from_slice(&of_body.to_le_bytes());
            hash = xxh3_128_with_seed(&both, secret.seed);
            part_head(Part::Body, body.len())
        });
        let [high, low] = halves(hash);
        let key = Key {
            row: Rc::clone(&self.row),
            body_head,
            hash: KeyHash::new(high, low),
        };
        (key, digests)
    }
}

impl Rows {
    /// Rows that are remembered; each has one place, where the next one with that place follows it.
    const PLACES: usize = 64;

    /// Longer ones are hashed each time.
    const ROW_BYTES_MAX: usize = 1024;

    /// A row to be shared, its hash, and the digests of its parts.
    fn hash(&mut self, row: &[u8], has_body: bool, seed: u64) -> HashedRow {
        let hash = || HashedRow {
            has_body,
            row: row.into(),
            hash: xxh3_128_with_seed(row, seed),
            digests: digests(row, seed),
        };
        if row.len() > Self::ROW_BYTES_MAX {
            return hash();
        }
        if self.places.is_empty() {
            self.places.resize_with(Self::PLACES, || None);
        }
        // What tells most callers apart lies in the middle, and a length besides.
        let middle = row.get(row.len() / 2).copied().unwrap_or_default();
        let place = (row.len() + usize::from(middle)) % Self::PLACES;
        if let Some(Some(known)) = self.places.get(place)
            && *known.row == *row
        {
            return known.clone();
        }
        let hashed = hash();
        if let Some(place) = self.places.get_mut(place) {
            *place = Some(hashed.clone());
        }
        hashed
    }
}

/// Digests each part of a row.
fn digests(mut row: &[u8], seed: u64) -> PartDigests {
    let mut digests = PartDigests::default();
    while let Some(([number, length @ ..], rest)) = row.split_first_chunk::<PART_HEAD_BYTES>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (bytes, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if let Some(part) = Part::ALL.get(usize::from(*number)) {
            digests.set(*part, xxh3_64_with_seed(bytes, seed));
        }
        row = rest;
    }
    digests
}

/// The content codings that a provider was offered, as `emit.rs` writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Offered {
    /// It was told nothing.
    Nothing,
    /// `identity`
    Identity,
    /// `gzip`
    Gzip,
}

impl Offered {
    /// What a provider is offered when a caller sent these fields.
    pub fn of(fields: &[Field<'_>]) -> Self {
        let accepts = fields
            .iter()
            .filter(|field| field.id == FieldName::AcceptEncoding);
        let gzip = accepts.map(|field| emit::takes_gzip(field.value)).max();
        match gzip {
            None => Self::Nothing,
            Some(false) => Self::Identity,
            Some(true) => Self::Gzip,
        }
    }
}

/// Stands for every credential of a request: equal only if all of them are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CredentialDigest([u8; 32]);

impl std::fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialDigest(***)")
    }
}

impl CredentialDigest {
    /// Digests the credentials among `fields` (names and values as they go to the provider) and,
    /// where `recorded_path` shows that `path` holds one, the path. `row` is where they are put together.
    pub fn of<'f>(
        secret: &KeySecret,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        path: &[u8],
        recorded_path: &[u8],
        row: &mut Vec<u8>,
    ) -> Self {
        row.clear();
        for (name, value) in fields {
            // What is for this server alone is no credential of the provider's.
            if !is_gateway_only(name) && is_credential_field(name) {
                push(row, name).make_ascii_lowercase();
                push(row, value);
            }
        }
        if path != recorded_path {
            // No field has an empty name.
            push(row, b"");
            push(row, path);
        }
        let digest = blake3::keyed_hash(&secret.credentials, row);
        row.clear();
        Self(*digest.as_bytes())
    }
}

/// Appends a part with its length, and gives what was appended of the part.
fn push<'r>(row: &'r mut Vec<u8>, part: &[u8]) -> &'r mut [u8] {
    row.extend_from_slice(&(part.len() as u64).to_le_bytes());
    let from = row.len();
    row.extend_from_slice(part);
    row.get_mut(from..).unwrap_or_default()
}

/// Says whether a field may hold a credential. Every provider has its own, so that the words
/// which such names are made of decide; one too many costs a hit, one too few a secret.
pub fn is_credential_field(name: &[u8]) -> bool {
    // Every request has some of these names looked through: one pass.
    let has_word = name.iter().enumerate().any(|(at, letter)| {
        let words: &[&[u8]] = match letter.to_ascii_lowercase() {
            b'a' => &[b"auth"],
            b'k' => &[b"key"],
            b't' => &[b"token"],
            b's' => &[b"secret", b"signature"],
            b'c' => &[b"credential", b"cookie"],
            b'p' => &[b"password"],
            b'j' => &[b"jwt"],
            _ => return false,
        };
        words.iter().any(|word| {
            let part = name.get(at..at + word.len());
            part.is_some_and(|part| is(part, word))
        })
    });
    has_word && !is(name, b"idempotency-key") && !is(name, b"x-idempotency-key")
}

/// Says whether a field is one of the usual ones of a request, none of which holds a credential.
pub fn is_plain_field(field: &Field<'_>) -> bool {
    matches!(
        field.id,
        FieldName::Host
            | FieldName::ContentLength
            | FieldName::ContentType
            | FieldName::Connection
            | FieldName::Accept
            | FieldName::AcceptEncoding
            | FieldName::UserAgent
    )
}

/// Says whether a field is one that can change an answer. Credentials and content codings are
/// parts of their own.
pub fn is_key_field(field: &Field<'_>) -> bool {
    /// Fields of one provider begin alike.
    const FAMILIES: [&[u8]; 13] = [
        b"anthropic-",
        b"openai-",
        b"x-goog-",
        b"x-amzn-bedrock-",
        b"cohere-",
        b"cartesia-",
        b"groq-",
        b"parallel-",
        b"x-fal-",
        b"x-baseten-",
        b"x-dashscope-",
        b"x-openrouter-",
        b"x-fireworks-",
    ];
    /// Names that end so choose a version or a feature, of a provider nobody has heard of too.
    const ENDINGS: [&[u8]; 5] = [
        b"-version",
        b"-beta",
        b"-organization",
        b"-project",
        b"-model",
    ];
    const NAMES: [&[u8]; 7] = [
        b"accept-language",
        b"prefer",
        b"cancel-after",
        b"x-wait-for-model",
        b"x-use-cache",
        b"extra-parameters",
        b"azureml-model-deployment",
    ];
    /// They tell which library the caller uses.
    const TELEMETRY: [&[u8]; 2] = [b"x-stainless-", b"x-goog-api-client"];

    let name = field.name;
    match field.id {
        FieldName::Accept
        | FieldName::ContentType
        | FieldName::ContentEncoding
        // Answers to browsers name the site that may read them.
        | FieldName::Origin
        | FieldName::AnthropicVersion
        | FieldName::AnthropicBeta
        | FieldName::CartesiaVersion => true,
        FieldName::Other => {
            let starts = |start: &&[u8]| starts_with(name, start);
            let ends = |end: &&[u8]| ends_with(name, end);
            let listed = NAMES.iter().any(|listed| is(name, listed));
            (listed || FAMILIES.iter().any(starts) || ENDINGS.iter().any(ends))
                && !TELEMETRY.iter().any(starts)
                && !is_credential_field(name)
        }
        _ => false,
    }
}

fn is(name: &[u8], known: &[u8]) -> bool {
    name.eq_ignore_ascii_case(known)
}

/// Says whether a name starts with what is known, in whichever case. The first letter tells most.
pub(super) fn starts_with(name: &[u8], known: &[u8]) -> bool {
    is_letter(name.first(), known.first())
        && name
            .get(..known.len())
            .is_some_and(|start| is(start, known))
}

/// Says whether a name ends with what is known, in whichever case. The last letter tells most.
pub(super) fn ends_with(name: &[u8], known: &[u8]) -> bool {
    is_letter(name.last(), known.last())
        && name
            .len()
            .checked_sub(known.len())
            .and_then(|from| name.get(from..))
            .is_some_and(|end| is(end, known))
}

fn is_letter(one: Option<&u8>, known: Option<&u8>) -> bool {
    one.map(u8::to_ascii_lowercase) == known.copied()
}

/// The parts of one request's key, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'a> {
    /// The account of the path.
    pub account: &'a [u8],
    /// The gateway of the path.
    pub gateway: &'a [u8],
    /// Another number after each change of the gateway or the provider that is to forget old answers
    /// (`cache_invalidate_on_update`, a custom provider that was saved): an exchange that still goes
    /// by the settings before it then stores nothing for those after.
    pub revision: u64,
    /// Slug of the provider.
    pub provider: &'a [u8],
    /// Request method.
    pub method: &'a [u8],
    /// Who asks; `None` where the gateway's callers share answers (`cache_scope = "gateway"`).
    pub credential: Option<&'a CredentialDigest>,
    /// The content codings that the provider was offered.
    pub offered: Offered,
    /// The caller's own key, instead of what follows.
    pub custom: Option<&'a [u8]>,
    /// The provider's address.
    pub origin: &'a Origin,
    /// Path and query as sent to the provider, secrets replaced as in a record.
    pub path: &'a [u8],
    /// The request's fields; those that are part of a key are picked here.
    pub fields: &'a [Field<'a>],
}

/// Bytes before each part: its number and its length.
const PART_HEAD_BYTES: usize = 9;

impl KeyParts<'_> {
    /// Puts all parts but the body in a row, for which `row` is the room, and hashes them, all together
    /// and each by itself.
    pub fn row(&self, secret: &KeySecret, rows: &mut Rows, row: &mut Vec<u8>) -> HashedRow {
        row.clear();
        for part in Part::ALL {
            if part == Part::Body || !self.has(part) {
                continue;
            }
            let head = row.len();
            row.extend_from_slice(&[0; PART_HEAD_BYTES]);
            let from = row.len();
            self.write(part, row);
            let written = part_head(part, row.len() - from);
            if let Some(place) = row.get_mut(head..from) {
                place.copy_from_slice(&written);
            }
        }
        rows.hash(row, self.has(Part::Body), secret.seed)
    }

    /// Says whether the key has such a part. One that is there and empty is another key than one
    /// where it is not.
    fn has(&self, part: Part) -> bool {
        match part {
            Part::Account
            | Part::Gateway
            | Part::Revision
            | Part::Provider
            | Part::Method
            | Part::Encoding => true,
            Part::Credential => self.credential.is_some(),
            Part::Custom => self.custom.is_some(),
            Part::Origin | Part::Path | Part::Fields | Part::Body => self.custom.is_none(),
        }
    }

    /// Appends a part's bytes, so that together they are read in one way only. The body is left out.
    fn write(&self, part: Part, row: &mut Vec<u8>) {
        match part {
            Part::Account => row.extend_from_slice(self.account),
            Part::Gateway => row.extend_from_slice(self.gateway),
            Part::Revision => row.extend_from_slice(&self.revision.to_le_bytes()),
            Part::Provider => row.extend_from_slice(self.provider),
            Part::Method => row.extend_from_slice(self.method),
            Part::Credential => {
                row.extend_from_slice(self.credential.map_or(&[][..], |digest| &digest.0));
            }
            Part::Encoding => row.push(self.offered as u8),
            Part::Custom => row.extend_from_slice(self.custom.unwrap_or_default()),
            Part::Origin => {
                let Origin { tls, host, port } = self.origin;
                row.push(u8::from(*tls));
                row.extend_from_slice(&port.to_le_bytes());
                row.extend_from_slice(host.as_bytes());
            }
            Part::Path => row.extend_from_slice(self.path),
            Part::Fields => {
                for field in self.fields.iter().filter(|field| is_key_field(field)) {
                    // A name in another case is the same field.
                    push(row, field.name).make_ascii_lowercase();
                    push(row, field.value);
                }
            }
            Part::Body => {}
        }
    }
}

fn part_head(part: Part, length: usize) -> [u8; PART_HEAD_BYTES] {
    let mut head = [0; PART_HEAD_BYTES];
    let [number, length_bytes @ ..] = &mut head;
    *number = part as u8;
    *length_bytes = (length as u64).to_le_bytes();
    head
}

fn halves(hash: u128) -> [u64; 2] {
    let low = hash & u128::from(u64::MAX);
    [hash >> 64, low].map(|half| u64::try_from(half).unwrap_or_default())
}

#[cfg(test)]
mod tests;
