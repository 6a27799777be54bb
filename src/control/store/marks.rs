//! Feedback on records: the records themselves lie in the log store and never change.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::text::UnixMillis;
use crate::{control::logs::filter::Said, domain::id::RequestId};

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

/// Forgets the marks of some records of a gateway, whose ids are in order.
pub fn delete(connection: &Connection, gateway: &str, ids: &[[u8; 16]]) -> rusqlite::Result<()> {
    // Few records have marks, however many are meant.
    let mut statement = connection.prepare_cached("SELECT id FROM log_marks WHERE gateway = ?1")?;
    let marked: rusqlite::Result<Vec<[u8; 16]>> =
        statement.query_map([gateway], |row| row.get(0))?.collect();
    let mut statement = connection.prepare_cached("DELETE FROM log_marks WHERE id = ?1")?;
    for id in marked? {
        if ids.binary_search(&id).is_ok() {
            statement.execute([id])?;
        }
    }
    Ok(())
}

/// Adds the feedback on all records of a gateway to `said`.
pub fn add_feedback(
    connection: &Connection,
    gateway: &str,
    said: &mut Said,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT id, feedback FROM log_marks WHERE gateway = ?1 AND feedback IS NOT NULL",
    )?;
    let mut rows = statement.query([gateway])?;
    while let Some(row) = rows.next()? {
        said.add_feedback(row.get(0)?, row.get(1)?);
    }
    Ok(())
}

/// Adds the metadata that records of a gateway were given afterwards to `said`.
pub fn add_metadata(
    connection: &Connection,
    gateway: &str,
    said: &mut Said,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT id, metadata FROM log_marks WHERE gateway = ?1 AND metadata IS NOT NULL",
    )?;
    let mut rows = statement.query([gateway])?;
    while let Some(row) = rows.next()? {
        said.add_metadata(row.get(0)?, row.get::<_, String>(1)?.into_bytes());
    }
    Ok(())
}

/// Forgets the marks of all records of a gateway.
pub fn delete_all(connection: &Connection, gateway: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM log_marks WHERE gateway = ?1", [gateway])?;
    Ok(())
}

/// Forgets the marks of all records whose ids are below `id`.
pub fn delete_below(connection: &Connection, id: RequestId) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM log_marks WHERE id < ?1", [id.0])?;
    Ok(())
}

/// Forgets the marks of a gateway's records up to the one with this id.
pub fn delete_oldest(
    connection: &Connection,
    gateway: &str,
    last: RequestId,
) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM log_marks WHERE gateway = ?1 AND id <= ?2",
        params![gateway, last.0],
    )?;
    Ok(())
}

fn mark(row: &Row<'_>) -> rusqlite::Result<Mark> {
    Ok(Mark {
        feedback: row.get(0)?,
        score: row.get(1)?,
        metadata: row.get(2)?,
    })
}
