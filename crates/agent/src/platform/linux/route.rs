//! The kernel's routes: IPv4's over rtnetlink or from `/proc/net/route`, IPv6's from `/proc/net/ipv6_route`.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str;

use qga_proto::error::Result;
use qga_proto::types::network::GuestNetworkRoute;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::errno::Context;
use super::ip::push_ipv4;
use super::netlink::{self, route::Route};
use super::root::Root;

/// Tells all routes of IPv4's main table and then all of IPv6, in the kernel's order, one by one: there may be hundreds of
/// thousands. A kernel without one of the two has no routes of it.
///
/// # Errors
/// `open("/proc/net/route"): <errno>`, likewise for the other: it is there and cannot be read.
pub fn each(root: &Root, mut tell: impl FnMut(&GuestNetworkRoute)) -> Result<()> {
    let read = |path: &str| match root.read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.context(|| format!("open(\"{path}\")")),
    };
    let v4 = over_netlink(root);
    let v4_file = if v4.is_none() { read("/proc/net/route")? } else { Vec::new() };
    let v6_file = read("/proc/net/ipv6_route")?;
    if let Some((routes, names)) = &v4 {
        told(routes, names, &mut tell);
    }
    // The first line is a heading.
    lines(&v4_file).skip(1).filter_map(ipv4).for_each(|route| tell(&route));
    lines(&v6_file).filter_map(ipv6).for_each(|route| tell(&route));
    Ok(())
}

/// IPv4's routes and the names of their interfaces; nothing where the file has to be asked.
fn over_netlink(root: &Root) -> Option<(Vec<Route>, HashMap<u32, String>)> {
    if *root != Root::default() {
        return None;
    }
    let routes = netlink::routes().ok()??;
    // Any socket will do.
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    let mut names = HashMap::from([(0, "*".to_owned())]);
    let mut last = 0;
    for route in &routes {
        // Those of one interface stand together more often than not.
        if route.link != last && !names.contains_key(&route.link) {
            names.insert(route.link, netdevice::index_to_name(&socket, route.link).ok()?);
        }
        last = route.link;
    }
    Some((routes, names))
}

/// Tells what came over netlink. The texts of a route take the place of those of the one before, otherwise there would be
/// four new ones for each; and the next hop, the mask and the interface of one are mostly those of the one before.
fn told(routes: &[Route], names: &HashMap<u32, String>, tell: &mut impl FnMut(&GuestNetworkRoute)) {
    // The kernel has not counted references and uses of IPv4's for long.
    let mut told = GuestNetworkRoute { version: 4, refcnt: Some(0), usage: Some(0), ..GuestNetworkRoute::default() };
    let mut last = None;
    for route in routes {
        let is_new = |same: fn(&Route, &Route) -> bool| !last.is_some_and(|last| same(last, route));
        if is_new(|last, route| last.link == route.link) {
            told.iface = names.get(&route.link).cloned().unwrap_or_default();
        }
        if is_new(|last, route| last.gateway == route.gateway) {
            rewrite(told.gateway.get_or_insert_default(), route.gateway);
        }
        if is_new(|last, route| last.prefix == route.prefix) {
            let mask = u32::MAX.checked_shl(32 - u32::from(route.prefix)).unwrap_or_default();
            rewrite(told.mask.get_or_insert_default(), Ipv4Addr::from_bits(mask));
        }
        rewrite(&mut told.destination, route.destination);
        told.metric = route.metric.into();
        told.irtt = Some(route.irtt.into());
        told.flags = Some(route.flags.into());
        told.window = Some(route.window.into());
        told.mtu = Some(route.mtu.into());
        tell(&told);
        last = Some(route);
    }
}

fn rewrite(text: &mut String, address: Ipv4Addr) {
    text.clear();
    push_ipv4(text, address);
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n')
}

/// The first `N` words of a line; `None` where it has fewer.
fn words<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut found = [&[][..]; N];
    for place in &mut found {
        *place = words.next()?;
    }
    Some(found)
}

/// `IFACE DESTINATION GATEWAY FLAGS REFCNT USE METRIC MASK MTU WINDOW IRTT`
fn ipv4(line: &[u8]) -> Option<GuestNetworkRoute> {
    let [iface, destination, gateway, flags, refcnt, usage, metric, mask, mtu, window, irtt] = words(line)?;
    Some(GuestNetworkRoute {
        iface: String::from_utf8_lossy(iface).into_owned(),
        destination: ipv4_address(destination)?,
        metric: unsigned(metric)?,
        gateway: Some(ipv4_address(gateway)?),
        mask: Some(ipv4_address(mask)?),
        irtt: Some(decimal(irtt)?),
        flags: Some(hexadecimal(flags)?.into()),
        refcnt: Some(decimal(refcnt)?),
        usage: Some(decimal(usage)?),
        window: Some(unsigned(window)?),
        mtu: Some(decimal(mtu)?),
        version: 4,
        ..GuestNetworkRoute::default()
    })
}

/// `DESTINATION LENGTH SOURCE LENGTH NEXTHOP METRIC REFCNT USE FLAGS IFACE`
fn ipv6(line: &[u8]) -> Option<GuestNetworkRoute> {
    let [destination, length, source, source_length, nexthop, metric, refcnt, usage, flags, iface] = words(line)?;
    Some(GuestNetworkRoute {
        iface: String::from_utf8_lossy(iface).into_owned(),
        destination: ipv6_address(destination)?,
        metric: hexadecimal(metric)?.into(),
        flags: Some(hexadecimal(flags)?.into()),
        refcnt: Some(hexadecimal(refcnt)?.into()),
        usage: Some(hexadecimal(usage)?.into()),
        desprefixlen: Some(hexadecimal(length)?.to_string()),
        source: Some(ipv6_address(source)?),
        srcprefixlen: Some(hexadecimal(source_length)?.to_string()),
        nexthop: Some(ipv6_address(nexthop)?),
        version: 6,
        ..GuestNetworkRoute::default()
    })
}

/// The kernel prints the four bytes as one number of this machine.
fn ipv4_address(word: &[u8]) -> Option<String> {
    let mut text = String::with_capacity("255.255.255.255".len());
    push_ipv4(&mut text, Ipv4Addr::from(hexadecimal(word)?.to_ne_bytes()));
    Some(text)
}

/// Byte by byte.
fn ipv6_address(word: &[u8]) -> Option<String> {
    let digits = str::from_utf8(word).ok().filter(|digits| digits.len() == 32)?;
    Some(Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?).to_string())
}

fn hexadecimal(word: &[u8]) -> Option<u32> {
    if word.is_empty() || word.len() > 8 {
        return None;
    }
    word.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

fn decimal(word: &[u8]) -> Option<i64> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// A number of 32 bits without sign that the kernel may have printed with one.
fn unsigned(word: &[u8]) -> Option<i64> {
    let number = decimal(word)?;
    Some(if number < 0 { i64::from(u32::try_from(number + (1 << 32)).ok()?) } else { number })
}

#[cfg(test)]
#[path = "route/tests.rs"]
mod tests;
