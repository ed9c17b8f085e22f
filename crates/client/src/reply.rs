//! Reads one reply, with limits: a guest is not trusted.

use serde_json::Value;

use crate::error::Error;

/// Reads one line as a reply: an object with `return` or `error`.
///
/// At most `items` values are taken, and the 128 levels of nesting that the JSON reader allows: a line of brackets
/// would otherwise cost a host a hundred times its own length in memory.
pub(crate) fn parse(line: &[u8], items: usize) -> Result<Value, Error> {
    if values_in(line) > items {
        return Err(Error::TooBig(items));
    }
    let value: Value = serde_json::from_slice(line).map_err(|error| Error::Malformed(error.to_string()))?;
    match &value {
        Value::Object(members) if members.contains_key("return") || members.contains_key("error") => Ok(value),
        _ => Err(Error::Malformed("neither a result nor an error".into())),
    }
}

/// An upper bound of the number of values in a JSON text.
fn values_in(text: &[u8]) -> usize {
    // Less than a value for every byte is not worth counting in a short text.
    if text.len() <= 1 << 16 {
        return 0;
    }
    let (mut values, mut in_string, mut escaped) = (1, false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: usize = 1000;

    #[test]
    fn a_result_and_an_error_are_replies() {
        assert!(parse(br#"{"return": {}}"#, ITEMS).is_ok());
        assert!(parse(br#"{"id": 1, "error": {"class": "GenericError", "desc": "x"}}"#, ITEMS).is_ok());
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
