//! The kernel's network interfaces and addresses, asked for over rtnetlink.
//!
//! Two dumps say it all: `RTM_GETLINK` for the interfaces with their hardware addresses and 64-bit counters, and
//! `RTM_GETADDR` for the addresses of every protocol. That needs neither an IPv4 socket nor `/proc/net/dev`, so it
//! works the same on a machine without IPv4 or without IPv6.

pub mod message;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send, socket_with};

use message::{Collected, Collector, Item};

/// The kernel fills at most this much in one go for a dump of interfaces.
const BUFFER: usize = 64 << 10;

/// How often a dump is asked for again because something changed under it. Past that the last answer is taken: on
/// a machine whose interfaces change all the time, a list with a seam is worth more than none.
const ATTEMPTS: usize = 8;

/// The kernel answers a dump from within the call that asks for it; this only ends a wait that has no end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name, as the kernel keeps it; any bytes but `/`, NUL and white space.
    pub name: Vec<u8>,
    /// Its hardware type, an `ARPHRD_` number.
    pub kind: u16,
    /// Its link-layer address, empty where it has none. For tunnels this is an IP address.
    pub address: Vec<u8>,
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

/// Every interface, by number, and every IPv4 and IPv6 address, in the kernel's order.
///
/// # Errors
/// What the socket calls or the kernel's answer say; `InvalidData` for an answer that is none.
pub fn interfaces() -> io::Result<(Vec<Link>, Vec<Address>)> {
    let mut kernel = Netlink::open()?;
    let mut links = kernel.dump::<Link>()?;
    // Newer kernels go by number already; older ones by a hash of it.
    links.sort_by_key(|link| link.index);
    let addresses = kernel.dump()?;
    Ok((links, addresses))
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
    fn dump<T: Item>(&mut self) -> io::Result<Vec<T>> {
        let mut attempt = 1;
        loop {
            self.sequence = self.sequence.wrapping_add(1);
            send(&self.socket, &message::dump_request(T::REQUEST, self.sequence), SendFlags::empty())?;
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
