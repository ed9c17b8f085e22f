//! The kernel's routes: `/proc/net/route` and `/proc/net/ipv6_route`.

use std::io;
use std::net::Ipv6Addr;
use std::str;

use qga_proto::error::Result;
use qga_proto::types::network::GuestNetworkRoute;

use super::errno::Context;
use super::root::Root;

/// All routes of IPv4's main table and then all of IPv6, in the kernel's order. A kernel without one of the two has no
/// routes of it.
///
/// # Errors
/// `open("/proc/net/route"): <errno>`, likewise for the other: it is there and cannot be read.
pub fn all(root: &Root) -> Result<Vec<GuestNetworkRoute>> {
    let read = |path: &str| match root.read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.context(|| format!("open(\"{path}\")")),
    };
    let v4 = read("/proc/net/route")?;
    let v6 = read("/proc/net/ipv6_route")?;
    // The first line of the first is a heading.
    let routes = lines(&v4).skip(1).filter_map(ipv4);
    Ok(routes.chain(lines(&v6).filter_map(ipv6)).collect())
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

/// The kernel prints the four bytes as one number of this machine. (The library's way to write an address takes three
/// times as long, and there are three of them in each of perhaps 100,000 routes.)
fn ipv4_address(word: &[u8]) -> Option<String> {
    let mut text = String::with_capacity("255.255.255.255".len());
    for (at, byte) in hexadecimal(word)?.to_ne_bytes().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        let mut digit = |value: u8| text.push(char::from(b'0' + value % 10));
        if byte >= 100 {
            digit(byte / 100);
        }
        if byte >= 10 {
            digit(byte / 10);
        }
        digit(byte);
    }
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
