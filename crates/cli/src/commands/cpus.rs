//! `qga cpus`

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::cpu::{GuestGetVcpus, GuestLogicalProcessor};

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::Table;

/// Show the processors and whether the guest uses them
#[derive(Debug, Args)]
pub(crate) struct Cpus {}

impl PerTarget for Cpus {
    const NAME: &'static str = "cpus";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.show::<GuestGetVcpus>(Empty {}, text)
    }
}

fn text(processors: Vec<GuestLogicalProcessor>) -> String {
    let mut table = Table::new(&[">CPU", "ONLINE", "CAN GO OFFLINE"]);
    for cpu in processors {
        let can_offline = cpu.can_offline.map(|can| if can { "yes" } else { "no" });
        table.row([Some(cpu.logical_id).into(), cpu.online.into(), can_offline.into()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_does_not_tell_is_a_dash() {
        let cpu = |logical_id, online, can_offline| GuestLogicalProcessor { logical_id, online, can_offline };
        let expected = "\
CPU  ONLINE  CAN GO OFFLINE
  0  yes     no
 11  no      -
";
        assert_eq!(text(vec![cpu(0, true, Some(false)), cpu(11, false, None)]), expected);
    }
}
