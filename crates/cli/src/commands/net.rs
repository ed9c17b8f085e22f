//! `qga net`

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::network::{GuestNetworkGetInterfaces, GuestNetworkInterface};

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::Table;
use crate::units;

/// Show the network interfaces with their addresses and how much went through them
#[derive(Debug, Args)]
pub(crate) struct Net {}

impl PerTarget for Net {
    const NAME: &'static str = "net";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.show::<GuestNetworkGetInterfaces>(Empty {}, text)
    }
}

/// One line for each address, so that a line found with grep is complete.
fn text(interfaces: Vec<GuestNetworkInterface>) -> String {
    let mut table = Table::new(&["INTERFACE", "MAC", "ADDRESS", ">RECEIVED", ">SENT"]);
    for interface in interfaces {
        let addresses = interface.ip_addresses.unwrap_or_default();
        let addresses = addresses.iter().map(|address| Some(format!("{}/{}", address.ip_address, address.prefix)));
        let addresses: Vec<_> = addresses.collect();
        for address in if addresses.is_empty() { vec![None] } else { addresses } {
            table.row([
                interface.name.as_str().into(),
                interface.hardware_address.as_ref().into(),
                address.into(),
                interface.statistics.map(|statistics| units::bytes(statistics.rx_bytes)).into(),
                interface.statistics.map(|statistics| units::bytes(statistics.tx_bytes)).into(),
            ]);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_a_line_and_an_interface_without_one_too() {
        let interfaces = serde_json::json!([
            {"name": "lo", "ip-addresses": [
                {"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8},
                {"ip-address-type": "ipv6", "ip-address": "::1", "prefix": 128},
            ]},
            {"name": "eth0", "hardware-address": "52:54:00:00:00:01", "statistics": {
                "rx-bytes": 2048, "rx-packets": 1, "rx-errs": 0, "rx-dropped": 0,
                "tx-bytes": 5, "tx-packets": 1, "tx-errs": 0, "tx-dropped": 0,
            }},
        ]);
        let expected = "\
INTERFACE  MAC                ADDRESS      RECEIVED  SENT
lo         -                  127.0.0.1/8         -     -
lo         -                  ::1/128             -     -
eth0       52:54:00:00:00:01  -             2.0 KiB   5 B
";
        assert_eq!(text(serde_json::from_value(interfaces).unwrap()), expected);
    }
}
