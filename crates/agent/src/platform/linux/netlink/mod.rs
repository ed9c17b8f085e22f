//! The kernel's network interfaces and addresses, asked for over rtnetlink.
//!
//! Three dumps say it all: `RTM_GETLINK` for the interfaces with their hardware addresses, `RTM_GETSTATS` for their
//! 64-bit counters and `RTM_GETADDR` for the addresses of every protocol. That needs neither an IPv4 socket nor
//! `/proc/net/dev`, so it works the same on a machine without IPv4 or without IPv6. Routes of IPv4 come the same way.

pub mod known;
pub mod message;
pub mod route;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send, socket_with};

use super::ffi;
use message::{Collected, Collector, Item, Question};
use route::Route;

/// The kernel fills at most this much in one go for a dump of interfaces.
const BUFFER: usize = 64 << 10;

/// How often a dump is asked for again because something changed under it. Past that the last answer is taken: on
/// a machine whose interfaces change all the time, a list with a seam is worth more than none.
const ATTEMPTS: usize = 8;

/// The kernel answers a dump from within the call that asks for it; this only ends a wait that has no end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A name, of 15 bytes at most (`IFNAMSIZ` with its NUL).
pub type Name = Short<16>;

/// A link-layer address; the longest that the kernel has (`MAX_ADDR_LEN`) is of 32 bytes.
pub type HardwareAddress = Short<32>;

/// A few bytes, `N` at most, kept where they are needed: there may be thousands of interfaces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Short<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> Short<N> {
    /// The most bytes there can be.
    pub const LONGEST: usize = N;
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        Short { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> From<&[u8]> for Short<N> {
    /// What is beyond `N` bytes is left out.
    fn from(from: &[u8]) -> Self {
        let mut short = Self::default();
        let from = from.get(..N).unwrap_or(from);
        if let Some(place) = short.bytes.get_mut(..from.len()) {
            place.copy_from_slice(from);
            short.length = from.len() as u8;
        }
        short
    }
}

impl<const N: usize> std::ops::Deref for Short<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }
}

impl<const N: usize> std::fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.escape_ascii())
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name, as the kernel keeps it; any bytes but `/`, NUL and white space.
    pub name: Name,
    /// Its hardware type, an `ARPHRD_` number.
    pub kind: u16,
    /// Its link-layer address, empty where it has none. For tunnels this is an IP address.
    pub address: HardwareAddress,
    /// Its counters; absent where the driver keeps none.
    pub counters: Option<Counters>,
}

/// What an interface has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it: packets, bytes, errors and drops each way")]
pub struct Counters {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    /// Those dropped by the system and those missed by the device, together, as `/proc/net/dev` has it.
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The number of the interface.
    pub link: u32,
    /// Our side of it, also on a point-to-point link.
    pub ip: IpAddr,
    /// Length of the network prefix in bits.
    pub prefix: u8,
}

/// The counters of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// The number of the interface.
    pub link: u32,
    /// Absent where the kernel keeps others than we know.
    pub counters: Option<Counters>,
}

/// By the number of the interface, IPv4 before IPv6, and then as they are. (The kernel gives each protocol's by number, so
/// there is little to sort.)
pub(crate) fn in_order(mut addresses: Vec<Address>) -> Vec<Address> {
    addresses.sort_by_key(|address| (address.link, address.ip.is_ipv6()));
    addresses
}

/// The routes of IPv4's main table, in the order and as `/proc/net/route` has them, at a third of what it costs the
/// kernel to print that. Nothing where netlink does not tell all that the file does.
///
/// # Errors
/// What the socket calls or the kernel's answer say; `InvalidData` for an answer that is none.
pub fn routes() -> io::Result<Option<Vec<Route>>> {
    let mut kernel = Netlink::open()?;
    // Not to be given the other tables, of which a router may have large ones. Kernels before 4.20 do not know it, and
    // what they give is sorted out here.
    let _ = ffi::set_strict_dumps(&kernel.socket);
    let routes = match kernel.dump::<Route>(Question::ROUTES) {
        // It has had no route yet.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOENT.raw_os_error()) => Vec::new(),
        routes => routes?,
    };
    Ok(routes.iter().all(|route| route.is_told).then_some(routes))
}

/// A socket on which the kernel is asked.
struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        // No protocol is protocol 0, which is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Netlink { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Asks for everything of one kind.
    fn dump<T: Item>(&mut self, question: Question) -> io::Result<Vec<T>> {
        let mut attempt = 1;
        loop {
            self.sequence = self.sequence.wrapping_add(1);
            send(&self.socket, &question.request(self.sequence), SendFlags::empty())?;
            let mut collector = Collector::new(self.sequence);
            let whole = loop {
                match self.receive()? {
                    Received::Datagram(length) => {
                        let datagram = self.buffer.get(..length).unwrap_or_default();
                        match collector.datagram(datagram)? {
                            Collected::More => {}
                            Collected::Whole => break true,
                            Collected::Interrupted => break false,
                        }
                    }
                    // What was cut is lost; the answer to a later request has another number, so the rest of
                    // this one is passed over.
                    Received::Cut => break false,
                }
            };
            if whole || attempt == ATTEMPTS {
                return Ok(collector.into_items());
            }
            attempt += 1;
        }
    }

    /// Takes the next datagram that comes from the kernel.
    fn receive(&mut self) -> io::Result<Received> {
        loop {
            let (_, length, from) = match recvfrom(&self.socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Ok(received) => received,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::NOBUFS) => return Ok(Received::Cut),
                Err(error) => return Err(error.into()),
            };
            // Only number 0 is the kernel; another process may have sent something to us.
            let sender = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
            if sender.is_none_or(|sender| sender.pid() != 0) {
                continue;
            }
            if length > self.buffer.len() {
                self.buffer.resize(length.next_power_of_two(), 0);
                return Ok(Received::Cut);
            }
            return Ok(Received::Datagram(length));
        }
    }
}

enum Received {
    Datagram(usize),
    Cut,
}
