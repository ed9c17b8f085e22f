//! `qemu-ga`.
fn main() {}
