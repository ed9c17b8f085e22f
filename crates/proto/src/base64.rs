//! Base64 as the protocol has it.
//!
//! Newlines may stand anywhere, as clients wrap the text. Missing padding is made good: every whole byte is decoded.
//! Everything else that is not base64 is refused, where the C agent silently loses or invents bytes.
//!
//! Large texts are best decoded with a [`Decoder`] in pieces that stay in the cache; [`check`] tells beforehand
//! whether the whole is good.

use std::fmt;

use ::base64::engine::{DecodePaddingMode, Engine as _, GeneralPurposeConfig, Simd};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};

/// Raw bytes encoded at a time: a multiple of three whose result, which is cleared first, stays in the first-level cache.
const ENCODE_PIECE: usize = 12 << 10;

/// Bytes of a text that are searched for padding, for newlines and for what is no symbol before those behind them. Three
/// searches of 54 MiB one after the other would each bring all of it from memory.
const CHECK_WINDOW: usize = 64 << 10;

/// Symbols that are checked at a time: whole groups.
const CHECK_PIECE: usize = 4 << 10;

/// Bytes that usually follow an encoded text in its line.
const CLOSING: usize = 256;

/// What a byte outside of the alphabet is answered with.
const INVALID: &str = "Base64 data contains invalid characters";
/// One symbol is left over: six bits make no byte.
const INCOMPLETE: &str = "Base64 data is incomplete";
/// `=` where no group is open, or more of it than the group lacks.
const SURPLUS: &str = "Base64 data has padding where none belongs";
/// Symbols behind the padding.
const CONTINUED: &str = "Base64 data goes on after its padding";

/// Bytes that stand as base64 on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base64Bytes(pub Vec<u8>);

impl Serialize for Base64Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&engine().encode(&self.0))
        } else {
            // Our own writer encodes them straight into the reply.
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Base64Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Base64Bytes, E> {
                decode(text).map(Base64Bytes).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// Appends `bytes` to `out` in base64, with padding and without newlines.
pub fn encode_into(out: &mut Vec<u8>, bytes: &[u8]) {
    let engine = engine();
    // With room for what closes a line behind it: the buffer would double for a quote.
    out.reserve(bytes.len().div_ceil(3) * 4 + CLOSING);
    for piece in bytes.chunks(ENCODE_PIECE) {
        let at = out.len();
        out.resize(at + piece.len().div_ceil(3) * 4, 0);
        // The slice has the exact size, so nothing can be in the way.
        let written = engine.encode_slice(piece, &mut out[at..]).unwrap_or(0);
        out.truncate(at + written);
    }
}

/// Decodes a whole text.
///
/// # Errors
/// `GenericError` with one of four texts: invalid characters, incomplete, surplus padding, data after padding.
pub fn decode(text: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![0; check(text)?];
    let mut decoder = Decoder::new(text);
    let mut filled = 0;
    while filled < bytes.len() {
        let count = decoder.next_piece(&mut bytes[filled..])?;
        if count == 0 {
            break;
        }
        filled += count;
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Validates a whole text and returns how many bytes it stands for.
///
/// # Errors
/// As [`decode`]; a character outside of the alphabet anywhere comes first.
pub fn check(text: &str) -> Result<usize> {
    let (mut symbols, mut tail) = (0, text.as_bytes());
    // All that is looked for in a window is looked for while it is in the cache.
    loop {
        let window = &tail[..tail.len().min(CHECK_WINDOW)];
        let end = memchr::memchr(b'=', window);
        let body = end.unwrap_or(window.len());
        symbols += count_symbols(&window[..body])?;
        tail = &tail[body..];
        if end.is_some() || tail.is_empty() {
            break;
        }
    }
    let behind = count_padding(tail)?;
    let whole = finish(symbols % 4, behind)?;
    Ok(symbols / 4 * 3 + whole)
}

/// Decodes a text piece by piece, without a buffer for the whole.
#[derive(Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    /// Symbols of a group that is cut by a newline or the end.
    group: [u8; 4],
    group_len: usize,
    /// Decoded bytes that did not fit.
    held: [u8; 3],
    held_len: usize,
    done: bool,
}

impl fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may be a password.
        f.debug_struct("Decoder").field("left", &self.rest.len()).finish_non_exhaustive()
    }
}

impl<'a> Decoder<'a> {
    /// Starts at the front of `text`.
    pub fn new(text: &'a str) -> Self {
        Decoder { rest: text.as_bytes(), group: [0; 4], group_len: 0, held: [0; 3], held_len: 0, done: false }
    }

    /// Decodes as much as fits into `buf` and returns how many bytes that is; 0 is the end (or an empty `buf`).
    /// 48 to 64 KiB is a good size.
    ///
    /// # Errors
    /// As [`decode`], but only when the fault is reached: pieces before it have been handed out by then.
    pub fn next_piece(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            if self.held_len > 0 {
                let count = self.held_len.min(buf.len() - filled);
                buf[filled..filled + count].copy_from_slice(&self.held[..count]);
                self.held.copy_within(count.., 0);
                self.held_len -= count;
                filled += count;
            } else if self.done {
                break;
            } else if self.group_len == 0 {
                let count = self.whole_groups(&mut buf[filled..])?;
                filled += count;
                if count == 0 {
                    self.next_symbol()?;
                }
            } else {
                self.next_symbol()?;
            }
        }
        Ok(filled)
    }

    /// The fast way: whole groups up to a newline, the padding, the end or the end of `buf`.
    fn whole_groups(&mut self, buf: &mut [u8]) -> Result<usize> {
        let window = self.rest.len().min(buf.len() / 3 * 4);
        let run = memchr::memchr2(b'\n', b'=', &self.rest[..window]).unwrap_or(window) / 4 * 4;
        if run == 0 {
            return Ok(0);
        }
        let (groups, rest) = self.rest.split_at(run);
        let count = engine().decode_slice(groups, &mut buf[..run / 4 * 3]).map_err(|_| Error::generic(INVALID))?;
        self.rest = rest;
        Ok(count)
    }

    /// One symbol of a group that is not in one piece.
    fn next_symbol(&mut self) -> Result<()> {
        let Some((&symbol, rest)) = self.rest.split_first() else {
            return self.end(0);
        };
        match symbol {
            b'=' => return self.end(count_padding(self.rest)?),
            b'\n' => {}
            _ if !is_symbol(symbol) => return Err(Error::generic(INVALID)),
            _ => {
                self.group[self.group_len] = symbol;
                self.group_len += 1;
                if self.group_len == 4 {
                    self.open_group(3)?;
                }
            }
        }
        self.rest = rest;
        Ok(())
    }

    fn end(&mut self, behind: Behind) -> Result<()> {
        let whole = finish(self.group_len, behind)?;
        self.group[self.group_len..].fill(b'A');
        self.done = true;
        self.rest = &[];
        self.open_group(whole)
    }

    fn open_group(&mut self, whole: usize) -> Result<()> {
        engine().decode_slice(self.group, &mut self.held).map_err(|_| Error::generic(INVALID))?;
        self.held_len = whole;
        self.group_len = 0;
        Ok(())
    }
}

/// How many `=` end the text.
type Behind = usize;

/// Bytes in the last group of `open` symbols with `padding` behind it.
fn finish(open: usize, padding: Behind) -> Result<usize> {
    match (open, padding) {
        (1, _) => Err(Error::generic(INCOMPLETE)),
        (0, 0) => Ok(0),
        (2, 0..=2) => Ok(1),
        (3, 0..=1) => Ok(2),
        _ => Err(Error::generic(SURPLUS)),
    }
}

fn is_symbol(b: u8) -> bool {
    ((b | 0x20).wrapping_sub(b'a') < 26) | (b.wrapping_sub(b'0') < 10) | (b == b'+') | (b == b'/')
}

/// Counts symbols; newlines are passed over, anything else is an error.
fn count_symbols(bytes: &[u8]) -> Result<usize> {
    // Decoding them is the fastest way to look at them: the engine has vector instructions by itself.
    let engine = engine();
    let mut scratch = [0; CHECK_PIECE / 4 * 3];
    let mut count = 0;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(memchr::memchr(b'\n', rest).unwrap_or(rest.len()));
        let (groups, open) = line.split_at(line.len() / 4 * 4);
        let mut pieces = groups.chunks(CHECK_PIECE);
        let is_good = pieces.all(|piece| engine.decode_slice(piece, &mut scratch).is_ok());
        if !is_good || !open.iter().all(|&b| is_symbol(b)) {
            return Err(Error::generic(INVALID));
        }
        count += line.len();
        rest = tail.get(1..).unwrap_or_default();
    }
    Ok(count)
}

/// Counts the padding at the end; only newlines may stand between and behind.
fn count_padding(tail: &[u8]) -> Result<Behind> {
    let good = |b: u8| b == b'=' || b == b'\n';
    if let Some(at) = tail.iter().position(|&b| !good(b)) {
        let only_symbols = tail[at..].iter().all(|&b| good(b) || is_symbol(b));
        return Err(Error::generic(if only_symbols { CONTINUED } else { INVALID }));
    }
    Ok(memchr::memchr_iter(b'=', tail).count())
}

/// Padding is judged by us, and bits behind the last whole byte are ignored, as everywhere.
fn engine() -> Simd {
    Simd::standard(
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    )
}

#[cfg(test)]
mod tests;
