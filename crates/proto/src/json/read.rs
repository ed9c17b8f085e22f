//! The reader: one whole message in, a borrowed tree out.
//!
//! The framer has found the message well-formed already; what is left to complain about are escapes, UTF-8 and
//! duplicate keys. All the same nothing is taken for granted here: any bytes may be given to [`read`].

mod keys;

use std::borrow::Cow;

use self::keys::Keys;
use super::{MAX_DEPTH, Node};
use crate::error::{Error, Result};
use crate::frame::Document;
use crate::frame::lexis::{self, Number, Step};

/// From this many members on, duplicates are looked for with a hash table.
const MANY_MEMBERS: usize = 16;

/// What the first element of a vector makes room for anyway.
const FEW: usize = 4;

/// Reads a document that is one JSON value with nothing but white space around it. Does not recurse.
///
/// # Errors
/// `GenericError` `JSON parse error, …` for anything else, and `JSON nesting depth limit exceeded`.
pub fn read(doc: &[u8]) -> Result<Node<'_>> {
    read_from(Reader { doc, pos: 0, plain: None })
}

/// The same of a document of the framer's. What that has seen already is not looked at again, which is a fifth of the
/// agent's time for a large write.
///
/// # Errors
/// As [`read`].
pub fn read_document(document: &Document) -> Result<Node<'_>> {
    let doc = document.as_bytes();
    let plain = if document.is_plain() { std::str::from_utf8(doc).ok() } else { None };
    read_from(Reader { doc, pos: 0, plain })
}

fn read_from(mut reader: Reader<'_>) -> Result<Node<'_>> {
    let mut open: Vec<Open<'_>> = Vec::with_capacity(FEW);
    let mut token = reader.token()?;
    loop {
        // A value begins with this token.
        let mut value = match token {
            Token::Str(text) => Node::Str(text),
            Token::Number(text) => Node::Number(text),
            Token::Keyword(word) => keyword(word)?,
            Token::Mark(mark @ (b'[' | b'{')) => {
                if open.len() >= MAX_DEPTH {
                    return Err(Error::generic(lexis::TOO_DEEP));
                }
                token = reader.token()?;
                match (mark, &token) {
                    (b'[', Token::Mark(b']')) => Node::List(Vec::new()),
                    (b'[', _) => {
                        open.push(Open::List(Vec::with_capacity(FEW)));
                        continue;
                    }
                    (_, Token::Mark(b'}')) => Node::Dict(Vec::new()),
                    _ => {
                        let key = reader.key(token)?;
                        open.push(Open::Dict { members: Vec::with_capacity(FEW), key, seen: None });
                        token = reader.token()?;
                        continue;
                    }
                }
            }
            _ => return Err(Error::parse(lexis::NO_VALUE)),
        };
        // It is complete: put it where it belongs, and close what it completes.
        loop {
            let Some(container) = open.last_mut() else {
                return match reader.token()? {
                    Token::End => Ok(value),
                    _ => Err(Error::parse(lexis::NO_VALUE)),
                };
            };
            container.put(value)?;
            match (reader.token()?, container) {
                (Token::Mark(b','), Open::List(_)) => {
                    token = reader.token()?;
                    break;
                }
                (Token::Mark(b','), Open::Dict { key, .. }) => {
                    let next = reader.token()?;
                    *key = reader.key(next)?;
                    token = reader.token()?;
                    break;
                }
                (Token::Mark(b']'), Open::List(items)) => value = Node::List(std::mem::take(items)),
                (Token::Mark(b'}'), Open::Dict { members, .. }) => value = Node::Dict(std::mem::take(members)),
                (_, Open::List(_)) => return Err(Error::parse(lexis::NO_LIST_END)),
                (_, Open::Dict { .. }) => return Err(Error::parse(lexis::NO_DICT_END)),
            }
            open.pop();
        }
    }
}

/// An array or object that is not complete.
enum Open<'a> {
    List(Vec<Node<'a>>),
    Dict { members: Vec<(Cow<'a, str>, Node<'a>)>, key: Cow<'a, str>, seen: Option<Keys> },
}

impl<'a> Open<'a> {
    fn put(&mut self, value: Node<'a>) -> Result<()> {
        match self {
            Open::List(items) => items.push(value),
            Open::Dict { members, key, seen } => {
                let key = std::mem::take(key);
                let duplicate = match seen {
                    Some(seen) => !seen.insert(&key, members),
                    None => members.iter().any(|(other, _)| *other == key),
                };
                if duplicate {
                    return Err(Error::parse("duplicate key"));
                }
                members.push((key, value));
                if seen.is_none() && members.len() >= MANY_MEMBERS {
                    *seen = Some(Keys::new(members));
                }
            }
        }
        Ok(())
    }
}

enum Token<'a> {
    End,
    Mark(u8),
    Str(Cow<'a, str>),
    Number(&'a str),
    Keyword(&'a [u8]),
}

fn keyword<'a>(word: &[u8]) -> Result<Node<'a>> {
    match word {
        b"null" => Ok(Node::Null),
        b"true" => Ok(Node::Bool(true)),
        b"false" => Ok(Node::Bool(false)),
        _ => Err(lexis::invalid_keyword(word)),
    }
}

struct Reader<'a> {
    doc: &'a [u8],
    pos: usize,
    /// The document, if its strings are printable ASCII without escapes: they end at the next quote.
    plain: Option<&'a str>,
}

impl<'a> Reader<'a> {
    fn token(&mut self) -> Result<Token<'a>> {
        let rest = self.doc.get(self.pos..).unwrap_or_default();
        let blank = rest.iter().position(|&b| !lexis::is_blank(b)).unwrap_or(rest.len());
        self.pos += blank;
        let rest = &rest[blank..];
        let Some(&first) = rest.first() else { return Ok(Token::End) };
        match first {
            b'{' | b'}' | b'[' | b']' | b':' | b',' => {
                self.pos += 1;
                Ok(Token::Mark(first))
            }
            b'"' | b'\'' => self.string(&rest[1..], first).map(Token::Str),
            b'a'..=b'z' => {
                let len = rest.iter().position(|b| !b.is_ascii_lowercase()).unwrap_or(rest.len());
                self.pos += len;
                Ok(Token::Keyword(&rest[..len]))
            }
            _ => self.number(rest),
        }
    }

    /// The key that `token` is, and the colon behind it.
    fn key(&mut self, token: Token<'a>) -> Result<Cow<'a, str>> {
        let Token::Str(key) = token else { return Err(Error::parse(lexis::NO_KEY)) };
        match self.token()? {
            Token::Mark(b':') => Ok(key),
            _ => Err(Error::parse(lexis::NO_COLON)),
        }
    }

    fn number(&mut self, rest: &'a [u8]) -> Result<Token<'a>> {
        let Some(mut state) = Number::start(rest[0]) else { return Err(lexis::stray(&rest[..1])) };
        let mut len = 1;
        // What ends a document ends a number as white space does.
        loop {
            match state.step(rest.get(len).copied().unwrap_or(b' ')) {
                Step::Next(next) => state = next,
                Step::End => break,
                Step::Bad => return Err(lexis::stray(&rest[..rest.len().min(len + 1)])),
            }
            len += 1;
        }
        self.pos += len;
        // Digits, signs, dots and exponents only.
        Ok(Token::Number(std::str::from_utf8(&rest[..len]).unwrap_or("0")))
    }

    /// A string whose opening quote has been seen; `rest` is what follows it.
    fn string(&mut self, rest: &'a [u8], quote: u8) -> Result<Cow<'a, str>> {
        if let Some((doc, len)) = self.plain.zip(memchr::memchr(quote, rest)) {
            let begin = self.pos + 1;
            if let Some(text) = doc.get(begin..begin + len) {
                self.pos = begin + len + 1;
                return Ok(Cow::Borrowed(text));
            }
        }
        let mut len = 0;
        let mut escapes = false;
        let mut all_ascii = true;
        loop {
            let (run, ascii) = lexis::plain_run(&rest[len..], quote);
            len += run;
            all_ascii &= ascii;
            match rest.get(len) {
                None => return Err(Error::parse("premature end of string")),
                Some(&b) if b == quote => break,
                Some(b'\\') if rest.get(len + 1).is_some_and(|&b| lexis::in_string(b)) => {
                    escapes = true;
                    len += 2;
                }
                Some(&b) => {
                    return Err(lexis::stray(&[rest.get(len + 1).copied().filter(|_| b == b'\\').unwrap_or(b)]));
                }
            }
        }
        self.pos += len + 2;
        if escapes { unescape(rest, len).map(Cow::Owned) } else { decode_utf8(&rest[..len], all_ascii) }
    }
}

/// Decodes the first `len` bytes of `rest`; behind them stands the closing quote.
fn unescape(rest: &[u8], len: usize) -> Result<String> {
    let text = &rest[..len];
    let mut out = String::with_capacity(len);
    let mut pos = 0;
    while let Some(run) = memchr::memchr(b'\\', &text[pos..]) {
        out.push_str(&decode_utf8(&text[pos..pos + run], false)?);
        pos += run;
        let (c, used) = escape(&rest[pos..=len], text.get(pos + 1).copied())?;
        out.push(c);
        pos += used;
    }
    out.push_str(&decode_utf8(&text[pos..], false)?);
    Ok(out)
}

/// The character that the escape at the front of `rest` stands for, and its length. The closing quote is the last
/// byte of `rest`, since complaints show it.
fn escape(rest: &[u8], kind: Option<u8>) -> Result<(char, usize)> {
    let c = match kind {
        Some(c @ (b'"' | b'\'' | b'\\' | b'/')) => char::from(c),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(rest),
        _ => return Err(Error::parse("invalid escape sequence in string")),
    };
    Ok((c, 2))
}

fn unicode_escape(rest: &[u8]) -> Result<(char, usize)> {
    let first = hex4(rest, 0);
    let second = match first {
        Some(0xd800..=0xdbff) => hex4(rest, 6).filter(|unit| (0xdc00..=0xdfff).contains(unit)),
        _ => None,
    };
    let (code, used) = match (first, second) {
        (Some(high), Some(low)) => (Some(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)), 12),
        _ => (first, 6),
    };
    match code.and_then(char::from_u32).filter(|&c| !is_noncharacter(c)) {
        Some(c) => Ok((c, used)),
        None => {
            let sent = String::from_utf8_lossy(&rest[..rest.len().min(used)]);
            Err(Error::parse(&format!("{sent} is not a valid Unicode character")))
        }
    }
}

/// The number in the `\uXXXX` that begins at `at`.
fn hex4(rest: &[u8], at: usize) -> Option<u32> {
    let digits = rest.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))
}

/// Code points that Unicode keeps for internal use, and the dialect refuses.
fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

/// UTF-8 in which a NUL character may be written C0 80; `ascii` if it is known to be nothing more than that.
fn decode_utf8(bytes: &[u8], ascii: bool) -> Result<Cow<'_, str>> {
    let invalid = || Error::parse("invalid UTF-8 sequence in string");
    match std::str::from_utf8(bytes) {
        Ok(text) if ascii || text.is_ascii() || !text.chars().any(is_noncharacter) => Ok(Cow::Borrowed(text)),
        Ok(_) => Err(invalid()),
        Err(_) => {
            // C0 occurs in no valid sequence, so the pieces between are whole.
            let mut out = String::with_capacity(bytes.len());
            let mut pos = 0;
            while let Some(len) = memchr::memmem::find(&bytes[pos..], b"\xc0\x80") {
                out.push_str(std::str::from_utf8(&bytes[pos..pos + len]).map_err(|_| invalid())?);
                out.push('\0');
                pos += len + 2;
            }
            out.push_str(std::str::from_utf8(&bytes[pos..]).map_err(|_| invalid())?);
            if out.chars().any(is_noncharacter) { Err(invalid()) } else { Ok(Cow::Owned(out)) }
        }
    }
}

#[cfg(test)]
mod tests;
