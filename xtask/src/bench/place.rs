//! Where an agent is measured: on the machine as it is, or in namespaces with many interfaces, routes or mounts.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A place to start an agent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The machine as it is.
    Machine,
    /// A network namespace with this many interfaces besides the loopback, and addresses on them.
    Interfaces(usize),
    /// A network namespace with this many routes.
    Routes(usize),
    /// A mount namespace with this many mounts more than the machine has.
    Mounts(usize),
}

impl Place {
    /// A command that runs a program in this place.
    pub(super) fn command(self, program: &Path) -> Command {
        let Some(preparation) = self.preparation() else {
            return Command::new(program);
        };
        let mut command = Command::new("unshare");
        // The namespaces end with the agent, and so does all that was made in them.
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-ec"]);
        command.arg(format!("{preparation}\nexec \"$0\" \"$@\"")).arg(program);
        command
    }

    /// How long it may take to prepare.
    pub(super) fn patience(self) -> Duration {
        match self {
            Place::Machine => Duration::from_secs(10),
            _ => Duration::from_secs(300),
        }
    }

    /// A shell script that makes it, run in the new namespaces.
    fn preparation(self) -> Option<String> {
        match self {
            Place::Machine => None,
            // Pairs of veth, the kind of interface that every kernel has which runs containers, both ends with an address:
            // an interface without one costs the C agent nothing, and hosts have no thousands of those.
            Place::Interfaces(count) => Some(format!(
                "seq 1 {} | awk '{{ print \"link add a\" $1 \" type veth peer name b\" $1; \
                 printf \"addr add 10.%d.%d.1/24 dev a%d\\n\", $1 / 250, $1 % 250, $1; \
                 printf \"addr add 10.%d.%d.1/24 dev b%d\\n\", 100 + $1 / 250, $1 % 250, $1 }}' | ip -batch -",
                count.div_ceil(2)
            )),
            Place::Routes(count) => Some(format!(
                "ip link set lo up; seq 1 {count} | awk '{{ printf \"route add 10.%d.%d.%d/32 dev lo metric %d\\n\", \
                 $1 / 65536, ($1 / 256) % 256, $1 % 256, $1 }}' | ip -batch -"
            )),
            // Bind mounts of directories on the disk with the root: each is a line of the mount table.
            Place::Mounts(count) => Some(format!(
                "mkdir -p /var/tmp/bench-mounts; cd /var/tmp/bench-mounts; \
                 seq 1 {count} | xargs mkdir -p; seq 1 {count} | while read n; do mount --bind $n $n; done"
            )),
        }
    }
}
