//! `guest-network-get-interfaces`.

use std::net::IpAddr;
use std::str;

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::json::ListWriter;
use qga_proto::types::network::{
    GuestIpAddress, GuestIpAddressType, GuestNetworkGetInterfaces, GuestNetworkInterface, GuestNetworkInterfaceStat,
};

use crate::commands::{Context, Handler};
use crate::platform::linux::errno::Context as _;
use crate::platform::linux::ip::push_ipv4;
use crate::platform::linux::netlink::{Address, Counters, HardwareAddress, Link};

impl Handler for GuestNetworkGetInterfaces {
    const NEEDS: &'static str = "rtnetlink";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestNetworkInterface>> {
        let mut interfaces = Vec::new();
        each(cx, |interface| interfaces.push(interface.clone()))?;
        Ok(interfaces)
    }

    fn answer(cx: Context<'_>, _: Empty, out: &mut Vec<u8>) -> Result<()> {
        let mut list = ListWriter::new(out);
        each(cx, |interface| list.item(interface))?;
        list.finish();
        Ok(())
    }
}

fn each(cx: Context<'_>, tell: impl FnMut(&GuestNetworkInterface)) -> Result<()> {
    let told = cx.state.interfaces.interfaces(|links, addresses| describe(links, addresses, tell));
    // The text is the C agent's; scripts know it.
    told.context(|| "getifaddrs failed".into())
}

/// Tells the interfaces, each with its addresses, one by one; both lists are by the number of the interface.
///
/// An address with a label (`eth0:1`) stands with the interface it belongs to, not as an interface of its own:
/// hosts that know of labels merge the two again, and to those that do not, a second interface with the MAC
/// address of the first is a puzzle.
fn describe(links: &[Link], addresses: &[Address], mut tell: impl FnMut(&GuestNetworkInterface)) {
    let mut rest = addresses.iter().peekable();
    // The texts of an interface take the place of those of the one before: hosts of containers have thousands.
    let (mut name, mut hardware) = (String::new(), String::new());
    for link in links {
        // An address may be of an interface that came after the list of them was made.
        while rest.next_if(|address| address.link < link.index).is_some() {}
        let own = std::iter::from_fn(|| rest.next_if(|address| address.link == link.index));
        let list: Vec<_> = own.map(ip_address).collect();
        name.clear();
        name.push_str(&String::from_utf8_lossy(&link.name));
        hardware.clear();
        push_hardware_address(&mut hardware, link);
        let mut interface = GuestNetworkInterface {
            name,
            ip_addresses: (!list.is_empty()).then_some(list),
            statistics: link.counters.as_ref().map(statistics),
            hardware_address: Some(hardware),
        };
        tell(&interface);
        hardware = interface.hardware_address.take().unwrap_or_default();
        name = interface.name;
    }
}

fn ip_address(address: &Address) -> GuestIpAddress {
    GuestIpAddress {
        ip_address_type: match address.ip {
            IpAddr::V4(_) => GuestIpAddressType::Ipv4,
            IpAddr::V6(_) => GuestIpAddressType::Ipv6,
        },
        ip_address: match address.ip {
            IpAddr::V4(ip) => {
                let mut text = String::with_capacity("255.255.255.255".len());
                push_ipv4(&mut text, ip);
                text
            }
            IpAddr::V6(ip) => ip.to_string(),
        },
        prefix: address.prefix.into(),
    }
}

fn statistics(counters: &Counters) -> GuestNetworkInterfaceStat {
    GuestNetworkInterfaceStat {
        tx_packets: counters.tx_packets,
        tx_errs: counters.tx_errors,
        rx_bytes: counters.rx_bytes,
        rx_dropped: counters.rx_dropped,
        rx_packets: counters.rx_packets,
        rx_errs: counters.rx_errors,
        tx_bytes: counters.tx_bytes,
        tx_dropped: counters.tx_dropped,
    }
}

/// Lower-case hexadecimal with colons. An interface without a hardware address (loopback, tun, tunnels, whose
/// "address" is an IP address) has zeros, as hosts know it from the C agent and leave such interfaces out; one with
/// a longer address than Ethernet's (InfiniBand) has all of it.
fn push_hardware_address(text: &mut String, link: &Link) {
    const NONE: &[u8] = &[0; 6];
    let known = link.address.len() >= NONE.len() && !is_tunnel(link.kind);
    let bytes = if known { &*link.address } else { NONE };
    let mut digits = [b':'; HardwareAddress::LONGEST * 3];
    for (place, byte) in digits.chunks_exact_mut(3).zip(bytes) {
        if let [high, low, _] = place {
            (*high, *low) = (digit(byte >> 4), digit(byte & 0xf));
        }
    }
    // All but the last colon.
    let written = digits.get(..(bytes.len() * 3).saturating_sub(1)).unwrap_or_default();
    text.push_str(str::from_utf8(written).unwrap_or_default());
}

fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

/// Whether the interface carries packets inside others and is addressed by IP (the `ARPHRD_` numbers of ipip,
/// ip6tnl, sit, gre and ip6gre).
fn is_tunnel(kind: u16) -> bool {
    matches!(kind, 768 | 769 | 776 | 778 | 823)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::linux::netlink::in_order;

    fn link(index: u32, name: &str) -> Link {
        let address = [0x52, 0x54, 0, 0x12, 0xab, 0xcd];
        Link { index, name: name.as_bytes().into(), kind: 1, address: address[..].into(), counters: None }
    }

    fn address(link: u32, ip: &str, prefix: u8) -> Address {
        Address { link, ip: ip.parse().unwrap(), prefix }
    }

    fn described(links: &[Link], addresses: &[Address]) -> Vec<GuestNetworkInterface> {
        let mut interfaces = Vec::new();
        describe(links, &in_order(addresses.to_vec()), |interface| interfaces.push(interface.clone()));
        interfaces
    }

    #[test]
    fn four_thousand_interfaces_each_have_their_own_addresses() {
        let links: Vec<_> = (1..=4000).map(|n| link(n, &format!("veth{n}"))).collect();
        let ip = |n: u32| format!("10.{}.{}.1", n >> 8, n & 0xff);
        let mut addresses: Vec<_> = (1..=4000).rev().map(|n| address(n, &format!("fe80::{n:x}"), 64)).collect();
        addresses.extend((1..=4000).map(|n| address(n, &ip(n), 24)));
        let told = described(&links, &addresses);
        assert_eq!(told.len(), 4000);
        for (n, interface) in (1..).zip(&told) {
            assert_eq!(interface.name, format!("veth{n}"));
            let list = interface.ip_addresses.as_deref().unwrap_or_default();
            let ips: Vec<_> = list.iter().map(|address| address.ip_address.as_str()).collect();
            assert_eq!(ips, [ip(n), format!("fe80::{n:x}")]);
        }
    }

    fn hardware_address(link: &Link) -> String {
        let mut text = String::new();
        push_hardware_address(&mut text, link);
        text
    }

    fn texts(interface: &GuestNetworkInterface) -> Vec<String> {
        let list = interface.ip_addresses.as_deref().unwrap_or_default();
        list.iter().map(|address| format!("{}/{}", address.ip_address, address.prefix)).collect()
    }

    #[test]
    fn an_interface_without_an_address_has_no_list_of_them() {
        let interfaces = described(&[link(3, "eth0")], &[address(4, "10.0.0.1", 8)]);
        assert_eq!(interfaces.len(), 1);
        assert_eq!(interfaces[0].ip_addresses, None);
        assert_eq!(interfaces[0].hardware_address.as_deref(), Some("52:54:00:12:ab:cd"));
    }

    #[test]
    fn ipv4_comes_before_ipv6_and_each_keeps_the_kernels_order() {
        let addresses = [
            address(2, "fe80::1", 64),
            address(2, "10.0.0.9", 24),
            address(1, "127.0.0.1", 8),
            address(2, "2001:db8::1", 128),
            address(2, "10.0.0.1", 32),
        ];
        let interfaces = described(&[link(1, "lo"), link(2, "eth0")], &addresses);
        assert_eq!(texts(&interfaces[0]), ["127.0.0.1/8"]);
        assert_eq!(texts(&interfaces[1]), ["10.0.0.9/24", "10.0.0.1/32", "fe80::1/64", "2001:db8::1/128"]);
    }

    #[test]
    fn an_address_whose_interface_is_not_listed_is_left_out() {
        let addresses = [address(1, "10.0.0.1", 8), address(2, "10.0.0.2", 8), address(4, "10.0.0.4", 8)];
        let interfaces = described(&[link(2, "eth0"), link(3, "eth1")], &addresses);
        assert_eq!((texts(&interfaces[0]), texts(&interfaces[1])), (vec!["10.0.0.2/8".into()], Vec::new()));
    }

    #[test]
    fn a_name_that_is_no_utf8_is_made_readable() {
        let mut odd = link(1, "");
        odd.name = b"a\xffb"[..].into();
        assert_eq!(described(&[odd], &[])[0].name, "a\u{fffd}b");
    }

    #[test]
    fn an_interface_without_a_hardware_address_has_zeros() {
        let mut tun = link(1, "tun0");
        (tun.kind, tun.address) = (0xfffe, [][..].into());
        assert_eq!(hardware_address(&tun), "00:00:00:00:00:00");
        // The address of an IPv4 tunnel is four bytes, that of an IPv6 tunnel sixteen.
        (tun.kind, tun.address) = (768, [10, 0, 0, 1][..].into());
        assert_eq!(hardware_address(&tun), "00:00:00:00:00:00");
        (tun.kind, tun.address) = (769, [0xfe; 16][..].into());
        assert_eq!(hardware_address(&tun), "00:00:00:00:00:00");
    }

    #[test]
    fn a_long_hardware_address_is_whole() {
        let mut infiniband = link(1, "ib0");
        let address: [u8; 20] = std::array::from_fn(|at| at as u8);
        (infiniband.kind, infiniband.address) = (32, address[..].into());
        assert_eq!(hardware_address(&infiniband), "00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13");
    }

    #[test]
    fn counters_stand_under_the_names_of_the_protocol() {
        let mut counted = link(1, "eth0");
        counted.counters = Some(Counters {
            rx_packets: 1,
            tx_packets: 2,
            rx_bytes: u64::MAX,
            tx_bytes: 4,
            rx_errors: 5,
            tx_errors: 6,
            rx_dropped: 7,
            tx_dropped: 8,
        });
        let expected = GuestNetworkInterfaceStat {
            tx_packets: 2,
            tx_errs: 6,
            rx_bytes: u64::MAX,
            rx_dropped: 7,
            rx_packets: 1,
            rx_errs: 5,
            tx_bytes: 4,
            tx_dropped: 8,
        };
        assert_eq!(described(&[counted], &[])[0].statistics, Some(expected));
    }
}
