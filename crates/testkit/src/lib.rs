//! What the tests share: a running agent, a fake host that talks to it, and waiting with a limit.

pub mod agent;
pub mod fake;
pub mod fuse;
pub mod host;
pub mod numbers;
pub mod proxmox;
pub mod python;
pub mod silence;
pub mod skip;
pub mod wait;

pub use agent::{Kind, Program, Setup, TestAgent};
pub use host::{AgentError, Host};
pub use proxmox::Proxmox;
