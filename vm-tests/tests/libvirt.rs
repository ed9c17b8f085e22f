//! The agent under a real libvirt.

fn main() {}
