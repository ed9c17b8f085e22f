//! The writer: QEMU's output form, straight into the reply buffer.
//!
//! `", "` between members, `": "` after a key, nothing but ASCII. Bytes ([`Serializer::serialize_bytes`]) become a
//! base64 string without a copy in between.

mod members;
mod number;

use std::fmt::{self, Display};

use serde::ser::{self, Serialize, Serializer};

use super::Node;
use crate::base64;
use crate::lanes;
use members::Members;
use number::{write_f64, write_integer};

/// Appends `value` to `out`.
///
/// NaN and the infinities, which JSON cannot express, become `null`; so does a value whose own
/// [`Serialize`] fails, so that the line that is being built stays well-formed.
pub fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    if value.serialize(&mut Writer { out }).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// Appends a parsed value to `out`: numbers as they were sent, members in their order, strings in ASCII.
pub fn write_node(out: &mut Vec<u8>, node: &Node<'_>) {
    match node {
        Node::Null => out.extend_from_slice(b"null"),
        Node::Bool(value) => write_bool(out, *value),
        Node::Number(text) => out.extend_from_slice(text.as_bytes()),
        Node::Str(text) => write_str(out, text),
        Node::List(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                write_node(out, item);
            }
            out.push(b']');
        }
        Node::Dict(members) => {
            out.push(b'{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                write_str(out, key);
                out.extend_from_slice(b": ");
                write_node(out, value);
            }
            out.push(b'}');
        }
    }
}

fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends a quoted string.
pub(crate) fn write_str(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let plain = plain_run(text.as_bytes());
    if plain == text.len() {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_with_escapes(out, text, plain);
    }
    out.push(b'"');
}

/// Appends the inside of a string, of which so many bytes at the front need no escape.
#[cold]
fn write_with_escapes(out: &mut Vec<u8>, text: &str, plain: usize) {
    let (mut rest, mut plain) = (text, plain);
    loop {
        let (before, special) = rest.split_at(plain);
        out.extend_from_slice(before.as_bytes());
        let mut chars = special.chars();
        let Some(c) = chars.next() else { break };
        write_escaped(out, c);
        rest = chars.as_str();
        plain = plain_run(rest.as_bytes());
    }
}

/// The bytes that cannot stand in a string as they are. (Most strings are short:
/// a table saves a third of what comparing takes.)
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < special.len() {
        special[byte] = byte < 0x20 || byte > 0x7e || byte == b'"' as usize || byte == b'\\' as usize;
        byte += 1;
    }
    special
};

/// How many bytes at the front need no escape.
fn plain_run(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        if !lanes::is_plain(word, [b'"', b'\\', 0x7f]) {
            break;
        }
        rest = tail;
    }
    let done = bytes.len() - rest.len();
    done + rest.iter().position(|&byte| SPECIAL[usize::from(byte)]).unwrap_or(rest.len())
}

fn write_escaped(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ => {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            for unit in c.encode_utf16(&mut [0; 2]) {
                let digit = |shift: u32| HEX[usize::from(*unit >> shift & 15)];
                out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
            }
        }
    }
}

/// What a value's own `Serialize` complained about.
#[derive(Debug)]
struct WriteError;

impl Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("value cannot be written as JSON")
    }
}

impl std::error::Error for WriteError {}

impl ser::Error for WriteError {
    fn custom<T: Display>(_: T) -> Self {
        WriteError
    }
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    fn open(&mut self, bracket: u8, close: &'static [u8]) -> Result<Members<'_>, WriteError> {
        self.out.push(bracket);
        Ok(Members::new(self.out, close))
    }

    /// `{"variant": ` and then an open bracket; closed by both brackets.
    fn open_variant(&mut self, variant: &str, bracket: u8, close: &'static [u8]) -> Result<Members<'_>, WriteError> {
        self.out.push(b'{');
        write_str(self.out, variant);
        self.out.extend_from_slice(b": ");
        self.open(bracket, close)
    }
}

impl<'w> Serializer for &'w mut Writer<'_> {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Members<'w>;
    type SerializeTuple = Members<'w>;
    type SerializeTupleStruct = Members<'w>;
    type SerializeTupleVariant = Members<'w>;
    type SerializeMap = Members<'w>;
    type SerializeStruct = Members<'w>;
    type SerializeStructVariant = Members<'w>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), WriteError> {
        write_bool(self.out, value);
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), WriteError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), WriteError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), WriteError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), WriteError> {
        write_integer(self.out, value < 0, value.unsigned_abs());
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), WriteError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), WriteError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), WriteError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), WriteError> {
        write_integer(self.out, false, value);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), WriteError> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), WriteError> {
        write_f64(self.out, value);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), WriteError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), WriteError> {
        write_str(self.out, value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), WriteError> {
        self.out.push(b'"');
        base64::encode_into(self.out, value);
        self.out.push(b'"');
        Ok(())
    }

    fn serialize_none(self) -> Result<(), WriteError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), WriteError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), WriteError> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), WriteError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), WriteError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), WriteError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        let mut members = self.open(b'{', b"}")?;
        members.member(variant, value)?;
        members.finish()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'w>, WriteError> {
        self.open(b'[', b"]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Members<'w>, WriteError> {
        self.open(b'[', b"]")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Members<'w>, WriteError> {
        self.open(b'[', b"]")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'w>, WriteError> {
        self.open_variant(variant, b'[', b"]}")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'w>, WriteError> {
        self.open(b'{', b"}")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'w>, WriteError> {
        self.open(b'{', b"}")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'w>, WriteError> {
        self.open_variant(variant, b'{', b"}}")
    }
}

#[cfg(test)]
mod tests;
