//! The addresses of a guest, the most useful ones first.

use std::net::IpAddr;

use qga_proto::types::network::GuestNetworkInterface;
use serde_json::{Value, json};

/// How far away an address can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Everywhere, or in a private network.
    Global,
    /// On the link only.
    Link,
    /// In the guest only.
    Host,
}

/// One address of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The address.
    pub(crate) ip: IpAddr,
    /// Length of the network prefix in bits.
    pub(crate) prefix: i64,
    /// Name of its interface.
    pub(crate) interface: String,
    /// MAC address of its interface.
    pub(crate) mac: Option<String>,
    /// Whether its interface connects the guest to nothing but what runs in it: containers and machines.
    pub(crate) is_inner: bool,
}

/// How the names of interfaces begin that containers and machines in the guest are connected to.
const INNER: [&str; 17] = [
    "docker", "br-", "virbr", "veth", "vnet", "podman", "cni", "flannel", "cali", "cilium", "lxcbr", "lxdbr",
    "incusbr", "kube-", "nerdctl", "dummy", "weave",
];

impl Address {
    /// How far away it can be used.
    pub(crate) fn scope(&self) -> Scope {
        match self.ip {
            IpAddr::V4(ip) if ip.is_loopback() => Scope::Host,
            IpAddr::V6(ip) if ip.is_loopback() => Scope::Host,
            IpAddr::V4(ip) if ip.is_link_local() => Scope::Link,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Scope::Link,
            _ => Scope::Global,
        }
    }

    /// Whether a guest can be reached by it from outside, as far as its guest can tell.
    pub(crate) fn is_reachable(&self) -> bool {
        self.scope() == Scope::Global && !self.is_inner
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let scope = match self.scope() {
            Scope::Global => "global",
            Scope::Link => "link",
            Scope::Host => "host",
        };
        json!({
            "address": self.ip.to_string(), "prefix": self.prefix, "interface": self.interface, "mac": self.mac,
            "scope": scope, "virtual-bridge": self.is_inner,
        })
    }
}

/// All addresses: global ones first, IPv4 before IPv6, and those of bridges inside the guest last; otherwise as the
/// guest has them. What is no address is left out.
pub(crate) fn all(interfaces: &[GuestNetworkInterface]) -> Vec<Address> {
    let mut addresses: Vec<Address> = interfaces
        .iter()
        .flat_map(|interface| {
            let is_inner = INNER.iter().any(|start| interface.name.starts_with(start));
            interface.ip_addresses.iter().flatten().filter_map(move |address| {
                Some(Address {
                    ip: address.ip_address.parse().ok()?,
                    prefix: address.prefix,
                    interface: interface.name.clone(),
                    mac: interface.hardware_address.clone(),
                    is_inner,
                })
            })
        })
        .collect();
    addresses.sort_by_key(|address| (address.is_inner, address.scope(), address.ip.is_ipv6()));
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_addresses_come_first_and_those_of_inner_bridges_last() {
        let address = |ip: &str| serde_json::json!({"ip-address-type": "ipv4", "ip-address": ip, "prefix": 24});
        let interfaces = serde_json::json!([
            {"name": "lo", "ip-addresses": [address("127.0.0.1"), address("::1")]},
            {"name": "docker0", "ip-addresses": [address("172.17.0.1")]},
            {"name": "eth0", "ip-addresses": [address("fe80::1"), address("2001:db8::5"), address("192.168.1.5"), address("?")]},
            {"name": "eth1", "ip-addresses": [address("169.254.3.4"), address("203.0.113.9")]},
            {"name": "eth2"},
        ]);
        let interfaces: Vec<GuestNetworkInterface> = serde_json::from_value(interfaces).unwrap();
        let sorted: Vec<String> = all(&interfaces).iter().map(|address| address.ip.to_string()).collect();
        let expected =
            ["192.168.1.5", "203.0.113.9", "2001:db8::5", "169.254.3.4", "fe80::1", "127.0.0.1", "::1", "172.17.0.1"];
        assert_eq!(sorted, expected);
        assert_eq!(all(&interfaces).iter().filter(|address| address.is_reachable()).count(), 3);
    }
}
