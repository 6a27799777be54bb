//! The configuration as the command line finds it: which file, which flags, and reading them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{
    self, Flags, Loaded, Sources, limit,
    problem::{Problem, Problems},
    secret::CREDENTIAL_BYTES_MAX,
};
use crate::provider::{self, ProviderId};

/// The file that is read where no other is named, if it is there.
const USUAL_FILE: &str = "tidegate.toml";

/// The variable that names the file.
const FILE_VARIABLE: &str = "TIDEGATE_CONFIG";

/// The flags that override the file.
#[derive(Debug, Clone, Default, Args)]
pub struct OverrideArgs {
    /// Listen on ADDRESS:PORT; may be given several times [file: `listen`,
    /// otherwise 127.0.0.1:8787].
    #[arg(long, value_name = "ADDRESS", help_heading = "Addresses")]
    pub listen: Vec<String>,
    /// Serve management and metrics there, and nowhere else.
    #[arg(long, value_name = "ADDRESS", help_heading = "Addresses")]
    pub admin: Option<String>,
    /// Allow gateways without a token on addresses that other machines can reach.
    #[arg(long, help_heading = "Addresses")]
    pub allow_open: bool,
    /// Keep records and state in this folder [file: `data_dir`, otherwise
    /// ~/.local/state/tidegate].
    #[arg(long, value_name = "FOLDER", help_heading = "This machine")]
    pub data_dir: Option<PathBuf>,
    /// Use so many cores [otherwise all that this process may use].
    #[arg(long, value_name = "COUNT", help_heading = "This machine")]
    pub shards: Option<u64>,
    /// Which I/O driver: `auto` falls back to epoll where `io_uring` is refused.
    #[arg(long, value_parser = ["auto", "uring", "epoll"], help_heading = "This machine")]
    pub driver: Option<String>,
}

/// The two flags that say where records are.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceArgs {
    /// Read the data folder's name from this file [otherwise that of `TIDEGATE_CONFIG`, or
    /// tidegate.toml if it is there].
    #[arg(
        short,
        long,
        value_name = "FILE",
        global = true,
        help_heading = "Where the records are"
    )]
    pub config: Option<PathBuf>,
    /// The server's data folder.
    #[arg(
        long,
        value_name = "FOLDER",
        global = true,
        help_heading = "Where the records are"
    )]
    pub data_dir: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What it says is wrong.
    #[error("{0}\n\n{count}", count = count(.0))]
    Problems(Problems),
}

fn count(problems: &Problems) -> String {
    match problems.0.len() {
        1 => "1 problem; nothing was started".to_owned(),
        number => format!("{number} problems; nothing was started"),
    }
}

impl SettingsError {
    /// The same as problems, for whoever knows no other kind.
    pub fn into_problems(self) -> Problems {
        match self {
            Self::Problems(problems) => problems,
            Self::Unreadable { path, source } => {
                let origin = path.display().to_string();
                let message = format!("cannot be read: {source}");
                Problems(vec![Problem::elsewhere(&origin, message, String::new())])
            }
        }
    }
}

/// Where the configuration comes from; can be read again at any time.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The file, as it was named; `None`: there is none.
    pub file: Option<PathBuf>,
    /// What the command line said.
    pub flags: Flags,
}

impl Place {
    /// Finds the file: the one named, else that of `TIDEGATE_CONFIG`, else `tidegate.toml` here,
    /// else none.
    pub fn new(named: Option<&Path>, overrides: &OverrideArgs) -> Self {
        let file = named.map(Path::to_path_buf).or_else(|| {
            let variable = std::env::var_os(FILE_VARIABLE).filter(|value| !value.is_empty());
            let usual = || Some(PathBuf::from(USUAL_FILE)).filter(|path| path.exists());
            variable.map(PathBuf::from).or_else(usual)
        });
        Self {
            file,
            flags: Flags {
                listen: overrides.listen.clone(),
                data_dir: overrides.data_dir.clone(),
                shards: overrides.shards,
                driver: overrides.driver.clone(),
                admin: overrides.admin.clone(),
                allow_open: overrides.allow_open,
            },
        }
    }

    /// The place that a reader of records needs.
    pub fn of(args: &PlaceArgs) -> Self {
        let overrides = OverrideArgs {
            data_dir: args.data_dir.clone(),
            ..OverrideArgs::default()
        };
        Self::new(args.config.as_deref(), &overrides)
    }

    /// The file's name for people.
    pub fn file_name(&self) -> Option<String> {
        self.file.as_ref().map(|path| path.display().to_string())
    }

    /// Reads file, environment and flags.
    pub fn load(&self) -> Result<Loaded, SettingsError> {
        let Some(path) = &self.file else {
            return read("", USUAL_FILE, Path::new(""), &self.flags);
        };
        let unreadable = |source| SettingsError::Unreadable {
            path: path.clone(),
            source,
        };
        let text = read_text(path, limit::FILE_BYTES_MAX).map_err(unreadable)?;
        let whole = std::path::absolute(path).map_err(unreadable)?;
        let folder = whole.parent().unwrap_or_else(|| Path::new(""));
        let name = path.display().to_string();
        let mut loaded = read(&text, &name, folder, &self.flags)?;
        loaded.config.file = Some(name);
        Ok(loaded)
    }

    /// Where the records are. A flag says it without a look at the file, so that records of a
    /// server can be read where its file, or the secrets that it names, cannot.
    pub fn data_dir(&self) -> Result<PathBuf, SettingsError> {
        match &self.flags.data_dir {
            Some(path) => Ok(path.clone()),
            None => Ok(self.load()?.config.data_dir),
        }
    }
}

fn read(text: &str, origin: &str, folder: &Path, flags: &Flags) -> Result<Loaded, SettingsError> {
    let picked_up: Vec<_> = ProviderId::all()
        .map(ProviderId::provider)
        .filter(|provider| !provider.env.is_empty())
        .map(|provider| (provider.slug, provider.env))
        .collect();
    let sources = Sources {
        env: &|name| std::env::var(name).ok(),
        read_file: &|path| read_text(path, CREDENTIAL_BYTES_MAX),
        known_provider: &|slug| provider::by_slug(slug).is_some(),
        picked_up_keys: &picked_up,
        flags,
    };
    config::load(text, origin, folder, &sources).map_err(SettingsError::Problems)
}

/// Reads a text file of at most `bytes_max` bytes and a line end.
fn read_text(path: &Path, bytes_max: usize) -> io::Result<String> {
    let too_long = || io::Error::other(format!("it has more than {bytes_max} bytes"));
    let most = bytes_max as u64 + LINE_END_BYTES;
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_long());
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// What editors put behind the last line.
const LINE_END_BYTES: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_up_to_a_bound() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secret");
        std::fs::write(&path, "12345678\n").unwrap();
        assert_eq!(read_text(&path, 8).unwrap(), "12345678\n");
        std::fs::write(&path, "123456789ab").unwrap();
        let error = read_text(&path, 8).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 8 bytes");
        std::fs::write(&path, b"\xff").unwrap();
        let error = read_text(&path, 8).unwrap_err();
        assert_eq!(error.to_string(), "it is not UTF-8 text");
        assert!(read_text(Path::new("/dev/zero"), 8).is_err());
        assert!(read_text(root.path(), 8).is_err());
    }

    #[test]
    fn a_flag_for_the_folder_needs_no_readable_file() {
        let place = Place::of(&PlaceArgs {
            config: Some("/nowhere/tidegate.toml".into()),
            data_dir: Some("/records".into()),
        });
        assert_eq!(place.data_dir().unwrap(), Path::new("/records"));
        let error = place.load().unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot read /nowhere/tidegate.toml: "),
            "{text}"
        );
        assert_eq!(error.into_problems().0.len(), 1);
    }
}
