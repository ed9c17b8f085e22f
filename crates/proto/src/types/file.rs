//! `guest-file-open`, `-close`, `-read`, `-write`, `-seek`, `-flush`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::base64::Base64Bytes;
use crate::command::{Command, Empty};

/// Most bytes one `guest-file-read` may be asked for: 48 MiB, the C agent's limit.
pub const READ_MAX: i64 = 48 << 20;

/// Bytes a `guest-file-read` without `count` returns at most.
pub const READ_DEFAULT: i64 = 4096;

/// Opens a file in the guest and returns a handle.
#[derive(Debug)]
pub struct GuestFileOpen;

impl Command for GuestFileOpen {
    const NAME: &'static str = "guest-file-open";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = FileOpenArgs<'a>;
    type Ret = i64;
}

/// Arguments of `guest-file-open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOpenArgs<'a> {
    /// Path of the file.
    #[serde(borrow)]
    pub path: Cow<'a, str>,
    /// Mode as for `fopen`: `r` (the default), `w`, `a`, each with `+` and `b` if wanted.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Cow<'a, str>>,
}

/// Arguments of the commands that take a handle alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHandleArgs {
    /// A handle from `guest-file-open`.
    pub handle: i64,
}

/// Writes out what is buffered, closes the file and forgets the handle.
#[derive(Debug)]
pub struct GuestFileClose;

impl Command for GuestFileClose {
    const NAME: &'static str = "guest-file-close";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = FileHandleArgs;
    type Ret = Empty;
}

/// Writes what is buffered to the kernel.
#[derive(Debug)]
pub struct GuestFileFlush;

impl Command for GuestFileFlush {
    const NAME: &'static str = "guest-file-flush";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = FileHandleArgs;
    type Ret = Empty;
}

/// Reads from a file.
#[derive(Debug)]
pub struct GuestFileRead;

impl Command for GuestFileRead {
    const NAME: &'static str = "guest-file-read";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = FileReadArgs;
    type Ret = FileReadRet;
}

/// Arguments of `guest-file-read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReadArgs {
    /// A handle from `guest-file-open`.
    pub handle: i64,
    /// Bytes to read at most: 0 to [`READ_MAX`], [`READ_DEFAULT`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
}

/// What `guest-file-read` returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReadRet {
    /// Bytes read.
    pub count: i64,
    /// The bytes, in base64 on the wire.
    #[serde(rename = "buf-b64")]
    pub buf: Base64Bytes,
    /// Whether the end of the file was met.
    pub eof: bool,
}

/// Writes to a file.
#[derive(Debug)]
pub struct GuestFileWrite;

impl Command for GuestFileWrite {
    const NAME: &'static str = "guest-file-write";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = FileWriteArgs<'a>;
    type Ret = FileWriteRet;
}

/// Arguments of `guest-file-write`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileWriteArgs<'a> {
    /// A handle from `guest-file-open`.
    pub handle: i64,
    /// The bytes in base64; newlines in it are passed over. Kept as text: it is decoded in pieces as it is written.
    #[serde(borrow, rename = "buf-b64")]
    pub buf_b64: Cow<'a, str>,
    /// Bytes to write, all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
}

/// What `guest-file-write` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileWriteRet {
    /// Bytes written.
    pub count: i64,
    /// Never true in practice; kept for clients that look at it.
    pub eof: bool,
}

/// Moves the position of a file.
#[derive(Debug)]
pub struct GuestFileSeek;

impl Command for GuestFileSeek {
    const NAME: &'static str = "guest-file-seek";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = FileSeekArgs;
    type Ret = FileSeekRet;
}

/// Arguments of `guest-file-seek`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSeekArgs {
    /// A handle from `guest-file-open`.
    pub handle: i64,
    /// Bytes to move by, may be negative.
    pub offset: i64,
    /// From where.
    pub whence: Whence,
}

/// The QAPI alternate `GuestFileWhence`: a name or a number. Numbers other than 0, 1 and 2 are bound too; the
/// command refuses them itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// `set` or 0: from the start.
    Set,
    /// `cur` or 1: from the present position.
    Cur,
    /// `end` or 2: from the end.
    End,
    /// Any other number.
    Unknown(i64),
}

impl Serialize for Whence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Whence::Set => serializer.serialize_str("set"),
            Whence::Cur => serializer.serialize_str("cur"),
            Whence::End => serializer.serialize_str("end"),
            Whence::Unknown(code) => serializer.serialize_i64(*code),
        }
    }
}

impl<'de> Deserialize<'de> for Whence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WhenceVisitor;

        impl Visitor<'_> for WhenceVisitor {
            type Value = Whence;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("GuestFileWhence")
            }

            fn visit_i64<E: de::Error>(self, code: i64) -> Result<Whence, E> {
                Ok(match code {
                    0 => Whence::Set,
                    1 => Whence::Cur,
                    2 => Whence::End,
                    other => Whence::Unknown(other),
                })
            }

            fn visit_u64<E: de::Error>(self, code: u64) -> Result<Whence, E> {
                i64::try_from(code)
                    .map_err(|_| E::invalid_type(de::Unexpected::Unsigned(code), &"integer"))
                    .and_then(|code| self.visit_i64(code))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whence, E> {
                Err(E::invalid_type(de::Unexpected::Float(number), &"integer"))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Whence, E> {
                match name {
                    "set" => Ok(Whence::Set),
                    "cur" => Ok(Whence::Cur),
                    "end" => Ok(Whence::End),
                    other => Err(E::unknown_variant(other, &["set", "cur", "end"])),
                }
            }
        }

        deserializer.deserialize_any(WhenceVisitor)
    }
}

/// What `guest-file-seek` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSeekRet {
    /// The new position, from the start of the file.
    pub position: i64,
    /// Never true in practice; kept for clients that look at it.
    pub eof: bool,
}
