//! `tidegate version`: what this binary is.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::ReportForm;

/// Arguments of `tidegate version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  tidegate version
  tidegate version --output json";

/// What was built.
#[derive(Debug, Serialize)]
pub struct Version {
    /// The crate's version.
    pub version: &'static str,
    /// The commit, where the build was told (`TIDEGATE_COMMIT`).
    pub commit: Option<&'static str>,
    /// Processor, system and C library.
    pub target: String,
    /// The TLS crypto provider.
    pub tls: &'static str,
    /// Cargo features that are on.
    pub features: Vec<&'static str>,
    /// Built with checks that cost speed.
    pub debug: bool,
}

impl Version {
    /// This binary's.
    pub fn here() -> Self {
        let features = [
            ("aws-lc-rs", cfg!(feature = "aws-lc-rs")),
            ("ring", cfg!(feature = "ring")),
        ];
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("TIDEGATE_COMMIT").filter(|commit| !commit.is_empty()),
            target: format!("{}-{}-{LIBC}", std::env::consts::ARCH, std::env::consts::OS),
            tls: tls_provider(),
            features: features
                .iter()
                .filter(|(_, on)| *on)
                .map(|(name, _)| *name)
                .collect(),
            debug: cfg!(debug_assertions),
        }
    }
}

#[cfg(target_env = "musl")]
const LIBC: &str = "musl";
#[cfg(not(target_env = "musl"))]
const LIBC: &str = "gnu";

/// The TLS crypto provider; of two, the one that is used.
pub fn tls_provider() -> &'static str {
    if cfg!(feature = "aws-lc-rs") {
        "aws-lc-rs (post-quantum key exchange)"
    } else {
        "ring"
    }
}

/// Prints it.
pub fn run(args: &VersionArgs, out: &mut dyn Write) -> io::Result<()> {
    let version = Version::here();
    if args.output == ReportForm::Json {
        return writeln!(out, "{}", serde_json::to_string_pretty(&version)?);
    }
    writeln!(out, "tidegate {}", version.version)?;
    let build = if version.debug {
        "debug (slow; build with --release)"
    } else {
        "release"
    };
    let features = version.features.join(", ");
    for (name, value) in [
        ("commit", version.commit.unwrap_or("unknown")),
        ("target", &version.target),
        ("build", build),
        ("features", &features),
        ("tls", version.tls),
    ] {
        writeln!(out, "  {name:<8}  {value}")?;
    }
    Ok(())
}
