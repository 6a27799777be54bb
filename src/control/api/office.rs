//! The room of what the API makes: one thread, one writer of `control.db`.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::bounded;
use rusqlite::Connection;
use serde_json::{Map, Value};

use super::{
    account::ANY_ACCOUNT, failure::Failure, gateway, logs, request::Request, room::Work,
    route::Route,
};
use crate::{
    config::Config,
    control::{
        logs::{deletion::LogDeleter, folder::LogDir, snapshot::LogReader},
        reload::{ReloadCommand, standing::Standing},
        store::{
            Store,
            audit::{self, Entry},
            objects::{Kind, Object},
            text::{self, UnixMillis},
            vault::Vault,
        },
    },
    handoff::mailbox::{ApiAnswer, ApiCall, Order, Post},
};

/// The thread's state.
pub struct Office {
    store: Store,
    /// Opens what is sealed.
    pub vault: Vault,
    standing: Arc<Standing>,
    reload: Post<ReloadCommand>,
    /// What a deleted gateway takes with it.
    pub records: Records,
    shards: Vec<Post<Order>>,
    /// When the server started: gateways of the file have no other time.
    pub started_at: UnixMillis,
}

/// What answers a request in the office.
pub type OfficeHandler = fn(&mut Office, &Request<'_>) -> Result<ApiAnswer, Failure>;

/// Longest wait for shards to be told of a change. Compiling takes milliseconds.
const PUBLISH_LIMIT: Duration = Duration::from_secs(2);

/// The records, to be deleted.
#[derive(Debug, Clone)]
pub struct Records {
    /// Where they lie.
    pub log: LogDir,
    /// What deletes them.
    pub deleter: Arc<LogDeleter>,
}

impl Records {
    /// Deletes all records of a gateway.
    pub fn delete_all(&self, gateway: &str) -> Result<(), Failure> {
        let snapshot = LogReader::new(self.log.clone()).snapshot()?;
        logs::delete_all(&snapshot, &self.deleter, gateway)
    }
}

impl Office {
    /// Opens the office.
    pub fn new(
        store: Store,
        vault: Vault,
        standing: Arc<Standing>,
        reload: Post<ReloadCommand>,
        records: Records,
        shards: Vec<Post<Order>>,
    ) -> Self {
        Self {
            store,
            vault,
            standing,
            reload,
            records,
            shards,
            started_at: text::now(),
        }
    }

    /// The configuration of the file.
    pub fn config(&self) -> Arc<Config> {
        self.standing.config()
    }

    /// The mailbox of each shard.
    pub fn shards(&self) -> &[Post<Order>] {
        &self.shards
    }

    /// The account's id, as the caller named it where any is taken.
    pub fn account<'a>(&self, request: &'a Request<'_>) -> &'a str {
        match request.name("account_id") {
            "" => ANY_ACCOUNT,
            account => account,
        }
    }

    /// Reads the store.
    pub fn read<T>(
        &mut self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        self.store.follow()?;
        Ok(self.store.read(read)?)
    }

    /// Reads the store, and may refuse.
    pub fn look<T>(
        &mut self,
        look: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.store.follow()?;
        look(self.store.connection())
    }

    /// Changes the store, all or nothing.
    pub fn change<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.store.follow()?;
        self.store.change(change)
    }

    /// Changes the store, and returns when every shard has been told: who asks next meets the
    /// new state.
    pub fn publish<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let done = self.change(change)?;
        let (told, tell) = bounded(1);
        // Without an answer the change is noticed at the next look.
        if self.reload.send(ReloadCommand::Stored(told)).is_ok() {
            let _ = tell.recv_timeout(PUBLISH_LIMIT);
        }
        Ok(done)
    }

    /// An object's members, those that were sealed too.
    pub fn document(&self, kind: Kind, object: &Object) -> Result<Map<String, Value>, Failure> {
        Ok(self.vault.document(kind, object)?)
    }
}

impl Work for Office {
    type Handler = (&'static Route, OfficeHandler);

    fn answer(&mut self, (route, handler): Self::Handler, call: &ApiCall) -> ApiAnswer {
        let request = Request::new(route, call);
        handler(self, &request).unwrap_or_else(|failure| failure.answer())
    }

    fn implied(&mut self, gateway: &str) {
        if let Err(failure) = gateway::make_implied(self, gateway) {
            let why = failure.errors.first().map(|error| error.message.clone());
            let why = why.unwrap_or_default();
            tracing::error!("the gateway '{gateway}' was used and cannot be made: {why}");
        }
    }
}

/// One change, for the audit log.
#[derive(Debug)]
pub struct Noted<'a> {
    /// Who did it.
    pub actor: &'a str,
    /// What was done: `gateway updated`.
    pub action: &'a str,
    /// What it was done to: `ai_gateway.gateway`.
    pub resource_type: &'a str,
    /// Which one.
    pub resource_id: &'a str,
    /// How it was before, without secrets.
    pub old: Option<&'a Value>,
    /// How it is since.
    pub new: Option<&'a Value>,
}

/// Writes a change into the audit log, in the transaction of the change itself.
pub fn note(connection: &Connection, noted: &Noted<'_>, now: UnixMillis) -> Result<(), Failure> {
    let entry = Entry {
        id: text::random_id()?,
        at: now,
        action: noted.action.to_owned(),
        resource_type: noted.resource_type.to_owned(),
        resource_id: noted.resource_id.to_owned(),
        actor: noted.actor.to_owned(),
        old: noted.old.map(ToString::to_string),
        new: noted.new.map(ToString::to_string),
    };
    Ok(audit::add(connection, &entry)?)
}
