//! What the management API makes: gateways, providers, stored keys, routes, datasets,
//! evaluations. Each is a JSON object with an id, under the gateway or route that it belongs to.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_128;

use super::text::UnixMillis;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A gateway; its name is its id.
    Gateway,
    /// A custom provider; its name is its slug.
    CustomProvider,
    /// A stored key of a provider, under a gateway; its name is `slug/alias`.
    ProviderConfig,
    /// A dynamic route, under a gateway.
    Route,
    /// A version of a route, under it; its name is its id.
    RouteVersion,
    /// A deployment of a version, under the route; its name is its id.
    RouteDeployment,
    /// A dataset, under a gateway; its name is its id.
    Dataset,
    /// An evaluation, under a gateway; its name is its id.
    Evaluation,
}

impl Kind {
    fn word(self) -> &'static str {
        // The first three stand in the triggers of the schema.
        match self {
            Self::Gateway => "gateway",
            Self::CustomProvider => "custom_provider",
            Self::ProviderConfig => "provider_config",
            Self::Route => "route",
            Self::RouteVersion => "route_version",
            Self::RouteDeployment => "route_deployment",
            Self::Dataset => "dataset",
            Self::Evaluation => "evaluation",
        }
    }
}

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The gateway or route that it belongs to; empty: the account.
    pub parent: String,
    /// Its id.
    pub id: String,
    /// Unique among its like.
    pub name: String,
    /// Its members.
    pub document: Map<String, Value>,
    /// Its secrets; see [`Vault`](super::vault::Vault).
    pub sealed: Option<Vec<u8>>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub modified_at: UnixMillis,
}

impl Object {
    /// A text of the document; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.document
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// Where the sealed part of an object belongs: opened elsewhere it is worthless.
pub fn place(kind: Kind, parent: &str, id: &str) -> String {
    // None of the parts can hold a line break.
    format!("{}\n{parent}\n{id}", kind.word())
}

const SELECT: &str =
    "SELECT parent, id, name, document, sealed, created_at, modified_at FROM objects";

/// All objects of a kind under `parent`, in the order in which they were made.
pub fn list(connection: &Connection, kind: Kind, parent: &str) -> rusqlite::Result<Vec<Object>> {
    let select = format!("{SELECT} WHERE kind = ?1 AND parent = ?2 ORDER BY seq");
    let mut statement = connection.prepare_cached(&select)?;
    statement
        .query_map([kind.word(), parent], object)?
        .collect()
}

/// All objects of a kind, whatever they belong to.
pub fn all(connection: &Connection, kind: Kind) -> rusqlite::Result<Vec<Object>> {
    let select = format!("{SELECT} WHERE kind = ?1 ORDER BY seq");
    let mut statement = connection.prepare_cached(&select)?;
    statement.query_map([kind.word()], object)?.collect()
}

/// What was found of an object.
#[derive(Debug)]
pub enum Found {
    /// It is the one that is known: its id.
    Known(String),
    /// It is new, or was changed: what it looks like now, and how to know it again.
    New(Look, Object),
}

/// How an object is known again: a hash of its document and its secrets.
pub type Look = u128;

/// All objects of a kind under the account, in no order, which would have them all sorted; those that
/// `is_known` knows are not looked into.
pub fn all_but(
    connection: &Connection,
    kind: Kind,
    is_known: impl Fn(&str, Look) -> bool,
) -> rusqlite::Result<Vec<Found>> {
    let select = format!("{SELECT} WHERE kind = ?1");
    let mut statement = connection.prepare_cached(&select)?;
    let mut rows = statement.query([kind.word()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let look = look(row)?;
        let id = row.get_ref("id")?.as_str()?;
        found.push(if is_known(id, look) {
            Found::Known(id.to_owned())
        } else {
            Found::New(look, object(row)?)
        });
    }
    Ok(found)
}

fn look(row: &Row<'_>) -> rusqlite::Result<Look> {
    let document = xxh3_128(row.get_ref("document")?.as_bytes()?);
    Ok(match row.get_ref("sealed")?.as_bytes_or_null()? {
        None => document,
        Some(sealed) => document.rotate_left(1) ^ xxh3_128(sealed),
    })
}

/// One object.
pub fn get(
    connection: &Connection,
    kind: Kind,
    parent: &str,
    id: &str,
) -> rusqlite::Result<Option<Object>> {
    let select = format!("{SELECT} WHERE kind = ?1 AND parent = ?2 AND id = ?3");
    let mut statement = connection.prepare_cached(&select)?;
    statement
        .query_row([kind.word(), parent, id], object)
        .optional()
}

/// The object of that name.
pub fn named(
    connection: &Connection,
    kind: Kind,
    parent: &str,
    name: &str,
) -> rusqlite::Result<Option<Object>> {
    let select = format!("{SELECT} WHERE kind = ?1 AND parent = ?2 AND name = ?3");
    let mut statement = connection.prepare_cached(&select)?;
    statement
        .query_row([kind.word(), parent, name], object)
        .optional()
}

/// How many objects of a kind there are under `parent`.
pub fn count(connection: &Connection, kind: Kind, parent: &str) -> rusqlite::Result<u64> {
    let select = "SELECT count(*) FROM objects WHERE kind = ?1 AND parent = ?2";
    let count: i64 = connection.query_row(select, [kind.word(), parent], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Adds an object; says no if id or name is taken.
pub fn insert(connection: &Connection, kind: Kind, object: &Object) -> rusqlite::Result<bool> {
    let inserted = connection.execute(
        "INSERT OR IGNORE INTO objects (kind, parent, id, name, document, sealed, created_at, modified_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            kind.word(),
            object.parent,
            object.id,
            object.name,
            Value::Object(object.document.clone()).to_string(),
            object.sealed,
            object.created_at,
            object.modified_at
        ],
    )?;
    Ok(inserted > 0)
}

/// Changes name, members, secrets and time of an object; says no if the name is taken, or the
/// object is gone.
pub fn update(connection: &Connection, kind: Kind, object: &Object) -> rusqlite::Result<bool> {
    let updated = connection.execute(
        "UPDATE OR IGNORE objects SET name = ?4, document = ?5, sealed = ?6, modified_at = ?7 \
         WHERE kind = ?1 AND parent = ?2 AND id = ?3",
        params![
            kind.word(),
            object.parent,
            object.id,
            object.name,
            Value::Object(object.document.clone()).to_string(),
            object.sealed,
            object.modified_at
        ],
    )?;
    Ok(updated > 0)
}

/// Takes an object away, and what belongs to it.
pub fn delete(connection: &Connection, kind: Kind, parent: &str, id: &str) -> rusqlite::Result<()> {
    match kind {
        Kind::Gateway => {
            connection.execute(
                "DELETE FROM objects WHERE parent IN \
                 (SELECT id FROM objects WHERE kind = 'route' AND parent = ?1)",
                [id],
            )?;
            connection.execute("DELETE FROM objects WHERE parent = ?1", [id])?;
        }
        Kind::Route => {
            connection.execute("DELETE FROM objects WHERE parent = ?1", [id])?;
        }
        Kind::CustomProvider
        | Kind::ProviderConfig
        | Kind::RouteVersion
        | Kind::RouteDeployment
        | Kind::Dataset
        | Kind::Evaluation => {}
    }
    connection.execute(
        "DELETE FROM objects WHERE kind = ?1 AND parent = ?2 AND id = ?3",
        [kind.word(), parent, id],
    )?;
    Ok(())
}

fn object(row: &Row<'_>) -> rusqlite::Result<Object> {
    let text: String = row.get(3)?;
    let document = serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(Object {
        parent: row.get(0)?,
        id: row.get(1)?,
        name: row.get(2)?,
        document,
        sealed: row.get(4)?,
        created_at: row.get(5)?,
        modified_at: row.get(6)?,
    })
}
