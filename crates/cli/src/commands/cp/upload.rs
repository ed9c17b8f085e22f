//! One file of this host into the guest.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use qga_client::{Error, GuestFile, WriteAhead, printable};
use sha2::{Digest, Sha256};

use super::guest::{Check, Room};
use super::host;
use super::job::{Job, WORTH_RESUMING, hash_start, hash_zeroes, hex};
use crate::exit::Failure;

/// Copies a file; `durable` has it on the guest's disk when that is done.
pub(super) fn file(job: &mut Job<'_>, source: &Path, destination: &str, durable: bool) -> Result<(), Failure> {
    job.check_stop()?;
    let mut input = File::open(source).map_err(|error| host::failure(source, error))?;
    let found = input.metadata().map_err(|error| host::failure(source, error))?;
    if found.is_dir() {
        return Err(host::failure(source, "is a directory; -r copies it"));
    }
    if !found.is_file() {
        return stream(job, &mut input, source, destination);
    }
    job.show(destination, Some(found.len()));
    match job.guest.prepare(destination, !job.how.resume)? {
        Room::Directory => Err(Failure::Guest(format!("guest: {}: is a directory", printable(destination)))),
        Room::Special(path) => in_place(job, &mut input, source, found.len(), &path),
        Room::Unknown => {
            note_in_place(job);
            in_place(job, &mut input, source, found.len(), destination)
        }
        Room::Part { path, part, length } => {
            let (length, hash) = left_over(job, &mut input, (source, found.len()), (destination, &part, length))?;
            let result = beside(job, &mut input, source, &found, (&part, length, hash));
            let hash = result.map_err(|failure| kept(job, failure, &part))?;
            let (mode, owner, time) = (job.how.mode(&found), job.how.owner(&found), job.how.time(&found));
            let (hash, sync) = (if job.how.verify { hex(hash) } else { String::new() }, if durable { "1" } else { "" });
            let args = [&part, &path, mode.as_str(), &owner, &time, &hash, sync];
            match job.guest.put_in_place(&args, found.len())? {
                Check::Corrupt => Err(Failure::Guest(format!(
                    "guest: {}: the copy is not what was sent; it was thrown away",
                    printable(destination)
                ))),
                check => {
                    job.count(found.len(), check);
                    Ok(())
                }
            }
        }
    }
}

/// Says that there is no partial file.
fn note_in_place(job: &mut Job<'_>) {
    let reason = job.guest.without_exec().unwrap_or_default().to_owned();
    job.note(format!("written in place, with the guest's own mode and owner: {reason}"));
}

/// Says with a failure where the part is that was copied.
fn kept(job: &mut Job<'_>, failure: Failure, part: &str) -> Failure {
    let behind = format!("the same command goes on from :{}", printable(part));
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
    input: &mut File,
    (source, size): (&Path, u64),
    (destination, part, length): (&str, &str, u64),
) -> Result<(u64, Sha256), Failure> {
    if length == 0 {
        return Ok((0, Sha256::new()));
    }
    if length >= WORTH_RESUMING && length <= size && job.guest.has_sha256() {
        let theirs = job.guest.hash_of_start(part, length)?;
        let ours = hash_start(input, length).map_err(|error| host::failure(source, error))?;
        if let Some(ours) = ours.filter(|ours| theirs == Some(hex(ours.clone()))) {
            job.report.resumed += length;
            job.note(format!("went on after {} of an earlier copy", crate::units::bytes(length)));
            return Ok((length, ours));
        }
    }
    // What is there is of another file, or cannot be told from one.
    job.guest.prepare(destination, true)?;
    Ok((0, Sha256::new()))
}

/// Writes the partial file, behind what it has already.
fn beside(
    job: &mut Job<'_>,
    input: &mut File,
    source: &Path,
    found: &Metadata,
    (part, from, mut hash): (&str, u64, Sha256),
) -> Result<Sha256, Failure> {
    let file = GuestFile::open(job.guest.agent, part, "r+")?;
    let result = send(job, input, source, (from, found.len()), &file, &mut hash);
    close(job, file, result)?;
    let now = input.metadata().map_err(|error| host::failure(source, error))?;
    if (now.len(), now.mtime(), now.mtime_nsec()) != (found.len(), found.mtime(), found.mtime_nsec()) {
        job.note(format!("{} changed while it was copied", host::shown(source)));
    }
    Ok(hash)
}

/// Writes over what is there.
fn in_place(job: &mut Job<'_>, input: &mut File, source: &Path, size: u64, path: &str) -> Result<(), Failure> {
    let file = GuestFile::open(job.guest.agent, path, "w")?;
    let mut hash = Sha256::new();
    let result = send(job, input, source, (0, size), &file, &mut hash);
    close(job, file, result)?;
    job.count(size, Check::Unchecked);
    Ok(())
}

/// Closes the file of the guest, whatever became of the copy.
fn close(job: &mut Job<'_>, file: GuestFile, result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(file.close(job.guest.agent)?),
        Err(failure) => {
            if is_alive(&failure) {
                // The first failure is the one that counts.
                let _ = file.close(job.guest.agent);
            }
            Err(failure)
        }
    }
}

/// Whether the agent can be expected to answer after this.
pub(super) fn is_alive(failure: &Failure) -> bool {
    !matches!(failure, Failure::Agent(error) if !matches!(error, Error::Failed { .. } | Error::Malformed(_)))
}

/// Sends what is between two positions, holes left out.
fn send(
    job: &mut Job<'_>,
    input: &mut File,
    source: &Path,
    (from, size): (u64, u64),
    file: &GuestFile,
    hash: &mut Sha256,
) -> Result<(), Failure> {
    let failed = |error: io::Error| host::failure(source, error);
    let extents = host::extents(input, from, size).map_err(failed)?;
    let chunk = job.guest.agent.chunks().write;
    let mut buffer = vec![0; chunk];
    let stop = job.stop;
    let bar = job.bar.clone();
    bar.set_position(from);
    bar.reset_eta();
    let mut writing = file.write_ahead(job.guest.agent);
    let mut position = from;
    let mut seen = 0;
    if from > 0 {
        writing.seek(from)?;
    }
    for (start, end) in extents {
        if start > position {
            hash_zeroes(hash, start - position);
            writing.seek(start)?;
        }
        input.seek(SeekFrom::Start(start)).map_err(failed)?;
        position = start;
        while position < end {
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                writing.finish()?;
                return Err(Failure::Interrupted("interrupted".into()));
            }
            let piece = buffer.len().min(usize::try_from(end - position).unwrap_or(usize::MAX));
            let count = fill(input, &mut buffer[..piece]).map_err(failed)?;
            if count == 0 {
                return Err(host::failure(source, "became shorter while it was copied"));
            }
            writing.write(&buffer[..count])?;
            // The agent works while this is hashed.
            hash.update(&buffer[..count]);
            position += count as u64;
            seen = advance(&bar, &writing, seen, position);
        }
    }
    if position < size {
        hash_zeroes(hash, size - position);
        writing.seek(size - 1)?;
        writing.write(&[0])?;
    }
    job.report.sent += writing.finish()?;
    bar.set_position(size);
    Ok(())
}

/// Shows how far the copy is, when that has changed.
fn advance(bar: &indicatif::ProgressBar, writing: &WriteAhead<'_>, seen: u64, position: u64) -> u64 {
    if writing.written() != seen {
        bar.set_position(position);
    }
    writing.written()
}

/// Copies what has no length, until its end, over what is there.
pub(super) fn stream(
    job: &mut Job<'_>,
    input: &mut impl Read,
    source: &Path,
    destination: &str,
) -> Result<(), Failure> {
    job.show(destination, None);
    let room = job.guest.prepare(destination, true)?;
    let (path, part) = match room {
        Room::Directory => {
            return Err(Failure::Guest(format!("guest: {}: is a directory", printable(destination))));
        }
        Room::Special(path) => (path, None),
        Room::Unknown => {
            note_in_place(job);
            (destination.to_owned(), None)
        }
        Room::Part { path, part, .. } => (path, Some(part)),
    };
    let file = GuestFile::open(job.guest.agent, part.as_ref().unwrap_or(&path), "w")?;
    let mut hash = Sha256::new();
    let before = job.report.sent;
    let result = pump(job, input, source, &file, &mut hash);
    close(job, file, result)?;
    let bytes = job.report.sent - before;
    let Some(part) = part else {
        job.count(bytes, Check::Unchecked);
        return Ok(());
    };
    let hash = if job.how.verify { hex(hash) } else { String::new() };
    match job.guest.put_in_place(&[&part, &path, "644", "", "", &hash, "1"], bytes)? {
        Check::Corrupt => Err(Failure::Guest(format!(
            "guest: {}: the copy is not what was sent; it was thrown away",
            printable(destination)
        ))),
        check => {
            job.count(bytes, check);
            Ok(())
        }
    }
}

fn pump(
    job: &mut Job<'_>,
    input: &mut impl Read,
    source: &Path,
    file: &GuestFile,
    hash: &mut Sha256,
) -> Result<(), Failure> {
    let mut buffer = vec![0; job.guest.agent.chunks().write];
    let bar = job.bar.clone();
    let stop = job.stop;
    let mut writing = file.write_ahead(job.guest.agent);
    loop {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Failure::Interrupted("interrupted".into()));
        }
        let count = fill(input, &mut buffer).map_err(|error| host::failure(source, error))?;
        if count == 0 {
            break;
        }
        writing.write(&buffer[..count])?;
        hash.update(&buffer[..count]);
        bar.inc(count as u64);
    }
    job.report.sent += writing.finish()?;
    Ok(())
}

/// Fills the buffer as far as there is something: agents that buffer by themselves should get whole blocks.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
