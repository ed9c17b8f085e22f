//! The way to an agent, before anything is said on it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use qga_client::{Channel, Error, Libvirt};

use super::Diagnosis;
use crate::exit::Failure;
use crate::target::{Target, Way};

/// The name of the port in the machine's definition.
const PORT: &str = "org.qemu.guest_agent.0";

/// Looks at the way; whether it makes sense to go on.
pub(super) fn examine(target: &Target, timeout: Duration, diagnosis: &mut Diagnosis) -> bool {
    match target.way() {
        Way::Unix(path) => socket(path, diagnosis),
        Way::Vsock { cid, port } => {
            diagnosis.ok("target", format!("port {port} of the vsock address {cid}"));
            true
        }
        Way::Serial(path) => {
            diagnosis.ok("target", format!("the serial line {}", path.display()));
            true
        }
        Way::Libvirt { uri, domain } => libvirt(uri.as_deref(), domain, timeout, diagnosis),
    }
}

fn socket(path: &Path, diagnosis: &mut Diagnosis) -> bool {
    let is_socket = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(source) => {
            diagnosis.failed("socket", Error::Open { channel: Channel::Unix(path.to_owned()), source });
            return false;
        }
    };
    if is_socket {
        diagnosis.ok("socket", format!("{} is there", path.display()));
    } else {
        let hint = "Name the socket behind the agent's port; for a serial line or pty, write serial:PATH.";
        diagnosis.fail("socket", format!("{} is no socket", path.display()), Some(hint.into()), Failure::ABSENT);
    }
    is_socket
}

fn libvirt(uri: Option<&str>, domain: &str, timeout: Duration, diagnosis: &mut Diagnosis) -> bool {
    let definition = match Libvirt::new(uri, domain).and_then(|mut libvirt| libvirt.definition(timeout)) {
        Ok(definition) => definition,
        Err(error) => {
            diagnosis.failed("libvirt", error);
            return false;
        }
    };
    diagnosis.ok("libvirt", format!("knows the machine {}", qga_client::printable(domain)));
    let port = match port(&definition) {
        Some(port) => port,
        None => {
            diagnosis.failed("channel", Error::NoPort(domain.to_owned()));
            return false;
        }
    };
    diagnosis.ok("channel", format!("its definition has a port {PORT}"));
    match port {
        Port::Connected => {
            diagnosis.ok("port", "open in the guest".into());
            true
        }
        Port::Disconnected => {
            diagnosis.failed("port", Error::PortClosed(domain.to_owned()));
            false
        }
        Port::Off => {
            diagnosis.failed("machine", Error::NotRunning(domain.to_owned()));
            false
        }
    }
}

/// The state of the agent's port.
#[derive(Debug, PartialEq, Eq)]
enum Port {
    /// Somebody in the guest has opened it.
    Connected,
    /// Nobody has.
    Disconnected,
    /// libvirt does not know, as it does not of a machine that is not running.
    Off,
}

/// Finds the port in the machine's definition, which libvirt writes with one element a line.
fn port(definition: &str) -> Option<Port> {
    let is_port = |line: &&str| line.trim_start().starts_with("<target") && line.contains(&format!("name='{PORT}'"));
    let line = definition.lines().find(is_port)?;
    Some(if line.contains("state='connected'") {
        Port::Connected
    } else if line.contains("state='disconnected'") {
        Port::Disconnected
    } else {
        Port::Off
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_with_its_state() {
        let line = |state: &str| format!("<channel type='unix'>\n  <target type='virtio' name='{PORT}'{state}/>\n");
        assert_eq!(port(&line(" state='connected'")), Some(Port::Connected));
        assert_eq!(port(&line(" state='disconnected'")), Some(Port::Disconnected));
        assert_eq!(port(&line("")), Some(Port::Off));
        assert_eq!(port("<target type='virtio' name='com.redhat.spice.0' state='connected'/>"), None);
    }
}
