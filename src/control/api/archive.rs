//! The room of the records: one thread that reads the log, so that no scan holds up a change.

use std::sync::Arc;

use rusqlite::Connection;

use super::{failure::Failure, request::Request, room::Work, route::Route};
use crate::{
    config::Config,
    control::{
        logs::{
            deletion::LogDeleter,
            folder::LogDir,
            snapshot::{LogReader, LogSnapshot},
        },
        reload::standing::Standing,
        store::Store,
    },
    handoff::mailbox::{ApiAnswer, ApiCall},
};

/// The thread's state.
pub struct Archive {
    store: Store,
    standing: Arc<Standing>,
    reader: LogReader,
    deleter: Arc<LogDeleter>,
}

/// What answers a request in the archive.
pub type ArchiveHandler = fn(&mut Archive, &Request<'_>) -> Result<ApiAnswer, Failure>;

impl Archive {
    /// Opens the archive. `store` is a connection of its own, records lie in `log`.
    pub fn new(
        store: Store,
        standing: Arc<Standing>,
        log: LogDir,
        deleter: Arc<LogDeleter>,
    ) -> Self {
        Self {
            store,
            standing,
            reader: LogReader::new(log),
            deleter,
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

    /// Where records lie.
    pub fn log(&self) -> &LogDir {
        self.reader.log()
    }

    /// Takes snapshots of the records.
    pub fn reader(&mut self) -> &mut LogReader {
        &mut self.reader
    }

    /// All records as they stand now.
    pub fn snapshot(&mut self) -> Result<LogSnapshot, Failure> {
        Ok(self.reader.snapshot()?)
    }

    /// Deletes records.
    pub fn deleter(&self) -> &LogDeleter {
        &self.deleter
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

    fn rest(&mut self) {
        // Files that were removed meanwhile take room on the disk as long as they are open.
        self.reader = LogReader::new(self.reader.log().clone());
    }
}
