//! The management token: given by the operator, or made at first start and kept in a file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{KeyError, Token};
use crate::config::{
    Config,
    secret::{self, Secret, SecretError, TOKEN_BYTES_MAX},
};

/// Name of the file in the data folder.
pub const FILE: &str = "api-token";

/// Where the management token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `TIDEGATE_API_TOKEN` or `TIDEGATE_API_TOKEN_FILE`.
    Given,
    /// The file, made at an earlier start.
    File,
    /// The file, made just now: it is to be shown to the operator once.
    MadeNow,
}

/// Why there is no management token: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum ApiTokenError {
    /// The file cannot be read.
    #[error("cannot read the management token in {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot keep a management token in {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the file holds is no token.
    #[error("the management token in {} {source}; delete the file, and the next start makes a new one", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SecretError,
    },
    /// No random bytes.
    #[error(transparent)]
    Random(KeyError),
}

/// The management token of a server whose data folder is `data_dir`; made and kept there if there
/// is none.
pub fn api_token(config: &Config, data_dir: &Path) -> Result<(Secret, Source), ApiTokenError> {
    if let Some(given) = &config.api_token {
        return Ok((given.clone(), Source::Given));
    }
    let path = data_dir.join(FILE);
    if let Some(token) = read(&path)? {
        return Ok((token, Source::File));
    }
    let Token(token) = Token::random().map_err(ApiTokenError::Random)?;
    match keep(&path, &token) {
        Ok(()) => Ok((token, Source::MadeNow)),
        Err(source) => Err(ApiTokenError::Write { path, source }),
    }
}

/// The token of the file; `None` if there is no file.
fn read(path: &Path) -> Result<Option<Secret>, ApiTokenError> {
    let error = |source| ApiTokenError::Read {
        path: path.into(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    let mut text = String::new();
    file.take(TOKEN_BYTES_MAX as u64 + 2)
        .read_to_string(&mut text)
        .map_err(error)?;
    match secret::token(text) {
        Ok(token) => Ok(Some(token)),
        Err(source) => Err(ApiTokenError::Content {
            path: path.into(),
            source,
        }),
    }
}

/// Makes the file; one that is there is never replaced. A crash in between leaves an empty file,
/// which the next start complains of.
fn keep(path: &Path, token: &Secret) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = writeln!(file, "{}", token.expose()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::default();
        let (made, source) = api_token(&config, dir.path()).unwrap();
        assert_eq!(source, Source::MadeNow);
        assert_eq!(made.expose().len(), 3 + 43);
        let (again, source) = api_token(&config, dir.path()).unwrap();
        assert_eq!((again.expose(), source), (made.expose(), Source::File));
        let path = dir.path().join(FILE);
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_given_token_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            api_token: Some(Secret::new("given".to_owned())),
            ..Config::default()
        };
        let (token, source) = api_token(&config, dir.path()).unwrap();
        assert_eq!((token.expose(), source), ("given", Source::Given));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_holds_no_token_is_one_sentence_without_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let error = api_token(&Config::default(), dir.path())
                .unwrap_err()
                .to_string();
            let shown = error.replace(&path.display().to_string(), "FILE");
            assert_eq!(shown, expected);
        };
        check(
            "\n",
            "the management token in FILE is empty; delete the file, and the next start makes a new one",
        );
        check(
            "my secret words",
            "the management token in FILE holds spaces, line breaks or other characters that no header can carry; delete the file, and the next start makes a new one",
        );
    }

    #[test]
    fn a_file_that_is_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "first\n").unwrap();
        let error = keep(&path, &Secret::new("second".to_owned())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
    }
}
