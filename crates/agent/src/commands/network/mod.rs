//! The network.

pub mod get_interfaces;
pub mod get_route;
