//! `qga completion`

use clap::Args;
use clap_complete::{Shell, generate};

use super::Whole;
use crate::cli::{self, Options};
use crate::exit::Failure;
use crate::output::Printer;

/// Print a script that completes qga's command line in a shell
///
/// For bash: qga completion bash >/etc/bash_completion.d/qga
/// For zsh: qga completion zsh >/usr/local/share/zsh/site-functions/_qga
/// For fish: qga completion fish >/etc/fish/completions/qga.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Whole for Completion {
    const NAME: &'static str = "completion";

    fn run(&self, _options: &Options) -> Result<u8, Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut cli::command(), "qga", &mut script);
        Printer::new(false, false).print(None, &String::from_utf8_lossy(&script))?;
        Ok(0)
    }
}
