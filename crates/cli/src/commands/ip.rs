//! `qga ip`

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::network::GuestNetworkGetInterfaces;
use serde_json::Value;

use super::PerTarget;
use crate::address::{self, Address, Scope};
use crate::exit::{Failure, Special};
use crate::output::Output;
use crate::session::Session;
use crate::table::Table;

/// Show the addresses by which a guest is reached, the best one first
///
/// Global and private addresses come first, those of bridges for containers and machines inside the guest (docker0,
/// virbr0, veth...) last. Addresses that hold on one link or in the guest only are left out.
///
/// The exit status is 1 when there is none.
#[derive(Debug, Args)]
pub(crate) struct Ip {
    /// Just those of the interface with this hardware address
    #[arg(long, value_name = "MAC")]
    mac: Option<String>,

    /// Just IPv4, or just IPv6
    #[arg(long, value_name = "4|6", value_parser = ["4", "6"])]
    family: Option<String>,

    /// Print the first one and nothing else, for scripts
    #[arg(long)]
    first: bool,

    /// Also loopback and link-local addresses
    #[arg(long)]
    all_addresses: bool,
}

impl PerTarget for Ip {
    const NAME: &'static str = "ip";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let interfaces = session.agent()?.call::<GuestNetworkGetInterfaces>(Empty {})?;
        let mac = self.mac.as_deref().map(plain_mac);
        let is_absent = |mac: &String| {
            !interfaces
                .iter()
                .any(|interface| interface.hardware_address.as_deref().map(plain_mac).as_ref() == Some(mac))
        };
        if mac.as_ref().is_some_and(is_absent) {
            return Err(none("no interface has this hardware address".into(), "'qga net' shows those that there are."));
        }
        let mut addresses = address::all(&interfaces);
        addresses.retain(|address| {
            (self.all_addresses || address.scope() == Scope::Global)
                && self.family.as_deref().is_none_or(|family| (family == "6") == address.ip.is_ipv6())
                && mac.as_ref().is_none_or(|mac| address.mac.as_deref().map(plain_mac).as_ref() == Some(mac))
        });
        if addresses.is_empty() {
            let hint = "'qga net' shows all that the guest has; 'qga wait --for ip' waits for one.";
            return Err(none("the guest has no such address".into(), hint));
        }
        if self.first {
            addresses.truncate(1);
        }
        Ok(match (session.is_json(), addresses.as_slice()) {
            (true, [first, ..]) if self.first => Output::json(first.to_json()),
            (true, all) => Output::json(all.iter().map(Address::to_json).collect::<Value>()),
            (false, [first, ..]) if self.first => Output::text(first.ip.to_string()),
            (false, all) => Output::text(text(all)),
        })
    }
}

fn text(addresses: &[Address]) -> String {
    let mut table = Table::new(&["ADDRESS", "INTERFACE", "MAC"]);
    for address in addresses {
        table.row([address.ip.to_string().into(), address.interface.as_str().into(), address.mac.as_ref().into()]);
    }
    table.to_string()
}

fn none(message: String, hint: &'static str) -> Failure {
    Failure::Special(Special { code: Failure::GENERAL, layer: "command", message, hint: Some(hint) })
}

/// A MAC address in the one form of all that people write.
fn plain_mac(mac: &str) -> String {
    mac.chars().filter(char::is_ascii_hexdigit).map(|digit| digit.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_compared_in_every_form() {
        for mac in ["52:54:00:AA:bb:cc", "52-54-00-aa-bb-cc", "525400aabbcc", "5254.00aa.bbcc"] {
            assert_eq!(plain_mac(mac), "525400aabbcc");
        }
    }
}
