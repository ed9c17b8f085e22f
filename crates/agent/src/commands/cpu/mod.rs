//! Logical processors.

pub mod get_vcpus;
pub mod set_vcpus;
