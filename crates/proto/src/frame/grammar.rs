//! The grammar, one token at a time.

use super::lexis::{self, NO_COLON, NO_DICT_END, NO_KEY, NO_LIST_END, NO_VALUE};
use crate::error::Error;

/// A token without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// One of `{ } [ ] : ,`.
    Mark(u8),
    String,
    Number,
    Keyword,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    DictNext,
    ListNext,
}

/// What an open bracket began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Dict,
    List,
}

/// Follows one message.
#[derive(Debug)]
pub(super) struct Grammar {
    levels: Vec<Level>,
    expect: Expect,
}

impl Grammar {
    pub(super) fn new() -> Self {
        Grammar { levels: Vec::new(), expect: Expect::Value }
    }

    /// Open brackets.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    pub(super) fn clear(&mut self) {
        self.levels.clear();
        self.expect = Expect::Value;
    }

    /// What is open, for finding the end of a message that turned out to be broken.
    pub(super) fn balance(&self) -> Balance {
        let braces = self.levels.iter().filter(|&&level| level == Level::Dict).count();
        Balance { braces: braces as i64, brackets: (self.levels.len() - braces) as i64 }
    }

    /// Takes the next token; `word` is the text of a keyword. True when it completes the message.
    pub(super) fn feed(&mut self, token: Token, word: &[u8]) -> Result<bool, Error> {
        match (self.expect, token) {
            (Expect::Value | Expect::ValueOrEnd, _) => match token {
                Token::Mark(b'{') => return Ok(self.open(Level::Dict, Expect::KeyOrEnd)),
                Token::Mark(b'[') => return Ok(self.open(Level::List, Expect::ValueOrEnd)),
                Token::Mark(b']') if self.expect == Expect::ValueOrEnd => return Ok(self.close()),
                Token::Mark(_) => return Err(Error::parse(NO_VALUE)),
                Token::Keyword if !matches!(word, b"null" | b"true" | b"false") => {
                    return Err(lexis::invalid_keyword(word));
                }
                Token::String | Token::Number | Token::Keyword => return Ok(self.value_done()),
            },
            (Expect::Key | Expect::KeyOrEnd, Token::String) => self.expect = Expect::Colon,
            (Expect::KeyOrEnd, Token::Mark(b'}')) => return Ok(self.close()),
            (Expect::Key | Expect::KeyOrEnd, _) => return Err(Error::parse(NO_KEY)),
            (Expect::Colon, Token::Mark(b':')) => self.expect = Expect::Value,
            (Expect::Colon, _) => return Err(Error::parse(NO_COLON)),
            (Expect::DictNext, Token::Mark(b',')) => self.expect = Expect::Key,
            (Expect::DictNext, Token::Mark(b'}')) => return Ok(self.close()),
            (Expect::DictNext, _) => return Err(Error::parse(NO_DICT_END)),
            (Expect::ListNext, Token::Mark(b',')) => self.expect = Expect::Value,
            (Expect::ListNext, Token::Mark(b']')) => return Ok(self.close()),
            (Expect::ListNext, _) => return Err(Error::parse(NO_LIST_END)),
        }
        Ok(false)
    }

    fn open(&mut self, level: Level, expect: Expect) -> bool {
        self.levels.push(level);
        self.expect = expect;
        false
    }

    fn close(&mut self) -> bool {
        self.levels.pop();
        self.value_done()
    }

    fn value_done(&mut self) -> bool {
        self.expect = match self.levels.last() {
            None => return true,
            Some(Level::Dict) => Expect::DictNext,
            Some(Level::List) => Expect::ListNext,
        };
        false
    }
}

/// The two counters by which the end of a broken message is found: its brackets need not match each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Balance {
    braces: i64,
    brackets: i64,
}

impl Balance {
    pub(super) fn count(&mut self, token: Token) {
        match token {
            Token::Mark(b'{') => self.braces += 1,
            Token::Mark(b'}') => self.braces -= 1,
            Token::Mark(b'[') => self.brackets += 1,
            Token::Mark(b']') => self.brackets -= 1,
            _ => {}
        }
    }

    /// Nothing is open any more, or more was closed than opened.
    pub(super) fn is_over(self) -> bool {
        self.braces < 0 || self.brackets < 0 || (self.braces == 0 && self.brackets == 0)
    }
}
