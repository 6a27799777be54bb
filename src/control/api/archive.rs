//! The room of the records: one thread that reads the log, so that no scan holds up a change.

use std::sync::Arc;

use rusqlite::Connection;

use super::{failure::Failure, request::Request, room::Work, route::Route};
use crate::{
    config::Config,
    control::{logs::segment::LogDir, reload::standing::Standing, store::Store},
    handoff::mailbox::{ApiAnswer, ApiCall},
};

/// The thread's state.
pub struct Archive {
    store: Store,
    standing: Arc<Standing>,
    /// Where records lie.
    pub log: LogDir,
}

/// What answers a request in the archive.
pub type ArchiveHandler = fn(&mut Archive, &Request<'_>) -> Result<ApiAnswer, Failure>;

impl Archive {
    /// Opens the archive. `store` is a connection of its own.
    pub fn new(store: Store, standing: Arc<Standing>, log: LogDir) -> Self {
        Self {
            store,
            standing,
            log,
        }
    }

    /// The configuration of the file.
    pub fn config(&self) -> Arc<Config> {
        self.standing.config()
    }

    /// `control.db`, to be read.
    pub fn connection(&mut self) -> Result<&Connection, Failure> {
        self.store.follow()?;
        Ok(self.store.connection())
    }

    /// The same and the log.
    pub fn both(&mut self) -> Result<(&Connection, &LogDir), Failure> {
        self.store.follow()?;
        Ok((self.store.connection(), &self.log))
    }

    /// Changes `control.db`, all or nothing.
    pub fn change<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.store.follow()?;
        self.store.change(change)
    }
}

impl Work for Archive {
    type Handler = (&'static Route, ArchiveHandler);

    fn answer(&mut self, (route, handler): Self::Handler, call: &ApiCall) -> ApiAnswer {
        let request = Request::new(route, call);
        handler(self, &request).unwrap_or_else(|failure| failure.answer())
    }

    fn implied(&mut self, _: &str) {
        // Gateways are made in the office.
    }
}
