//! `qga cp`

mod batch;
mod download;
mod guest;
mod host;
mod job;
mod place;
mod scripts;
mod tree;
mod upload;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Args;
use indicatif::MultiProgress;
use qga_client::printable;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::PerTarget;
use crate::cli::Options;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use guest::{Guest, Room};
use job::{How, Job, Report};
use place::Plan;

/// Copy files into the guest, or out of it
///
/// A path in the guest is written with a colon in front, such as :/etc/hosts; one of the two sides is there. '-' is
/// standard input or output. As with cp, a destination that is a directory gets the files under their own names.
///
/// A file appears at its destination whole: it is written beside it as .NAME.qga-part, compared by its SHA-256, and
/// then renamed. A copy that was broken off leaves that file, and the same command goes on from there, once the
/// checksum of what is there has shown that it is the same file. Holes are not sent.
///
/// Permissions and times are kept, and what is new gets the owner that it has on the other side, by number, when root
/// copies; a file that is replaced keeps its owner.
///
/// In the guest this takes guest-exec, a shell and the usual tools. Where guest-exec is switched off, single files are
/// still copied: written in place, without a checksum, and with a word about it.
#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// What to copy, and at the end where to; with several targets, out of them into DESTINATION/TARGET/
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    paths: Vec<OsString>,

    /// Copy directories with everything below them; links are copied as links
    #[arg(short, long)]
    recursive: bool,

    /// Keep owners and special permissions whoever copies, also where a file is replaced
    #[arg(short, long)]
    preserve: bool,

    /// Show no progress, and say nothing when all went well
    #[arg(short, long)]
    quiet: bool,

    /// Do not compare checksums
    #[arg(long)]
    no_verify: bool,

    /// Start again where an earlier copy was broken off
    #[arg(long)]
    no_resume: bool,

    #[arg(skip)]
    bars: MultiProgress,

    #[arg(skip)]
    stop: Arc<AtomicBool>,

    /// Standard input, when it goes to several targets.
    #[arg(skip)]
    standard_input: Option<Vec<u8>>,
}

impl PerTarget for Cp {
    const NAME: &'static str = "cp";

    fn prepare(&mut self, options: &Options) -> Result<(), Failure> {
        match Plan::new(&self.paths)? {
            Plan::OutOfToStandard { .. } if options.is_many() || options.json => {
                return Err(Failure::Usage("standard output is for one target, and not with --json".into()));
            }
            Plan::IntoFromStandard { .. } if options.is_many() => {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes).map_err(|error| host::failure(Path::new("-"), error))?;
                self.standard_input = Some(bytes);
            }
            _ => {}
        }
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // The first one ends the copy in good order, a second one at once.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&self.stop))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&self.stop)))
                .map_err(|error| Failure::Host(format!("cannot catch signals: {}", error.kind())))?;
        }
        Ok(())
    }

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let plan = Plan::new(&self.paths)?;
        let is_many = session.options.is_many();
        let name = session.target.name().to_owned();
        let is_json = session.is_json();
        let how = How {
            preserve: self.preserve,
            is_root: rustix::process::geteuid().is_root(),
            verify: !self.no_verify,
            resume: !self.no_resume,
        };
        let is_quiet = self.quiet || is_json || matches!(plan, Plan::OutOfToStandard { .. });
        let mut job = Job {
            guest: Guest::new(session.agent()?),
            how,
            bar: job::bar(&self.bars, is_many.then_some(name.as_str()), is_quiet),
            report: Report::default(),
            stop: &self.stop,
            start: Instant::now(),
        };
        let result = match &plan {
            Plan::Into { sources, destination } => self.copy_into(&mut job, sources, destination),
            Plan::IntoFromStandard { destination } => match &self.standard_input {
                Some(bytes) => upload::stream(&mut job, &mut bytes.as_slice(), Path::new("-"), destination),
                None => upload::stream(&mut job, &mut io::stdin().lock(), Path::new("-"), destination),
            },
            Plan::OutOf { sources, destination } if is_many => target_directory(destination, &name)
                .and_then(|destination| self.copy_out(&mut job, sources, &destination)),
            Plan::OutOf { sources, destination } => self.copy_out(&mut job, sources, destination),
            Plan::OutOfToStandard { source } => download::to_standard(&mut job, source),
        };
        job.bar.finish_and_clear();
        let (report, seconds) = (job.report, job.start.elapsed().as_secs_f64());
        if !is_json {
            report.notes.iter().for_each(|note| session.warn(note));
            report.failed.iter().for_each(|failed| session.warn(failed));
        }
        result?;
        if !report.failed.is_empty() {
            let reasons = if is_json { format!(": {}", report.failed.join("; ")) } else { String::new() };
            let count = report.failed.len();
            return Err(Failure::Guest(format!(
                "{count} {} not copied{reasons}",
                if count == 1 { "was" } else { "were" }
            )));
        }
        Ok(match is_json {
            true => Output::json(report.to_json(seconds)),
            false if is_quiet => Output::text(""),
            false => Output::text(report.to_text(seconds)),
        })
    }
}

impl Cp {
    fn copy_into(&self, job: &mut Job<'_>, sources: &[PathBuf], destination: &str) -> Result<(), Failure> {
        for source in sources {
            let found = fs::metadata(source).map_err(|error| host::failure(source, error))?;
            if found.is_dir() && !self.recursive {
                return Err(host::failure(source, "is a directory; -r copies it"));
            }
        }
        let must_be_directory = sources.len() > 1 || destination.ends_with('/');
        for source in sources {
            let is_directory = source.is_dir();
            let is_below = match (is_directory, must_be_directory) {
                (false, true) => true,
                // Asked at the same time as whether there is room for a file.
                (false, false) => job.guest.prepare(destination, false)? == Room::Directory,
                (true, _) => {
                    let answer = job.guest.change(scripts::IS_DIRECTORY, &[destination], destination)?;
                    if must_be_directory && answer.is_empty() && sources.len() > 1 {
                        return Err(Failure::Guest(format!("guest: {}: no such directory", printable(destination))));
                    }
                    !answer.is_empty()
                }
            };
            let target = match is_below {
                true => below(source, destination)?,
                false => destination.to_owned(),
            };
            if is_directory {
                tree::into_guest(job, source, &target)?;
            } else if sources.len() == 1 {
                upload::file(job, source, &target, true)?;
            } else if let Err(failure) = upload::file(job, source, &target, true) {
                job.pass_over(failure)?;
            }
        }
        Ok(())
    }

    fn copy_out(&self, job: &mut Job<'_>, sources: &[String], destination: &Path) -> Result<(), Failure> {
        let is_directory = destination.is_dir();
        if !is_directory && (sources.len() > 1 || destination.as_os_str().as_encoded_bytes().ends_with(b"/")) {
            let is_new_tree = self.recursive && sources.len() == 1;
            if !is_new_tree {
                return Err(host::failure(destination, "no such directory"));
            }
        }
        for source in sources {
            let result = job.guest.stat(source).and_then(|stat| {
                let target = match is_directory {
                    true => destination.join(name_of(source).unwrap_or_default()),
                    false => destination.to_owned(),
                };
                match stat {
                    Some(stat) if stat.is_directory() && self.recursive => tree::out_of_guest(job, source, &target),
                    // It cannot be told what it is: this says why.
                    None if self.recursive => tree::out_of_guest(job, source, &target),
                    Some(stat) if stat.is_directory() => {
                        Err(Failure::Guest(format!("guest: {}: is a directory; -r copies it", printable(source))))
                    }
                    stat => download::file(job, source, stat.as_ref(), &target, true),
                }
            });
            match result {
                Err(failure) if sources.len() > 1 => job.pass_over(failure)?,
                result => result?,
            }
        }
        Ok(())
    }
}

/// The path of a source below a directory of the guest. `DIRECTORY/.` stands for what is in it.
fn below(source: &Path, directory: &str) -> Result<String, Failure> {
    let text = source.as_os_str().as_encoded_bytes();
    if text == b"." || text.ends_with(b"/.") {
        return Ok(directory.to_owned());
    }
    let name = match source.components().next_back() {
        Some(Component::Normal(name)) => name.to_owned(),
        _ => {
            let whole = source.canonicalize().map_err(|error| host::failure(source, error))?;
            whole.file_name().map(OsString::from).unwrap_or_default()
        }
    };
    let name = name.to_str().ok_or_else(|| host::failure(source, "the protocol carries names in UTF-8 only"))?;
    Ok(format!("{}/{name}", directory.trim_end_matches('/')))
}

/// The name that a path of the guest has by itself; none for `DIRECTORY/.` and the like.
fn name_of(path: &str) -> Option<&str> {
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    (!matches!(name, "" | "." | "..")).then_some(name)
}

/// The directory for what comes from one of several targets.
fn target_directory(destination: &Path, target: &str) -> Result<PathBuf, Failure> {
    let name = target.trim_start_matches('/').replace('/', "_");
    let directory = destination.join(if matches!(name.as_str(), "" | "." | "..") { "_" } else { &name });
    fs::create_dir_all(&directory).map_err(|error| host::failure(&directory, error))?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_cp() {
        assert_eq!(below(Path::new("a/b"), "/tmp/").unwrap(), "/tmp/b");
        assert_eq!(below(Path::new("a/b/"), "/").unwrap(), "/b");
        assert_eq!(below(Path::new("a/b/."), "/srv").unwrap(), "/srv");
        assert_eq!(name_of("/etc/hosts"), Some("hosts"));
        assert_eq!(name_of("/etc/"), Some("etc"));
        assert_eq!((name_of("/"), name_of("/etc/.")), (None, None));
    }
}
