//! Whole directories, both ways.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Component, Path, PathBuf};

use qga_client::printable;

use super::batch::{self, Download, Upload};
use super::guest::Entry;
use super::job::Job;
use super::{host, scripts};
use crate::exit::Failure;

/// Copies a directory of this host to the guest, as `root`.
pub(super) fn into_guest(job: &mut Job<'_>, source: &Path, root: &str) -> Result<(), Failure> {
    let mut found = Vec::new();
    walk(job, source, root.trim_end_matches('/'), &mut found);
    let directories: Vec<&Found> = found.iter().filter(|found| found.metadata.is_dir()).collect();
    let mut new = BTreeSet::new();
    let mut before = 0;
    for some in batch::split(&directories, |found| Some((found.destination.len(), 0))) {
        job.check_stop()?;
        let paths: Vec<&str> = some.iter().map(|found| found.destination.as_str()).collect();
        let made = job.guest.change(scripts::MAKE_DIRECTORIES, &paths, root)?;
        new.extend(made.lines().filter_map(|line| line.parse::<usize>().ok()).map(|number| before + number));
        before += some.len();
    }
    job.report.directories += directories.len() as u64;
    let mut files = Vec::new();
    for Found { source, destination, metadata } in &found {
        if metadata.is_file() {
            files.push(Upload { source, destination, metadata });
        } else if !metadata.is_dir() && !metadata.is_symlink() {
            job.pass_over(host::failure(source, "is neither a file nor a directory nor a link"))?;
        }
    }
    batch::into_guest(job, &files)?;
    links_into_guest(job, &found)?;
    // From the inside: making a file changes the time of its directory.
    let how = job.how;
    let undressed = directories.iter().enumerate().rev().filter(|(number, _)| how.preserve || new.contains(number));
    let undressed = undressed.map(|(_, entry)| {
        let found = &entry.metadata;
        [entry.destination.clone(), how.mode(found), how.owner(found), how.time(found)]
    });
    many(job, scripts::DRESS, &undressed.collect::<Vec<_>>(), 0, |_| {})
}

/// Runs a script for all of these, as many as possible at once, each with the path in the guest at this place. Those it
/// fails for are tried again one by one, which shows the reason.
fn many<const N: usize>(
    job: &mut Job<'_>,
    script: &str,
    all: &[[String; N]],
    path: usize,
    done: impl Fn(&mut Job<'_>),
) -> Result<(), Failure> {
    for some in batch::split(all, |args| Some((args.iter().map(String::len).sum(), 0))) {
        job.check_stop()?;
        let args: Vec<&str> = some.iter().flatten().map(String::as_str).collect();
        let answers = if some.len() > 1 { job.guest.each(script, &args)? } else { None }.unwrap_or_default();
        for (number, args) in some.iter().enumerate() {
            if answers.get(number).is_none_or(|answer| answer != "y") {
                let args = args.each_ref().map(String::as_str);
                if let Err(failure) = job.guest.change(script, &args, args[path]) {
                    job.pass_over(failure)?;
                    continue;
                }
            }
            done(job);
        }
    }
    Ok(())
}

/// One entry of a directory of this host.
struct Found {
    source: PathBuf,
    destination: String,
    metadata: Metadata,
}

/// Finds everything below a directory, itself included, directories before what is in them.
fn walk(job: &mut Job<'_>, source: &Path, destination: &str, found: &mut Vec<Found>) {
    let mut waiting = vec![(source.to_owned(), destination.to_owned())];
    let mut is_first = true;
    while let Some((source, destination)) = waiting.pop() {
        // The one that was named may be a link to a directory.
        let metadata = if is_first { fs::metadata(&source) } else { fs::symlink_metadata(&source) };
        is_first = false;
        let mut fail = |what: String| job.report.failed.push(host::failure(&source, what).to_string());
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => {
                fail(error.to_string());
                continue;
            }
        };
        if metadata.is_dir() {
            match fs::read_dir(&source) {
                Ok(entries) => {
                    let mut names: Vec<_> =
                        entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name())).collect();
                    names.sort_unstable_by(|a, b| b.cmp(a));
                    for name in names {
                        match name.to_str() {
                            Some(text) => waiting.push((source.join(text), format!("{destination}/{text}"))),
                            None => job.report.failed.push(
                                host::failure(&source.join(name), "the protocol carries names in UTF-8 only")
                                    .to_string(),
                            ),
                        }
                    }
                }
                Err(error) => fail(error.to_string()),
            }
        }
        found.push(Found { source, destination, metadata });
    }
}

fn links_into_guest(job: &mut Job<'_>, found: &[Found]) -> Result<(), Failure> {
    let mut links = Vec::new();
    for link in found.iter().filter(|found| found.metadata.is_symlink()) {
        match fs::read_link(&link.source).map(PathBuf::into_os_string).map(|to| to.into_string()) {
            Ok(Ok(to)) => links.push([to, link.destination.clone(), job.how.owner(&link.metadata)]),
            Ok(Err(_)) => job.pass_over(host::failure(&link.source, "leads to a name that is not UTF-8"))?,
            Err(error) => job.pass_over(host::failure(&link.source, error))?,
        }
    }
    many(job, scripts::MAKE_LINKS, &links, 1, |job| job.report.links += 1)
}

/// Copies a directory of the guest to this host, as `root`. Nothing is written outside of it, whatever names the guest
/// gives: links are made last, and none that is there is followed.
pub(super) fn out_of_guest(job: &mut Job<'_>, source: &str, root: &Path) -> Result<(), Failure> {
    let (entries, complaint) = job.guest.list(source)?;
    if let Some(complaint) = complaint {
        job.report.failed.push(format!("guest: {complaint}"));
    }
    let mut files = Vec::new();
    let mut links = Vec::new();
    let mut directories = Vec::new();
    for entry in &entries {
        job.check_stop()?;
        let shown = printable(&String::from_utf8_lossy(&entry.path));
        let Some(path) = inside(source, entry) else {
            job.report.failed.push(format!("guest: {shown}: not a name below {}", printable(source)));
            continue;
        };
        let destination = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(&path) };
        let result = match std::str::from_utf8(&entry.path) {
            _ if entry.stat.is_directory() => make_directory(root, &path).map(|is_new| {
                directories.push((destination, entry, is_new));
            }),
            _ if entry.stat.is_link() => {
                links.push((destination, entry));
                Ok(())
            }
            _ if !entry.stat.is_file() => {
                Err(Failure::Guest(format!("guest: {shown}: is neither a file nor a directory nor a link")))
            }
            Ok(source) => check_parents(root, &path).map(|()| {
                files.push(Download { source, stat: &entry.stat, destination });
            }),
            Err(_) => Err(Failure::Guest(format!("guest: {shown}: the protocol carries names in UTF-8 only"))),
        };
        if let Err(failure) = result {
            job.pass_over(failure)?;
        }
    }
    batch::out_of_guest(job, &files)?;
    for (destination, entry) in links {
        let to = OsStr::from_bytes(&entry.link);
        let result = match fs::symlink_metadata(&destination) {
            Ok(found) if found.is_dir() => Err(host::failure(&destination, "is a directory")),
            Ok(_) => fs::remove_file(&destination).map_err(|error| host::failure(&destination, error)),
            Err(_) => Ok(()),
        };
        match result.and_then(|()| symlink(to, &destination).map_err(|error| host::failure(&destination, error))) {
            Ok(()) => job.report.links += 1,
            Err(failure) => job.pass_over(failure)?,
        }
    }
    job.report.directories += directories.len() as u64;
    for (path, entry, is_new) in directories.iter().rev() {
        if let Err(error) = host::dress(path, &entry.stat, job.how, *is_new) {
            job.pass_over(host::failure(path, error))?;
        }
    }
    Ok(())
}

/// The path of an entry below the directory that was asked for, if it is one.
fn inside(source: &str, entry: &Entry) -> Option<PathBuf> {
    let rest = entry.path.strip_prefix(source.trim_end_matches('/').as_bytes())?;
    let rest = rest.strip_prefix(b"/").or_else(|| rest.is_empty().then_some(rest))?;
    let start = rest.iter().position(|byte| *byte != b'/').unwrap_or(rest.len());
    let path = Path::new(OsStr::from_bytes(&rest[start..]));
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| path.to_owned())
}

/// Refuses a path that leads through a link.
fn check_parents(root: &Path, path: &Path) -> Result<(), Failure> {
    let mut whole = root.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        whole.push(part);
        match fs::symlink_metadata(&whole) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(host::failure(&whole, "is no directory")),
            Err(error) => return Err(host::failure(&whole, error)),
        }
    }
    Ok(())
}

/// Makes a directory; whether it is new.
fn make_directory(root: &Path, path: &Path) -> Result<bool, Failure> {
    check_parents(root, path)?;
    let whole = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
    match fs::DirBuilder::new().mode(0o700).create(&whole) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // The destination itself may be a link; what is below it may not.
            let found = if path.as_os_str().is_empty() { fs::metadata(&whole) } else { fs::symlink_metadata(&whole) };
            match found {
                Ok(found) if found.is_dir() => Ok(false),
                _ => Err(host::failure(&whole, "is no directory")),
            }
        }
        Err(error) => Err(host::failure(&whole, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::cp::guest::Stat;

    fn path(source: &str, path: &str) -> Option<PathBuf> {
        inside(source, &Entry { stat: Stat::default(), path: path.into(), link: Vec::new() })
    }

    #[test]
    fn a_guest_cannot_name_a_path_outside() {
        assert_eq!(path("/srv", "/srv/"), Some("".into()));
        assert_eq!(path("/srv/", "/srv//a/b"), Some("a/b".into()));
        assert_eq!(path("/", "/etc"), Some("etc".into()));
        for bad in ["/srv/../etc/passwd", "/etc/passwd", "/srvx/a", "/srv/a/../../b", ""] {
            assert_eq!(path("/srv", bad), None, "{bad}");
        }
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/tmp", dir.path().join("link")).unwrap();
        assert!(check_parents(dir.path(), Path::new("link/file")).is_err());
        assert!(make_directory(dir.path(), Path::new("link")).is_err());
        assert!(make_directory(dir.path(), Path::new("link/sub")).is_err());
        assert!(make_directory(dir.path(), Path::new("real")).unwrap());
        assert!(!make_directory(dir.path(), Path::new("real")).unwrap());
        assert!(check_parents(dir.path(), Path::new("real/file")).is_ok());
    }
}
