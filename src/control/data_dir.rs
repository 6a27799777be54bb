//! The folder in which a server keeps everything, locked against a second server.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// Why a data folder cannot be used: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds the lock.
    #[error("another tidegate{} already uses the data folder {}; give this one its own `data_dir`", .process.as_ref().map(|id| format!(" (process {id})")).unwrap_or_default(), .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other's process id, if it could be read.
        process: Option<u32>,
    },
    /// The folder cannot be made.
    #[error("cannot make the data folder {}: {source}", .path.display())]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder cannot be written.
    #[error("cannot write into the data folder {}: {source}", .path.display())]
    Write {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The data folder of this server; nobody else has it until this value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

impl DataDir {
    /// Makes the folder if it is not there (for the owner only: it holds prompts), and locks it.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        make_dir(path).map_err(|source| DataDirError::Make {
            path: path.into(),
            source,
        })?;
        let write_error = |source| DataDirError::Write {
            path: path.into(),
            source,
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(write_error)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = (&lock).take(LOCK_BYTES_MAX).read_to_string(&mut text);
                return Err(DataDirError::InUse {
                    path: path.into(),
                    process: text.trim().parse().ok(),
                });
            }
            Err(error) => return Err(write_error(error.into())),
        }
        lock.set_len(0).map_err(write_error)?;
        lock.rewind().map_err(write_error)?;
        writeln!(lock, "{}", std::process::id()).map_err(write_error)?;
        Ok(Self {
            path: path.into(),
            lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The locked file, for a new binary that takes over.
    pub fn lock_file(&self) -> &File {
        &self.lock
    }
}

/// Makes a folder and those above it, readable by the owner only; one that exists stays as it is.
pub fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Name of the file that is locked; it holds the process id.
const LOCK_FILE: &str = "lock";

/// More than any process id has.
const LOCK_BYTES_MAX: u64 = 32;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_second_server_is_told_who_has_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let first = DataDir::lock(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let text = DataDir::lock(&path).unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "another tidegate (process {}) already uses the data folder {}; give this one its \
                 own `data_dir`",
                std::process::id(),
                path.display()
            )
        );
        drop(first);
        DataDir::lock(&path).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_one_sentence() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"").unwrap();
        let text = DataDir::lock(&file.join("data")).unwrap_err().to_string();
        assert!(text.starts_with("cannot make the data folder "), "{text}");
        let text = DataDir::lock(Path::new("/proc")).unwrap_err().to_string();
        assert!(
            text.starts_with("cannot write into the data folder /proc: "),
            "{text}"
        );
    }
}
