//! `qga trim`

use std::time::Duration;

use clap::Args;
use qga_proto::types::fsfreeze::{FstrimArgs, FstrimRet, GuestFstrim};

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::{Field, Table};
use crate::units;

/// Large disks take minutes.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Give the blocks that file systems do not use back to the host
#[derive(Debug, Args)]
pub(crate) struct Trim {
    /// Pass over free stretches of fewer bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(i64).range(0..))]
    minimum: Option<i64>,
}

impl PerTarget for Trim {
    const NAME: &'static str = "trim";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.patient_agent(TIMEOUT)?;
        session.show::<GuestFstrim>(FstrimArgs { minimum: self.minimum }, text)
    }
}

fn text(trimmed: FstrimRet) -> String {
    let mut table = Table::new(&["MOUNTED ON", ">TRIMMED", "ERROR"]);
    for path in trimmed.paths {
        let bytes = path.trimmed.and_then(|bytes| u64::try_from(bytes).ok()).map(units::bytes);
        let error = Field::from(path.error.as_ref()).coloured(path.error.is_some(), false);
        table.row([path.path.into(), bytes.into(), error]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_has_its_bytes_or_its_error() {
        let trimmed = serde_json::json!({"paths": [
            {"path": "/", "trimmed": 4096, "minimum": 0},
            {"path": "/boot", "error": "trim not supported"},
        ]});
        let expected = "\
MOUNTED ON  TRIMMED  ERROR
/           4.0 KiB  -
/boot             -  trim not supported
";
        assert_eq!(text(serde_json::from_value(trimmed).unwrap()), expected);
    }
}
