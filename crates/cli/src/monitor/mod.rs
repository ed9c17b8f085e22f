//! How guests are doing: samples of them, rates from two samples, and a thread for each guest that takes samples.

mod guest;
mod proc;
mod rates;
mod sample;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use guest::{Guest, Standing, State};
pub(crate) use rates::{CpuUse, DiskRate, InterfaceRate, SECTOR, Usage, is_used};
pub(crate) use sample::{Probe, Sample};
