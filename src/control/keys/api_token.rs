//! The management token: given by the operator, or made at first start and kept in a file.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{KeyError, Token};
use crate::{
    config::{
        Config,
        secret::{self, Secret, SecretError},
    },
    control::secret_file,
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
    match secret_file::keep(&path, &token) {
        Ok(()) => Ok((token, Source::MadeNow)),
        Err(source) => Err(ApiTokenError::Write { path, source }),
    }
}

/// The management token of a server that has run with `data_dir`, for whoever wants to ask it;
/// `None`: there is none yet.
pub fn known(config: &Config, data_dir: &Path) -> Result<Option<Secret>, ApiTokenError> {
    match &config.api_token {
        Some(given) => Ok(Some(given.clone())),
        None => read(&data_dir.join(FILE)),
    }
}

/// The token of the file; `None` if there is no file.
fn read(path: &Path) -> Result<Option<Secret>, ApiTokenError> {
    let text = secret_file::read(path).map_err(|source| ApiTokenError::Read {
        path: path.into(),
        source,
    })?;
    let secret = text.map(secret::token).transpose();
    secret.map_err(|source| ApiTokenError::Content {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

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
        let error = secret_file::keep(&path, &Secret::new("second".to_owned())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
    }
}
