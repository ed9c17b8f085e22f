//! Linux: one module a kernel interface. `ffi` holds all the unsafe code there is.

pub mod address;
pub mod child;
pub mod cpu;
pub mod device;
pub mod errno;
pub mod ffi;
pub mod file;
pub mod fsfreeze;
pub mod fsorder;
pub mod fstrim;
pub mod init;
pub mod memory;
pub mod mountinfo;
pub mod netlink;
pub mod nvme;
pub mod root;
pub mod route;
pub mod serial;
pub mod sleep;
pub mod stats;
pub mod udev;
pub mod usage;
