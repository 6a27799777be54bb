//! `tidegate cache`: what the response cache did with a request, and how to make it forget.
//!
//! [`explain`] reads records alone, with a server running or without one; [`purge`] asks the
//! running server, whose memory the cache is.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{
    logs::{Face, Output},
    settings::{Place, SettingsError},
};
use crate::{control::keys::api_token::ApiTokenError, domain::id::RequestId};

mod explain;
mod purge;

/// Arguments of `tidegate cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    verb: CacheVerb,
    /// How to print: a table on a terminal, else one JSON object a line.
    #[arg(long, global = true, value_enum)]
    output: Option<Output>,
}

#[derive(Debug, Subcommand)]
enum CacheVerb {
    /// Make a running server forget cached answers.
    Purge(purge::PurgeArgs),
    /// Say why a request was answered from the cache, or was not.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The record's id, as in `cf-aig-log-id`.
    id: String,
}

/// Why a verb of `cache` failed.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The configuration cannot be read or is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no data folder.
    #[error("there is no data folder {}; name it with `--data-dir`, or start the server first", .0.display())]
    NoDataDir(PathBuf),
    /// The text is no id.
    #[error("`{0}` is no record id; ids look like 01932f5e-7a30-7000-8000-0123456789ab")]
    NoId(String),
    /// No record has the id.
    #[error("there is no record {0} in {path}", path = .1.display())]
    NotFound(RequestId, PathBuf),
    /// The management token cannot be read.
    #[error(transparent)]
    Token(#[from] ApiTokenError),
    /// There is no management token.
    #[error("{} has no management token yet: no server has run with this folder; set TIDEGATE_API_TOKEN if it was started with one", .0.display())]
    NoToken(PathBuf),
    /// Nobody listens.
    #[error(
        "no server answers at {0} ({1}); the cache lives in a running server and is empty without one. If it listens elsewhere, name its address with `--server`"
    )]
    NoServer(SocketAddr, io::Error),
    /// The management side speaks TLS.
    #[error(
        "the server at {0} speaks TLS; send `DELETE https://{0}{1}` with the management token instead"
    )]
    Tls(SocketAddr, String),
    /// The server said no.
    #[error("the server at {0} refused: {1}")]
    Refused(SocketAddr, String),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs a verb.
pub fn run(args: &CacheArgs, place: &Place, face: &mut Face<'_>) -> Result<(), CacheError> {
    let output = args.output.unwrap_or(match face.terminal {
        Some(_) => Output::Table,
        None => Output::Ndjson,
    });
    match &args.verb {
        CacheVerb::Purge(args) => purge::purge(args, place, output, face),
        CacheVerb::Explain(args) => {
            let data_dir = place.data_dir()?;
            explain_in(&args.id, &data_dir, output, face)
        }
    }
}

fn explain_in(
    id: &str,
    data_dir: &Path,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), CacheError> {
    if !data_dir.is_dir() {
        return Err(CacheError::NoDataDir(data_dir.into()));
    }
    let id = RequestId::parse(id).ok_or_else(|| CacheError::NoId(id.to_owned()))?;
    explain::explain(id, data_dir, output, face)
}
