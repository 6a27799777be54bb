//! How secrets lie in `control.db`: sealed with XChaCha20-Poly1305 under a key derived from the
//! master key, bound to the place they belong to.

use std::fmt;

use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use rusqlite::Connection;
use serde_json::{Map, Value};

use super::{
    StoreError,
    objects::{self, Kind, Object},
    settings,
};
use crate::{config::secret::Secret, domain::base64::base64url};

/// Why a secret cannot be sealed or opened: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Another master key sealed it, or somebody changed it.
    #[error(
        "a stored credential in control.db cannot be opened with this master key; give the server the master key that it had before (TIDEGATE_MASTER_KEY, TIDEGATE_MASTER_KEY_FILE, or the file master-key in the data folder)"
    )]
    WrongKey,
    /// The system gives no random bytes.
    #[error("cannot read random bytes: {0}")]
    Random(String),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Seals and opens.
#[derive(Clone)]
pub struct Vault {
    cipher: XChaCha20Poly1305,
    /// Tells keys apart, and nothing else about them.
    fingerprint: String,
}

/// Bytes of a nonce. It is random: with 192 bits no two are ever the same.
const NONCE_BYTES: usize = 24;

/// Domain of the key that seals.
const SEAL_CONTEXT: &str = "tidegate 2026-11-21 sealed credentials";

/// Domain of the fingerprint.
const FINGERPRINT_CONTEXT: &str = "tidegate 2026-11-21 master key fingerprint";

/// Setting that holds the fingerprint of the key in use.
const FINGERPRINT: &str = "master_key_fingerprint";

impl Vault {
    /// A vault whose keys are derived from the master key.
    pub fn new(master: &Secret) -> Self {
        let master = master.expose().as_bytes();
        let key = zeroize::Zeroizing::new(blake3::derive_key(SEAL_CONTEXT, master));
        let mark = blake3::derive_key(FINGERPRINT_CONTEXT, master);
        Self {
            cipher: XChaCha20Poly1305::new(&Key::from(*key)),
            fingerprint: base64url(mark.get(..12).unwrap_or_default()).to_string(),
        }
    }

    /// Seals a text; it can be opened for the same `place` only.
    pub fn seal(&self, place: &str, text: &str) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| VaultError::Random(error.to_string()))?;
        let payload = Payload {
            msg: text.as_bytes(),
            aad: place.as_bytes(),
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| VaultError::WrongKey)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed for `place`.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Secret, VaultError> {
        let (nonce, sealed) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(VaultError::WrongKey)?;
        let payload = Payload {
            msg: sealed,
            aad: place.as_bytes(),
        };
        let text = self
            .cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| VaultError::WrongKey)?;
        String::from_utf8(text)
            .map(Secret::new)
            .map_err(|_| VaultError::WrongKey)
    }

    /// An object's members, those that were sealed too.
    pub fn document(&self, kind: Kind, object: &Object) -> Result<Map<String, Value>, VaultError> {
        let mut document = object.document.clone();
        if let Some(sealed) = &object.sealed {
            let place = objects::place(kind, &object.parent, &object.id);
            let text = self.open(&place, sealed)?;
            let opened = serde_json::from_str::<Map<String, Value>>(text.expose());
            document.extend(opened.unwrap_or_default());
        }
        Ok(document)
    }

    /// Moves the members of an object that are secret from its document into its sealed part.
    pub fn hide(&self, kind: Kind, object: &mut Object, names: &[&str]) -> Result<(), VaultError> {
        let mut secrets = Map::new();
        for name in names {
            if let Some((name, value)) = object.document.shift_remove_entry(*name)
                && !value.is_null()
            {
                secrets.insert(name, value);
            }
        }
        object.sealed = None;
        if !secrets.is_empty() {
            let place = objects::place(kind, &object.parent, &object.id);
            let text = Secret::new(Value::Object(secrets).to_string());
            object.sealed = Some(self.seal(&place, text.expose())?);
        }
        Ok(())
    }

    /// Refuses a master key that is not the one under which secrets of the store were sealed. A
    /// store without secrets takes any.
    pub fn check(&self, connection: &Connection) -> Result<(), VaultError> {
        let known = settings::get(connection, FINGERPRINT).map_err(StoreError::from)?;
        if known.as_deref() == Some(&self.fingerprint) {
            return Ok(());
        }
        let select = "SELECT EXISTS (SELECT 1 FROM objects WHERE sealed IS NOT NULL)";
        let sealed: bool = connection
            .query_row(select, [], |row| row.get(0))
            .map_err(StoreError::from)?;
        if sealed && known.is_some() {
            return Err(VaultError::WrongKey);
        }
        settings::set(connection, FINGERPRINT, Some(&self.fingerprint))
            .map_err(StoreError::from)?;
        Ok(())
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(master: &str) -> Vault {
        Vault::new(&Secret::new(master.to_owned()))
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_with_its_key_and_nowhere_else() {
        let vault = vault("a master key of some length");
        let sealed = vault.seal("here", "sk-secret").unwrap();
        assert!(!sealed.windows(9).any(|part| part == b"sk-secret"));
        assert_eq!(vault.open("here", &sealed).unwrap().expose(), "sk-secret");
        assert_ne!(vault.seal("here", "sk-secret").unwrap(), sealed);
        let other = self::vault("another master key");
        let mut bent = sealed.clone();
        bent[30] ^= 1;
        for result in [
            vault.open("there", &sealed),
            other.open("here", &sealed),
            vault.open("here", &bent),
            vault.open("here", b"short"),
        ] {
            assert!(matches!(result, Err(VaultError::WrongKey)));
        }
    }

    #[test]
    fn a_vault_does_not_print_its_key() {
        assert_eq!(format!("{:?}", vault("a master key")), "Vault");
    }
}
