//! What an NVMe disk says of its health: its SMART log page, asked of the kernel.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use qga_proto::types::storage::{GuestDiskSmart, GuestDiskSmartType};

use super::ffi;

/// Asks the disk behind a device node; `None` where it does not say. Takes at most a few seconds.
pub fn smart(node: &Path) -> Option<GuestDiskSmart> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let disk = File::options().read(true).custom_flags(flags).open(node).ok()?;
    if !disk.metadata().ok()?.file_type().is_block_device() {
        return None;
    }
    let mut page = [0; ffi::NVME_SMART_SIZE];
    ffi::nvme_smart_log(disk.as_fd(), &mut page).ok()?;
    read(&page)
}

/// Takes the page apart; numbers in it are little endian.
fn read(page: &[u8]) -> Option<GuestDiskSmart> {
    let byte = |at: usize| page.get(at).map(|byte| i64::from(*byte));
    let word = |at: usize| Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?));
    // The counters of 16 bytes begin here.
    let low = |counter: usize| word(32 + counter * 16);
    let high = |counter: usize| word(40 + counter * 16);
    Some(GuestDiskSmart {
        kind: GuestDiskSmartType::Nvme,
        critical_warning: byte(0)?,
        temperature: byte(1)? | byte(2)? << 8,
        available_spare: byte(3)?,
        available_spare_threshold: byte(4)?,
        percentage_used: byte(5)?,
        data_units_read_lo: low(0)?,
        data_units_read_hi: high(0)?,
        data_units_written_lo: low(1)?,
        data_units_written_hi: high(1)?,
        host_read_commands_lo: low(2)?,
        host_read_commands_hi: high(2)?,
        host_write_commands_lo: low(3)?,
        host_write_commands_hi: high(3)?,
        controller_busy_time_lo: low(4)?,
        controller_busy_time_hi: high(4)?,
        power_cycles_lo: low(5)?,
        power_cycles_hi: high(5)?,
        power_on_hours_lo: low(6)?,
        power_on_hours_hi: high(6)?,
        unsafe_shutdowns_lo: low(7)?,
        unsafe_shutdowns_hi: high(7)?,
        media_errors_lo: low(8)?,
        media_errors_hi: high(8)?,
        number_of_error_log_entries_lo: low(9)?,
        number_of_error_log_entries_hi: high(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_taken_from_its_place_in_the_page() {
        let mut page = [0_u8; ffi::NVME_SMART_SIZE];
        page[..6].copy_from_slice(&[1, 0x3c, 0x01, 100, 10, 7]);
        for counter in 0..10_u8 {
            let at = 32 + usize::from(counter) * 16;
            page[at] = counter + 1;
            page[at + 7] = 0x80;
            page[at + 8] = counter + 101;
        }
        let smart = read(&page).unwrap();
        assert_eq!((smart.critical_warning, smart.temperature), (1, 316));
        assert_eq!((smart.available_spare, smart.available_spare_threshold, smart.percentage_used), (100, 10, 7));
        assert_eq!((smart.data_units_read_lo, smart.data_units_read_hi), (1 << 63 | 1, 101));
        assert_eq!((smart.controller_busy_time_lo, smart.power_cycles_hi), (1 << 63 | 5, 106));
        assert_eq!((smart.media_errors_lo, smart.number_of_error_log_entries_hi), (1 << 63 | 9, 110));
    }

    #[test]
    fn what_is_no_such_disk_says_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(smart(file.path()), None);
        assert_eq!(smart(Path::new("/nonexistent")), None);
    }
}
