//! Internet addresses as text.

use std::net::Ipv4Addr;
use std::str;

/// Every number that a byte can be, as text with a point behind it, and how long that is.
static NUMBERS: [([u8; 4], u8); 256] = {
    const fn digit(value: usize) -> u8 {
        b'0' + (value % 10) as u8
    }
    let mut numbers = [([0; 4], 0); 256];
    let mut number = 0;
    #[expect(clippy::indexing_slicing, reason = "the only way there is for the compiler to make it")]
    while number < numbers.len() {
        let [hundreds, tens, ones] = [digit(number / 100), digit(number / 10), digit(number)];
        numbers[number] = match number {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        number += 1;
    }
    numbers
};

/// Appends an address. (The library's way takes six times as long, and there are three of them in each of perhaps 100,000
/// routes.)
pub fn push_ipv4(text: &mut String, address: Ipv4Addr) {
    let mut bytes = [0; 16];
    let mut end = 0;
    for octet in address.octets() {
        let Some((number, length)) = NUMBERS.get(usize::from(octet)) else { return };
        let Some(place) = bytes.get_mut(end..end + number.len()) else { return };
        place.copy_from_slice(number);
        end += usize::from(*length);
    }
    // All but the last point.
    text.push_str(bytes.get(..end - 1).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_the_library_does() {
        for byte in 0..=255 {
            let address = Ipv4Addr::new(byte, 255 - byte, 0, byte / 3);
            let mut text = String::from("inet ");
            push_ipv4(&mut text, address);
            assert_eq!(text, format!("inet {address}"));
        }
    }
}
