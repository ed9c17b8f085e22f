//! `qga routes`

use std::net::Ipv4Addr;

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::network::{GuestNetworkGetRoute, GuestNetworkRoute};

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::Table;

/// Show the routes of the main tables
///
/// Agents before QEMU 9.1 cannot tell.
#[derive(Debug, Args)]
pub(crate) struct Routes {}

impl PerTarget for Routes {
    const NAME: &'static str = "routes";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.show::<GuestNetworkGetRoute>(Empty {}, text)
    }
}

fn text(routes: Vec<GuestNetworkRoute>) -> String {
    let mut table = Table::new(&["DESTINATION", "VIA", "INTERFACE", ">METRIC"]);
    for route in routes {
        let via =
            route.gateway.as_ref().or(route.nexthop.as_ref()).filter(|via| !matches!(via.as_str(), "0.0.0.0" | "::"));
        table.row([destination(&route).into(), via.into(), route.iface.as_str().into(), Some(route.metric).into()]);
    }
    table.to_string()
}

/// `default`, or an address with the length of its prefix as far as that can be understood.
fn destination(route: &GuestNetworkRoute) -> String {
    let prefix = match (&route.desprefixlen, &route.mask) {
        (Some(length), _) => length.parse().ok(),
        (None, Some(mask)) => prefix_of(mask),
        (None, None) => None,
    };
    match (route.destination.as_str(), prefix) {
        ("0.0.0.0" | "::", Some(0)) => "default".to_owned(),
        (destination, Some(prefix)) => format!("{destination}/{prefix}"),
        (destination, None) => match &route.mask {
            Some(mask) => format!("{destination}/{mask}"),
            None => destination.to_owned(),
        },
    }
}

/// The number of bits that a mask has set, if they stand together.
fn prefix_of(mask: &str) -> Option<u32> {
    let bits = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    (bits.leading_ones() == bits.count_ones()).then_some(bits.count_ones())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_both_protocols_look_alike() {
        let routes = serde_json::json!([
            {"iface": "eth0", "destination": "0.0.0.0", "metric": 100, "gateway": "10.0.2.2", "mask": "0.0.0.0", "version": 4},
            {"iface": "eth0", "destination": "10.0.2.0", "metric": 0, "gateway": "0.0.0.0", "mask": "255.255.255.0", "version": 4},
            {"iface": "x", "destination": "1.2.3.4", "metric": 0, "gateway": "0.0.0.0", "mask": "255.0.255.0", "version": 4},
            {"iface": "eth0", "destination": "fe80::", "metric": 256, "desprefixlen": "64", "nexthop": "::", "version": 6},
            {"iface": "eth0", "destination": "::", "metric": 1, "desprefixlen": "0", "nexthop": "fe80::2", "version": 6},
        ]);
        let expected = "\
DESTINATION          VIA       INTERFACE  METRIC
default              10.0.2.2  eth0          100
10.0.2.0/24          -         eth0            0
1.2.3.4/255.0.255.0  -         x               0
fe80::/64            -         eth0          256
default              fe80::2   eth0            1
";
        assert_eq!(text(serde_json::from_value(routes).unwrap()), expected);
    }
}
