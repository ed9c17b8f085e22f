//! Eight bytes at a time, as one number.
//!
//! A plain loop would be turned into vector instructions in a program that is built for speed; one that is built for size
//! as a whole does not get them, whatever its parts ask for, and a large message then costs 30 instructions a byte where
//! it costs 2 this way.

/// The bytes that are looked at in one go.
pub(crate) const BLOCK: usize = 32;

/// Whether all bytes of a block, of a multiple of eight bytes, are printable ASCII or DEL, and none is one of `but`.
pub(crate) fn is_plain<const B: usize, const N: usize>(block: &[u8; B], but: [u8; N]) -> bool {
    const { assert!(B % 8 == 0) };
    let mut found = 0;
    for word in block.chunks_exact(8) {
        let word = u64::from_ne_bytes(word.try_into().unwrap_or_default());
        // Of the bytes without the high bit these two mark at least one where there is one, and none where there is none;
        // which one does not matter. See Hacker's Delight, 6-1.
        found |= word.wrapping_sub(all(0x20)) & !word;
        for byte in but {
            let word = word ^ all(byte);
            found |= word.wrapping_sub(all(1)) & !word;
        }
        found |= word;
    }
    found & all(0x80) == 0
}

/// Eight times the same byte.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_at_every_place_whatever_stands_beside_it() {
        for beside in [b'a', 0x20, 0x7f, 0x7e, 0x21, b'#', b'[', b']'] {
            for place in 0..BLOCK {
                for byte in 0..=255 {
                    let mut block = [beside; BLOCK];
                    block[place] = byte;
                    let good = |&b: &u8| (0x20..0x80).contains(&b) && b != b'"' && b != b'\\';
                    assert_eq!(
                        is_plain(&block, [b'"', b'\\']),
                        block.iter().all(good),
                        "{byte} at {place} in {beside}"
                    );
                }
            }
        }
    }
}
