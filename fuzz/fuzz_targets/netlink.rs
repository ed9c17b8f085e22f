//! Any datagram is part of an answer of the kernel's or is refused: what is found fits into it, and the end of the
//! dump behind it is always seen.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu_ga::platform::linux::netlink::message::{Collected, Collector, Item};
use qemu_ga::platform::linux::netlink::route::Route;
use qemu_ga::platform::linux::netlink::{Address, Link, Statistics};

/// A message has a header of so many bytes.
const HEADER: usize = 16;

/// `NLMSG_DONE` with no error, to the request of this number.
fn done(sequence: u32) -> Vec<u8> {
    let fields = [20u32.to_ne_bytes(), [3u16.to_ne_bytes(), 0u16.to_ne_bytes()].concat().try_into().unwrap()];
    [fields.concat(), sequence.to_ne_bytes().to_vec(), vec![0; 8]].concat()
}

fn dump<T: Item>(sequence: u32, datagrams: &[&[u8]]) -> Option<Vec<T>> {
    let mut collector = Collector::<T>::new(sequence);
    let mut collected = Collected::More;
    for datagram in datagrams {
        collected = collector.datagram(datagram).ok()?;
        if collected != Collected::More {
            break;
        }
    }
    if collected == Collected::More {
        let end = collector.datagram(&done(sequence)).expect("the end of a dump is no error");
        assert_ne!(end, Collected::More);
    }
    Some(collector.into_items())
}

/// Not more than there is room for, and the same behind what is for somebody else.
fn again<T: Item + PartialEq + std::fmt::Debug>(sequence: u32, data: &[u8]) {
    if let Some(items) = dump::<T>(sequence, &[data]) {
        assert!(items.len() <= data.len() / HEADER);
        assert_eq!(dump::<T>(sequence, &[&done(sequence.wrapping_add(1)), data]), Some(items));
    }
}

fuzz_target!(|data: &[u8]| {
    // A message's number is behind its length, kind and flags: the first one is an answer to us.
    let Some(sequence) = data.get(8..12) else { return };
    let sequence = u32::from_ne_bytes(sequence.try_into().unwrap());
    if let Some(links) = dump::<Link>(sequence, &[data]) {
        assert!(links.len() <= data.len() / HEADER);
        assert!(links.iter().all(|link| !link.name.is_empty() && !link.name.contains(&0)));
        assert!(links.iter().map(|link| link.name.len() + link.address.len()).sum::<usize>() <= data.len());
        // What is for somebody else is passed over.
        assert_eq!(dump::<Link>(sequence, &[&done(sequence.wrapping_add(1)), data]), Some(links));
    }
    again::<Address>(sequence, data);
    again::<Statistics>(sequence, data);
    again::<Route>(sequence, data);
});
