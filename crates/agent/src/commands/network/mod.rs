//! The network.

pub mod get_interfaces;
