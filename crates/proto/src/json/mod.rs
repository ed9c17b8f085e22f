//! QEMU's dialect of JSON: [`read()`] borrows from the message, [`write()`] makes QEMU's output form.
//!
//! The dialect differs from RFC 8259 in a few places: strings may stand in single quotes, `\'` is an escape, a NUL
//! character may be sent as the bytes C0 80, noncharacters are refused, and no key may occur twice in an object.
//! What is written is plain ASCII and understood by every JSON parser.

mod list;
mod node;
mod read;
mod write;

pub use list::ListWriter;
pub use node::Node;
pub use read::{read, read_document};
pub use write::{write, write_node};

/// Deepest nesting that [`read`] accepts, the same as the framer's: 1,024 open brackets.
pub const MAX_DEPTH: usize = 1024;
