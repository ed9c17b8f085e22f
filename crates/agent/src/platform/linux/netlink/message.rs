//! The form of rtnetlink's messages: bytes in, interfaces, counters and addresses out. Nothing here touches the system.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Address, Counters, HardwareAddress, Link, Name, Statistics};

const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
const GET_STATISTICS: u16 = 94;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_STATISTICS: u16 = 92;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// `NLM_F_REQUEST` and `NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x1 | 0x300;
/// `NLM_F_DUMP_INTR`: something changed while the list was being made.
const INTERRUPTED: u16 = 0x10;

const HEADER: usize = 16;
/// `struct ifinfomsg`
const LINK_BODY: usize = 16;
/// `struct ifaddrmsg`
const ADDRESS_BODY: usize = 8;
/// `struct if_stats_msg`
const STATISTICS_BODY: usize = 12;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_STATS64: u16 = 23;
const IFLA_STATS_LINK_64: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// The two top bits of an attribute's type are flags.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// What a dump is asked for with: the kind of the request, and what follows its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    kind: u16,
    body: &'static [u8],
}

impl Question {
    /// All interfaces, with everything that the kernel knows of them, counters included.
    pub(super) const LINKS: Question = Question { kind: GET_LINK, body: &[0; LINK_BODY] };

    /// The interfaces that IPv6 may be used on, with names and addresses, and little else. A kernel without IPv6 answers as
    /// to [`Question::LINKS`].
    ///
    /// Not even that is asked for which leaves counters out (`IFLA_EXT_MASK`): where it stands, the kernel first goes
    /// through all interfaces for the size of its largest message, a twentieth of the time.
    pub(super) const LINKS_OF_IPV6: Question =
        Question { kind: GET_LINK, body: &[AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] };

    /// The 64-bit counters of all interfaces, and nothing else.
    pub(super) const STATISTICS: Question = Question {
        kind: GET_STATISTICS,
        body: &{
            let mut body = [0; STATISTICS_BODY];
            // A bit for each kind of statistics, the first for IFLA_STATS_LINK_64.
            [body[8], body[9], body[10], body[11]] = 1_u32.to_ne_bytes();
            body
        },
    };

    /// The addresses of all protocols.
    pub(super) const ADDRESSES: Question = Question { kind: GET_ADDRESS, body: &[0; ADDRESS_BODY] };

    /// The routes of IPv4's main table; of all its tables from a kernel that does not look so closely.
    pub(super) const ROUTES: Question =
        Question { kind: GET_ROUTE, body: &[AF_INET, 0, 0, 0, super::route::MAIN_TABLE, 0, 0, 0, 0, 0, 0, 0] };

    /// The request, with this number.
    pub(super) fn request(self, sequence: u32) -> Vec<u8> {
        let length = (HEADER + self.body.len()) as u32;
        let mut request = Vec::with_capacity(HEADER + self.body.len());
        request.extend(length.to_ne_bytes());
        request.extend(self.kind.to_ne_bytes());
        request.extend(REQUEST_DUMP.to_ne_bytes());
        request.extend(sequence.to_ne_bytes());
        // The number of the sender, which is the kernel's to fill in.
        request.extend([0; 4]);
        request.extend(self.body);
        request
    }
}

/// How far a dump has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Collected {
    /// There are more datagrams to it.
    More,
    /// It is complete.
    Whole,
    /// It is complete, but something changed meanwhile.
    Interrupted,
}

/// What can be asked for.
pub trait Item: Sized {
    /// The kind of the messages that answer it.
    const ANSWER: u16;

    /// Reads what follows the header of a message; nothing where it is of no interest.
    ///
    /// # Errors
    /// `InvalidData` for bytes that do not add up.
    fn read(body: &[u8]) -> io::Result<Option<Self>>;
}

/// Puts the datagrams of one dump together.
#[derive(Debug)]
pub struct Collector<T> {
    sequence: u32,
    items: Vec<T>,
    interrupted: bool,
}

impl<T: Item> Collector<T> {
    /// For the answers to the request of this number.
    pub fn new(sequence: u32) -> Self {
        Collector { sequence, items: Vec::new(), interrupted: false }
    }

    /// Takes one datagram in.
    ///
    /// # Errors
    /// The one that the kernel tells, or `InvalidData` for bytes that do not add up. The dump is over then.
    pub fn datagram(&mut self, mut datagram: &[u8]) -> io::Result<Collected> {
        while !datagram.is_empty() {
            let header = datagram.first_chunk::<HEADER>().ok_or_else(malformed)?;
            let length = u32_at(header, 0).ok_or_else(malformed)? as usize;
            let kind = u16_at(header, 4).ok_or_else(malformed)?;
            let flags = u16_at(header, 6).ok_or_else(malformed)?;
            let sequence = u32_at(header, 8).ok_or_else(malformed)?;
            let body = datagram.get(HEADER..length).ok_or_else(malformed)?;
            datagram = datagram.get(aligned(length)..).unwrap_or_default();
            if sequence != self.sequence {
                // Left over from a dump that was given up.
                continue;
            }
            self.interrupted |= flags & INTERRUPTED != 0;
            match kind {
                DONE | ERROR => {
                    // DONE carries an error number too, since a dump can fail half way.
                    match body.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno)) {
                        0 if self.interrupted => return Ok(Collected::Interrupted),
                        0 => return Ok(Collected::Whole),
                        errno => return Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                    }
                }
                _ if kind == T::ANSWER => self.items.extend(T::read(body)?),
                _ => {}
            }
        }
        Ok(Collected::More)
    }

    /// What has been taken in so far.
    pub fn into_items(self) -> Vec<T> {
        self.items
    }
}

impl Item for Link {
    const ANSWER: u16 = NEW_LINK;

    fn read(body: &[u8]) -> io::Result<Option<Self>> {
        let (fixed, attributes) = body.split_at_checked(LINK_BODY).ok_or_else(malformed)?;
        let kind = u16_at(fixed, 2).ok_or_else(malformed)?;
        let index = u32_at(fixed, 4).ok_or_else(malformed)?;
        let mut link = Link { index, name: Name::default(), kind, address: HardwareAddress::default(), counters: None };
        for attribute in Attributes(attributes) {
            match attribute? {
                (IFLA_ADDRESS, value) => link.address = HardwareAddress::from(value),
                (IFLA_IFNAME, value) => {
                    link.name = Name::from(value.split(|byte| *byte == 0).next().unwrap_or_default());
                }
                (IFLA_STATS64, value) => link.counters = counters(value),
                _ => {}
            }
        }
        Ok((!link.name.is_empty()).then_some(link))
    }
}

impl Item for Statistics {
    const ANSWER: u16 = NEW_STATISTICS;

    fn read(body: &[u8]) -> io::Result<Option<Self>> {
        let (fixed, attributes) = body.split_at_checked(STATISTICS_BODY).ok_or_else(malformed)?;
        let link = u32_at(fixed, 4).ok_or_else(malformed)?;
        let mut statistics = Statistics { link, counters: None };
        for attribute in Attributes(attributes) {
            if let (IFLA_STATS_LINK_64, value) = attribute? {
                statistics.counters = counters(value);
            }
        }
        Ok(Some(statistics))
    }
}

impl Item for Address {
    const ANSWER: u16 = NEW_ADDRESS;

    fn read(body: &[u8]) -> io::Result<Option<Self>> {
        let (fixed, attributes) = body.split_at_checked(ADDRESS_BODY).ok_or_else(malformed)?;
        let [family, prefix, ..] = *fixed else { return Err(malformed()) };
        let link = u32_at(fixed, 4).ok_or_else(malformed)?;
        let (mut local, mut address) = (None, None);
        for attribute in Attributes(attributes) {
            match attribute? {
                (IFA_LOCAL, value) => local = ip(family, value),
                (IFA_ADDRESS, value) => address = ip(family, value),
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the other side; IPv6 leaves IFA_LOCAL out elsewhere.
        Ok(local.or(address).map(|ip| Address { link, ip, prefix }))
    }
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(*value.first_chunk::<4>()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(*value.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// `struct rtnl_link_stats64`: 64-bit numbers, more of them in newer kernels.
fn counters(value: &[u8]) -> Option<Counters> {
    let number = |index: usize| value.get(index * 8..)?.first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes));
    Some(Counters {
        rx_packets: number(0)?,
        tx_packets: number(1)?,
        rx_bytes: number(2)?,
        tx_bytes: number(3)?,
        rx_errors: number(4)?,
        tx_errors: number(5)?,
        rx_dropped: number(6)?.wrapping_add(number(15)?),
        tx_dropped: number(7)?,
    })
}

/// Type and value of each attribute; the last item is an error where the bytes do not add up.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = io::Result<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let one = u16_at(bytes, 0).zip(u16_at(bytes, 2)).and_then(|(length, kind)| {
            let value = bytes.get(4..usize::from(length))?;
            self.0 = bytes.get(aligned(usize::from(length))..).unwrap_or_default();
            Some((kind & ATTRIBUTE_TYPE, value))
        });
        Some(one.ok_or_else(malformed))
    }
}

/// Messages and attributes start at multiples of four.
pub(super) fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

pub(super) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed answer of the kernel")
}
