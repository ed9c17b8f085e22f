//! `qga mem`

use clap::Args;
use qga_client::Error;
use qga_proto::command::Empty;
use qga_proto::types::memory::{GuestGetMemoryBlockInfo, GuestGetMemoryBlocks, GuestMemoryBlock, GuestMemoryBlockInfo};
use serde_json::json;

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::Table;
use crate::units;

/// Show how much memory the guest has, in blocks that can be taken away and given back
#[derive(Debug, Args)]
pub(crate) struct Mem {}

impl PerTarget for Mem {
    const NAME: &'static str = "mem";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        if session.is_json() {
            let blocks = session.agent()?.call_value::<GuestGetMemoryBlocks>(Empty {})?;
            let size = session.ask_if_known::<GuestGetMemoryBlockInfo>(Empty {})?;
            return Ok(Output::json(json!({ "block-size": size["size"], "blocks": blocks })));
        }
        let agent = session.agent()?;
        let blocks = agent.call::<GuestGetMemoryBlocks>(Empty {})?;
        let size = match agent.call::<GuestGetMemoryBlockInfo>(Empty {}) {
            Ok(info) => Some(info),
            Err(Error::NotFound { .. } | Error::Blocked { .. } | Error::Failed { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Output::text(text(&blocks, size)))
    }
}

/// Hundreds of blocks are of no use to people; what they add up to is.
fn text(blocks: &[GuestMemoryBlock], info: Option<GuestMemoryBlockInfo>) -> String {
    let sum = |count: usize| match info {
        Some(info) => {
            let bytes = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(info.size);
            format!("{} in {count} blocks", units::bytes(bytes))
        }
        None => format!("{count} blocks"),
    };
    let online = blocks.iter().filter(|block| block.online).count();
    let removable = blocks.iter().filter(|block| block.online && block.can_offline == Some(true)).count();
    Table::list([
        ("online", sum(online)),
        ("offline", sum(blocks.len() - online)),
        ("can go offline", sum(removable)),
        ("block size", info.map_or_else(|| "-".to_owned(), |info| units::bytes(info.size))),
    ])
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_added_up() {
        let block = |phys_index, online, can_offline| GuestMemoryBlock { phys_index, online, can_offline };
        let blocks = [block(0, true, Some(false)), block(1, true, Some(true)), block(2, false, None)];
        let expected = "\
online          256 MiB in 2 blocks
offline         128 MiB in 1 blocks
can go offline  128 MiB in 1 blocks
block size      128 MiB
";
        assert_eq!(text(&blocks, Some(GuestMemoryBlockInfo { size: 128 << 20 })), expected);
        assert!(text(&blocks, None).starts_with("online          2 blocks\n"));
    }
}
