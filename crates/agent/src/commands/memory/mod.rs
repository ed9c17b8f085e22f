//! Blocks of memory that can be switched on and off.

pub mod get_memory_block_info;
pub mod get_memory_blocks;
pub mod set_memory_blocks;
