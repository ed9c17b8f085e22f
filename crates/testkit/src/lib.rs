//! What the tests share: a fake host that talks to an agent, and waiting with a limit.

pub mod host;
pub mod wait;

pub use host::{AgentError, Host};
