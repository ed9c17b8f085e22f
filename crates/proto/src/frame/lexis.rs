//! What tokens are made of: shared by the framer, which sees a token piece by piece, and the reader.

use crate::error::Error;
use crate::lanes;

/// Complaints about grammar, as QEMU 11.1 words them.
pub(crate) const NO_VALUE: &str = "expecting value";
/// A key must be a string.
pub(crate) const NO_KEY: &str = "expecting key";
/// Between a key and its value.
pub(crate) const NO_COLON: &str = "expecting ':'";
/// Behind a member.
pub(crate) const NO_DICT_END: &str = "expected ',' or '}'";
/// Behind an element.
pub(crate) const NO_LIST_END: &str = "expected ',' or ']'";
/// More open brackets than allowed; not a parse error, so without that prefix.
pub(crate) const TOO_DEEP: &str = "JSON nesting depth limit exceeded";
/// More tokens in a message than allowed.
pub(crate) const TOO_MANY: &str = "JSON token count limit exceeded";
/// More bytes in a message than allowed.
pub(crate) const TOO_BIG: &str = "JSON token size limit exceeded";

/// White space between tokens.
pub(crate) fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

/// Bytes that may stand in a string, also behind a backslash.
pub(crate) fn in_string(b: u8) -> bool {
    (0x20..0xfe).contains(&b)
}

/// Whether the skipping that follows a lexical error stops before this byte.
pub(crate) fn ends_skip(b: u8) -> bool {
    matches!(b, b'{' | b'}' | b'[' | b']' | b':' | b',' | 0xfe | 0xff) || (b < 0x20 && b != b'\t')
}

/// Bytes that were never meant as part of a message: a host that sends one wants to be understood from here on.
pub(crate) fn is_break(b: u8) -> bool {
    b == 0xfe || (b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r'))
}

/// What a byte ends in a string: one in double quotes (1), one in single quotes (2), or what does not mean itself in either (4).
const ENDS: [u8; 256] = {
    let mut ends = [0; 256];
    let mut byte = 0;
    while byte < ends.len() {
        ends[byte] = match byte as u8 {
            b'"' => 1,
            b'\'' => 2,
            b'\\' | ..0x20 | 0xfe.. => 4,
            _ => 0,
        };
        byte += 1;
    }
    ends
};

/// How many bytes at the front belong to a string and mean themselves: no quote of this kind, no backslash. And
/// whether all of them are ASCII.
///
/// Most strings are short: the table saves a tenth of the instructions for a small message.
pub(crate) fn plain_run(bytes: &[u8], quote: u8) -> (usize, bool) {
    let stop = 4 | ENDS[usize::from(quote)];
    let mut rest = bytes;
    let mut bits = 0;
    loop {
        while let Some((block, tail)) = rest.split_first_chunk::<{ lanes::BLOCK }>() {
            if !lanes::is_plain(block, [quote, b'\\']) {
                break;
            }
            rest = tail;
        }
        // The end, something special, or no ASCII.
        let (block, tail) = rest.split_at(rest.len().min(lanes::BLOCK));
        for (at, &byte) in block.iter().enumerate() {
            if ENDS[usize::from(byte)] & stop != 0 {
                return (bytes.len() - rest.len() + at, bits < 0x80);
            }
            bits |= byte;
        }
        if tail.is_empty() {
            return (bytes.len(), bits < 0x80);
        }
        rest = tail;
    }
}

/// The error for bytes that fit no token. Shown up to the first NUL; what is no UTF-8 as U+FFFD.
pub(crate) fn stray(bytes: &[u8]) -> Error {
    Error::parse(&format!("stray '{}'", shown(bytes)))
}

/// The error for a word other than `null`, `true` and `false`.
pub(crate) fn invalid_keyword(word: &[u8]) -> Error {
    Error::parse(&format!("invalid keyword '{}'", shown(word)))
}

fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    // The whole text will be cut at 1,023 bytes anyway.
    String::from_utf8_lossy(&bytes[..end.min(1024)])
}

/// How far a number has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// `-`
    Minus,
    /// `0` or `-0`: no digit may follow, nor an exponent.
    Zero,
    /// Digits.
    Integer,
    /// Digits and a dot.
    Dot,
    /// Digits, a dot, digits.
    Fraction,
    /// Something and `e`.
    E,
    /// Something, `e` and a sign.
    ESign,
    /// Something, `e`, perhaps a sign, and digits.
    Exponent,
}

/// What a byte does to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It belongs to it.
    Next(Number),
    /// The number was complete before it.
    End,
    /// It fits no token.
    Bad,
}

impl Number {
    /// The state after a first byte, if a number may begin with it.
    pub(crate) fn start(b: u8) -> Option<Number> {
        match b {
            b'-' => Some(Number::Minus),
            b'0' => Some(Number::Zero),
            b'1'..=b'9' => Some(Number::Integer),
            _ => None,
        }
    }

    pub(crate) fn step(self, b: u8) -> Step {
        use Number::*;
        match (self, b) {
            (Minus, b'0') => Step::Next(Zero),
            (Minus, b'1'..=b'9') => Step::Next(Integer),
            (Integer, b'0'..=b'9') => Step::Next(Integer),
            (Zero | Integer, b'.') => Step::Next(Dot),
            (Dot | Fraction, b'0'..=b'9') => Step::Next(Fraction),
            (Integer | Fraction, b'e' | b'E') => Step::Next(E),
            (E, b'+' | b'-') => Step::Next(ESign),
            (E | ESign | Exponent, b'0'..=b'9') => Step::Next(Exponent),
            (Zero, b'0'..=b'9') | (Minus | Dot | E | ESign, _) => Step::Bad,
            (Zero | Integer | Fraction | Exponent, _) => Step::End,
        }
    }
}
