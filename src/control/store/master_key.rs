//! The master key: given by the operator, or made at first start and kept in a file.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    config::{
        Config,
        secret::{self, Secret, SecretError},
    },
    control::secret_file,
    domain::base64::base64url,
};

/// Name of the file in the data folder.
pub const FILE: &str = "master-key";

/// Why there is no master key: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read.
    #[error("cannot read the master key in {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot keep a master key in {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the file holds is no key.
    #[error("the master key in {} {source}; put back a copy of the file", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SecretError,
    },
    /// The system gives no random bytes.
    #[error("cannot read random bytes: {0}")]
    Random(String),
}

/// The master key of a server whose data folder is `data_dir`; made and kept there if none is
/// given and there is none. Beside it the file that was made, of which somebody should keep a copy.
pub fn master_key(
    config: &Config,
    data_dir: &Path,
) -> Result<(Secret, Option<PathBuf>), MasterKeyError> {
    if let Some(given) = &config.master_key {
        return Ok((given.clone(), None));
    }
    let path = data_dir.join(FILE);
    if let Some(key) = read(&path)? {
        return Ok((key, None));
    }
    let mut bits = zeroize::Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *bits).map_err(|error| MasterKeyError::Random(error.to_string()))?;
    let key = Secret::new(base64url(&*bits).to_string());
    match secret_file::keep(&path, &key) {
        Ok(()) => Ok((key, Some(path))),
        Err(source) => Err(MasterKeyError::Write { path, source }),
    }
}

fn read(path: &Path) -> Result<Option<Secret>, MasterKeyError> {
    let text = secret_file::read(path).map_err(|source| MasterKeyError::Read {
        path: path.into(),
        source,
    })?;
    let secret = text.map(secret::token).transpose();
    secret.map_err(|source| MasterKeyError::Content {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (made, path) = master_key(&Config::default(), dir.path()).unwrap();
        assert_eq!(path, Some(dir.path().join(FILE)));
        let (again, path) = master_key(&Config::default(), dir.path()).unwrap();
        assert_eq!((made.expose(), path), (again.expose(), None));
        assert_eq!(made.expose().len(), 43);
        let mode = fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_given_key_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            master_key: Some(Secret::new("given".to_owned())),
            ..Config::default()
        };
        let (key, path) = master_key(&config, dir.path()).unwrap();
        assert_eq!((key.expose(), path), ("given", None));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_file_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "\n").unwrap();
        let error = master_key(&Config::default(), dir.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("is empty; put back a copy of the file")
        );
    }
}
