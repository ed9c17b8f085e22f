//! Blocking client for the QEMU guest agent.
