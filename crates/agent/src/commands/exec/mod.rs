//! Programs in the guest.

#[allow(clippy::module_inception, reason = "a command is found by its name on the wire")]
mod exec;
mod status;
