//! A folder for the records of the demo, which goes away with it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::DemoError;

/// A new folder, readable by its owner only, removed when this value is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes it among the system's temporary files.
    pub fn make() -> Result<Self, DemoError> {
        let parent = std::env::temp_dir();
        let error = |source| DemoError::Folder {
            path: parent.clone(),
            source,
        };
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)
            .map_err(|reason| error(io::Error::other(reason.to_string())))?;
        let name = format!("tidegate-demo-{:016x}", u64::from_ne_bytes(bytes));
        let path = parent.join(name);
        // Not recursive: a folder that somebody else made under this name is an error.
        DirBuilder::new().mode(0o700).create(&path).map_err(error)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies among temporary files, which the system sweeps.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_belongs_to_its_owner_and_goes_away() {
        let folder = Folder::make().unwrap();
        let path = folder.path().to_path_buf();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        fs::write(path.join("record"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
