//! Feedback on records: the records themselves lie in the log store and never change.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::text::UnixMillis;
use crate::domain::id::RequestId;

/// What was said of one record. `None` is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// Thumbs: -1, 0 or 1.
    pub feedback: Option<i64>,
    /// A decimal number, as it was sent.
    pub score: Option<String>,
    /// A JSON object that takes the place of the record's own.
    pub metadata: Option<String>,
}

/// The mark of one record.
pub fn get(connection: &Connection, id: RequestId) -> rusqlite::Result<Option<Mark>> {
    let mut statement = connection
        .prepare_cached("SELECT feedback, score, metadata FROM log_marks WHERE id = ?1")?;
    statement.query_row([id.0], mark).optional()
}

/// Sets the mark of a record of `gateway`.
pub fn set(
    connection: &Connection,
    gateway: &str,
    id: RequestId,
    mark: &Mark,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO log_marks (id, gateway, feedback, score, metadata, modified_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![id.0, gateway, mark.feedback, mark.score, mark.metadata, now],
    )?;
    Ok(())
}

/// Forgets the marks of some records.
pub fn delete(connection: &Connection, ids: &[RequestId]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM log_marks WHERE id = ?1")?;
    for id in ids {
        statement.execute([id.0])?;
    }
    Ok(())
}

/// Forgets the marks of all records of a gateway.
pub fn delete_all(connection: &Connection, gateway: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM log_marks WHERE gateway = ?1", [gateway])?;
    Ok(())
}

fn mark(row: &Row<'_>) -> rusqlite::Result<Mark> {
    Ok(Mark {
        feedback: row.get(0)?,
        score: row.get(1)?,
        metadata: row.get(2)?,
    })
}
