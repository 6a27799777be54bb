//! Tokens that are made at run time, kept in `control.db`, and the server's own management token.
//!
//! Of a token only a hash is kept, and its last four characters for people. Several processes use
//! the file at once: the server reads, `tidegate keys` writes. Reading order: [`KeyStore`], then
//! [`schema`] (the file's layout and its versions), [`api_token`] (the management token).

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, TransactionBehavior, params};

use super::data_dir::{DataDirError, make_dir};
use crate::{
    config::{Permissions, secret::Secret},
    snapshot::key_table::{Key, stored_hash},
};

pub mod schema;
pub mod api_token;

/// Name of the file in the data folder.
pub const FILE: &str = "control.db";

/// Name of the management token's key, which no other may have: records carry names.
pub const API_KEY_NAME: &str = "api";

/// Why keys cannot be read or changed: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The data folder cannot be made.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The file cannot be opened, read or written.
    #[error("cannot use {}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The file is no database, or a broken one.
    #[error("{} is damaged: put back a copy, or move it away and make its tokens anew", .0.display())]
    Damaged(PathBuf),
    /// Another process holds the file.
    #[error("{} is being written by another process; try again", .0.display())]
    Busy(PathBuf),
    /// The file is a newer version's.
    #[error("{} was written by a newer tidegate (layout {version}); use that one", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        version: i64,
    },
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
    /// Another one after another process has changed the store; see [`KeyStore::data_version`].
    pub data_version: i64,
    /// When the next token ends by itself.
    pub next_expiry: Option<UnixSeconds>,
}

/// The store, opened.
#[derive(Debug)]
pub struct KeyStore {
    connection: Connection,
    path: PathBuf,
    inode: u64,
}

/// Longest wait for another process' write, which takes milliseconds.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// Longest name of a token, as in the file.
const NAME_CHARS_MAX: usize = 128;

/// What every token begins with, so that scanners of leaked secrets can know it.
pub const TOKEN_PREFIX: &str = "tg_";

impl KeyStore {
    /// Opens the store in a data folder; makes both where they are not there.
    pub fn open(data_dir: &Path) -> Result<Self, KeyError> {
        make_dir(data_dir).map_err(|source| DataDirError::Make {
            path: data_dir.into(),
            source,
        })?;
        let path = data_dir.join(FILE);
        // SQLite would make the file readable to all; its companions take over its mode.
        schema::make_private(&path).map_err(|error| file_error(&path, &error))?;
        let connection = Connection::open(&path).map_err(|error| classify(&path, error))?;
        let inode = inode(&path)?;
        let mut store = Self {
            connection,
            path,
            inode,
        };
        schema::prepare(&mut store.connection, BUSY_LIMIT).map_err(|error| match error {
            schema::SchemaError::Newer(version) => KeyError::Newer {
                path: store.path.clone(),
                version,
            },
            schema::SchemaError::Damaged => KeyError::Damaged(store.path.clone()),
            schema::SchemaError::Database(error) => classify(&store.path, error),
        })?;
        Ok(store)
    }

    /// Opens the file anew if another has taken its place. One that is gone is an error: it may
    /// be on its way back. Says whether there was another.
    pub fn follow(&mut self) -> Result<bool, KeyError> {
        if inode(&self.path)? == self.inode {
            return Ok(false);
        }
        if let Some(data_dir) = self.path.parent() {
            *self = Self::open(data_dir)?;
        }
        Ok(true)
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
        let inserted = self.connection.execute(
            "INSERT INTO gateway_tokens (name, stored_hash, permissions, last4, created_at, expires_at) \
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
        match inserted {
            Ok(_) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Err(KeyError::NameTaken(new.name.to_owned()));
            }
            Err(error) => return Err(classify(&self.path, error)),
        }
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
        let data_version = self.data_version()?;
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
                data_version,
                next_expiry,
            };
            Ok(LiveKeys { keys, seen })
        })
    }

    /// A number that is another one after another process has changed the store.
    pub fn data_version(&self) -> Result<i64, KeyError> {
        self.read(|connection| {
            connection.pragma_query_value(None, "data_version", |row| row.get(0))
        })
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, KeyError> {
        read(&self.connection).map_err(|error| classify(&self.path, error))
    }

    /// Changes a token that is not revoked; two processes cannot come between each other.
    fn change(
        &mut self,
        name: &str,
        change: impl FnOnce(&Connection) -> rusqlite::Result<usize>,
    ) -> Result<(), KeyError> {
        let path = self.path.clone();
        let map = |error| classify(&path, error);
        let behavior = TransactionBehavior::Immediate;
        let transaction = self
            .connection
            .transaction_with_behavior(behavior)
            .map_err(map)?;
        let select = "SELECT revoked_at FROM gateway_tokens WHERE name = ?1";
        let revoked: Option<Option<UnixSeconds>> = transaction
            .query_row(select, [name], |row| row.get(0))
            .optional()
            .map_err(map)?;
        match revoked {
            None => return Err(KeyError::Unknown(name.to_owned())),
            Some(Some(_)) => return Err(KeyError::Revoked(name.to_owned())),
            Some(None) => {}
        }
        change(&transaction).map_err(map)?;
        transaction.commit().map_err(map)
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
            &*base64url(&*bits)
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

/// Base64 with the letters for URLs, without padding (RFC 4648 section 5).
fn base64url(bytes: &[u8]) -> zeroize::Zeroizing<String> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = zeroize::Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    for three in bytes.chunks(3) {
        let byte = |index: usize| three.get(index).map_or(0, |byte| u32::from(*byte));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..=three.len() {
            let six = bits >> (18 - 6 * letter) & 63;
            out.push(char::from(LETTERS[six as usize]));
        }
    }
    out
}

fn inode(path: &Path) -> Result<u64, KeyError> {
    let file = fs::metadata(path).map_err(|error| file_error(path, &error))?;
    Ok(file.ino())
}

fn file_error(path: &Path, error: &io::Error) -> KeyError {
    KeyError::File {
        path: path.into(),
        why: error.to_string(),
    }
}

fn classify(path: &Path, error: rusqlite::Error) -> KeyError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            KeyError::Damaged(path.into())
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => KeyError::Busy(path.into()),
        _ => KeyError::File {
            path: path.into(),
            why: match error {
                rusqlite::Error::SqliteFailure(_, Some(why)) => why,
                error => error.to_string(),
            },
        },
    }
}

#[cfg(test)]
mod tests;
