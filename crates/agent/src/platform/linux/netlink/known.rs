//! All interfaces with their counters and addresses; where there are many, what seldom changes of them is remembered until
//! the kernel says that it has.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::message::Question;
use super::{Address, Link, Netlink, Statistics, in_order};

/// From so many interfaces on they are remembered. Of the time for 4,000 that are asked for again, two thirds are saved; those of
/// a machine with a few are asked for as fast as it could be found out whether they have changed.
const MANY: usize = 256;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`: what the kernel tells of interfaces that come, go or
/// change, and of their addresses.
const CHANGES: u32 = 0x1 | 0x10 | 0x100;

/// The interfaces of this machine.
#[derive(Debug)]
pub struct Known {
    last: Mutex<Option<Told>>,
    many: usize,
}

/// What the kernel told, after the socket was there on which it tells of changes.
#[derive(Debug)]
struct Told {
    changes: Changes,
    links: Vec<Link>,
    addresses: Vec<Address>,
}

impl Default for Known {
    fn default() -> Self {
        Known { last: Mutex::default(), many: MANY }
    }
}

impl Known {
    /// Gives `work` every interface, by number, and every IPv4 and IPv6 address: by the number of the interface, IPv4 before
    /// IPv6, and then in the kernel's order.
    ///
    /// # Errors
    /// What the socket calls or the kernel's answer say; `InvalidData` for an answer that is none.
    pub fn interfaces<T>(&self, work: impl FnOnce(&[Link], &[Address]) -> T) -> io::Result<T> {
        let mut kernel = Netlink::open()?;
        // Whoever asks at the same time asks the kernel for everything: no lock is held meanwhile.
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let last = last.filter(|told| told.changes.are_none());
        // Kernels before 4.7 do not know this question.
        let mut statistics = kernel.dump::<Statistics>(Question::STATISTICS).unwrap_or_default();
        statistics.sort_by_key(|statistics| statistics.link);
        let last = last.and_then(|mut told| count(&mut told.links, &statistics).then_some(told));
        let (changes, links, addresses) = match last {
            Some(told) => (Some(told.changes), told.links, told.addresses),
            None => {
                let changes = (statistics.len() >= self.many).then(Changes::open).and_then(Result::ok);
                let links = match kernel.known_to_ipv6(&statistics) {
                    Some(links) => links,
                    None => by_number(kernel.dump(Question::LINKS)?),
                };
                (changes, links, in_order(kernel.dump(Question::ADDRESSES)?))
            }
        };
        let done = work(&links, &addresses);
        let told = changes.map(|changes| Told { changes, links, addresses });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = told;
        Ok(done)
    }
}

/// A socket on which the kernel says what has changed. Nobody waits for that: it only has to be there when it is asked.
#[derive(Debug)]
struct Changes(OwnedFd);

impl Changes {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // One message is enough. What the kernel has no room for is an error of the next call, which is as good.
        set_socket_recv_buffer_size(&socket, 1)?;
        bind(&socket, &SocketAddrNetlink::new(0, CHANGES))?;
        Ok(Changes(socket))
    }

    fn are_none(&self) -> bool {
        recv(&self.0, &mut [0; 1][..], RecvFlags::PEEK).err() == Some(Errno::AGAIN)
    }
}

/// Gives the interfaces their counters, unless the two lists, both by number, are not of the same interfaces.
fn count(links: &mut [Link], statistics: &[Statistics]) -> bool {
    if links.len() != statistics.len() {
        return false;
    }
    links.iter_mut().zip(statistics).all(|(link, of)| {
        link.counters = of.counters;
        link.index == of.link
    })
}

/// Newer kernels go by number already; older ones by a hash of it.
fn by_number(mut links: Vec<Link>) -> Vec<Link> {
    links.sort_by_key(|link| link.index);
    links
}

impl Netlink {
    /// All interfaces with these counters, if IPv6 knows them all. It does as a rule: without an address, and switched off
    /// too, but not those whose packets are too short for it (CAN).
    ///
    /// What the kernel has to say of an interface by itself is 1,500 bytes and takes it four times as long as what it
    /// tells of it as one of IPv6's and the counters take together.
    fn known_to_ipv6(&mut self, statistics: &[Statistics]) -> Option<Vec<Link>> {
        if statistics.is_empty() {
            return None;
        }
        let mut links = by_number(self.dump(Question::LINKS_OF_IPV6).ok()?);
        count(&mut links, statistics).then_some(links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::linux::netlink::{Counters, HardwareAddress};

    fn link(index: u32) -> Link {
        Link { index, name: b"eth"[..].into(), kind: 1, address: HardwareAddress::default(), counters: None }
    }

    fn all(known: &Known) -> (Vec<Link>, Vec<Address>) {
        known.interfaces(|links, addresses| (links.to_vec(), addresses.to_vec())).unwrap()
    }

    #[test]
    fn counters_are_put_to_the_interfaces_they_are_of() {
        let of = |link, rx_packets| Statistics { link, counters: Some(Counters { rx_packets, ..Counters::default() }) };
        let mut links = [link(1), link(4)];
        assert!(count(&mut links, &[of(1, 10), of(4, 40)]));
        assert_eq!(links.map(|link| link.counters.unwrap().rx_packets), [10, 40]);
        // One that IPv6 does not know, one that came between the two lists, one that went and one that came.
        assert!(!count(&mut [link(1)], &[of(1, 1), of(4, 1)]));
        assert!(!count(&mut [link(1), link(4)], &[of(1, 1)]));
        assert!(!count(&mut [link(1), link(4)], &[of(1, 1), of(5, 1)]));
    }

    #[test]
    fn what_is_remembered_is_what_the_kernel_tells() {
        let known = Known { many: 1, ..Known::default() };
        // Interfaces come and go on a busy machine, so the two may disagree now and then, but not every time.
        let agree = || {
            all(&known);
            let is_remembered = known.last.lock().unwrap().is_some();
            let ((mut links, addresses), (mut fresh, now)) = (all(&known), all(&Known::default()));
            assert!(links.iter().all(|link| link.counters.is_some()));
            // They run on between the two.
            links.iter_mut().chain(&mut fresh).for_each(|link| link.counters = None);
            is_remembered && links == fresh && addresses == now
        };
        assert!((0..10).any(|_| agree()));
    }

    #[test]
    fn a_few_interfaces_are_not_remembered() {
        let known = Known { many: usize::MAX, ..Known::default() };
        all(&known);
        assert!(known.last.lock().unwrap().is_none());
    }

    /// Both ways to the list of interfaces, on this machine, where they may come and go.
    #[test]
    fn what_ipv6_knows_of_the_interfaces_is_what_the_kernel_tells_of_them() {
        let agree = || {
            let mut kernel = Netlink::open().unwrap();
            let mut statistics = kernel.dump::<Statistics>(Question::STATISTICS).unwrap();
            statistics.sort_by_key(|statistics| statistics.link);
            let Some(mut short) = kernel.known_to_ipv6(&statistics) else { return false };
            let mut long = by_number(kernel.dump::<Link>(Question::LINKS).unwrap());
            assert!(long.iter().chain(&short).all(|link| link.counters.is_some()));
            // They run on between the two.
            long.iter_mut().chain(&mut short).for_each(|link| link.counters = None);
            long == short
        };
        if !std::path::Path::new("/proc/net/if_inet6").exists() {
            return;
        }
        assert!((0..10).any(|_| agree()));
    }

    #[test]
    fn this_machines_interfaces_are_those_of_proc_net_dev() {
        // Interfaces come and go on a busy machine, so the two may disagree now and then, but not every time.
        let agree = || {
            let (links, addresses) = all(&Known::default());
            let mut names: Vec<_> = links.iter().map(|link| String::from_utf8_lossy(&link.name).into_owned()).collect();
            let table = std::fs::read_to_string("/proc/net/dev").unwrap();
            let mut listed: Vec<_> =
                table.lines().skip(2).filter_map(|line| Some(line.rsplit_once(':')?.0.trim().to_owned())).collect();
            names.sort();
            listed.sort();
            let known = addresses.iter().all(|address| links.iter().any(|link| link.index == address.link));
            names == listed && known
        };
        assert!((0..10).any(|_| agree()));
    }
}
