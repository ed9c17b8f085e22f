//! The guest's side of a copy: what its agent and its standard tools do for us.

use std::collections::HashMap;
use std::time::Duration;

use qga_client::{Blocker, Client, Error, Exec, Finished, Process, printable};

use super::scripts;
use crate::exit::Failure;

/// What a guest is trusted to hash in a second, at least. A busy one in software emulation was seen to do 3 MiB.
const HASH_RATE: u64 = 512 << 10;

/// The guest, with what has been found out about it.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    pub(super) agent: &'a mut Client,
    /// Why no programs can be run, once that is known.
    without_exec: Option<String>,
    has_sha256: bool,
}

/// What a file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stat {
    /// Type and permissions, as `st_mode` has them.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(super) mtime: (i64, u32),
    /// Bytes it takes on its disk.
    pub(super) allocated: u64,
}

/// One entry of a directory tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) stat: Stat,
    /// Its whole path.
    pub(super) path: Vec<u8>,
    /// What it leads to, if it is a link.
    pub(super) link: Vec<u8>,
}

/// What is at the place where a file should go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Directory,
    /// A device or the like: written as it is.
    Special(String),
    /// A partial file is there, with so many bytes in it.
    Part {
        path: String,
        part: String,
        length: u64,
    },
    /// No programs can be run: the file is written where it should be.
    Unknown,
}

/// How a file got to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Verified,
    Unchecked,
    Corrupt,
}

impl Stat {
    pub(super) fn is_directory(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    pub(super) fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }

    pub(super) fn is_link(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }

    /// Whether there are holes in it.
    pub(super) fn is_sparse(&self) -> bool {
        self.is_file() && self.allocated < self.size
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        if first.len() == 1 {
            return Stat::parse_found(first, words);
        }
        let mode = u32::from_str_radix(first, 16).ok()?;
        let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (size, seconds) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let allocated = words.next()?.parse::<u64>().ok()?.saturating_mul(512);
        // The date has the fraction, where the number has none.
        let fraction = words.nth(1).and_then(|time| time.split_once('.')).map_or("", |(_, fraction)| fraction);
        Some(Stat { mode, uid, gid, size, mtime: (seconds, nanoseconds(fraction)), allocated })
    }

    /// What `find` prints behind the letter of a type.
    fn parse_found<'a>(letter: &str, mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let kind = match letter {
            "f" => 0o100_000,
            "d" => 0o040_000,
            "l" => 0o120_000,
            // What is neither is not copied, whatever it is.
            _ => 0,
        };
        let mode = kind | u32::from_str_radix(words.next()?, 8).ok()?;
        let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (size, time) = (words.next()?.parse().ok()?, words.next()?);
        let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
        let (seconds, nanoseconds) = (seconds.parse().ok()?, nanoseconds(fraction));
        let allocated = words.next()?.parse::<u64>().ok()?.saturating_mul(512);
        Some(Stat { mode, uid, gid, size, mtime: (seconds, nanoseconds), allocated })
    }
}

/// The nanoseconds that the digits behind the point stand for.
fn nanoseconds(fraction: &str) -> u32 {
    format!("{fraction:0<9.9}").parse().unwrap_or(0)
}

impl<'a> Guest<'a> {
    pub(super) fn new(agent: &'a mut Client) -> Self {
        Guest { agent, without_exec: None, has_sha256: true }
    }

    /// Why no programs can be run, if so.
    pub(super) fn without_exec(&self) -> Option<&str> {
        self.without_exec.as_deref()
    }

    /// Whether checksums are to be had, as far as is known.
    pub(super) fn has_sha256(&self) -> bool {
        self.has_sha256 && self.without_exec.is_none()
    }

    /// Starts a script; `None` when the guest runs no programs for us.
    fn start(&mut self, script: &str, args: &[&str]) -> Result<Option<Process>, Failure> {
        if self.without_exec.is_some() {
            return Ok(None);
        }
        let whole = format!("{}{script}", scripts::START);
        let exec = Exec::new("/bin/sh").arg("-c").arg(whole).arg("qga").args(args.iter().copied());
        match exec.start(self.agent) {
            Ok(process) => Ok(Some(process)),
            Err(Error::Blocked { by: Blocker::List, .. } | Error::NotFound { .. }) => {
                self.without_exec = Some("guest-exec is switched off in the agent".into());
                Ok(None)
            }
            Err(Error::Failed { desc, .. }) => {
                self.without_exec = Some(format!("guest-exec failed: {}", printable(&desc)));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Runs a script to its end; it may have to read so many bytes.
    fn run(&mut self, script: &str, args: &[&str], bytes: u64) -> Result<Option<Finished>, Failure> {
        let Some(process) = self.start(script, args)? else { return Ok(None) };
        self.finish(process, bytes).map(Some)
    }

    fn finish(&mut self, process: Process, bytes: u64) -> Result<Finished, Failure> {
        let limit = self.agent.timeout() + Duration::from_secs(bytes / HASH_RATE);
        Ok(process.wait(self.agent, limit)?)
    }

    /// What a file is, behind links; `None` when that cannot be asked.
    pub(super) fn stat(&mut self, path: &str) -> Result<Option<Stat>, Failure> {
        let Some(finished) = self.run(scripts::STAT, &[path], 0)? else { return Ok(None) };
        let out = success(&finished, path)?;
        Stat::parse(&out).map(Some).ok_or_else(|| {
            Failure::Guest(format!("guest: {}: its stat says: {}", printable(path), printable(out.trim())))
        })
    }

    /// Everything below a directory, and what could not be read.
    pub(super) fn list(&mut self, path: &str) -> Result<(Vec<Entry>, Option<String>), Failure> {
        let Some(finished) = self.run(scripts::LIST, &[path.trim_end_matches('/')], 0)? else {
            return Err(Failure::Guest(format!(
                "guest: {}: whole directories need programs in the guest, and {}",
                printable(path),
                self.without_exec.as_deref().unwrap_or_default()
            )));
        };
        if finished.is_truncated {
            return Err(Failure::Guest(format!("guest: {}: too many files for one list", printable(path))));
        }
        let complaint = (!finished.is_success()).then(|| complaint(&finished));
        Ok((entries(&finished.out), complaint))
    }

    /// Looks at a place for a file and makes room for it.
    pub(super) fn prepare(&mut self, path: &str, fresh: bool) -> Result<Room, Failure> {
        let args = [path, if fresh { "fresh" } else { "" }];
        let Some(finished) = self.run(scripts::PREPARE, &args, 0)? else { return Ok(Room::Unknown) };
        let out = success(&finished, path)?;
        let mut parts = out.split('\0').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        match next().as_str() {
            "dir" => Ok(Room::Directory),
            "special" => Ok(Room::Special(next())),
            "file" => Ok(Room::Part { path: next(), part: next(), length: next().parse().unwrap_or(0) }),
            _ => Err(Failure::Guest(format!("guest: {}: its shell says: {}", printable(path), printable(&out)))),
        }
    }

    /// The checksum of the first bytes of a file; `None` when it is not to be had.
    pub(super) fn hash_of_start(&mut self, path: &str, length: u64) -> Result<Option<String>, Failure> {
        let Some(process) = self.start(scripts::HASH, &[path, &length.to_string()])? else { return Ok(None) };
        self.hashed(process, path, length)
    }

    /// Starts to compute the checksum of the first bytes of a file.
    pub(super) fn start_hash(&mut self, path: &str, length: u64) -> Result<Option<Process>, Failure> {
        if !self.has_sha256() {
            return Ok(None);
        }
        self.start(scripts::HASH, &[path, &length.to_string()])
    }

    /// The checksum that was started, of so many bytes; `None` when it is not to be had.
    pub(super) fn hashed(&mut self, process: Process, path: &str, bytes: u64) -> Result<Option<String>, Failure> {
        let finished = self.finish(process, bytes)?;
        if finished.code == Some(127) {
            self.has_sha256 = false;
            return Ok(None);
        }
        let out = success(&finished, path)?;
        Ok(out.split_whitespace().next().map(str::to_owned))
    }

    /// Starts to compute the checksums of files.
    pub(super) fn start_hashes(&mut self, paths: &[&str]) -> Result<Option<Process>, Failure> {
        if paths.is_empty() || !self.has_sha256() {
            return Ok(None);
        }
        self.start(scripts::HASH_MANY, paths)
    }

    /// The checksums that were started, in the order of the paths; `None` where it is not to be had.
    pub(super) fn hashes(
        &mut self,
        process: Process,
        paths: &[&str],
        bytes: u64,
    ) -> Result<Vec<Option<String>>, Failure> {
        let finished = self.finish(process, bytes)?;
        self.has_sha256 &= finished.code != Some(127);
        let out = String::from_utf8_lossy(&finished.out);
        let found: HashMap<&str, &str> = out.lines().filter_map(|line| line.split_once("  ")).map(swap).collect();
        Ok(paths.iter().map(|path| found.get(path).map(|hash| (*hash).to_owned())).collect())
    }

    /// Runs a script that answers with a line for each thing that it is given; `None` when the guest runs no programs.
    pub(super) fn each(&mut self, script: &str, args: &[&str]) -> Result<Option<Vec<String>>, Failure> {
        let Some(finished) = self.run(script, args, 0)? else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(&finished.out).lines().map(str::to_owned).collect()))
    }

    /// Puts a partial file in its place.
    pub(super) fn put_in_place(&mut self, args: &[&str; 7], bytes: u64) -> Result<Check, Failure> {
        let Some(finished) = self.run(scripts::FINISH, args, bytes)? else {
            return Err(Failure::Guest(format!("guest: {}: guest-exec is gone all of a sudden", printable(args[1]))));
        };
        Ok(match success(&finished, args[1])?.as_str() {
            "verified" => Check::Verified,
            "corrupt" => Check::Corrupt,
            _ => {
                self.has_sha256 &= args[5].is_empty();
                Check::Unchecked
            }
        })
    }

    /// Runs a script that changes something, for the sake of a path.
    pub(super) fn change(&mut self, script: &str, args: &[&str], path: &str) -> Result<String, Failure> {
        match self.run(script, args, 0)? {
            Some(finished) => success(&finished, path),
            None => Err(Failure::Guest(format!(
                "guest: {}: this needs programs in the guest, and {}",
                printable(path),
                self.without_exec.as_deref().unwrap_or_default()
            ))),
        }
    }

    /// Where the data of a file with holes lies, from start to end; `None` when the guest has no tool that tells.
    pub(super) fn extents(&mut self, path: &str, size: u64) -> Result<Option<Vec<(u64, u64)>>, Failure> {
        Ok(match self.run(scripts::EXTENTS, &[path], size)? {
            Some(finished) if finished.is_success() && !finished.is_truncated => {
                extents(&String::from_utf8_lossy(&finished.out), size)
            }
            _ => None,
        })
    }
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// What a script printed, if it succeeded.
fn success(finished: &Finished, path: &str) -> Result<String, Failure> {
    if finished.is_success() {
        return String::from_utf8(finished.out.clone())
            .map_err(|_| Failure::Guest(format!("guest: {}: a name that is not UTF-8", printable(path))));
    }
    let said = complaint(finished);
    Err(Failure::Guest(if said.contains(path) {
        format!("guest: {said}")
    } else {
        format!("guest: {}: {said}", printable(path))
    }))
}

/// What a script that failed said, in one line, ready to be shown.
fn complaint(finished: &Finished) -> String {
    let said = String::from_utf8_lossy(&finished.err);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
    match lines.is_empty() {
        true => format!("the shell ended with exit code {}", finished.exit_code()),
        false => printable(&lines.join("; ")),
    }
}

/// Understands a list.
fn entries(list: &[u8]) -> Vec<Entry> {
    let mut parts = list.split(|byte| *byte == 0);
    let mut entries = Vec::new();
    while let (Some(head), Some(link)) = (parts.next(), parts.next()) {
        let Some(end) = head.iter().position(|byte| *byte == b'\n') else { continue };
        let Some(stat) = std::str::from_utf8(&head[..end]).ok().and_then(Stat::parse) else { continue };
        let link = link.strip_suffix(b"\n").unwrap_or(link).to_vec();
        entries.push(Entry { stat, path: head[end + 1..].to_vec(), link });
    }
    entries
}

/// Understands what `filefrag -v -b4096` prints: `0: 0.. 15: 34816.. 34831: 16: last,eof`.
fn extents(text: &str, size: u64) -> Option<Vec<(u64, u64)>> {
    const BLOCK: u64 = 4096;
    text.contains("blocks of 4096 bytes").then_some(())?;
    let mut found: Vec<(u64, u64)> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(':').map(str::trim);
        let Some(Ok(_)) = fields.next().map(str::parse::<u64>) else { continue };
        let (first, last) = fields.next()?.split_once("..")?;
        let start = first.trim().parse::<u64>().ok()?.checked_mul(BLOCK)?;
        let end = last.trim().parse::<u64>().ok()?.checked_add(1)?.checked_mul(BLOCK)?.min(size);
        match found.last_mut() {
            Some(before) if start < before.1 => return None,
            Some(before) if start == before.1 => before.1 = end,
            _ if start < end => found.push((start, end)),
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_of_gnu_and_of_busybox_is_understood() {
        let line = "81a4 0 1000 12345 1700000000 24 2023-11-14 22:13:20.123456789 +0000";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.mode, stat.uid, stat.gid, stat.size), (0o100_644, 0, 1000, 12345));
        assert_eq!((stat.mtime, stat.allocated), ((1_700_000_000, 123_456_789), 12288));
        assert!(stat.is_sparse() && stat.is_file());
        let old = Stat::parse("41ed 0 0 40 -5 0 1969-12-31 23:59:55 +0000").unwrap();
        assert_eq!((old.mtime, old.is_directory()), ((-5, 0), true));
        assert_eq!(Stat::parse("stat: cannot stat"), None);
        // The same file as find has it.
        let found = Stat::parse("f 644 0 1000 12345 1700000000.1234567890 24").unwrap();
        assert_eq!(found, stat);
        let fifo = Stat::parse("p 644 0 0 0 1.0000000000 0").unwrap();
        assert!(!fifo.is_file() && !fifo.is_directory() && !fifo.is_link());
    }

    #[test]
    fn a_list_holds_names_with_any_byte() {
        let list = b"a1ff 0 0 3 1 0 d t.5 z\n/r/li\nnk\0to\nwards\n\0\
                     81a4 0 0 3 1 8 d t.5 z\n/r/\xff\0\0";
        let found = entries(list);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].path.as_slice(), found[0].link.as_slice()), (&b"/r/li\nnk"[..], &b"to\nwards"[..]));
        assert!(found[0].stat.is_link());
        assert_eq!((found[1].path.as_slice(), found[1].link.as_slice()), (&b"/r/\xff"[..], &b""[..]));
    }

    #[test]
    fn extents_are_joined_and_end_with_the_file() {
        let text = "Filesystem type is: ef53\nFile size of x is 41000 (11 blocks of 4096 bytes)\n \
                    ext:     logical_offset:        physical_offset: length:   expected: flags:\n   \
                    0:        0..       1:      34816..     34817:      2:\n   \
                    1:        2..       2:      34900..     34900:      1:      34818:\n   \
                    2:       10..      10:      35000..     35000:      1:      34901: last,eof\nx: 3 extents found\n";
        assert_eq!(extents(text, 41000), Some(vec![(0, 12288), (40960, 41000)]));
        assert_eq!(extents("x: FIBMAP unsupported\n", 41000), None);
    }
}
