//! One copy while it is made: what was asked for, how far it is, what came of it.

use std::fs::Metadata;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use qga_client::{Error, printable};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::guest::{Check, Guest};
use crate::exit::Failure;
use crate::units;

/// Bytes that an earlier copy must have left to make it worth going on from there.
pub(super) const WORTH_RESUMING: u64 = 1 << 20;

/// How it should be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Special permissions are kept, and a file that is replaced does not keep its owner.
    pub(super) preserve: bool,
    /// What is new gets the owner of what it is a copy of. For root: numbers of users mean the same on both sides only to
    /// somebody who knows, and with those of other people whoever copies would give files away.
    pub(super) is_root: bool,
    pub(super) verify: bool,
    pub(super) resume: bool,
}

impl How {
    /// The part of a mode that is kept.
    pub(super) fn permissions(self, mode: u32) -> u32 {
        mode & if self.preserve { 0o7777 } else { 0o777 }
    }

    /// The mode that a file of the guest gets, in octal.
    pub(super) fn mode(self, found: &Metadata) -> String {
        format!("{:o}", self.permissions(found.mode()))
    }

    /// The owner it gets; empty where that is not kept. With a question mark in front where that is for something new
    /// only, and where the guest can do it: not every file system has owners.
    pub(super) fn owner(self, found: &Metadata) -> String {
        let sign = match self {
            How { preserve: true, .. } => "",
            How { is_root: true, .. } => "?",
            _ => return String::new(),
        };
        format!("{sign}{}:{}", found.uid(), found.gid())
    }

    /// The time it gets, in seconds since 1970.
    pub(super) fn time(self, found: &Metadata) -> String {
        format!("{}.{:09}", found.mtime(), found.mtime_nsec())
    }
}

/// One copy while it is made.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) guest: Guest<'a>,
    pub(super) how: How,
    pub(super) bar: ProgressBar,
    pub(super) report: Report,
    pub(super) stop: &'a AtomicBool,
    pub(super) start: Instant,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) links: u64,
    /// Bytes that the copied files have.
    pub(super) bytes: u64,
    /// Bytes that went over the channel.
    pub(super) sent: u64,
    /// Bytes that an earlier copy had left.
    pub(super) resumed: u64,
    pub(super) verified: u64,
    /// Worth a word, ready to be shown.
    pub(super) notes: Vec<String>,
    /// What was not copied, and why.
    pub(super) failed: Vec<String>,
}

impl Job<'_> {
    /// Fails when the user has had enough.
    pub(super) fn check_stop(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted("interrupted".into()));
        }
        Ok(())
    }

    /// Notes something once.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.report.notes.contains(&text) {
            self.report.notes.push(text);
        }
    }

    /// Notes that there are no checksums, and why.
    pub(super) fn note_unverified(&mut self) {
        if self.how.verify {
            let reason = match self.guest.without_exec() {
                Some(reason) => reason.to_owned(),
                None => "the guest has no sha256sum, or could not hash this file".into(),
            };
            self.note(format!("the copy could not be verified: {reason}"));
        }
    }

    /// Counts a file that is in its place.
    pub(super) fn count(&mut self, bytes: u64, check: Check) {
        self.report.files += 1;
        self.report.bytes += bytes;
        match check {
            Check::Verified => self.report.verified += 1,
            _ => self.note_unverified(),
        }
    }

    /// Shows which file it is at and how large that is.
    pub(super) fn show(&self, name: &str, size: Option<u64>) {
        let name: String = printable(name.rsplit('/').next().unwrap_or(name)).chars().take(30).collect();
        self.bar.set_message(name);
        match size {
            Some(size) => self.bar.set_length(size),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(0);
        self.bar.reset_eta();
    }

    /// Notes a file that could not be copied; gives the failure back when the others cannot be, either.
    pub(super) fn pass_over(&mut self, failure: Failure) -> Result<(), Failure> {
        match failure {
            Failure::Host(_) | Failure::Guest(_) | Failure::Agent(Error::Failed { .. }) => {
                self.report.failed.push(printable(&failure.to_string()));
                Ok(())
            }
            other => Err(other),
        }
    }
}

/// What is shown while it runs: only to people who look at a terminal.
pub(super) fn bar(bars: &MultiProgress, target: Option<&str>, is_quiet: bool) -> ProgressBar {
    if is_quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = bars.add(ProgressBar::new(0));
    let template = "{prefix}{msg:30} {bytes:>11} {bar:20} {percent:>3}% {binary_bytes_per_sec:>12} {eta:>4} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("##-"));
    }
    bar.set_prefix(target.map(|target| printable(target) + ": ").unwrap_or_default());
    bar
}

/// Feeds exactly so many bytes to a hash; false when there are fewer.
pub(super) fn hash_start(from: &mut impl Read, length: u64) -> std::io::Result<Option<Sha256>> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut left = length;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match from.read(&mut buffer[..piece])? {
            0 => return Ok(None),
            count => {
                hash.update(&buffer[..count]);
                left -= count as u64;
            }
        }
    }
    Ok(Some(hash))
}

/// Feeds zeroes to a hash.
pub(super) fn hash_zeroes(hash: &mut Sha256, mut count: u64) {
    static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
    while count > 0 {
        let piece = count.min(ZEROES.len() as u64);
        hash.update(&ZEROES[..piece as usize]);
        count -= piece;
    }
}

/// A hash as `sha256sum` prints it.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Report {
    pub(super) fn to_json(&self, seconds: f64) -> Value {
        json!({
            "files": self.files, "directories": self.directories, "links": self.links, "bytes": self.bytes,
            "sent": self.sent, "resumed": self.resumed, "verified": self.verified,
            "seconds": (seconds * 1000.0).round() / 1000.0, "notes": self.notes,
        })
    }

    pub(super) fn to_text(&self, seconds: f64) -> String {
        let many = |count: u64, what: &str| {
            let ending = match (count, what) {
                (1, "directory") => "y",
                (_, "directory") => "ies",
                (1, _) => "",
                _ => "s",
            };
            format!("{count} {}{ending}", what.trim_end_matches('y'))
        };
        let mut parts = vec![many(self.files, "file")];
        if self.directories > 0 {
            parts.push(many(self.directories, "directory"));
        }
        if self.links > 0 {
            parts.push(many(self.links, "link"));
        }
        let rate = units::bytes((self.sent as f64 / seconds.max(0.001)) as u64);
        let mut text =
            format!("copied {}: {} in {seconds:.1} s ({rate}/s)", parts.join(", "), units::bytes(self.bytes));
        if self.resumed > 0 {
            text += &format!(", {} of them earlier", units::bytes(self.resumed));
        }
        if self.files > 0 && self.verified == self.files {
            text += ", verified";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_kept_for_root_and_on_demand() {
        let found = std::fs::metadata("/").unwrap();
        let owner = |preserve, is_root| How { preserve, is_root, verify: true, resume: true }.owner(&found);
        let number = format!("{}:{}", found.uid(), found.gid());
        assert_eq!(owner(false, false), "");
        assert_eq!(owner(false, true), format!("?{number}"));
        assert_eq!(owner(true, false), number);
    }

    #[test]
    fn a_report_counts_what_there_is() {
        let report = Report { files: 1, verified: 1, bytes: 1 << 20, sent: 1 << 20, ..Report::default() };
        assert_eq!(report.to_text(2.0), "copied 1 file: 1.0 MiB in 2.0 s (512 KiB/s), verified");
        let report = Report { files: 3, directories: 2, links: 1, verified: 2, resumed: 1024, ..report };
        assert_eq!(
            report.to_text(2.0),
            "copied 3 files, 2 directories, 1 link: 1.0 MiB in 2.0 s (512 KiB/s), 1.0 KiB of them earlier"
        );
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        assert_eq!(hex(Sha256::new()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut zeroes = Sha256::new();
        hash_zeroes(&mut zeroes, 100_000);
        let whole = hash_start(&mut std::io::repeat(0), 100_000).unwrap().unwrap();
        assert_eq!(hex(zeroes), hex(whole));
        assert!(hash_start(&mut &b"abc"[..], 4).unwrap().is_none());
    }
}
