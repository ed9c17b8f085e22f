//! `guest-network-get-interfaces`.

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
