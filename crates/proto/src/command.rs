//! What a command is: a name, typed arguments, a typed result.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A command of the protocol. Implemented by an empty type in [`types`](crate::types); the agent adds how it is
/// carried out, the client how it is asked for.
pub trait Command {
    /// The name on the wire.
    const NAME: &'static str;
    /// The QEMU release that brought it.
    const SINCE: &'static str;
    /// False for the four commands that send nothing when they succeed.
    const SUCCESS_RESPONSE: bool = true;
    /// Its arguments; members are bound in the order in which they are declared.
    type Args<'a>: Serialize + Deserialize<'a>;
    /// Its result; [`Empty`] where there is none.
    type Ret: Serialize + DeserializeOwned;
}

/// No arguments, or no result: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}
