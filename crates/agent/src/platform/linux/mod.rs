//! Linux: one module a kernel interface. `ffi` holds all the unsafe code there is.

pub mod as_user;
pub mod authorized_keys;
pub mod child;
pub mod chpasswd;
pub mod clock;
pub mod errno;
pub mod ffi;
pub mod file;
pub mod fsfreeze;
pub mod fsorder;
pub mod fstrim;
pub mod init;
pub mod logind;
pub mod mountinfo;
pub mod netlink;
pub mod os_release;
pub mod passwd;
pub mod root;
pub mod rtc;
pub mod sleep;
pub mod spawn;
pub mod utmp;
pub mod watch;
