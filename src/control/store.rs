//! `control.db`: what is made at run time, in SQLite.
//!
//! Several connections use the file at once, of this process and of others (`tidegate keys`);
//! SQLite lets one of them write at a time. Reading order: [`Store`], [`schema`] (the file's
//! layout and its versions), [`objects`] (what the management API makes), [`marks`] (feedback on
//! records), [`audit`] (who changed what), [`settings`]; [`vault`] and [`master_key`] (how secrets
//! are kept), [`gateway`] (a stored gateway as the configuration has it), [`text`].

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::data_dir::{DataDirError, make_dir};

pub mod schema;
pub mod objects;
pub mod marks;
pub mod audit;
pub mod settings;
pub mod vault;
pub mod master_key;
pub mod gateway;
pub mod text;

/// Name of the file in the data folder.
pub const FILE: &str = "control.db";

/// Why the store cannot be used: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        classify(Path::new(FILE), error)
    }
}

/// The store, opened.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    inode: u64,
}

/// Longest wait for another connection's write, which takes milliseconds.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

impl Store {
    /// Opens the store in a data folder; makes both where they are not there.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
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
            schema::SchemaError::Newer(version) => StoreError::Newer {
                path: store.path.clone(),
                version,
            },
            schema::SchemaError::Damaged => StoreError::Damaged(store.path.clone()),
            schema::SchemaError::Database(error) => classify(&store.path, error),
        })?;
        Ok(store)
    }

    /// Opens the store in a data folder, if it is there.
    pub fn open_if_there(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        if data_dir.join(FILE).exists() {
            Self::open(data_dir).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Opens the file anew if another has taken its place. One that is gone is an error: it may
    /// be on its way back. Says whether there was another.
    pub fn follow(&mut self) -> Result<bool, StoreError> {
        if inode(&self.path)? == self.inode {
            return Ok(false);
        }
        if let Some(data_dir) = self.path.parent() {
            *self = Self::open(data_dir)?;
        }
        Ok(true)
    }

    /// A number that is another one after any change of what shards are told.
    pub fn revision(&self) -> Result<i64, StoreError> {
        self.read(|connection| {
            connection.query_row("SELECT number FROM revision", [], |row| row.get(0))
        })
    }

    /// Reads.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        read(&self.connection).map_err(|error| classify(&self.path, error))
    }

    /// The connection, for a reader that fails in its own way.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Changes all or nothing: no other connection comes in between, and an `Err` of `change`
    /// takes everything back.
    pub fn change<T, E: From<StoreError>>(
        &mut self,
        change: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = self.path.clone();
        let map = |error| E::from(classify(&path, error));
        let behavior = TransactionBehavior::Immediate;
        let transaction = self
            .connection
            .transaction_with_behavior(behavior)
            .map_err(map)?;
        let done = change(&transaction)?;
        transaction.commit().map_err(map)?;
        Ok(done)
    }
}

fn inode(path: &Path) -> Result<u64, StoreError> {
    let file = fs::metadata(path).map_err(|error| file_error(path, &error))?;
    Ok(file.ino())
}

fn file_error(path: &Path, error: &io::Error) -> StoreError {
    StoreError::File {
        path: path.into(),
        why: error.to_string(),
    }
}

fn classify(path: &Path, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged(path.into())
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(path.into()),
        _ => StoreError::File {
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
