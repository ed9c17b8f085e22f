//! Linux: one module a kernel interface. `ffi` holds all the unsafe code there is.

pub mod child;
pub mod errno;
pub mod ffi;
pub mod file;
pub mod fsfreeze;
pub mod fsorder;
pub mod fstrim;
pub mod init;
pub mod mountinfo;
pub mod netlink;
pub mod root;
pub mod sleep;
pub mod spawn;
pub mod watch;
