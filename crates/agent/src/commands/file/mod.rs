//! `guest-file-open`, `-close`, `-read`, `-write`, `-seek`, `-flush`.

mod close;
mod flush;
mod open;
mod read;
mod seek;
mod write;

#[cfg(test)]
mod tests;
