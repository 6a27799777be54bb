//! Values that never print, and the references by which the file names them.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroize as _;

/// A secret text: prints as `***`, and is wiped from memory when it is dropped.
///
/// There is no `PartialEq`: who compares secrets does so in constant time, on what
/// [`Secret::expose`] gives.
///
/// ```
/// use tidegate::config::secret::Secret;
///
/// let secret = Secret::new("hunter2".to_owned());
/// assert_eq!(format!("{secret} {secret:?}"), "*** ***");
/// assert_eq!(secret.expose(), "hunter2");
/// ```
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Drops the line ends behind a secret that was read from a file.
    fn trim_line_end(&mut self) {
        let end = self.0.trim_end_matches(['\r', '\n']).len();
        self.0.truncate(end);
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is kept: the file holds this, never the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `env:NAME`: an environment variable of the server.
    Env(String),
    /// `file:PATH`: a file, its final line end left out.
    File(PathBuf),
}

/// What is wrong with a reference. No variant carries the text: it may be the secret itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text starts with neither `env:` nor `file:`.
    #[error("a secret does not belong in this file")]
    Literal,
    /// What follows `env:` cannot be the name of a variable.
    #[error("what follows `env:` is not the name of an environment variable")]
    VariableName,
    /// Nothing usable follows `file:`.
    #[error("what follows `file:` is not a path")]
    Path,
}

/// Longest name of an environment variable that a reference takes; names in use are far shorter.
const VARIABLE_BYTES_MAX: usize = 128;

/// Longest path, the system's own bound (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;

impl Reference {
    /// Reads `env:NAME` or `file:PATH`; a relative path starts at `base_dir`.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, ReferenceError> {
        if let Some(name) = text.strip_prefix("env:") {
            return if is_variable_name(name) {
                Ok(Self::Env(name.to_owned()))
            } else {
                Err(ReferenceError::VariableName)
            };
        }
        let path = text.strip_prefix("file:").ok_or(ReferenceError::Literal)?;
        if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains(char::is_control) {
            return Err(ReferenceError::Path);
        }
        Ok(Self::File(base_dir.join(path)))
    }
}

impl fmt::Display for Reference {
    /// Prints the name of the place, for reports such as "which keys were found".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    let starts_well = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    starts_well
        && name.len() <= VARIABLE_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What is wrong with a secret that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing but a line end.
    #[error("is empty")]
    Empty,
    /// Longer than the use allows.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// Spaces or control characters, or bytes outside ASCII, where a header value is made of it.
    #[error("holds spaces, line breaks or other characters that no header can carry")]
    Characters,
}

/// Longest gateway token: some clients bring signed ones of a few kilobytes.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Longest provider credential: a service account's JSON document is 2 to 3 KB.
pub const CREDENTIAL_BYTES_MAX: usize = 64 << 10;

/// Makes a token of what a reference led to: visible ASCII without spaces.
pub fn token(text: String) -> Result<Secret, SecretError> {
    let mut secret = Secret::new(text);
    secret.trim_line_end();
    bounded(&secret, TOKEN_BYTES_MAX)?;
    if secret.expose().bytes().all(|b| b.is_ascii_graphic()) {
        Ok(secret)
    } else {
        Err(SecretError::Characters)
    }
}

/// Makes a provider credential of what a reference led to: one line of visible ASCII, or a JSON
/// document (service accounts, access key pairs), which may have several.
pub fn credential(text: String) -> Result<Secret, SecretError> {
    let mut secret = Secret::new(text);
    secret.trim_line_end();
    bounded(&secret, CREDENTIAL_BYTES_MAX)?;
    let text = secret.expose();
    let is_document = text.trim_start().starts_with('{');
    let fits = if is_document {
        !text.contains('\0')
    } else {
        text.bytes().all(|b| b.is_ascii_graphic())
    };
    if fits {
        Ok(secret)
    } else {
        Err(SecretError::Characters)
    }
}

/// Makes a header's value: visible ASCII, spaces inside allowed (`Bearer abc`).
pub fn header_value(text: String) -> Result<Secret, SecretError> {
    let mut secret = Secret::new(text);
    secret.trim_line_end();
    bounded(&secret, TOKEN_BYTES_MAX)?;
    let text = secret.expose();
    let fits = text.trim() == text && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if fits {
        Ok(secret)
    } else {
        Err(SecretError::Characters)
    }
}

fn bounded(secret: &Secret, bytes_max: usize) -> Result<(), SecretError> {
    match secret.expose().len() {
        0 => Err(SecretError::Empty),
        length if length > bytes_max => Err(SecretError::TooLong(bytes_max)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars_wherever_it_hides() {
        let secret = Some(Secret::new("sk-very-secret".to_owned()));
        let shown = format!("{secret:?} {:#?} {}", secret, secret.clone().unwrap());
        assert!(!shown.contains("very"), "{shown}");
    }

    #[test]
    fn references_name_a_variable_or_a_file() {
        let base = Path::new("/etc/tidegate");
        let check = |text: &str, expected| assert_eq!(Reference::parse(text, base), expected);
        check("env:APP_TOKEN", Ok(Reference::Env("APP_TOKEN".to_owned())));
        check(
            "file:keys/app",
            Ok(Reference::File("/etc/tidegate/keys/app".into())),
        );
        check("file:/run/app", Ok(Reference::File("/run/app".into())));
        check("sk-live-1234", Err(ReferenceError::Literal));
        check("", Err(ReferenceError::Literal));
        check("env:", Err(ReferenceError::VariableName));
        check("env:sk-live-1234", Err(ReferenceError::VariableName));
        check("env:1A", Err(ReferenceError::VariableName));
        check("file:", Err(ReferenceError::Path));
        check("file:a\nb", Err(ReferenceError::Path));
    }

    #[test]
    fn a_token_is_one_word() {
        assert_eq!(token("abc\n".to_owned()).unwrap().expose(), "abc");
        let error = |text: &str| token(text.to_owned()).unwrap_err();
        assert_eq!(error("\n"), SecretError::Empty);
        assert_eq!(error("a b"), SecretError::Characters);
        assert_eq!(error("a\nb"), SecretError::Characters);
        assert_eq!(error("ä"), SecretError::Characters);
        assert_eq!(error(&"a".repeat(5000)), SecretError::TooLong(4096));
    }

    #[test]
    fn a_credential_may_be_a_document() {
        let document = "{\n  \"type\": \"service_account\"\n}\n";
        assert_eq!(
            credential(document.to_owned()).unwrap().expose(),
            document.trim_end()
        );
        assert_eq!(
            credential("a b".to_owned()).unwrap_err(),
            SecretError::Characters
        );
        assert_eq!(
            header_value("Bearer abc\r\n".to_owned()).unwrap().expose(),
            "Bearer abc"
        );
        assert_eq!(
            header_value("a\r\nx: y".to_owned()).unwrap_err(),
            SecretError::Characters
        );
    }
}
