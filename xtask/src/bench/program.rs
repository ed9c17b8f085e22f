//! A program that does nothing but end, for measuring what starts it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::process::Result;

/// Where the kernel puts it.
const BASE: u64 = 0x40_0000;

/// Bytes of the file's two headers.
const HEADERS: u64 = 64 + 56;

/// The kind of processor in the header, and `exit(0)` for it; `None` where this has not been written yet.
const MACHINE: Option<(u16, &[u8])> = if cfg!(target_arch = "x86_64") {
    // xor edi, edi; mov eax, 60; syscall
    Some((62, &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]))
} else if cfg!(target_arch = "aarch64") {
    // mov x0, #0; mov x8, #93; svc #0
    Some((183, &[0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]))
} else {
    None
};

/// Puts the program into a directory and returns its path: one page without libraries. Of the time that a usual `true`
/// takes, four fifths are its dynamic linker's, and so no agent's.
pub(super) fn nothing(directory: &Path) -> Result<PathBuf> {
    let Some((machine, code)) = MACHINE else { return Ok("/bin/true".into()) };
    let path = directory.join("nothing");
    let write = || {
        fs::write(&path, image(machine, code))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))
    };
    write().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// An ELF file with one segment: its headers and the code behind them.
fn image(machine: u16, code: &[u8]) -> Vec<u8> {
    let size = HEADERS + code.len() as u64;
    let mut file = Vec::new();
    // 64 bits, little-endian, version 1.
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2, machine] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&1_u32.to_le_bytes());
    // Entry, program headers, section headers.
    for word in [BASE + HEADERS, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    // To be loaded, to be read and executed; offset, both addresses, both sizes, alignment.
    for flag in [1_u32, 5] {
        file.extend_from_slice(&flag.to_le_bytes());
    }
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_ends_well_and_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = nothing(directory.path()).unwrap();
        // Somebody else's child may hold it open for writing for a moment.
        let output = loop {
            match std::process::Command::new(&path).output() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
}
