//! The parser against what a kernel (6.18, x86-64) answered in a network namespace with a veth pair, an address
//! with a label, one with a peer, a tun device, a bridge and an interface that is down; and against damage to it.

use super::*;

const LINKS: &[u8] = include_bytes!("../../../../tests/fixtures/netlink/links.bin");
const ADDRESSES: &[u8] = include_bytes!("../../../../tests/fixtures/netlink/addresses.bin");
/// The numbers of the requests that the two answer.
const LINKS_SEQUENCE: u32 = 7;
const ADDRESSES_SEQUENCE: u32 = 8;

fn links(bytes: &[u8]) -> io::Result<(Collected, Vec<Link>)> {
    let mut collector = Collector::new(LINKS_SEQUENCE);
    let collected = collector.datagram(bytes)?;
    Ok((collected, collector.into_items()))
}

fn addresses(bytes: &[u8]) -> io::Result<(Collected, Vec<Address>)> {
    let mut collector = Collector::new(ADDRESSES_SEQUENCE);
    let collected = collector.datagram(bytes)?;
    Ok((collected, collector.into_items()))
}

/// A message of the kernel's to the request for interfaces.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

fn link_message(index: u8, attributes: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 16];
    body[4..8].copy_from_slice(&u32::from(index).to_ne_bytes());
    body.extend(attributes);
    message(16, 0, LINKS_SEQUENCE, &body)
}

fn named(name: &[u8]) -> Vec<u8> {
    let mut attribute = ((4 + name.len()) as u16).to_ne_bytes().to_vec();
    attribute.extend(3u16.to_ne_bytes());
    attribute.extend(name);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

#[cfg(target_endian = "little")]
mod recorded {
    use super::*;

    #[test]
    fn recorded_interfaces_are_read() {
        let (collected, links) = links(LINKS).unwrap();
        assert_eq!(collected, Collected::Whole);
        let seen: Vec<_> = links
            .iter()
            .map(|link| {
                (link.index, String::from_utf8_lossy(&link.name).into_owned(), link.kind, link.address.to_vec())
            })
            .collect();
        let veth1 = vec![0x52, 0x54, 0, 0x12, 0x34, 0x57];
        let veth0 = vec![0x52, 0x54, 0, 0x12, 0x34, 0x56];
        assert_eq!(seen[0], (1, "lo".into(), 772, vec![0; 6]));
        assert_eq!(seen[1], (2, "veth1".into(), 1, veth1));
        assert_eq!(seen[2], (3, "veth0".into(), 1, veth0));
        assert_eq!((seen[3].0, seen[3].1.as_str(), seen[3].3.len()), (4, "ifb0", 6));
        assert_eq!(seen[4], (5, "tun0".into(), 0xfffe, vec![]));
        assert_eq!(seen[5], (6, "br0".into(), 1, vec![2, 0, 0, 0, 0, 1]));
        assert_eq!(seen.len(), 6);
        assert!(links.iter().all(|link| link.counters.is_some()));
        let veth0 = links[2].counters.unwrap();
        let veth1 = links[1].counters.unwrap();
        assert_eq!((veth0.tx_packets, veth0.tx_bytes), (veth1.rx_packets, veth1.rx_bytes));
    }

    #[test]
    fn recorded_addresses_are_our_side_with_the_prefix_of_the_message() {
        let (collected, addresses) = addresses(ADDRESSES).unwrap();
        assert_eq!(collected, Collected::Whole);
        let seen: Vec<_> =
            addresses.iter().map(|address| format!("{} {}/{}", address.link, address.ip, address.prefix)).collect();
        let expected = [
            "1 127.0.0.1/8",
            "2 10.0.0.1/32",
            "3 192.0.2.2/24",
            "3 198.51.100.1/32",
            "3 192.0.2.3/24",
            "5 172.16.0.1/30",
            "1 ::1/128",
            "2 fe80::5054:ff:fe12:3457/64",
            "3 2001:db8::5/64",
            "3 fe80::5054:ff:fe12:3456/64",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn any_cut_of_an_answer_is_an_error_or_an_unfinished_answer_and_never_a_panic() {
        for end in 0..LINKS.len() {
            if let Ok((collected, _)) = links(&LINKS[..end]) {
                // The number that DONE carries may be missing; without DONE itself more is expected.
                assert!(collected == Collected::More || end + 4 >= LINKS.len(), "cut at {end}");
            }
        }
    }
}

#[test]
fn any_damaged_byte_is_survived() {
    for value in [0x00, 0x01, 0x7f, 0xff] {
        let mut damaged = ADDRESSES.to_vec();
        for at in 0..damaged.len() {
            let before = std::mem::replace(&mut damaged[at], value);
            let _ = addresses(&damaged);
            damaged[at] = before;
        }
        let mut damaged = LINKS.to_vec();
        for at in (0..damaged.len()).step_by(3) {
            let before = std::mem::replace(&mut damaged[at], value);
            let _ = links(&damaged);
            damaged[at] = before;
        }
    }
}

#[test]
fn a_length_below_a_header_or_beyond_the_datagram_is_malformed() {
    for length in [0u32, 1, 15, 21, u32::MAX] {
        let mut bytes = message(16, 0, LINKS_SEQUENCE, &[0; 4]);
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(links(&bytes).unwrap_err().kind(), io::ErrorKind::InvalidData, "length {length}");
    }
    let mut attribute = named(b"eth0");
    attribute[..2].copy_from_slice(&3u16.to_ne_bytes());
    assert_eq!(links(&link_message(1, &attribute)).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_list_that_changed_while_it_was_made_is_noticed() {
    let mut bytes = link_message(1, &named(b"eth0\0"));
    bytes[6..8].copy_from_slice(&0x10u16.to_ne_bytes());
    bytes.extend(message(3, 2, LINKS_SEQUENCE, &[0; 4]));
    let (collected, links) = links(&bytes).unwrap();
    assert_eq!(collected, Collected::Interrupted);
    assert_eq!(*links[0].name, *b"eth0");
}

#[test]
fn counters_that_come_alone_are_those_that_come_with_the_interface() {
    let mut body = vec![0; 12];
    body[4..8].copy_from_slice(&3u32.to_ne_bytes());
    // Something else first, as an older or newer kernel may put it.
    body.extend([5, 0, 9, 0, 1, 0, 0, 0]);
    body.extend(((4 + 24 * 8) as u16).to_ne_bytes());
    body.extend(1u16.to_ne_bytes());
    (0..24u64).for_each(|number| body.extend((100 + number).to_ne_bytes()));
    let mut collector = Collector::<Statistics>::new(9);
    collector.datagram(&message(92, 2, 9, &body)).unwrap();
    let statistics = collector.into_items();
    let counters = statistics[0].counters.unwrap();
    assert_eq!((statistics[0].link, counters.rx_packets, counters.rx_dropped), (3, 100, 106 + 115));
}

#[test]
fn the_kernels_error_is_handed_on() {
    let denied = message(2, 0, LINKS_SEQUENCE, &(-13i32).to_ne_bytes());
    assert_eq!(links(&denied).unwrap_err().raw_os_error(), Some(13));
    let failed_half_way = message(3, 2, LINKS_SEQUENCE, &(-12i32).to_ne_bytes());
    assert_eq!(links(&failed_half_way).unwrap_err().raw_os_error(), Some(12));
}

#[test]
fn what_answers_an_earlier_request_is_passed_over() {
    let mut bytes = link_message(1, &named(b"old\0"));
    bytes[8..12].copy_from_slice(&6u32.to_ne_bytes());
    bytes.extend(message(3, 2, 6, &[0; 4]));
    bytes.extend(link_message(2, &named(b"new\0")));
    let (collected, links) = links(&bytes).unwrap();
    assert_eq!((collected, links.len(), links[0].index), (Collected::More, 1, 2));
}

#[test]
fn missed_packets_count_as_dropped_as_in_proc_net_dev() {
    let mut attribute = ((4 + 16 * 8) as u16).to_ne_bytes().to_vec();
    attribute.extend(23u16.to_ne_bytes());
    for number in 0..16u64 {
        attribute.extend((100 + number).to_ne_bytes());
    }
    let mut attributes = named(b"eth0\0");
    attributes.extend(attribute);
    let (_, links) = links(&link_message(1, &attributes)).unwrap();
    let counters = links[0].counters.unwrap();
    assert_eq!((counters.rx_packets, counters.tx_dropped, counters.rx_dropped), (100, 107, 106 + 115));
}

#[test]
fn an_address_of_another_protocol_is_left_out() {
    let mut body = vec![35, 8, 0, 0, 1, 0, 0, 0];
    body.extend([5, 0, 2, 0, 77, 0, 0, 0]);
    let (_, addresses) = addresses(&message(20, 0, ADDRESSES_SEQUENCE, &body)).unwrap();
    assert_eq!(addresses, []);
}
