//! `qga man`

use std::path::PathBuf;

use clap::Args;

use super::Whole;
use crate::cli::{self, Options};
use crate::exit::Failure;

/// Write the manual pages of qga into a directory
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Man {
    /// The directory, which must exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Whole for Man {
    const NAME: &'static str = "man";

    fn run(&self, _options: &Options) -> Result<u8, Failure> {
        clap_mangen::generate_to(cli::command(), &self.directory).map_err(|error| {
            Failure::Host(format!("cannot write manual pages into {}: {}", self.directory.display(), error.kind()))
        })?;
        Ok(0)
    }
}
