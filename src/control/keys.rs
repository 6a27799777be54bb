//! Tokens that are made at run time, kept in `control.db`, and the server's own management token.
//!
//! Of a token only a hash is kept, and its last four characters for people. Several processes use
//! the file at once: the server reads, `tidegate keys` writes. Reading order: [`KeyStore`], then
//! [`api_token`] (the management token).

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::store::{Store, StoreError};
use crate::{
    config::{Permissions, secret::Secret},
    snapshot::key_table::{Key, stored_hash},
};

pub mod api_token;

pub use super::store::FILE;

/// Name of the management token's key, which no other may have: records carry names.
pub const API_KEY_NAME: &str = "api";

/// Why keys cannot be read or changed: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name is in use.
    #[error(
        "there is a token called '{0}' already; choose another name, or `tidegate keys rotate` it"
    )]
    NameTaken(String),
    /// The name cannot be one.
    #[error(
        "this cannot be the name of a token; use 1 to {NAME_CHARS_MAX} characters on one line, and not '{API_KEY_NAME}'"
    )]
    Name,
    /// A token without permissions.
    #[error("a token without permissions can do nothing; give it run, read or edit")]
    NoPermissions,
    /// The token would be born dead.
    #[error("the token would have expired already; choose a later time")]
    Expired,
    /// No such token.
    #[error("there is no token called '{0}'; `tidegate keys list` shows what there is")]
    Unknown(String),
    /// The token was revoked.
    #[error("the token '{0}' was revoked, which is for good; make one with another name")]
    Revoked(String),
    /// The system gives no random bytes.
    #[error("cannot read random bytes: {0}")]
    Random(String),
}

/// Seconds since the Unix epoch.
pub type UnixSeconds = i64;

/// The time now.
pub fn now() -> UnixSeconds {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewKey<'a> {
    /// What it is called in records; unique for good.
    pub name: &'a str,
    /// What it may do.
    pub permissions: Permissions,
    /// When it ends by itself.
    pub expires_at: Option<UnixSeconds>,
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// What it is called in records.
    pub name: String,
    /// What it may do.
    pub permissions: Permissions,
    /// Its last four characters, by which people tell tokens apart.
    pub last4: String,
    /// When it was made, or made anew by rotation.
    pub created_at: UnixSeconds,
    /// When it ends by itself.
    pub expires_at: Option<UnixSeconds>,
    /// When it was revoked.
    pub revoked_at: Option<UnixSeconds>,
}

impl StoredKey {
    /// How it stands at `now`.
    pub fn state(&self, now: UnixSeconds) -> KeyState {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(end)) if end <= now => KeyState::Expired,
            (None, _) => KeyState::Active,
        }
    }
}

/// How a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is good.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl KeyState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Tokens that are good at some time.
#[derive(Debug)]
pub struct LiveKeys {
    /// Hash and meaning of each.
    pub keys: Vec<([u8; 32], Key)>,
    /// Until when this is all true.
    pub seen: KeysSeen,
}

/// What was seen of the store when its tokens were loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysSeen {
    /// Another one after any change; see [`Store::revision`].
    pub revision: i64,
    /// When the next token ends by itself.
    pub next_expiry: Option<UnixSeconds>,
}

/// The store, opened.
#[derive(Debug)]
pub struct KeyStore {
    store: Store,
}

/// Longest name of a token, as in the file.
const NAME_CHARS_MAX: usize = 128;

/// What every token begins with, so that scanners of leaked secrets can know it.
pub const TOKEN_PREFIX: &str = "tg_";

impl KeyStore {
    /// Opens the store in a data folder; makes both where they are not there.
    pub fn open(data_dir: &Path) -> Result<Self, KeyError> {
        let store = Store::open(data_dir)?;
        Ok(Self { store })
    }

    /// See [`Store::follow`].
    pub fn follow(&mut self) -> Result<bool, KeyError> {
        Ok(self.store.follow()?)
    }

    /// What else the file holds.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes a token and gives its text, which cannot be had again.
    pub fn create(
        &mut self,
        new: &NewKey<'_>,
        now: UnixSeconds,
    ) -> Result<(StoredKey, Secret), KeyError> {
        let name_fits = (1..=NAME_CHARS_MAX).contains(&new.name.chars().count())
            && !new.name.contains(char::is_control)
            && new.name.trim() == new.name
            && new.name != API_KEY_NAME;
        if !name_fits {
            return Err(KeyError::Name);
        }
        if new.permissions == Permissions::NONE {
            return Err(KeyError::NoPermissions);
        }
        if new.expires_at.is_some_and(|end| end <= now) {
            return Err(KeyError::Expired);
        }
        let token = Token::random()?;
        self.store.change(|connection| {
            let inserted = connection.execute(
                "INSERT OR IGNORE INTO gateway_tokens (name, stored_hash, permissions, last4, created_at, expires_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    new.name,
                    token.hash(),
                    new.permissions.bits(),
                    token.last4(),
                    now,
                    new.expires_at
                ],
            );
            match inserted.map_err(StoreError::from)? {
                0 => Err(KeyError::NameTaken(new.name.to_owned())),
                _ => Ok(()),
            }
        })?;
        Ok((self.find(new.name)?, token.0))
    }

    /// All tokens, the good and the past, by name.
    pub fn list(&self) -> Result<Vec<StoredKey>, KeyError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            statement.query_map([], stored)?.collect()
        })
    }

    /// The token of that name.
    pub fn find(&self, name: &str) -> Result<StoredKey, KeyError> {
        let select = format!("{SELECT} WHERE name = ?1");
        let found =
            self.read(|connection| connection.query_row(&select, [name], stored).optional())?;
        found.ok_or_else(|| KeyError::Unknown(name.to_owned()))
    }

    /// Ends a token for good.
    pub fn revoke(&mut self, name: &str, now: UnixSeconds) -> Result<StoredKey, KeyError> {
        self.change(name, |connection| {
            connection.execute(
                "UPDATE gateway_tokens SET revoked_at = ?2 WHERE name = ?1",
                params![name, now],
            )
        })?;
        self.find(name)
    }

    /// Gives a token a new text. The old one is refused as soon as servers see it. An expiry
    /// that is still to come stays; one that is past is refused.
    pub fn rotate(
        &mut self,
        name: &str,
        now: UnixSeconds,
    ) -> Result<(StoredKey, Secret), KeyError> {
        if self.find(name)?.state(now) == KeyState::Expired {
            return Err(KeyError::Expired);
        }
        let token = Token::random()?;
        self.change(name, |connection| {
            connection.execute(
                "UPDATE gateway_tokens SET stored_hash = ?2, last4 = ?3, created_at = ?4 \
                 WHERE name = ?1",
                params![name, token.hash(), token.last4(), now],
            )
        })?;
        Ok((self.find(name)?, token.0))
    }

    /// The tokens that are good at `now`.
    pub fn load(&self, now: UnixSeconds) -> Result<LiveKeys, KeyError> {
        // First, so that a change that comes in between is seen later.
        let revision = self.revision()?;
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name, stored_hash, permissions, expires_at FROM gateway_tokens \
                 WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1) \
                 ORDER BY id",
            )?;
            let mut rows = statement.query([now])?;
            let (mut keys, mut next_expiry) = (Vec::new(), None);
            while let Some(row) = rows.next()? {
                let permissions = permissions(row.get(2)?);
                let key = Key {
                    name: row.get::<_, String>(0)?.into(),
                    run: permissions.contains(Permissions::RUN),
                    read: permissions.contains(Permissions::READ),
                    edit: permissions.contains(Permissions::EDIT),
                };
                keys.push((row.get(1)?, key));
                let end: Option<UnixSeconds> = row.get(3)?;
                next_expiry = next_expiry.into_iter().chain(end).min();
            }
            let seen = KeysSeen {
                revision,
                next_expiry,
            };
            Ok(LiveKeys { keys, seen })
        })
    }

    /// See [`Store::revision`].
    pub fn revision(&self) -> Result<i64, KeyError> {
        Ok(self.store.revision()?)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, KeyError> {
        Ok(self.store.read(read)?)
    }

    /// Changes a token that is not revoked; two processes cannot come between each other.
    fn change(
        &mut self,
        name: &str,
        change: impl FnOnce(&Connection) -> rusqlite::Result<usize>,
    ) -> Result<(), KeyError> {
        self.store.change(|connection| {
            let select = "SELECT revoked_at FROM gateway_tokens WHERE name = ?1";
            let revoked: Option<Option<UnixSeconds>> = connection
                .query_row(select, [name], |row| row.get(0))
                .optional()
                .map_err(StoreError::from)?;
            match revoked {
                None => return Err(KeyError::Unknown(name.to_owned())),
                Some(Some(_)) => return Err(KeyError::Revoked(name.to_owned())),
                Some(None) => {}
            }
            change(connection).map_err(StoreError::from)?;
            Ok(())
        })
    }
}

const SELECT: &str =
    "SELECT name, permissions, last4, created_at, expires_at, revoked_at FROM gateway_tokens";

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    Ok(StoredKey {
        name: row.get(0)?,
        permissions: permissions(row.get(1)?),
        last4: row.get(2)?,
        created_at: row.get(3)?,
        expires_at: row.get(4)?,
        revoked_at: row.get(5)?,
    })
}

/// The set of the known bits; a bit of a later version permits nothing here.
fn permissions(bits: u8) -> Permissions {
    let known = Permissions::WORDS.into_iter().map(|(_, one)| one);
    known
        .filter(|one| bits & one.bits() != 0)
        .fold(Permissions::NONE, Permissions::with)
}

/// The text of a token.
struct Token(Secret);

impl Token {
    /// 256 random bits behind [`TOKEN_PREFIX`].
    fn random() -> Result<Self, KeyError> {
        let mut bits = zeroize::Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *bits).map_err(|error| KeyError::Random(error.to_string()))?;
        Ok(Self(Secret::new(format!(
            "{TOKEN_PREFIX}{}",
            &*crate::domain::base64::base64url(&*bits)
        ))))
    }

    fn hash(&self) -> [u8; 32] {
        stored_hash(self.0.expose().as_bytes())
    }

    fn last4(&self) -> &str {
        let text = self.0.expose();
        text.get(text.len().saturating_sub(4)..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
