//! Who changed what: one entry a change, written together with it.

use rusqlite::{Connection, Row, params};

use super::text::UnixMillis;

/// Entries that are kept; older ones go. A change a minute fills this in two months.
const ENTRIES_MAX: i64 = 100_000;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// When.
    pub at: UnixMillis,
    /// What was done: `gateway updated`.
    pub action: String,
    /// What it was done to: `ai_gateway.gateway`.
    pub resource_type: String,
    /// Which one.
    pub resource_id: String,
    /// Name of the token that did it.
    pub actor: String,
    /// How it was before, as JSON without secrets.
    pub old: Option<String>,
    /// How it is since.
    pub new: Option<String>,
}

/// Which entries are asked for; `None` and empty let all pass.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Not before.
    pub since: Option<UnixMillis>,
    /// Not after.
    pub before: Option<UnixMillis>,
    /// The action, whole.
    pub action: Option<String>,
    /// The token's name.
    pub actor: Option<String>,
    /// The id of an entry.
    pub id: Option<String>,
    /// Oldest first.
    pub ascending: bool,
}

/// Adds an entry.
pub fn add(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO audit (id, at, action, resource_type, resource_id, actor, old, new) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            entry.id,
            entry.at,
            entry.action,
            entry.resource_type,
            entry.resource_id,
            entry.actor,
            entry.old,
            entry.new
        ],
    )?;
    let oldest = connection.last_insert_rowid() - ENTRIES_MAX;
    connection.execute("DELETE FROM audit WHERE seq <= ?1", [oldest])?;
    Ok(())
}

/// A page of entries, and how many there are in all.
pub fn page(
    connection: &Connection,
    wanted: &Wanted,
    offset: u64,
    limit: u64,
) -> rusqlite::Result<(Vec<Entry>, u64)> {
    const WHERE: &str = "WHERE (?1 IS NULL OR at >= ?1) AND (?2 IS NULL OR at <= ?2) \
         AND (?3 IS NULL OR action = ?3) AND (?4 IS NULL OR actor = ?4) AND (?5 IS NULL OR id = ?5)";
    let tests = params![
        wanted.since,
        wanted.before,
        wanted.action,
        wanted.actor,
        wanted.id
    ];
    let count = format!("SELECT count(*) FROM audit {WHERE}");
    let count: i64 = connection.query_row(&count, tests, |row| row.get(0))?;
    let order = if wanted.ascending { "ASC" } else { "DESC" };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let select = format!(
        "SELECT id, at, action, resource_type, resource_id, actor, old, new FROM audit {WHERE} \
         ORDER BY seq {order} LIMIT {limit} OFFSET {offset}"
    );
    let mut statement = connection.prepare(&select)?;
    let entries = statement.query_map(tests, entry)?;
    Ok((entries.collect::<Result<_, _>>()?, count.unsigned_abs()))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: row.get(0)?,
        at: row.get(1)?,
        action: row.get(2)?,
        resource_type: row.get(3)?,
        resource_id: row.get(4)?,
        actor: row.get(5)?,
        old: row.get(6)?,
        new: row.get(7)?,
    })
}
