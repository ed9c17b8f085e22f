//! `guest-exec`, `guest-exec-status`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::base64::Base64Bytes;
use crate::command::Command;

/// Most bytes that are kept of one captured stream: 16 MiB, the C agent's limit. The rest is read and dropped.
pub const CAPTURE_MAX: usize = 16 << 20;

/// Starts a program in the guest and returns its process id; how it goes is asked for with `guest-exec-status`.
#[derive(Debug)]
pub struct GuestExec;

impl Command for GuestExec {
    const NAME: &'static str = "guest-exec";
    const SINCE: &'static str = "2.5";
    type Args<'a> = ExecArgs<'a>;
    type Ret = ExecRet;
}

/// Arguments of `guest-exec`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecArgs<'a> {
    /// The program; without a slash it is searched for in `PATH`. It is also the program's own name (`argv[0]`).
    #[serde(borrow)]
    pub path: Cow<'a, str>,
    /// What the program is given behind its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arg: Option<Vec<String>>,
    /// The program's whole environment, `NAME=value` each. The agent's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// What the program can read from standard input, in base64. `/dev/null` when absent.
    #[serde(borrow, rename = "input-data", default, skip_serializing_if = "Option::is_none")]
    pub input_data: Option<Cow<'a, str>>,
    /// Which output is kept for `guest-exec-status`; none when absent.
    #[serde(rename = "capture-output", default, skip_serializing_if = "Option::is_none")]
    pub capture_output: Option<CaptureOutput>,
}

impl fmt::Debug for ExecArgs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments, environment and input may hold secrets.
        f.debug_struct("ExecArgs")
            .field("path", &self.path)
            .field("capture_output", &self.capture_output)
            .finish_non_exhaustive()
    }
}

/// The QAPI alternate `GuestExecCaptureOutput`: a boolean or a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CaptureOutput {
    /// `none` or `false`: both streams are `/dev/null`.
    #[default]
    None,
    /// `stdout`: standard output only; standard error is `/dev/null`.
    Stdout,
    /// `stderr`: standard error only; standard output is `/dev/null`.
    Stderr,
    /// `separated` or `true`: both, each for itself.
    Separated,
    /// `merged`: both as one stream, in the order written, given as standard output.
    Merged,
}

const MODES: &[&str] = &["none", "stdout", "stderr", "separated", "merged"];

impl Serialize for CaptureOutput {
    /// The two modes that agents before 8.0 know are written as booleans.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CaptureOutput::None => serializer.serialize_bool(false),
            CaptureOutput::Separated => serializer.serialize_bool(true),
            CaptureOutput::Stdout => serializer.serialize_str("stdout"),
            CaptureOutput::Stderr => serializer.serialize_str("stderr"),
            CaptureOutput::Merged => serializer.serialize_str("merged"),
        }
    }
}

impl<'de> Deserialize<'de> for CaptureOutput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CaptureVisitor;

        impl Visitor<'_> for CaptureVisitor {
            type Value = CaptureOutput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("GuestExecCaptureOutput")
            }

            fn visit_bool<E: de::Error>(self, both: bool) -> Result<CaptureOutput, E> {
                Ok(if both { CaptureOutput::Separated } else { CaptureOutput::None })
            }

            fn visit_str<E: de::Error>(self, mode: &str) -> Result<CaptureOutput, E> {
                match mode {
                    "none" => Ok(CaptureOutput::None),
                    "stdout" => Ok(CaptureOutput::Stdout),
                    "stderr" => Ok(CaptureOutput::Stderr),
                    "separated" => Ok(CaptureOutput::Separated),
                    "merged" => Ok(CaptureOutput::Merged),
                    other => Err(E::unknown_variant(other, MODES)),
                }
            }
        }

        deserializer.deserialize_any(CaptureVisitor)
    }
}

/// What `guest-exec` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRet {
    /// The process id, by which `guest-exec-status` is asked.
    pub pid: i64,
}

/// Tells whether a program that `guest-exec` started has ended, and how, with its output. The answer that says so can
/// be had once: with it, the process is forgotten.
#[derive(Debug)]
pub struct GuestExecStatus;

impl Command for GuestExecStatus {
    const NAME: &'static str = "guest-exec-status";
    const SINCE: &'static str = "2.5";
    type Args<'a> = ExecStatusArgs;
    type Ret = ExecStatusRet;
}

/// Arguments of `guest-exec-status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStatusArgs {
    /// The process id that `guest-exec` returned.
    pub pid: i64,
}

/// What `guest-exec-status` returns. While the program runs there is nothing but `exited`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStatusRet {
    /// Whether the program has ended and its output is complete.
    pub exited: bool,
    /// The exit status, 0 to 255, of a program that ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exitcode: Option<i64>,
    /// The number of the signal that ended it. Never together with `exitcode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i64>,
    /// What was captured as standard output, in base64 on the wire; absent when that is nothing.
    #[serde(rename = "out-data", default, skip_serializing_if = "Option::is_none")]
    pub out_data: Option<Base64Bytes>,
    /// What was captured as standard error, in base64 on the wire; absent when that is nothing.
    #[serde(rename = "err-data", default, skip_serializing_if = "Option::is_none")]
    pub err_data: Option<Base64Bytes>,
    /// Whether there was more standard output than `out-data` has; present when that is.
    #[serde(rename = "out-truncated", default, skip_serializing_if = "Option::is_none")]
    pub out_truncated: Option<bool>,
    /// Whether there was more standard error than `err-data` has; present when that is.
    #[serde(rename = "err-truncated", default, skip_serializing_if = "Option::is_none")]
    pub err_truncated: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bind, json};

    fn bound(text: &str) -> Result<CaptureOutput, String> {
        let text = format!("{{\"path\": \"p\", \"capture-output\": {text}}}");
        let args = bind::from_node::<ExecArgs<'_>>(json::read(text.as_bytes()).unwrap());
        args.map(|args| args.capture_output.unwrap()).map_err(|error| error.desc.into_owned())
    }

    fn written<T: Serialize>(value: &T) -> String {
        let mut out = Vec::new();
        json::write(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_captured_is_a_boolean_or_a_word() {
        for (text, mode) in [
            ("true", CaptureOutput::Separated),
            ("false", CaptureOutput::None),
            ("\"none\"", CaptureOutput::None),
            ("\"stdout\"", CaptureOutput::Stdout),
            ("\"stderr\"", CaptureOutput::Stderr),
            ("\"separated\"", CaptureOutput::Separated),
            ("\"merged\"", CaptureOutput::Merged),
        ] {
            assert_eq!(bound(text), Ok(mode), "{text}");
            assert_eq!(bound(&written(&mode)), Ok(mode), "{text}");
        }
        let type_error = "Invalid parameter type for 'capture-output', expected: GuestExecCaptureOutput";
        for text in ["1", "null", "[]", "{}", "1.5"] {
            assert_eq!(bound(text), Err(type_error.to_owned()), "{text}");
        }
        for word in ["", "all", "Stdout", "true"] {
            let refused = format!("Parameter 'capture-output' does not accept value '{word}'");
            assert_eq!(bound(&format!("\"{word}\"")), Err(refused));
        }
    }

    #[test]
    fn a_status_has_only_the_members_that_say_something() {
        assert_eq!(written(&ExecStatusRet::default()), "{\"exited\": false}");
        let status = ExecStatusRet {
            exited: true,
            exitcode: Some(0),
            out_data: Some(Base64Bytes(b"out\n".to_vec())),
            out_truncated: Some(false),
            ..ExecStatusRet::default()
        };
        let text = "{\"exited\": true, \"exitcode\": 0, \"out-data\": \"b3V0Cg==\", \"out-truncated\": false}";
        assert_eq!(written(&status), text);
        let read = bind::from_node::<ExecStatusRet>(json::read(text.as_bytes()).unwrap());
        assert_eq!(read, Ok(status));
    }

    #[test]
    fn secrets_are_not_shown_for_debugging() {
        let text = "{\"path\": \"login\", \"arg\": [\"geheim\"], \"env\": [\"P=geheim\"], \"input-data\": \"geheim\"}";
        let args = bind::from_node::<ExecArgs<'_>>(json::read(text.as_bytes()).unwrap()).unwrap();
        let shown = format!("{args:?}");
        assert!(shown.contains("login") && !shown.contains("geheim"), "{shown}");
    }
}
