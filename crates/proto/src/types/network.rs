//! `guest-network-get-interfaces` and `guest-network-get-route`.

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Lists the network interfaces with their addresses and counters.
#[derive(Debug)]
pub struct GuestNetworkGetInterfaces;

impl Command for GuestNetworkGetInterfaces {
    const NAME: &'static str = "guest-network-get-interfaces";
    const SINCE: &'static str = "1.1";
    type Args<'a> = Empty;
    type Ret = Vec<GuestNetworkInterface>;
}

/// One interface, in the kernel's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestNetworkInterface {
    /// Its name.
    pub name: String,
    /// Its addresses; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_addresses: Option<Vec<GuestIpAddress>>,
    /// Its counters since it came up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<GuestNetworkInterfaceStat>,
    /// MAC address in lower-case hexadecimal with colons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_address: Option<String>,
}

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestIpAddress {
    /// Which of the two protocols.
    pub ip_address_type: GuestIpAddressType,
    /// The address as text, without a scope.
    pub ip_address: String,
    /// Length of the network prefix in bits.
    pub prefix: i64,
}

/// The two kinds of address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestIpAddressType {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Another one, of an agent that knows more.
    #[serde(other)]
    Other,
}

/// Counters of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it: packets, errors, bytes and drops each way")]
pub struct GuestNetworkInterfaceStat {
    pub tx_packets: u64,
    pub tx_errs: u64,
    pub rx_bytes: u64,
    pub rx_dropped: u64,
    pub rx_packets: u64,
    pub rx_errs: u64,
    pub tx_bytes: u64,
    pub tx_dropped: u64,
}

/// Lists the routes of IPv4 (the main table) and then of IPv6 (all tables).
#[derive(Debug)]
pub struct GuestNetworkGetRoute;

impl Command for GuestNetworkGetRoute {
    const NAME: &'static str = "guest-network-get-route";
    const SINCE: &'static str = "9.1";
    type Args<'a> = Empty;
    type Ret = Vec<GuestNetworkRoute>;
}

/// One route. What only one of the two protocols has is absent with the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetworkRoute {
    /// Name of the interface.
    pub iface: String,
    /// Where it leads to.
    pub destination: String,
    /// What it costs; unsigned 32 bits.
    pub metric: i64,
    /// IPv4: the next hop; `0.0.0.0` where the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// IPv4: the destination's mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// IPv4: initial round trip time, in the kernel's units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irtt: Option<i64>,
    /// The kernel's `RTF_` bits, unsigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<u64>,
    /// How often it is referred to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refcnt: Option<i64>,
    /// How often it was looked up.
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<i64>,
    /// IPv4: window in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<i64>,
    /// IPv4: largest packet in bytes; 0 where the interface's holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i64>,
    /// IPv6: length of the destination's prefix in bits, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desprefixlen: Option<String>,
    /// IPv6: where packets come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// IPv6: length of the source's prefix in bits, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srcprefixlen: Option<String>,
    /// IPv6: the next hop; `::` where the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nexthop: Option<String>,
    /// 4 or 6.
    pub version: i64,
}
