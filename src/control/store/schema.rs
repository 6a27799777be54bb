//! The layout of `control.db` and how older ones become the newest.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use rusqlite::{Connection, TransactionBehavior};

/// Steps from one layout to the next; `user_version` counts those that were taken. A step that
/// has been released is never changed.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE gateway_tokens (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        stored_hash BLOB NOT NULL UNIQUE CHECK (length(stored_hash) = 32),
        permissions INTEGER NOT NULL, -- 1 run, 2 read, 4 edit
        last4 TEXT NOT NULL,
        created_at INTEGER NOT NULL, -- times are Unix seconds
        expires_at INTEGER,
        revoked_at INTEGER
    ) STRICT;
    ",
    "
    -- What the management API makes, one row a resource. Times are Unix milliseconds.
    CREATE TABLE objects (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of lists
        kind TEXT NOT NULL,
        parent TEXT NOT NULL, -- id of the gateway or route that it belongs to; empty: the account
        id TEXT NOT NULL,
        name TEXT NOT NULL, -- unique among its like
        document TEXT NOT NULL, -- a JSON object
        sealed BLOB, -- its secrets
        created_at INTEGER NOT NULL,
        modified_at INTEGER NOT NULL,
        UNIQUE (kind, parent, id),
        UNIQUE (kind, parent, name)
    ) STRICT;

    -- Feedback on records, by their ids.
    CREATE TABLE log_marks (
        id BLOB PRIMARY KEY CHECK (length(id) = 16),
        gateway TEXT NOT NULL,
        feedback INTEGER,
        score TEXT, -- a decimal number
        metadata TEXT, -- a JSON object
        modified_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX log_marks_of_gateway ON log_marks (gateway);

    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        at INTEGER NOT NULL,
        action TEXT NOT NULL,
        resource_type TEXT NOT NULL,
        resource_id TEXT NOT NULL,
        actor TEXT NOT NULL,
        old TEXT, -- JSON objects
        new TEXT
    ) STRICT;

    CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;

    -- Rises with every change of what shards are told, whoever makes it.
    CREATE TABLE revision (number INTEGER NOT NULL) STRICT;
    INSERT INTO revision VALUES (0);
    CREATE TRIGGER token_made AFTER INSERT ON gateway_tokens
        BEGIN UPDATE revision SET number = number + 1; END;
    CREATE TRIGGER token_changed AFTER UPDATE ON gateway_tokens
        BEGIN UPDATE revision SET number = number + 1; END;
    CREATE TRIGGER token_gone AFTER DELETE ON gateway_tokens
        BEGIN UPDATE revision SET number = number + 1; END;
    CREATE TRIGGER object_made AFTER INSERT ON objects
        WHEN NEW.kind IN ('gateway', 'custom_provider', 'provider_config')
        BEGIN UPDATE revision SET number = number + 1; END;
    CREATE TRIGGER object_changed AFTER UPDATE ON objects
        WHEN NEW.kind IN ('gateway', 'custom_provider', 'provider_config')
        BEGIN UPDATE revision SET number = number + 1; END;
    CREATE TRIGGER object_gone AFTER DELETE ON objects
        WHEN OLD.kind IN ('gateway', 'custom_provider', 'provider_config')
        BEGIN UPDATE revision SET number = number + 1; END;
    ",
];

/// Why a database cannot be used.
#[derive(Debug)]
pub(super) enum SchemaError {
    /// Its layout is a later version's.
    Newer(i64),
    /// It does not pass its own check.
    Damaged,
    /// SQLite failed.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Makes the file for its owner only, if it is not there.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    made.map(|_| ())
}

/// Sets a connection up, checks the file and brings its layout up to date.
pub(super) fn prepare(connection: &mut Connection, busy: Duration) -> Result<(), SchemaError> {
    connection.busy_timeout(busy)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A token that was shown must be there after a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(SchemaError::Damaged);
    }
    let taken = version(connection)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if taken > known {
        return Err(SchemaError::Newer(taken));
    }
    if taken == known {
        return Ok(());
    }
    // Another process may be at the same.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let taken = usize::try_from(version(&transaction)?).unwrap_or(0);
    for step in STEPS.iter().skip(taken) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
