//! One reply, read with limits: a guest is not trusted.

use std::fmt;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// One line that an agent sent, within the limits of size and count, and not yet read.
///
/// It stays text until it is known what it should be: a large result then goes straight to where it belongs.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply(Vec<u8>);

/// The error that an agent answered a command with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentError {
    /// The class, for programs.
    pub class: String,
    /// The text, for people.
    pub desc: String,
}

/// A reply whose result is a `T`.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Envelope<T> {
    #[serde(rename = "return", default = "none", deserialize_with = "some")]
    result: Option<T>,
    #[serde(default, deserialize_with = "some")]
    error: Option<Value>,
    #[serde(default)]
    id: Option<Value>,
}

fn none<T>() -> Option<T> {
    None
}

/// A null that is there is something else than nothing.
fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Reply {
    /// Takes a line of at most `items` values; a line of brackets would otherwise cost a host a hundred times its own
    /// length in memory.
    ///
    /// # Errors
    /// [`Error::TooBig`].
    pub fn new(line: Vec<u8>, items: usize) -> Result<Self, Error> {
        if values_in(&line) > items { Err(Error::TooBig(items)) } else { Ok(Reply(line)) }
    }

    /// Reads it: the result, or the error the agent answered with. At most the 128 levels of nesting that the JSON
    /// reader allows are followed.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no reply, or its result no `T`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<Result<T, AgentError>, Error> {
        self.read_to(None)
    }

    /// As [`read`](Self::read), for the reply to the request with this number. An agent that repeats no numbers is
    /// trusted to answer in order.
    pub(crate) fn read_to<'a, T: Deserialize<'a>>(&'a self, id: Option<u64>) -> Result<Result<T, AgentError>, Error> {
        let envelope: Envelope<T> =
            serde_json::from_slice(&self.0).map_err(|error| Error::Malformed(error.to_string()))?;
        if envelope.id.is_some_and(|found| id.is_some() && found.as_u64() != id) {
            return Err(Error::Malformed("the answer to another question".into()));
        }
        match (envelope.error, envelope.result) {
            // An error that is not what an error should be is still one.
            (Some(error), _) => Ok(Err(serde_json::from_value(error).unwrap_or_default())),
            (None, Some(result)) => Ok(Ok(result)),
            (None, None) => Err(Error::Malformed("neither a result nor an error".into())),
        }
    }
}

impl Reply {
    /// What it was kept in.
    pub(crate) fn into_memory(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold what a file of the guest holds.
        f.debug_struct("Reply").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

/// An upper bound of the number of values in a JSON text.
fn values_in(text: &[u8]) -> usize {
    // Less than a value for every byte is not worth counting in a short text.
    if text.len() <= 1 << 16 {
        return 0;
    }
    let mut values = 1;
    let mut rest = text;
    loop {
        // Up to a string, whose inside does not count.
        let (outside, behind) = rest.split_at(memchr::memchr(b'"', rest).unwrap_or(rest.len()));
        values += outside.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
        let Some(mut inside) = behind.get(1..) else {
            return values;
        };
        rest = loop {
            match memchr::memchr2(b'"', b'\\', inside) {
                Some(at) if inside[at] == b'"' => break &inside[at + 1..],
                Some(at) => inside = inside.get(at + 2..).unwrap_or_default(),
                None => return values,
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: usize = 1000;

    fn parse(line: &[u8], items: usize) -> Result<Result<Value, AgentError>, Error> {
        Reply::new(line.to_vec(), items)?.read()
    }

    #[test]
    fn a_result_and_an_error_are_replies() {
        assert_eq!(parse(br#"{"return": {}}"#, ITEMS).unwrap().unwrap(), serde_json::json!({}));
        assert_eq!(parse(br#"{"return": null}"#, ITEMS).unwrap().unwrap(), Value::Null);
        let error =
            parse(br#"{"id": 1, "error": {"class": "GenericError", "desc": "x"}}"#, ITEMS).unwrap().unwrap_err();
        assert_eq!(error, AgentError { class: "GenericError".into(), desc: "x".into() });
        assert_eq!(parse(br#"{"error": 7}"#, ITEMS).unwrap(), Err(AgentError::default()));
    }

    #[test]
    fn anything_else_is_not() {
        for line in [&b"{}"[..], b"[]", b"{\"return\": ", b"", b"{\"QMP\": {}}", b"{\"return\": {}} {}"] {
            assert!(matches!(parse(line, ITEMS), Err(Error::Malformed(_))), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let line = format!("{{\"return\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(matches!(parse(line.as_bytes(), ITEMS), Err(Error::Malformed(_))));
    }

    #[test]
    fn very_many_values_are_refused_before_memory_is_taken() {
        let line = format!("{{\"return\": [{}0]}}", "0,".repeat(50_000));
        assert!(matches!(parse(line.as_bytes(), ITEMS), Err(Error::TooBig(ITEMS))));
        assert!(parse(line.as_bytes(), 100_000).is_ok());
    }

    #[test]
    fn commas_in_a_long_string_are_no_values() {
        let line = format!("{{\"return\": \"\\\"{}\"}}", ",".repeat(100_000));
        assert!(parse(line.as_bytes(), ITEMS).is_ok());
    }
}
