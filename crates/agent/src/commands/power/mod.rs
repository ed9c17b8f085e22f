//! `guest-shutdown`, `guest-suspend-disk`, `guest-suspend-ram`, `guest-suspend-hybrid`.

mod shutdown;
mod suspend_disk;
mod suspend_hybrid;
mod suspend_ram;
