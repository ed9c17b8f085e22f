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
//! - a line begins with `{`: hosts send one request a line, so this is a new one (also when it is this bracket
//!   that shows the message before it to be cut off); or
//! - a byte 0xFF comes, which always means "forget everything".
//!
//! Other control characters and 0xFE, and, after a fault of grammar, any byte that fits no token, also end the
//! message; the next `{` is a new one.

use std::fmt;
use std::mem;

use crate::error::Error;

mod grammar;
mod input;
pub(crate) mod lexis;
#[cfg(test)]
mod tests;

use grammar::{Balance, Grammar, Token};
use input::Input;
use lexis::{Number, Step};

pub use input::Document;

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
    Recover(Balance, Cause),
    /// Reported, and its end is out of sight: waiting for `{` or a new line.
    Quiet,
}

/// Cuts a byte stream into messages; see the [module](self). One for each conversation.
pub struct Framer {
    limits: Limits,
    input: Input,
    lex: Lex,
    mode: Mode,
    grammar: Grammar,
    /// Only white space has come since the last newline.
    line_start: bool,
    /// Where the token begins, counted from the start of the message. Only in normal mode.
    token: usize,
    /// Tokens, their bytes, and white space of the message so far.
    tokens: usize,
    size: usize,
    blank: usize,
    /// All strings of the message so far are printable ASCII without an escape.
    plain: bool,
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
            input: Input::new(),
            lex: Lex::Between,
            mode: Mode::Normal,
            grammar: Grammar::new(),
            line_start: false,
            token: 0,
            tokens: 0,
            size: 0,
            blank: 0,
            plain: true,
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
        self.input.space(min)
    }

    /// Says that `n` bytes were put into the room given by [`space`](Self::space).
    pub fn filled(&mut self, n: usize) {
        self.input.filled(n);
    }

    /// Takes back the memory of a message that has been dealt with, so that the next large one does not need new:
    /// of the time that reading 8 MiB takes, three quarters are the kernel's for handing out empty pages.
    pub fn reuse(&mut self, document: Document) {
        self.input.reuse(document);
    }

    /// Whether it holds much memory and no input. To be given back, with [`release`](Self::release), by whoever knows
    /// that nothing large follows at once.
    pub fn has_spare(&self) -> bool {
        self.input.has_spare()
    }

    /// Gives memory back that holds no input.
    pub fn release(&mut self) {
        self.input.release();
    }

    /// The next thing in the input; `None` when more of it is needed.
    #[expect(clippy::should_implement_trait, reason = "None is no end: there may be more after the next push")]
    pub fn next(&mut self) -> Option<Frame> {
        while let Some(b) = self.input.byte() {
            let frame = self.advance(b);
            // Only a message that may still become good is kept.
            let between = matches!(self.lex, Lex::Between | Lex::Skip) && self.grammar.depth() == 0;
            if between || self.mode != Mode::Normal {
                self.input.drop_seen();
            }
            if frame.is_some() {
                self.input.tidy();
                return frame;
            }
        }
        self.input.tidy();
        None
    }

    /// The host is gone: drops what it left unfinished, and what [`next`](Self::next) was not asked for.
    pub fn reset(&mut self) {
        self.input.drop_all();
        self.input.tidy();
        self.lex = Lex::Between;
        self.begin();
    }

    /// The beginning of a message, as far as it has come; empty between two, and where nothing more is expected of
    /// the message, because it is broken or because there is input that was not looked at.
    pub fn unfinished(&self) -> &[u8] {
        if self.mode == Mode::Normal && self.input.window().is_empty() { self.input.text(0) } else { &[] }
    }

    /// Bytes held: input that has not been looked at, and the beginning of a message.
    pub fn pending(&self) -> usize {
        self.input.len()
    }

    /// Back to the state between two messages.
    fn begin(&mut self) {
        self.mode = Mode::Normal;
        self.grammar.clear();
        self.input.drop_seen();
        (self.token, self.tokens, self.size, self.blank) = (0, 0, 0, 0);
        self.plain = true;
    }

    /// Looks at the byte `b` and perhaps more.
    fn advance(&mut self, b: u8) -> Option<Frame> {
        match self.lex {
            Lex::Between if lexis::is_blank(b) => self.blanks(),
            Lex::Between => self.first_byte(b),
            Lex::String { quote, escaped: false } => self.string(quote),
            Lex::String { quote, escaped: true } => {
                if !lexis::in_string(b) {
                    return self.lexical_error(b);
                }
                self.input.advance(1);
                self.lex = Lex::String { quote, escaped: false };
                self.check_size()
            }
            Lex::Keyword => self.keyword(),
            Lex::Number(state) => self.number(state),
            Lex::Skip => {
                let window = self.input.window();
                let run = window.iter().position(|&b| lexis::ends_skip(b));
                let skipped = run.unwrap_or(window.len());
                self.line_start &= window[..skipped].iter().all(|&b| lexis::is_blank(b));
                self.input.advance(skipped);
                if run.is_some() {
                    self.lex = Lex::Between;
                }
                None
            }
        }
    }

    /// A run of white space.
    fn blanks(&mut self) -> Option<Frame> {
        let window = self.input.window();
        let run = window.iter().position(|&b| !lexis::is_blank(b)).unwrap_or(window.len());
        let newline = memchr::memchr(b'\n', &window[..run]).is_some();
        self.line_start |= newline;
        self.input.advance(run);
        if self.mode == Mode::Quiet && newline {
            self.begin();
        } else if self.mode == Mode::Normal && self.grammar.depth() > 0 {
            self.blank += run;
            if self.blank > self.limits.bytes.saturating_mul(2) {
                return Some(self.too_big());
            }
        }
        None
    }

    /// The first byte of a token.
    fn first_byte(&mut self, b: u8) -> Option<Frame> {
        let line_start = mem::take(&mut self.line_start);
        let anew = match self.mode {
            Mode::Normal => false,
            Mode::Recover(..) => line_start && b == b'{',
            Mode::Quiet => b == b'{',
        };
        if anew {
            self.begin();
        }
        self.token = if self.mode == Mode::Normal { self.input.seen() } else { 0 };
        match b {
            b'{' | b'}' | b'[' | b']' | b':' | b',' => {
                self.input.advance(1);
                let frame = self.complete(Token::Mark(b));
                if b == b'{' && line_start && matches!(frame, Some(Frame::Broken(_))) {
                    // A line that was cut off, and a request behind it, which is not to suffer for it.
                    self.input.step_back();
                    self.begin();
                }
                frame
            }
            b'"' | b'\'' => {
                self.lex = Lex::String { quote: b, escaped: false };
                self.input.advance(1);
                self.string(b)
            }
            b'a'..=b'z' => {
                self.lex = Lex::Keyword;
                self.keyword()
            }
            _ => match Number::start(b) {
                Some(state) => {
                    self.input.advance(1);
                    self.number(state)
                }
                None => self.lexical_error(b),
            },
        }
    }

    fn string(&mut self, quote: u8) -> Option<Frame> {
        let (run, ascii) = lexis::plain_run(self.input.window(), quote);
        self.input.advance(run);
        self.plain &= ascii;
        let error = self.check_size();
        if error.is_some() {
            return error;
        }
        match self.input.byte()? {
            b if b == quote => {
                self.input.advance(1);
                self.complete(Token::String)
            }
            b'\\' => {
                self.input.advance(1);
                self.plain = false;
                self.lex = Lex::String { quote, escaped: true };
                None
            }
            b => self.lexical_error(b),
        }
    }

    fn keyword(&mut self) -> Option<Frame> {
        let window = self.input.window();
        let run = window.iter().position(|b| !b.is_ascii_lowercase()).unwrap_or(window.len());
        self.input.advance(run);
        let error = self.check_size();
        if error.is_some() {
            return error;
        }
        match self.input.byte()? {
            // Nothing has to end it: it is cut off, not complete.
            0xff => self.lexical_error(0xff),
            _ => self.complete(Token::Keyword),
        }
    }

    fn number(&mut self, mut state: Number) -> Option<Frame> {
        let mut run = 0;
        let mut end = None;
        for &b in self.input.window() {
            match state.step(b) {
                Step::Next(next) => state = next,
                step => {
                    end = Some((step, b));
                    break;
                }
            }
            run += 1;
        }
        self.input.advance(run);
        self.lex = Lex::Number(state);
        let error = self.check_size();
        if error.is_some() {
            return error;
        }
        match end? {
            (Step::Bad, b) => self.lexical_error(b),
            // As with a keyword.
            (_, 0xff) => self.lexical_error(0xff),
            _ => self.complete(Token::Number),
        }
    }

    /// The token that ends here is complete.
    fn complete(&mut self, token: Token) -> Option<Frame> {
        self.lex = Lex::Between;
        match &mut self.mode {
            Mode::Quiet => return None,
            Mode::Recover(balance, _) => {
                balance.count(token);
                if balance.is_over() {
                    self.begin();
                }
                return None;
            }
            Mode::Normal => {}
        }
        let text = self.input.text(self.token);
        self.tokens += 1;
        self.size += text.len();
        let opens = matches!(token, Token::Mark(b'{' | b'['));
        let done = if self.size >= self.limits.bytes {
            Err(Error::generic(lexis::TOO_BIG))
        } else if self.tokens > self.limits.tokens {
            Err(Error::generic(lexis::TOO_MANY))
        } else if opens && self.grammar.depth() >= self.limits.depth {
            Err(Error::generic(lexis::TOO_DEEP))
        } else {
            self.grammar.feed(token, text)
        };
        match done {
            Ok(false) => None,
            Ok(true) => {
                let mut document = self.input.take_document();
                document.plain = self.plain;
                self.begin();
                Some(Frame::Document(document))
            }
            Err(error) => {
                let mut balance = self.grammar.balance();
                balance.count(token);
                self.recover(balance, Cause::Grammar);
                Some(Frame::Broken(error))
            }
        }
    }

    /// Throws away the rest of a message of which this much is open.
    fn recover(&mut self, balance: Balance, cause: Cause) {
        self.begin();
        if !balance.is_over() {
            self.mode = Mode::Recover(balance, cause);
        }
    }

    /// A token that is too big is not read to its end first.
    fn check_size(&mut self) -> Option<Frame> {
        let too_big = self.mode == Mode::Normal && self.size + self.input.seen() - self.token >= self.limits.bytes;
        too_big.then(|| self.too_big())
    }

    /// In the middle of a token or between two: whether the message is over is seen at the end of the next one.
    fn too_big(&mut self) -> Frame {
        let balance = self.grammar.balance();
        self.begin();
        self.mode = Mode::Recover(balance, Cause::Grammar);
        Frame::Broken(Error::generic(lexis::TOO_BIG))
    }

    /// The next byte, `b`, fits no token.
    fn lexical_error(&mut self, b: u8) -> Option<Frame> {
        self.input.advance(1);
        self.line_start = b == b'\n';
        let in_string = matches!(mem::replace(&mut self.lex, Lex::Skip), Lex::String { .. });
        if b == 0xff {
            self.begin();
            return Some(Frame::Resync);
        }
        let (balance, cause, frame) = match self.mode {
            Mode::Normal => {
                // Never what is inside a string: it may be secret.
                let text = if in_string { &[b] } else { self.input.text(self.token) };
                (self.grammar.balance(), Cause::Lexical, Some(Frame::Broken(lexis::stray(text))))
            }
            Mode::Recover(balance, cause) => (balance, cause, None),
            Mode::Quiet => {
                if b == b'\n' {
                    self.begin();
                }
                return None;
            }
        };
        let abandoned = lexis::is_break(b) || (cause == Cause::Grammar && b != b'\n');
        if self.mode == Mode::Normal && self.grammar.depth() == 0 {
            self.begin();
        } else if abandoned {
            self.begin();
            self.mode = Mode::Quiet;
        } else {
            // A bracket that ended a number wrongly still is a bracket.
            let mut balance = balance;
            balance.count(Token::Mark(b));
            self.recover(balance, cause);
        }
        frame
    }
}
