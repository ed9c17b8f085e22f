//! Many small files at once: what a guest has to run programs for is done for all of them together.
//!
//! A file by itself takes two programs of the guest, each with a shell and several tools: 33 to 54 ms into a guest and
//! 23 to 28 ms out of it on a busy machine, where the bytes take less than one. Together it is 5 to 10 ms and 1 ms. This is
//! the quick way for what is plain: whatever is not, or goes wrong, is left to the long way, which knows what to do and
//! what to say.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use qga_client::GuestFile;
use sha2::{Digest, Sha256};

use super::guest::{Check, Stat};
use super::host::Target;
use super::job::{Job, WORTH_RESUMING, hex};
use super::upload::is_alive;
use super::{download, scripts, upload};
use crate::exit::Failure;

/// Files that one script is given: far from what a command line may have, as are [`NAMES`].
const FILES: usize = 100;

/// Bytes of names that one script is given; libvirt's program gets the request itself as one argument.
const NAMES: usize = 16 << 10;

/// Bytes that are under way at a time.
const BYTES: u64 = 8 << 20;

/// A file of this host that is to be copied.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    pub(super) source: &'a Path,
    pub(super) destination: &'a str,
    pub(super) metadata: &'a Metadata,
}

/// A file of the guest that is to be copied.
#[derive(Debug)]
pub(super) struct Download<'a> {
    pub(super) source: &'a str,
    pub(super) stat: &'a Stat,
    pub(super) destination: PathBuf,
}

/// A file that lies complete beside its place.
struct Ready<'a> {
    upload: &'a Upload<'a>,
    part: &'a str,
    hash: String,
    size: u64,
}

/// What a file adds to a batch: bytes of its name, and of itself. Nothing when it cannot be one of many: it is so large
/// that half of it is worth something, or tools would not print its name as it is.
fn weight(path: &str, size: u64) -> Option<(usize, u64)> {
    let is_plain = size < WORTH_RESUMING && !path.contains(['\n', '\r', '\\']);
    is_plain.then_some((path.len(), size))
}

/// Splits a list into parts that can be done at once. What has no weight is a part by itself.
pub(super) fn split<T>(list: &[T], weight: impl Fn(&T) -> Option<(usize, u64)>) -> Vec<&[T]> {
    let (mut parts, mut rest) = (Vec::new(), list);
    while !rest.is_empty() {
        let (mut names, mut bytes, mut count) = (0, 0, 0);
        for item in rest.iter().take(FILES) {
            let Some((name, size)) = weight(item) else { break };
            names += name;
            bytes += size;
            if names > NAMES || bytes > BYTES {
                break;
            }
            count += 1;
        }
        let (part, behind) = rest.split_at(count.max(1));
        parts.push(part);
        rest = behind;
    }
    parts
}

/// Copies files of this host into directories of the guest.
pub(super) fn into_guest(job: &mut Job<'_>, files: &[Upload<'_>]) -> Result<(), Failure> {
    for some in split(files, |file| weight(file.destination, file.metadata.len())) {
        let mut rest: Vec<bool> = vec![true; some.len()];
        if some.len() > 1 && (job.guest.has_sha256() || !job.how.verify) {
            job.check_stop()?;
            send(job, some, &mut rest)?;
        }
        for file in some.iter().zip(&rest).filter_map(|(file, is_left)| is_left.then_some(file)) {
            if let Err(failure) = upload::file(job, file.source, file.destination, false) {
                job.pass_over(failure)?;
            }
        }
    }
    Ok(())
}

/// Copies these at once, and says which of them are not left to be copied.
fn send(job: &mut Job<'_>, files: &[Upload<'_>], rest: &mut [bool]) -> Result<(), Failure> {
    let parts: Vec<String> = files.iter().map(|file| part_beside(file.destination)).collect();
    let args: Vec<&str> = files.iter().zip(&parts).flat_map(|(file, part)| [file.destination, part.as_str()]).collect();
    let Some(has_room) = job.guest.each(scripts::PREPARE_MANY, &args)? else { return Ok(()) };
    let mut prepared: Vec<(usize, &str)> = Vec::new();
    for (number, (part, answer)) in parts.iter().zip(&has_room).enumerate() {
        if answer == "y" {
            prepared.push((number, part));
        }
    }
    let result = send_prepared(job, files, &prepared, rest);
    if result.as_ref().err().is_none_or(is_alive) {
        let left: Vec<&str> = prepared.iter().filter(|(number, _)| rest[*number]).map(|(_, part)| *part).collect();
        if !left.is_empty() {
            // The long way would take them away, too.
            let _ = job.guest.each(scripts::REMOVE, &left);
        }
    }
    result
}

fn send_prepared(
    job: &mut Job<'_>,
    files: &[Upload<'_>],
    prepared: &[(usize, &str)],
    rest: &mut [bool],
) -> Result<(), Failure> {
    let mut ready = Vec::new();
    for (number, part) in prepared {
        job.check_stop()?;
        let upload = &files[*number];
        job.show(upload.destination, Some(upload.metadata.len()));
        let Some(bytes) = read(upload) else { continue };
        if is_written(job, part, &bytes)? {
            let hash = if job.how.verify { hex(Sha256::new_with_prefix(&bytes)) } else { String::new() };
            ready.push((*number, Ready { upload, part, hash, size: bytes.len() as u64 }));
        }
    }
    if job.how.verify {
        let paths: Vec<&str> = ready.iter().map(|(_, ready)| ready.part).collect();
        let process = job.guest.start_hashes(&paths)?;
        let theirs = match process {
            Some(process) => job.guest.hashes(process, &paths, BYTES)?,
            None => return Ok(()),
        };
        let mut theirs = theirs.into_iter();
        ready.retain(|(_, ready)| theirs.next().flatten().as_ref() == Some(&ready.hash));
    }
    // One program sets mode and owner of all that have the same.
    let how = job.how;
    let dress = |ready: &Ready<'_>| (how.mode(ready.upload.metadata), how.owner(ready.upload.metadata));
    ready.sort_by_cached_key(|(_, ready)| dress(ready));
    for alike in ready.chunk_by(|(_, a), (_, b)| dress(a) == dress(b)) {
        let Some((_, first)) = alike.first() else { continue };
        let (mode, owner) = dress(first);
        let times: Vec<String> = alike.iter().map(|(_, ready)| how.time(ready.upload.metadata)).collect();
        let mut args = vec![mode.as_str(), &owner];
        for ((_, ready), time) in alike.iter().zip(&times) {
            args.extend([ready.part, ready.upload.destination, time]);
        }
        let placed = job.guest.each(scripts::PLACE_MANY, &args)?.unwrap_or_default();
        for ((number, ready), _) in alike.iter().zip(placed).filter(|(_, answer)| answer == "y") {
            rest[*number] = false;
            job.report.sent += ready.size;
            job.count(ready.size, if job.how.verify { Check::Verified } else { Check::Unchecked });
        }
    }
    Ok(())
}

/// All of a file; nothing when that is not as long as it was.
fn read(upload: &Upload<'_>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(upload.source).ok()?;
    file.take(WORTH_RESUMING).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == upload.metadata.len()).then_some(bytes)
}

/// Writes a partial file; false when the guest does not want to.
fn is_written(job: &mut Job<'_>, part: &str, bytes: &[u8]) -> Result<bool, Failure> {
    if bytes.is_empty() {
        return Ok(true);
    }
    let Some(file) = tolerate(GuestFile::open(job.guest.agent, part, "r+"))? else { return Ok(false) };
    let written = tolerate(file.write_all(job.guest.agent, bytes))?;
    let closed = tolerate(file.close(job.guest.agent))?;
    Ok(written.and(closed).is_some())
}

/// What was asked for, if the agent could do it and still answers.
fn tolerate<T>(result: Result<T, qga_client::Error>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(qga_client::Error::Failed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The partial file of a path.
fn part_beside(path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    format!("{directory}/.{name}.qga-part")
}

/// Copies files of the guest into directories of this host.
pub(super) fn out_of_guest(job: &mut Job<'_>, files: &[Download<'_>]) -> Result<(), Failure> {
    for some in split(files, |file| weight(file.source, file.stat.size)) {
        let mut rest: Vec<bool> = vec![true; some.len()];
        if some.len() > 1 && job.how.verify && job.guest.has_sha256() {
            job.check_stop()?;
            receive(job, some, &mut rest)?;
        }
        for file in some.iter().zip(&rest).filter_map(|(file, is_left)| is_left.then_some(file)) {
            if let Err(failure) = download::file(job, file.source, Some(file.stat), &file.destination, false) {
                job.pass_over(failure)?;
            }
        }
    }
    Ok(())
}

/// Copies these at once, and says which of them are not left to be copied. What has no length may have something in it
/// all the same, as in /proc, and takes no program anyway.
fn receive(job: &mut Job<'_>, files: &[Download<'_>], rest: &mut [bool]) -> Result<(), Failure> {
    let some: Vec<usize> = (0..files.len()).filter(|number| files[*number].stat.size > 0).collect();
    let paths: Vec<&str> = some.iter().map(|number| files[*number].source).collect();
    let Some(process) = job.guest.start_hashes(&paths)? else { return Ok(()) };
    // The guest computes while it is read.
    let mut contents = Vec::with_capacity(some.len());
    for number in &some {
        job.check_stop()?;
        let file = &files[*number];
        job.show(file.source, Some(file.stat.size));
        contents.push(content(job, file)?);
    }
    let theirs = job.guest.hashes(process, &paths, BYTES)?;
    for ((number, bytes), theirs) in some.iter().zip(contents).zip(theirs) {
        let Some(bytes) = bytes.filter(|bytes| theirs == Some(hex(Sha256::new_with_prefix(bytes)))) else { continue };
        let file = &files[*number];
        let put = Target::open(&file.destination, false).and_then(|mut target| {
            target.start_at(0, file.stat.is_sparse())?;
            target.write(&bytes)?;
            target.put_in_place(Some(file.stat), job.how, false)
        });
        // The long way says what is wrong here.
        if put.is_ok() {
            rest[*number] = false;
            job.report.sent += bytes.len() as u64;
            job.count(bytes.len() as u64, Check::Verified);
        }
    }
    Ok(())
}

/// All of a file of the guest; nothing when that is not as long as it was.
fn content(job: &mut Job<'_>, file: &Download<'_>) -> Result<Option<Vec<u8>>, Failure> {
    let Some(open) = tolerate(GuestFile::open(job.guest.agent, file.source, "r"))? else { return Ok(None) };
    let size = usize::try_from(file.stat.size).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    let mut reading = open.read_ahead(job.guest.agent, file.stat.size);
    let mut piece = Vec::new();
    let complete = loop {
        match tolerate(reading.next_into(&mut piece))? {
            Some(true) => bytes.extend_from_slice(&piece),
            Some(false) => break true,
            None => break false,
        }
    };
    drop(reading);
    tolerate(open.close(job.guest.agent))?;
    Ok(Some(bytes).filter(|bytes| complete && bytes.len() == size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_where_something_is_not_plain_or_too_much() {
        let lengths = |files: &[(&str, u64)]| {
            let parts = split(files, |(path, size)| weight(path, *size));
            parts.iter().map(|part| part.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[("/a", 1), ("/b", 0), ("/c", WORTH_RESUMING), ("/d", 1), ("/e", 2)]), [2, 1, 2]);
        assert_eq!(lengths(&[("/a", 1), ("/line\nend", 1), ("/b", 1)]), [1, 1, 1]);
        assert_eq!(lengths(&[("/a", 1); 250]), [100, 100, 50]);
        assert_eq!(lengths(&[("/a", WORTH_RESUMING - 1); 10]), [8, 2]);
        let long = format!("/{}", "n".repeat(NAMES / 2));
        assert_eq!(lengths(&[(long.as_str(), 1); 3]), [1, 1, 1]);
    }

    #[test]
    fn a_partial_file_is_hidden_beside_its_place() {
        assert_eq!(part_beside("/srv/a b"), "/srv/.a b.qga-part");
        assert_eq!(part_beside("/a"), "/.a.qga-part");
    }
}
