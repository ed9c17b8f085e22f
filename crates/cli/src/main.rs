//! `qga`: talks to the QEMU guest agent of a virtual machine.

fn main() {}
