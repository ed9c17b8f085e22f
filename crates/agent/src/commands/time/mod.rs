//! `guest-get-time`, `guest-set-time`.

mod get;
mod set;
