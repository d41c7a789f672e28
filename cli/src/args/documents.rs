//! What is said to have varve describe itself: to shells, and to man(1).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `varve completion`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  varve completion bash > /etc/bash_completion.d/varve
  varve completion zsh > \"${fpath[1]}/_varve\"
  varve completion fish > ~/.config/fish/completions/varve.fish
  source <(varve completion bash)          for this shell alone

bash, zsh and fish complete names too: of images, builds, records of the build cache, stages and
arguments of the Dockerfile. A package has put the scripts in place already.")]
pub(crate) struct Completion {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// `varve man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  varve man | man -l -                              the page of varve
  varve man /usr/local/share/man/man1               a page for each command")]
pub(crate) struct Man {
    /// Directory for a page of each command [default: the page of varve on standard output]
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// `varve __complete`, called by the scripts.
#[derive(Debug, Args)]
pub(crate) struct Complete {
    /// Which shell asks
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
    /// The command line up to the cursor
    #[arg(value_name = "WORD", last = true)]
    pub(crate) words: Vec<OsString>,
}
