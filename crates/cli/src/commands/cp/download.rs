//! One file of the guest to this host.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering;

use qga_client::{Error, GuestFile, Process, printable};
use sha2::{Digest, Sha256};

use super::guest::{Check, Stat};
use super::host::{self, Target};
use super::job::{Job, WORTH_RESUMING, hash_start, hash_zeroes, hex};
use super::upload::is_alive;
use crate::exit::Failure;

/// Copies a file that is known to be none but a file, if anything is known. One that the user named goes where a link at
/// its destination leads, and is on the disk when that is done.
pub(super) fn file(
    job: &mut Job<'_>,
    source: &str,
    stat: Option<&Stat>,
    destination: &Path,
    is_named: bool,
) -> Result<(), Failure> {
    job.check_stop()?;
    job.show(source, stat.map(|stat| stat.size));
    let mut target = Target::open(destination, is_named)?;
    // What has a size has it while it grows; what has none may have something in it all the same, as in /proc.
    let size = stat.filter(|stat| stat.is_file() && stat.size > 0).map(|stat| stat.size);
    let (from, mut hash) = left_over(job, source, size, &mut target)?;
    let is_sparse = stat.is_some_and(Stat::is_sparse);
    target.start_at(from, is_sparse)?;
    let extents = match (size, is_sparse && job.how.verify && job.guest.has_sha256()) {
        // Only with a checksum behind it: a hole that is none would go unnoticed.
        (Some(size), true) => job.guest.extents(source, size)?.map(|found| behind(found, from, size)),
        _ => None,
    };
    let extents = extents.unwrap_or_else(|| vec![(from, size.unwrap_or(u64::MAX))]);
    let file = GuestFile::open(job.guest.agent, source, "r")?;
    let hashing = match size {
        Some(size) if job.how.verify => job.guest.start_hash(source, size)?,
        _ => None,
    };
    let result = receive(job, &file, source, (from, &extents), &mut target, &mut hash);
    if result.as_ref().err().is_none_or(is_alive) {
        // It has been read: nothing depends on this.
        let _ = file.close(job.guest.agent);
    }
    let mut position = result.map_err(|failure| kept(job, failure, &target))?;
    if let Some(size) = size.filter(|size| position < *size) {
        if extents.last().is_some_and(|last| last.1 > position) {
            return Err(Failure::Guest(format!("guest: {}: became shorter while it was copied", printable(source))));
        }
        hash_zeroes(&mut hash, size - position);
        target.skip(size - position)?;
        position = size;
    }
    let check = verify(job, source, hashing, hash, size.unwrap_or(position))?;
    if check == Check::Corrupt {
        target.discard();
        return Err(Failure::Guest(format!(
            "guest: {}: the copy is not what the guest has now; it was thrown away",
            printable(source)
        )));
    }
    target.put_in_place(stat.filter(|stat| stat.is_file()), job.how, is_named)?;
    job.count(position, check);
    Ok(())
}

/// Says with a failure where the part is that was copied.
fn kept(job: &mut Job<'_>, failure: Failure, target: &Target) -> Failure {
    let Some(part) = target.part() else { return failure };
    let behind = format!("the same command goes on from {}", host::shown(part));
    match failure {
        Failure::Interrupted(what) => Failure::Interrupted(format!("{what}; {behind}")),
        other => {
            job.note(behind);
            other
        }
    }
}

/// How much of an earlier copy can be kept, with its hash.
fn left_over(
    job: &mut Job<'_>,
    source: &str,
    size: Option<u64>,
    target: &mut Target,
) -> Result<(u64, Sha256), Failure> {
    let length = target.left_over()?;
    let is_possible = job.how.resume && job.guest.has_sha256() && length >= WORTH_RESUMING;
    if !is_possible || size.is_none_or(|size| length > size) {
        return Ok((0, Sha256::new()));
    }
    let Some(process) = job.guest.start_hash(source, length)? else { return Ok((0, Sha256::new())) };
    let ours = hash_start(target.reader()?, length).map_err(|error| Failure::Host(error.kind().to_string()))?;
    let theirs = job.guest.hashed(process, source, length)?;
    match ours {
        Some(ours) if theirs == Some(hex(ours.clone())) => {
            job.report.resumed += length;
            job.note(format!("went on after {} of an earlier copy", crate::units::bytes(length)));
            Ok((length, ours))
        }
        _ => Ok((0, Sha256::new())),
    }
}

/// The extents behind a position. There is always one, so that a file which is all hole is looked at, too.
fn behind(extents: Vec<(u64, u64)>, from: u64, size: u64) -> Vec<(u64, u64)> {
    let mut rest: Vec<(u64, u64)> =
        extents.into_iter().filter(|extent| extent.1 > from).map(|(start, end)| (start.max(from), end)).collect();
    if rest.is_empty() {
        rest.push((size.min(from), size.min(from)));
    }
    rest
}

/// Receives these parts of a file, of which the target has all up to `from`, and returns how far it got.
fn receive(
    job: &mut Job<'_>,
    file: &GuestFile,
    source: &str,
    (from, extents): (u64, &[(u64, u64)]),
    target: &mut Target,
    hash: &mut Sha256,
) -> Result<u64, Failure> {
    let stop = job.stop;
    let bar = job.bar.clone();
    let mut piece = Vec::new();
    let is_whole = extents.len() == 1;
    let mut position = from;
    // Where the guest's file is.
    let mut at = 0;
    bar.set_position(from);
    bar.reset_eta();
    for &(start, end) in extents {
        if start > position {
            hash_zeroes(hash, start - position);
            target.skip(start - position)?;
            position = start;
        }
        if start != at {
            file.seek(job.guest.agent, io::SeekFrom::Start(start))?;
        }
        bar.set_position(position);
        let mut reading = file.read_ahead(job.guest.agent, end - start);
        while reading.next_into(&mut piece)? {
            target.write(&piece)?;
            hash.update(&piece);
            position += piece.len() as u64;
            job.report.sent += piece.len() as u64;
            bar.set_position(position);
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted("interrupted".into()));
            }
        }
        at = position;
        if position < end && !is_whole {
            return Err(Failure::Guest(format!("guest: {}: became shorter while it was copied", printable(source))));
        }
    }
    Ok(position)
}

/// Compares with what the guest says.
fn verify(
    job: &mut Job<'_>,
    source: &str,
    hashing: Option<Process>,
    hash: Sha256,
    size: u64,
) -> Result<Check, Failure> {
    let Some(process) = hashing else { return Ok(Check::Unchecked) };
    Ok(match job.guest.hashed(process, source, size)? {
        None => Check::Unchecked,
        Some(theirs) if theirs == hex(hash) => Check::Verified,
        Some(_) => Check::Corrupt,
    })
}

/// Copies a file to standard output.
pub(super) fn to_standard(job: &mut Job<'_>, source: &str) -> Result<(), Failure> {
    let size = job.guest.stat(source)?.filter(Stat::is_file).map(|stat| stat.size).filter(|size| *size > 0);
    job.show(source, size);
    let file = GuestFile::open(job.guest.agent, source, "r")?;
    let result = pour(job, &file, size.unwrap_or(u64::MAX));
    if result.as_ref().err().is_none_or(is_alive) {
        let _ = file.close(job.guest.agent);
    }
    match result {
        // Whoever stops reading has had enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn pour(job: &mut Job<'_>, file: &GuestFile, size: u64) -> Result<(), Failure> {
    let stop = job.stop;
    let bar = job.bar.clone();
    let mut out = io::stdout().lock();
    let mut piece = Vec::new();
    let mut reading = file.read_ahead(job.guest.agent, size);
    while reading.next_into(&mut piece).map_err(|error: Error| Failure::from(error))? {
        out.write_all(&piece).map_err(Failure::Output)?;
        bar.inc(piece.len() as u64);
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted("interrupted".into()));
        }
    }
    out.flush().map_err(Failure::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_start_behind_what_is_there() {
        let all = vec![(0, 10), (20, 30), (40, 50)];
        assert_eq!(behind(all.clone(), 0, 60), all);
        assert_eq!(behind(all.clone(), 25, 60), [(25, 30), (40, 50)]);
        assert_eq!(behind(all, 55, 60), [(55, 55)]);
        assert_eq!(behind(vec![], 0, 60), [(0, 0)]);
    }
}
