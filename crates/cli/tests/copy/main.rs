//! `qga cp` with our agent and with the C one, over a socket, between directories of this host.

mod agents;
mod broken;
mod files;
mod trees;
