//! A route of IPv4 as rtnetlink tells it, brought to what `/proc/net/route` says of it.

use std::io;
use std::net::Ipv4Addr;

use super::message::{AF_INET, Attributes, Item, malformed, u16_at, u32_at};

const NEW_ROUTE: u16 = 24;
/// `struct rtmsg`
const BODY: usize = 12;
/// `RT_TABLE_MAIN`
pub(super) const MAIN_TABLE: u8 = 254;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;

const RTAX_WINDOW: u16 = 3;
const RTAX_RTT: u16 = 4;
const RTAX_ADVMSS: u16 = 8;

const RTN_BROADCAST: u8 = 3;
const RTN_MULTICAST: u8 = 5;
const RTN_UNREACHABLE: u8 = 7;
const RTN_PROHIBIT: u8 = 8;

/// `RTM_F_CLONED`: no route but what came of looking one up.
const CLONED: u32 = 0x200;

const RTF_UP: u32 = 0x1;
const RTF_GATEWAY: u32 = 0x2;
const RTF_HOST: u32 = 0x4;
const RTF_REJECT: u32 = 0x200;

/// A route of IPv4's main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whether this is all of it: what a next hop object (`ip nexthop`) says is not always told.
    pub is_told: bool,
    /// The number of the interface; of the first one, where there are several ways; 0 where it leads nowhere.
    pub link: u32,
    /// Where it leads to.
    pub destination: Ipv4Addr,
    /// Length of the destination's prefix in bits, 32 at most.
    pub prefix: u8,
    /// The next hop, zeros where it is no address of IPv4.
    pub gateway: Ipv4Addr,
    /// The kernel's `RTF_` bits.
    pub flags: u32,
    /// What it costs.
    pub metric: u32,
    /// Largest packet in bytes; 0 where the interface's holds.
    pub mtu: u32,
    /// Window in bytes.
    pub window: u32,
    /// Initial round trip time, in the kernel's units.
    pub irtt: u32,
}

impl Item for Route {
    const ANSWER: u16 = NEW_ROUTE;

    fn read(body: &[u8]) -> io::Result<Option<Self>> {
        let (fixed, attributes) = body.split_at_checked(BODY).ok_or_else(malformed)?;
        let [family, prefix, _, _, table, _, _, kind, ..] = *fixed else { return Err(malformed()) };
        let cloned = u32_at(fixed, 8).ok_or_else(malformed)? & CLONED != 0;
        if family != AF_INET || table != MAIN_TABLE || matches!(kind, RTN_BROADCAST | RTN_MULTICAST) || cloned {
            return Ok(None);
        }
        let mut route = Route {
            is_told: true,
            link: 0,
            destination: Ipv4Addr::UNSPECIFIED,
            prefix: prefix.min(32),
            gateway: Ipv4Addr::UNSPECIFIED,
            flags: RTF_UP,
            metric: 0,
            mtu: 0,
            window: 0,
            irtt: 0,
        };
        if prefix >= 32 {
            route.flags |= RTF_HOST;
        }
        if matches!(kind, RTN_UNREACHABLE | RTN_PROHIBIT) {
            route.flags |= RTF_REJECT;
        }
        for attribute in Attributes(attributes) {
            match attribute? {
                (RTA_DST, value) => route.destination = ipv4(value)?,
                (RTA_OIF, value) => route.link = number(value)?,
                (RTA_PRIORITY, value) => route.metric = number(value)?,
                (RTA_METRICS, value) => route.metrics(value)?,
                (RTA_MULTIPATH, value) => route.first_hop(value)?,
                (RTA_NH_ID, _) => route.is_told = false,
                (kind, value) => route.next_hop(kind, value)?,
            }
        }
        Ok(Some(route))
    }
}

impl Route {
    fn metrics(&mut self, attributes: &[u8]) -> io::Result<()> {
        for attribute in Attributes(attributes) {
            match attribute? {
                (RTAX_WINDOW, value) => self.window = number(value)?,
                // Kept in eighths.
                (RTAX_RTT, value) => self.irtt = number(value)? >> 3,
                // What the file calls MTU is the largest segment with the headers of IP and TCP.
                (RTAX_ADVMSS, value) => self.mtu = number(value)?.checked_add(40).unwrap_or_default(),
                _ => {}
            }
        }
        Ok(())
    }

    /// The first `struct rtnexthop` of several.
    fn first_hop(&mut self, hops: &[u8]) -> io::Result<()> {
        let length = u16_at(hops, 0).ok_or_else(malformed)?;
        self.link = u32_at(hops, 4).ok_or_else(malformed)?;
        for attribute in Attributes(hops.get(8..length.into()).ok_or_else(malformed)?) {
            let (kind, value) = attribute?;
            self.next_hop(kind, value)?;
        }
        Ok(())
    }

    fn next_hop(&mut self, kind: u16, value: &[u8]) -> io::Result<()> {
        match kind {
            RTA_GATEWAY => {
                self.gateway = ipv4(value)?;
                if !self.gateway.is_unspecified() {
                    self.flags |= RTF_GATEWAY;
                }
            }
            // An address of IPv6 behind its family. The file does not show it; the flag tells of its first four bytes.
            RTA_VIA if !ipv4(value.get(2..).unwrap_or_default())?.is_unspecified() => self.flags |= RTF_GATEWAY,
            _ => {}
        }
        Ok(())
    }
}

fn number(value: &[u8]) -> io::Result<u32> {
    u32_at(value, 0).ok_or_else(malformed)
}

fn ipv4(value: &[u8]) -> io::Result<Ipv4Addr> {
    value.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes)).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A route of the main table to a destination of this length, of a kind.
    fn message(prefix: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![AF_INET, prefix, 0, 0, MAIN_TABLE, 4, 0, kind, 0, 0, 0, 0];
        body.extend(attributes.concat());
        body
    }

    fn read(body: &[u8]) -> Route {
        Route::read(body).unwrap().unwrap()
    }

    /// By a gateway, with everything that can be said of it.
    fn full() -> Vec<u8> {
        let metrics = [(2, 1400_u32), (RTAX_WINDOW, 5000), (RTAX_RTT, 800), (RTAX_ADVMSS, 1000)];
        let metrics = metrics.map(|(kind, value)| attribute(kind, &value.to_ne_bytes()));
        message(
            25,
            1,
            &[
                attribute(15, &254_u32.to_ne_bytes()),
                attribute(RTA_DST, &[198, 51, 100, 128]),
                attribute(RTA_PRIORITY, &u32::MAX.to_ne_bytes()),
                attribute(RTA_METRICS, &metrics.concat()),
                attribute(RTA_GATEWAY, &[192, 0, 2, 1]),
                attribute(RTA_OIF, &9_u32.to_ne_bytes()),
            ],
        )
    }

    #[test]
    fn a_route_has_what_the_file_has() {
        let expected = Route {
            is_told: true,
            link: 9,
            destination: Ipv4Addr::new(198, 51, 100, 128),
            prefix: 25,
            gateway: Ipv4Addr::new(192, 0, 2, 1),
            flags: 3,
            metric: u32::MAX,
            mtu: 1040,
            window: 5000,
            irtt: 100,
        };
        assert_eq!(read(&full()), expected);
    }

    #[test]
    fn flags_tell_of_hosts_refusals_and_gateways() {
        let via = |address: &[u8]| attribute(RTA_VIA, &[&10_u16.to_ne_bytes(), address].concat());
        assert_eq!(read(&message(32, 1, &[])).flags, 5);
        assert_eq!((read(&message(16, 7, &[])).flags, read(&message(16, 8, &[])).flags), (0x201, 0x201));
        let route = read(&message(16, 1, &[via(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])]));
        assert_eq!((route.flags, route.gateway), (3, Ipv4Addr::UNSPECIFIED));
        assert_eq!(read(&message(0, 1, &[attribute(RTA_GATEWAY, &[0; 4])])).flags, 1);
    }

    #[test]
    fn of_several_ways_the_first_is_told() {
        let hop = |link: u32, gateway: &[u8]| {
            let attributes = attribute(RTA_GATEWAY, gateway);
            let mut bytes = ((8 + attributes.len()) as u16).to_ne_bytes().to_vec();
            bytes.extend([0, 0]);
            bytes.extend(link.to_ne_bytes());
            bytes.extend(attributes);
            bytes
        };
        let hops = [hop(3, &[192, 0, 2, 4]), hop(4, &[192, 0, 2, 5])].concat();
        let route = read(&message(24, 1, &[attribute(RTA_MULTIPATH, &hops)]));
        assert_eq!((route.link, route.gateway, route.flags), (3, Ipv4Addr::new(192, 0, 2, 4), 3));
    }

    #[test]
    fn what_the_file_does_not_list_is_left_out() {
        let mut other = message(24, 1, &[]);
        for (at, value) in [(0, 10), (4, 255), (7, RTN_BROADCAST), (7, RTN_MULTICAST)] {
            let before = std::mem::replace(&mut other[at], value);
            assert_eq!(Route::read(&other).unwrap(), None, "{value} at {at}");
            other[at] = before;
        }
        other[8..12].copy_from_slice(&CLONED.to_ne_bytes());
        assert_eq!(Route::read(&other).unwrap(), None);
    }

    #[test]
    fn a_next_hop_that_is_an_object_is_not_told_whole() {
        assert!(!read(&message(24, 1, &[attribute(RTA_NH_ID, &[7, 0, 0, 0])])).is_told);
    }

    #[test]
    fn any_damaged_byte_and_any_cut_is_survived() {
        let hop = [12_u16.to_ne_bytes(), [0; 2], [1, 0], [0; 2], 4_u16.to_ne_bytes(), [0; 2]].concat();
        for whole in [full(), message(24, 1, &[attribute(RTA_MULTIPATH, &hop)])] {
            for value in [0x00, 0x01, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                for at in 0..damaged.len() {
                    let before = std::mem::replace(&mut damaged[at], value);
                    let _ = Route::read(&damaged);
                    damaged[at] = before;
                }
            }
            for end in 0..whole.len() {
                let _ = Route::read(&whole[..end]);
            }
            assert!(Route::read(&whole[..8]).is_err());
        }
    }
}
