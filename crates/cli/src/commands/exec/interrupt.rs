//! Signals that ask qga to end, and with it what it runs in the guest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::exit::Failure;

/// The signals so far.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    /// The signal that was not counted yet.
    latest: Arc<AtomicUsize>,
    last: AtomicUsize,
    count: AtomicUsize,
}

static INTERRUPT: OnceLock<Interrupt> = OnceLock::new();

impl Interrupt {
    /// From now on these signals end what runs in the guest and no longer qga itself.
    pub(crate) fn prepare() -> Result<(), Failure> {
        let interrupt = Interrupt::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_usize(signal, Arc::clone(&interrupt.latest), signal as usize)
                .map_err(|error| Failure::Host(format!("cannot wait for signals: {}", error.kind())))?;
        }
        // A second call, of which there is none, would leave the first in place.
        let _ = INTERRUPT.set(interrupt);
        Ok(())
    }

    /// How many there were, and the last of them.
    pub(crate) fn seen() -> (usize, u8) {
        let Some(interrupt) = INTERRUPT.get() else { return (0, 0) };
        match interrupt.latest.swap(0, Ordering::Relaxed) {
            0 => {}
            signal => {
                interrupt.last.store(signal, Ordering::Relaxed);
                interrupt.count.fetch_add(1, Ordering::Relaxed);
            }
        }
        let last = u8::try_from(interrupt.last.load(Ordering::Relaxed)).unwrap_or_default();
        (interrupt.count.load(Ordering::Relaxed), last)
    }
}
