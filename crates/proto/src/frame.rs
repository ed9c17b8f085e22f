//! The framer: cuts a stream of bytes into messages.
//!
//! A message is one JSON value; it ends with the byte that completes it, and newlines mean nothing. The framer
//! follows lexis and grammar as the bytes come, so that every fault is reported at the byte or token that shows it,
//! and never looks at a byte twice. Contents of strings, values of numbers and duplicate keys are the reader's.
//!
//! # When a message is broken
//!
//! It is reported once. Then its rest is thrown away without a word until
//! - as many brackets have been closed as were open (two counters, as in the C agent), or more; or
//! - a line begins with `{`: hosts send one request a line, so this is a new one; or
//! - a byte 0xFF comes, which always means "forget everything".
//!
//! Other control characters and 0xFE, and, after a fault of grammar, any byte that fits no token, also end the
//! message; the next `{` is a new one.

use std::fmt;
use std::mem;

use crate::error::Error;

mod grammar;
pub(crate) mod lexis;
#[cfg(test)]
mod tests;

use grammar::{Balance, Grammar, Token};
use lexis::{Number, Step};

/// A message of at least this size takes the buffer over instead of being copied.
const TAKE_OVER: usize = 256 << 10;

/// An empty buffer of more than this is given back.
const KEEP: usize = 1 << 20;

/// What a message may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open brackets.
    pub depth: usize,
    /// Tokens.
    pub tokens: usize,
    /// Bytes of all its tokens together must stay below this. White space, which the C agent does not limit, may be
    /// twice as much.
    pub bytes: usize,
}

impl Default for Limits {
    /// The C agent's: 1,024 levels, 2,097,152 tokens, 67,108,863 bytes.
    fn default() -> Self {
        Limits { depth: 1024, tokens: 2 << 20, bytes: 64 << 20 }
    }
}

/// What was found in the stream.
#[derive(Debug)]
pub enum Frame {
    /// A complete message, well-formed but for what only the reader sees.
    Document(Document),
    /// A byte 0xFF: the host starts anew. What had begun is dropped.
    Resync,
    /// A message that is no JSON, or beyond a limit: to be answered with this error. Comes once for each.
    Broken(Error),
}

/// The bytes of a message.
pub struct Document {
    bytes: Vec<u8>,
    start: usize,
}

impl Document {
    /// The message, from its first byte to its last.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the contents: there may be a password in them.
        f.debug_struct("Document").field("len", &self.as_bytes().len()).finish_non_exhaustive()
    }
}

/// The token that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lex {
    Between,
    String {
        quote: u8,
        escaped: bool,
    },
    Keyword,
    Number(Number),
    /// After a lexical error: to the next byte that could matter.
    Skip,
}

/// What kind of fault began the recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A byte that fits no token: more of the kind are likely, and belong to the same message.
    Lexical,
    /// A token in the wrong place, or a limit.
    Grammar,
}

/// How tokens are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Normal,
    /// Reported; waiting for the end of the message.
    Recover {
        balance: Balance,
        cause: Cause,
        line_start: bool,
    },
    /// Reported, and its end is out of sight: waiting for `{` or a new line.
    Quiet,
}

/// Cuts a byte stream into messages; see the [module](self). One for each conversation.
pub struct Framer {
    limits: Limits,
    /// Input is `start..end`; beyond `end` there is room that has been used before.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Everything before this has been looked at.
    pos: usize,
    lex: Lex,
    mode: Mode,
    grammar: Grammar,
    /// First byte of the token, counted from `start`. Only in normal mode.
    token: usize,
    /// Tokens, their bytes, and white space of the message so far.
    tokens: usize,
    size: usize,
    blank: usize,
}

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framer").field("pending", &self.pending()).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Framer {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Framer {
            limits,
            buf: Vec::new(),
            start: 0,
            end: 0,
            pos: 0,
            lex: Lex::Between,
            mode: Mode::Normal,
            grammar: Grammar::new(),
            token: 0,
            tokens: 0,
            size: 0,
            blank: 0,
        }
    }

    /// Adds input.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Some(room) = self.space(bytes.len()).get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.filled(bytes.len());
        }
    }

    /// Room for at least `min` bytes of input, to be read into directly; then say how much came with
    /// [`filled`](Self::filled).
    pub fn space(&mut self, min: usize) -> &mut [u8] {
        if self.start > 0 && self.start >= self.end - self.start {
            self.buf.copy_within(self.start..self.end, 0);
            self.pos -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        if self.buf.len() < self.end + min {
            self.buf.resize(self.end + min, 0);
        }
        &mut self.buf[self.end..]
    }

    /// Says that `n` bytes were put into the room given by [`space`](Self::space).
    pub fn filled(&mut self, n: usize) {
        self.end = self.buf.len().min(self.end + n);
    }

    /// The next thing in the input; `None` when more of it is needed.
    #[expect(clippy::should_implement_trait, reason = "None is no end: there may be more after the next push")]
    pub fn next(&mut self) -> Option<Frame> {
        while self.pos < self.end {
            let frame = self.advance();
            self.forget();
            if frame.is_some() {
                return frame;
            }
        }
        self.forget();
        None
    }

    /// The host is gone: drops what it left unfinished.
    pub fn reset(&mut self) {
        self.pos = self.end;
        self.lex = Lex::Between;
        self.begin();
        self.forget();
    }

    /// Bytes held: input that has not been looked at, and the beginning of a message.
    pub fn pending(&self) -> usize {
        self.end - self.start
    }

    /// Drops what will not be needed: only a message that may still become good is kept.
    fn forget(&mut self) {
        let between = matches!(self.lex, Lex::Between | Lex::Skip) && self.grammar.depth() == 0;
        if self.mode != Mode::Normal || between {
            self.start = self.pos;
        }
        if self.start == self.end {
            (self.start, self.end, self.pos) = (0, 0, 0);
            if self.buf.len() > KEEP {
                self.buf = Vec::new();
            }
        }
    }

    /// Back to the state between two messages.
    fn begin(&mut self) {
        self.mode = Mode::Normal;
        self.grammar.clear();
        self.start = self.pos;
        (self.token, self.tokens, self.size, self.blank) = (0, 0, 0, 0);
    }

    /// Looks at one byte at least.
    fn advance(&mut self) -> Option<Frame> {
        match self.lex {
            Lex::Between => self.between(),
            Lex::String { quote, escaped: false } => self.string(quote),
            Lex::String { quote, escaped: true } => {
                if !lexis::in_string(self.byte()) {
                    return self.lexical_error();
                }
                self.pos += 1;
                self.lex = Lex::String { quote, escaped: false };
                self.check_size()
            }
            Lex::Keyword => {
                let run = self.window().iter().position(|b| !b.is_ascii_lowercase());
                self.pos += run.unwrap_or(self.window().len());
                let error = self.check_size();
                if error.is_some() || run.is_none() { error } else { self.complete(Token::Keyword) }
            }
            Lex::Number(state) => self.number(state),
            Lex::Skip => {
                self.skip();
                None
            }
        }
    }

    fn between(&mut self) -> Option<Frame> {
        let b = self.byte();
        if lexis::is_blank(b) {
            return self.blanks();
        }
        self.begin_line_with(b);
        if self.mode == Mode::Normal {
            if self.grammar.depth() == 0 {
                self.start = self.pos;
            }
            self.token = self.pos - self.start;
        }
        self.lex = match b {
            b'{' | b'}' | b'[' | b']' | b':' | b',' => {
                self.pos += 1;
                return self.complete(Token::Mark(b));
            }
            b'"' | b'\'' => Lex::String { quote: b, escaped: false },
            b'a'..=b'z' => Lex::Keyword,
            _ => match Number::start(b) {
                Some(state) => Lex::Number(state),
                None => return self.lexical_error(),
            },
        };
        self.pos += 1;
        None
    }

    /// A run of white space.
    fn blanks(&mut self) -> Option<Frame> {
        let window = self.window();
        let run = window.iter().position(|&b| !lexis::is_blank(b)).unwrap_or(window.len());
        let newline = memchr::memchr(b'\n', &window[..run]).is_some();
        self.pos += run;
        match &mut self.mode {
            Mode::Normal if self.grammar.depth() > 0 => {
                self.blank += run;
                if self.blank > self.limits.bytes.saturating_mul(2) {
                    return Some(self.limit_error(lexis::TOO_BIG));
                }
            }
            Mode::Recover { line_start, .. } => *line_start |= newline,
            Mode::Quiet if newline => self.begin(),
            _ => {}
        }
        None
    }

    /// The first byte of a token while recovering: a line that begins with `{` is a new message.
    fn begin_line_with(&mut self, b: u8) {
        let anew = match &mut self.mode {
            Mode::Normal => false,
            Mode::Recover { line_start, .. } => mem::take(line_start) && b == b'{',
            Mode::Quiet => b == b'{',
        };
        if anew {
            self.begin();
        }
    }

    fn string(&mut self, quote: u8) -> Option<Frame> {
        self.pos += lexis::plain_run(self.window(), quote);
        if let Some(frame) = self.check_size() {
            return Some(frame);
        }
        match self.buf.get(self.pos).copied().filter(|_| self.pos < self.end) {
            None => None,
            Some(b) if b == quote => {
                self.pos += 1;
                self.complete(Token::String)
            }
            Some(b'\\') => {
                self.pos += 1;
                self.lex = Lex::String { quote, escaped: true };
                None
            }
            Some(_) => self.lexical_error(),
        }
    }

    fn number(&mut self, mut state: Number) -> Option<Frame> {
        while self.pos < self.end {
            match state.step(self.byte()) {
                Step::Next(next) => state = next,
                Step::End => {
                    let error = self.check_size();
                    return if error.is_some() { error } else { self.complete(Token::Number) };
                }
                Step::Bad => return self.lexical_error(),
            }
            self.pos += 1;
        }
        self.lex = Lex::Number(state);
        self.check_size()
    }

    fn skip(&mut self) {
        let window = self.window();
        let run = window.iter().position(|&b| lexis::ends_skip(b)).unwrap_or(window.len());
        let blank = window[..run].iter().all(|&b| lexis::is_blank(b));
        if run < window.len() {
            self.lex = Lex::Between;
        }
        self.pos += run;
        if let Mode::Recover { line_start, .. } = &mut self.mode {
            *line_start &= blank;
        }
    }

    /// The token up to `pos` is complete.
    fn complete(&mut self, token: Token) -> Option<Frame> {
        self.lex = Lex::Between;
        match &mut self.mode {
            Mode::Quiet => return None,
            Mode::Recover { balance, .. } => {
                if let Token::Mark(mark) = token {
                    balance.count(mark);
                }
                if balance.is_over() {
                    self.begin();
                }
                return None;
            }
            Mode::Normal => {}
        }
        let text = self.token_text();
        let (len, opens) = (text.len(), matches!(token, Token::Mark(b'{' | b'[')));
        self.tokens += 1;
        self.size += len;
        let done = if self.size >= self.limits.bytes {
            Err(Error::generic(lexis::TOO_BIG))
        } else if self.tokens > self.limits.tokens {
            Err(Error::generic(lexis::TOO_MANY))
        } else if opens && self.grammar.depth() >= self.limits.depth {
            Err(Error::generic(lexis::TOO_DEEP))
        } else {
            let word = self.buf.get(self.start + self.token..self.pos).unwrap_or_default();
            self.grammar.feed(token, word)
        };
        match done {
            Ok(false) => None,
            Ok(true) => {
                let document = self.take_document();
                self.begin();
                Some(Frame::Document(document))
            }
            Err(error) => {
                let mut balance = self.grammar.balance();
                if let Token::Mark(mark) = token {
                    balance.count(mark);
                }
                self.recover(balance, Cause::Grammar, false);
                Some(Frame::Broken(error))
            }
        }
    }

    /// Nothing more is kept of this message.
    fn recover(&mut self, balance: Balance, cause: Cause, line_start: bool) {
        self.begin();
        if !balance.is_over() {
            self.mode = Mode::Recover { balance, cause, line_start };
        }
    }

    /// A token that is too big is not read to its end first.
    fn check_size(&mut self) -> Option<Frame> {
        let in_token = self.pos - self.start - self.token;
        if self.mode != Mode::Normal || self.size + in_token < self.limits.bytes {
            return None;
        }
        Some(self.limit_error(lexis::TOO_BIG))
    }

    /// Beyond a limit in the middle of a token or between two: whether the message is over is seen at the next one.
    fn limit_error(&mut self, text: &'static str) -> Frame {
        let balance = self.grammar.balance();
        self.begin();
        self.mode = Mode::Recover { balance, cause: Cause::Grammar, line_start: false };
        Frame::Broken(Error::generic(text))
    }

    /// The byte at `pos` fits no token.
    fn lexical_error(&mut self) -> Option<Frame> {
        let b = self.byte();
        let text = match self.lex {
            // Never what is inside a string: it may be secret.
            Lex::String { .. } => self.pos..self.pos + 1,
            _ if self.mode == Mode::Normal => self.start + self.token..self.pos + 1,
            _ => self.pos..self.pos + 1,
        };
        let error =
            (self.mode == Mode::Normal && b != 0xff).then(|| lexis::stray(self.buf.get(text).unwrap_or_default()));
        let balance = self.grammar.balance();
        self.pos += 1;
        self.lex = Lex::Skip;
        if b == 0xff {
            self.begin();
            return Some(Frame::Resync);
        }
        match self.mode {
            Mode::Normal if self.grammar.depth() == 0 => self.begin(),
            Mode::Quiet if b == b'\n' => self.begin(),
            Mode::Quiet => {}
            _ if lexis::is_break(b) => self.go_quiet(),
            Mode::Recover { cause: Cause::Grammar, .. } if b != b'\n' => self.go_quiet(),
            Mode::Normal => self.recover_at(b, balance, Cause::Lexical),
            Mode::Recover { balance, cause, .. } => self.recover_at(b, balance, cause),
        }
        error.map(Frame::Broken)
    }

    /// A bracket that ended a number wrongly still is a bracket.
    fn recover_at(&mut self, b: u8, mut balance: Balance, cause: Cause) {
        balance.count(b);
        self.recover(balance, cause, b == b'\n');
    }

    fn go_quiet(&mut self) {
        self.begin();
        self.mode = Mode::Quiet;
    }

    /// The message is `start..pos`. A large one goes with the buffer it stands in, and the input behind it moves.
    fn take_document(&mut self) -> Document {
        let behind = self.end - self.pos;
        if self.pos - self.start < TAKE_OVER.max(behind) {
            let bytes = self.buf.get(self.start..self.pos).unwrap_or_default().to_vec();
            return Document { bytes, start: 0 };
        }
        let tail = self.buf.get(self.pos..self.end).unwrap_or_default().to_vec();
        let mut bytes = mem::replace(&mut self.buf, tail);
        bytes.truncate(self.pos);
        let document = Document { bytes, start: self.start };
        (self.start, self.pos, self.end) = (0, 0, behind);
        document
    }

    fn byte(&self) -> u8 {
        self.buf.get(self.pos).copied().unwrap_or_default()
    }

    /// Input that has not been looked at.
    fn window(&self) -> &[u8] {
        self.buf.get(self.pos..self.end).unwrap_or_default()
    }

    fn token_text(&self) -> &[u8] {
        self.buf.get(self.start + self.token..self.pos).unwrap_or_default()
    }
}
