//! Single values by name.

use rusqlite::{Connection, OptionalExtension as _, params};

/// The value of that name.
pub fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let select = "SELECT value FROM settings WHERE name = ?1";
    connection
        .query_row(select, [name], |row| row.get(0))
        .optional()
}

/// Sets a value, or forgets it.
pub fn set(connection: &Connection, name: &str, value: Option<&str>) -> rusqlite::Result<()> {
    match value {
        Some(value) => connection.execute(
            "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)",
            params![name, value],
        ),
        None => connection.execute("DELETE FROM settings WHERE name = ?1", [name]),
    }
    .map(|_| ())
}
