//! Records that were deleted: the log store still holds them, and nobody is shown them.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{control::store::text::UnixMillis, domain::id::RequestId};

/// Forgets all records of a gateway that began before now.
pub fn gateway(connection: &Connection, gateway: &str, now: UnixMillis) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO deleted_gateway_logs (gateway, until_micros) VALUES (?1, ?2)",
        params![gateway, now.saturating_mul(1000)],
    )?;
    Ok(())
}

/// Forgets some records.
pub fn records(connection: &Connection, ids: &[RequestId]) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO deleted_logs (id) VALUES (?1)")?;
    for id in ids {
        statement.execute([id.0])?;
    }
    Ok(())
}

/// Until when the records of a gateway were forgotten: microseconds since the Unix epoch.
pub fn until(connection: &Connection, gateway: &str) -> rusqlite::Result<u64> {
    let select = "SELECT until_micros FROM deleted_gateway_logs WHERE gateway = ?1";
    let until: Option<i64> = connection
        .query_row(select, [gateway], |row| row.get(0))
        .optional()?;
    Ok(until.unwrap_or(0).unsigned_abs())
}

/// Says whether a record was forgotten.
pub fn is_forgotten(connection: &Connection, id: RequestId) -> rusqlite::Result<bool> {
    let mut statement =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM deleted_logs WHERE id = ?1)")?;
    statement.query_row([id.0], |row| row.get(0))
}
