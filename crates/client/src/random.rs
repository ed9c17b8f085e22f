//! Numbers that nobody can have seen before.

use crate::error::Error;

/// 53 random bits: a number that every JSON reader keeps exactly.
pub(crate) fn bits() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    // So few bytes come whole or not at all.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::Broken(error.into()))?;
    Ok(u64::from_ne_bytes(bytes) >> 11)
}
