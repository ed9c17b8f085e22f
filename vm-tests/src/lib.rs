//! Real QEMU machines with the agent inside.
