//! How bytes are copied in programs with musl: see the file of assembly.

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(include_str!("copy_x86_64.s"));

// They are found before those in the C library's archive, which the linker then leaves where they are.
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
std::arch::global_asm!(".globl memcpy", ".set memcpy, qga_memcpy", ".globl memmove", ".set memmove, qga_memmove");

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    #[test]
    fn bytes_are_copied_and_nothing_else_however_the_two_places_overlap() {
        unsafe extern "C" {
            fn qga_memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8;
            fn qga_memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8;
        }
        const ROOM: usize = 5120;
        let before: Vec<u8> = (0..ROOM).map(pattern).collect();
        let counts = (0..70).chain([127, 128, 129, 255, 256, 257, 1000, 1023, 1024, 1025, 1500]);
        for count in counts {
            for from in [1000_usize, 1001, 1007] {
                let distances = (-40_isize..=40).chain([-900, -100, -64, 64, 100, 900, 1600]);
                for to in distances.map(|distance| from.checked_add_signed(distance).unwrap()) {
                    let mut expected = before.clone();
                    expected.copy_within(from..from + count, to);
                    let mut moved = before.clone();
                    let base = moved.as_mut_ptr();
                    // SAFETY: both ranges lie in the vector; memcpy is called where they do not overlap.
                    unsafe {
                        assert_eq!(qga_memmove(base.add(to), base.add(from), count), base.add(to));
                        assert!(moved == expected, "{count} bytes from {from} to {to}");
                        if from.abs_diff(to) >= count {
                            moved.copy_from_slice(&before);
                            let base = moved.as_mut_ptr();
                            assert_eq!(qga_memcpy(base.add(to), base.add(from), count), base.add(to));
                            assert!(moved == expected, "{count} bytes from {from} to {to}");
                        }
                    }
                }
            }
        }
    }

    /// Never zero, and the same again only after 251 bytes.
    fn pattern(i: usize) -> u8 {
        u8::try_from(i % 251).unwrap() + 1
    }
}
