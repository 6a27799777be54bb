//! TLS settings for both sides, made from files off the shards.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};
use zeroize::Zeroizing;

/// Why TLS cannot be set up: one sentence each, never with what stands in a key's file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than any certificate or key.
    #[error("{} has more than {FILE_BYTES_MAX} bytes, so it is neither certificate nor key", .0.display())]
    TooLarge(PathBuf),
    /// No certificate in the file.
    #[error("{} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", .0.display())]
    NoCertificate(PathBuf),
    /// No key in the file.
    #[error("{} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)", .0.display())]
    NoKey(PathBuf),
    /// The file is damaged.
    #[error("{} is not whole PEM: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why, without quoting it.
        why: &'static str,
    },
    /// The key is not the certificate's.
    #[error("the key in {} does not belong to the certificate in {}", .key.display(), .cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// rustls cannot use them.
    #[error("the certificate in {} and the key in {} cannot be used: {source}", .cert.display(), .key.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The operator named root certificates, and there are none.
    #[error("{} names no usable root certificate{}; correct it, or unset it to trust the system's", .variables, .why)]
    Roots {
        /// The variables that are set.
        variables: String,
        /// What went wrong first, with a colon before it; may be empty.
        why: String,
    },
    /// The crypto provider and the protocol versions do not go together.
    #[error("TLS cannot be set up: {0}")]
    Versions(rustls::Error),
}

/// Longest file that is read: a long chain has some 20 KB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is spoken to callers.
const ALPN_HTTP1: &[u8] = b"http/1.1";
/// What may be spoken to providers where `http2` is on.
const ALPN_HTTP2: &[u8] = b"h2";

/// Settings for calling providers.
#[derive(Debug, Clone)]
pub struct ClientConfigs {
    /// Offers no protocol, so that HTTP/1.1 is spoken.
    pub http1: Arc<ClientConfig>,
    /// Offers HTTP/2, then HTTP/1.1.
    pub http2: Arc<ClientConfig>,
    /// Where the root certificates are from.
    pub roots: Roots,
}

/// Where root certificates are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// The system's, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    System,
    /// Those that come with tidegate, because the system has none.
    Bundled,
}

/// The crypto provider of this build. With aws-lc-rs, the hybrid of X25519 and ML-KEM comes
/// first, so that what is recorded today cannot be read by tomorrow's machines.
pub fn provider() -> CryptoProvider {
    #[cfg(feature = "aws-lc-rs")]
    {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        let hybrid = rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;
        provider
            .kx_groups
            .retain(|group| group.name() != hybrid.name());
        provider.kx_groups.insert(0, hybrid);
        provider
    }
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    {
        rustls::crypto::ring::default_provider()
    }
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    compile_error!("TLS needs one of the features aws-lc-rs and ring");
}

/// Makes [`provider`] the one of the process. Once is enough; later calls change nothing.
pub fn install_provider() {
    let _ = provider().install_default();
}

/// Settings for a listener, of a certificate chain and its key in PEM.
pub fn server_config(cert: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = certificates(cert)?;
    let private = private_key(key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_no_client_auth()
        .with_single_cert(chain, private);
    let (cert, key) = (cert.to_path_buf(), key.to_path_buf());
    let mut config = config.map_err(|source| match source {
        rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { cert, key }
        }
        source => TlsError::Unusable { cert, key, source },
    })?;
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    Ok(config)
}

/// Settings for calling providers. Trusts the system's roots, or what `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name, or where the system has none the bundled ones.
pub fn client_config() -> Result<ClientConfigs, TlsError> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let variables: Vec<_> = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter(is_set)
        .collect();
    let found = rustls_native_certs::load_native_certs();
    let why = found
        .errors
        .first()
        .map(|error| format!(": {error}"))
        .unwrap_or_default();
    let (store, roots) = root_store(found.certs, &variables.join(" and "), why)?;
    client_configs(store, roots)
}

fn root_store(
    found: Vec<CertificateDer<'static>>,
    variables: &str,
    why: String,
) -> Result<(RootCertStore, Roots), TlsError> {
    let mut store = RootCertStore::empty();
    // A few of a system's many are often too odd to be used; the others still are.
    store.add_parsable_certificates(found);
    if !store.is_empty() {
        return Ok((store, Roots::System));
    }
    if !variables.is_empty() {
        // Whoever names roots wants to trust those and no others.
        let variables = variables.to_owned();
        return Err(TlsError::Roots { variables, why });
    }
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Ok((store, Roots::Bundled))
}

fn client_configs(store: RootCertStore, roots: Roots) -> Result<ClientConfigs, TlsError> {
    let http1 = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_root_certificates(store)
        .with_no_client_auth();
    let mut http2 = http1.clone();
    http2.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(ClientConfigs {
        http1: Arc::new(http1),
        http2: Arc::new(http2),
        roots,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| damaged(path, &error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(path.into()));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey(path.into()),
        error => damaged(path, &error),
    })
}

fn damaged(path: &Path, error: &pem::Error) -> TlsError {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end line",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "a line between sections cannot be read",
    };
    TlsError::Damaged {
        path: path.into(),
        why,
    }
}

/// Reads a small file; its bytes are wiped after use, since they may be a key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let error = |source| TlsError::Read {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(error)?;
    // Room from the start: a buffer that grows leaves copies behind.
    let bytes = file.metadata().map_err(error)?.len().min(FILE_BYTES_MAX);
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(bytes).unwrap_or(0) + 1));
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(error)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge(path.into()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
