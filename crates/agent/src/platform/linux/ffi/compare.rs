//! How bytes are compared in programs with musl: see the file of assembly.

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(include_str!("compare_x86_64.s"));

// As in `copy`. For equality the compiler calls `bcmp`.
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
std::arch::global_asm!(".globl memcmp", ".set memcmp, qga_memcmp", ".globl bcmp", ".set bcmp, qga_memcmp");

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::cmp::Ordering;

    fn compared(left: &[u8], right: &[u8]) -> Ordering {
        unsafe extern "C" {
            fn qga_memcmp(left: *const u8, right: *const u8, count: usize) -> i32;
        }
        assert_eq!(left.len(), right.len());
        // SAFETY: both are as long as is said.
        unsafe { qga_memcmp(left.as_ptr(), right.as_ptr(), left.len()) }.cmp(&0)
    }

    #[test]
    fn the_first_byte_that_differs_decides_and_none_behind_the_end_does() {
        for count in (0..70).chain([127, 128, 129, 1000]) {
            for start in [0, 1, 7] {
                let mut left: Vec<u8> = (0..start + count + 20).map(|at| u8::try_from(at % 251).unwrap()).collect();
                let mut right = left.clone();
                // What differs around them does not count.
                right[start + count] ^= 0xff;
                if let Some(before) = start.checked_sub(1) {
                    left[before] ^= 0xff;
                }
                let range = start..start + count;
                assert_eq!(compared(&left[range.clone()], &right[range.clone()]), Ordering::Equal, "{count}");
                for place in range.clone() {
                    for (one, other) in [(0, 1), (0x7f, 0x80), (0xff, 0x00), (0xfe, 0xff)] {
                        let (mut left, mut right) = (left[range.clone()].to_vec(), right[range.clone()].to_vec());
                        (left[place - start], right[place - start]) = (one, other);
                        // The other way round later on.
                        if let Some(last) = left.len().checked_sub(1).filter(|last| *last > place - start) {
                            (left[last], right[last]) = (other, one);
                        }
                        assert_eq!(compared(&left, &right), one.cmp(&other), "{count} bytes, {place}");
                    }
                }
            }
        }
    }
}
