//! A listening vsock socket, addressed `<cid>:<port>`.

use qga_proto::error::{Error, Result};
use rustix::fd::OwnedFd;

use crate::platform::linux::errno::Context;
use crate::platform::linux::ffi;

/// Listens at `address`. Any CID is 4294967295, or `any`.
pub fn listen(address: &str) -> Result<OwnedFd> {
    let (cid, port) = parse(address)?;
    ffi::vsock_listener(cid, port, super::unix::BACKLOG).context(|| "Failed to bind socket".to_owned())
}

fn parse(address: &str) -> Result<(u32, u32)> {
    let (cid, port) =
        address.split_once(':').ok_or_else(|| Error::generic(format!("error parsing address '{address}'")))?;
    let number = |what: &str, text: &str| {
        text.parse::<u32>().map_err(|_| Error::generic(format!("Failed to parse {what} '{text}'")))
    };
    let port = number("port", port)?;
    let cid = if cid == "any" { u32::MAX } else { number("cid", cid)? };
    Ok((cid, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_two_numbers() {
        assert_eq!(parse("3:1024").unwrap(), (3, 1024));
        assert_eq!(parse("4294967295:1").unwrap(), (u32::MAX, 1));
        assert_eq!(parse("any:1").unwrap(), (u32::MAX, 1));
        assert_eq!(parse("3").unwrap_err().desc, "error parsing address '3'");
        assert_eq!(parse("3:x").unwrap_err().desc, "Failed to parse port 'x'");
        assert_eq!(parse("-1:1").unwrap_err().desc, "Failed to parse cid '-1'");
    }
}
