//! `countersign completion`: scripts for shells.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{args::Cli, output::Output};

/// Completes commands and flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign completion bash > /etc/bash_completion.d/countersign
  countersign completion zsh  > \"${fpath[1]}/_countersign\"
  countersign completion fish > ~/.config/fish/completions/countersign.fish")]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionArgs, out: &Output) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "countersign", &mut script);
    out.raw(&script);
}
