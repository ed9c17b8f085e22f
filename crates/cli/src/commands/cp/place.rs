//! The two sides of a copy, as they are written on the command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Where something is, or should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In the guest; an absolute path.
    Guest(String),
    /// On this host.
    Host(PathBuf),
    /// Standard input or output.
    Standard,
}

/// What is copied where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// Into the guest.
    Into { sources: Vec<PathBuf>, destination: String },
    /// Standard input into a file of the guest.
    IntoFromStandard { destination: String },
    /// Out of the guest.
    OutOf { sources: Vec<String>, destination: PathBuf },
    /// A file of the guest to standard output.
    OutOfToStandard { source: String },
}

impl Place {
    /// `:PATH` is in the guest, `-` is standard input or output, everything else is on this host.
    fn parse(text: &OsStr) -> Result<Self, Failure> {
        let Some(path) = text.as_bytes().strip_prefix(b":") else {
            return Ok(if text == "-" { Place::Standard } else { Place::Host(text.into()) });
        };
        let path = std::str::from_utf8(path).map_err(|_| {
            Failure::Usage(format!("{}: the protocol carries names in UTF-8 only", Path::new(text).display()))
        })?;
        if !path.starts_with('/') {
            return Err(Failure::Usage(format!("{}: a path in the guest starts with :/", Path::new(text).display())));
        }
        Ok(Place::Guest(path.to_owned()))
    }
}

impl Plan {
    /// Understands what stands on the command line, the destination last.
    pub(super) fn new(paths: &[OsString]) -> Result<Self, Failure> {
        let mut places = paths.iter().map(|path| Place::parse(path)).collect::<Result<Vec<Place>, Failure>>()?;
        let destination = places.pop().ok_or_else(|| Failure::Usage("the destination is missing".into()))?;
        match destination {
            Place::Guest(destination) if places == [Place::Standard] => Ok(Plan::IntoFromStandard { destination }),
            Place::Guest(destination) => {
                let sources = places.into_iter().map(|place| match place {
                    Place::Host(path) => Ok(path),
                    Place::Standard => Err(Failure::Usage("standard input cannot be copied with other files".into())),
                    Place::Guest(_) => {
                        Err(Failure::Usage("both sides are in the guest; 'qga exec -- cp' copies inside of it".into()))
                    }
                });
                Ok(Plan::Into { sources: sources.collect::<Result<_, _>>()?, destination })
            }
            Place::Host(destination) => Ok(Plan::OutOf { sources: guests(places)?, destination }),
            Place::Standard => match <[String; 1]>::try_from(guests(places)?) {
                Ok([source]) => Ok(Plan::OutOfToStandard { source }),
                Err(_) => Err(Failure::Usage("only one file can go to standard output".into())),
            },
        }
    }
}

/// Paths that must all be in the guest.
fn guests(places: Vec<Place>) -> Result<Vec<String>, Failure> {
    let paths = places.into_iter().map(|place| match place {
        Place::Guest(path) => Ok(path),
        Place::Host(_) | Place::Standard => {
            Err(Failure::Usage("one side must be in the guest: write :/PATH for a path there".into()))
        }
    });
    paths.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(paths: &[&str]) -> Result<Plan, String> {
        let paths: Vec<OsString> = paths.iter().map(OsString::from).collect();
        Plan::new(&paths).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_leading_colon_is_the_guest() {
        let into = Plan::Into { sources: vec!["a".into(), "./:b".into()], destination: "/tmp/".into() };
        assert_eq!(plan(&["a", "./:b", ":/tmp/"]), Ok(into));
        let out = Plan::OutOf { sources: vec!["/etc/hosts".into()], destination: ".".into() };
        assert_eq!(plan(&[":/etc/hosts", "."]), Ok(out));
        assert_eq!(plan(&["-", ":/x"]), Ok(Plan::IntoFromStandard { destination: "/x".into() }));
        assert_eq!(plan(&[":/x", "-"]), Ok(Plan::OutOfToStandard { source: "/x".into() }));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (paths, complaint) in [
            (&["a", "b"][..], "one side must be in the guest"),
            (&[":/a", ":/b"], "both sides are in the guest"),
            (&[":a", "b"], "starts with :/"),
            (&[":", "b"], "starts with :/"),
            (&["-", "a", ":/b"], "standard input"),
            (&[":/a", ":/b", "-"], "only one file"),
            (&["a", ":/b", "c"], "one side must be in the guest"),
        ] {
            let error = plan(paths).unwrap_err();
            assert!(error.contains(complaint), "{paths:?}: {error}");
        }
        let odd = OsStr::from_bytes(b":/\xff").to_owned();
        assert!(Plan::new(&[odd, "b".into()]).unwrap_err().to_string().contains("UTF-8"));
    }
}
