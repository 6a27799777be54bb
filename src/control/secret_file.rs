//! Secrets that the server makes for itself and keeps in its data folder, a file each.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::config::secret::{Secret, TOKEN_BYTES_MAX};

/// The file's text, as far as a secret can reach; `None` if there is no file.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    // One byte more than a secret and its line end: what is too long is seen to be.
    file.take(TOKEN_BYTES_MAX as u64 + 2)
        .read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Makes the file, for its owner only; one that is there is never replaced. A crash in between
/// leaves an empty file, which the next start complains of.
pub(super) fn keep(path: &Path, secret: &Secret) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = writeln!(file, "{}", secret.expose()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}
