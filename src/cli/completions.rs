//! `tidegate completions`: what a shell needs to complete our verbs and flags.

use std::io::{self, Write};

use clap::{Args, Command};
use clap_complete::Shell;

/// Arguments of `tidegate completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  source <(tidegate completions bash)                                   This shell only
  tidegate completions bash > ~/.local/share/bash-completion/completions/tidegate
  tidegate completions zsh > ~/.zfunc/_tidegate                         With ~/.zfunc in fpath
  tidegate completions fish > ~/.config/fish/completions/tidegate.fish";

/// Prints the script.
pub fn run(args: &CompletionsArgs, command: &mut Command, out: &mut dyn Write) -> io::Result<()> {
    // The generator gives up loudly on a failed write, hence the detour over memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "tidegate", &mut script);
    out.write_all(&script)
}
