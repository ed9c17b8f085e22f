//! Two files of a Linux guest that tell what older agents do not.

use qga_proto::types::stats::GuestLoadAverage;

/// The memory of a guest, in bytes, as its kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What the kernel has to give.
    pub(crate) total: u64,
    /// What programs can still get without swapping.
    pub(crate) available: u64,
    /// All swap space.
    pub(crate) swap_total: u64,
    /// The part of it that is free.
    pub(crate) swap_free: u64,
}

impl Memory {
    /// What is in use.
    pub(crate) fn used(&self) -> u64 {
        self.total.saturating_sub(self.available)
    }

    /// Reads `/proc/meminfo`; `None` when this is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let field = |wanted: &str| {
            let (_, value) = text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| *name == wanted)?;
            value.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1024)
        };
        // Kernels before 3.14 do not count what is available.
        let available = field("MemAvailable").or_else(|| {
            let parts = ["MemFree", "Buffers", "Cached"].map(|name| field(name).unwrap_or(0));
            parts.iter().try_fold(0u64, |sum, part| sum.checked_add(*part))
        })?;
        let total = field("MemTotal").filter(|total| *total > 0)?;
        let swap_total = field("SwapTotal").unwrap_or(0);
        let swap_free = field("SwapFree").unwrap_or(0).min(swap_total);
        Some(Memory { total, available: available.min(total), swap_total, swap_free })
    }
}

/// Reads `/proc/loadavg`; `None` when this is not one.
pub(crate) fn load(text: &str) -> Option<GuestLoadAverage> {
    let mut fields = text.split_ascii_whitespace();
    let mut next = || fields.next()?.parse::<f64>().ok().filter(|load| load.is_finite() && *load >= 0.0);
    Some(GuestLoadAverage { load1m: next()?, load5m: next()?, load15m: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:        4018044 kB\nMemFree:  100 kB\nMemAvailable:    2000000 kB\nBuffers: 1 kB\n\
                    SwapTotal:       1048572 kB\nSwapFree:        1048000 kB\nHugePages_Total:       0\n";
        let expected = Memory {
            total: 4_018_044 * 1024,
            available: 2_000_000 * 1024,
            swap_total: 1_048_572 * 1024,
            swap_free: 1_048_000 * 1024,
        };
        assert_eq!(Memory::parse(text), Some(expected));
        assert_eq!(expected.used(), 2_018_044 * 1024);
    }

    #[test]
    fn an_old_kernel_does_not_say_what_is_available() {
        let text = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 300 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!((memory.available, memory.swap_total), (420 * 1024, 0));
    }

    #[test]
    fn what_is_no_meminfo_is_none_and_what_is_out_of_bounds_is_cut() {
        for text in
            ["", "hello", "MemTotal: 0 kB\nMemAvailable: 0 kB", "MemTotal: 99999999999999999999 kB\nMemFree: 1 kB"]
        {
            assert_eq!(Memory::parse(text), None, "{text}");
        }
        let more_than_all = Memory::parse("MemTotal: 10 kB\nMemAvailable: 20 kB\nSwapFree: 5 kB").unwrap();
        assert_eq!((more_than_all.used(), more_than_all.swap_free), (0, 0));
    }

    #[test]
    fn loadavg_is_read() {
        let expected = GuestLoadAverage { load1m: 0.5, load5m: 1.25, load15m: 10.0 };
        assert_eq!(load("0.50 1.25 10.00 1/234 5678\n"), Some(expected));
        for text in ["", "1 2", "a b c", "NaN 1 1", "-1 0 0", "inf 0 0"] {
            assert_eq!(load(text), None, "{text}");
        }
    }
}
