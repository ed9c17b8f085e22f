//! JSON in pure ASCII: whatever a guest put into a string, a terminal shows it and does not obey it.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// The value on one line, without a line end.
pub(crate) fn compact(value: &Value) -> String {
    write(value, CompactFormatter)
}

/// The value over several lines, without a line end.
pub(crate) fn pretty(value: &Value) -> String {
    write(value, PrettyFormatter::new())
}

fn write(value: &Value, formatter: impl Formatter) -> String {
    let mut out = Vec::new();
    // A value has string keys only, and memory takes every byte: there is nothing that could fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut out, Ascii(formatter)));
    String::from_utf8_lossy(&out).into_owned()
}

/// A formatter that escapes everything but printable ASCII.
struct Ascii<F>(F);

/// Hands the layout on to the formatter inside.
macro_rules! layout {
    ($($method:ident($($arg:ident: $type:ty),*)),* $(,)?) => {
        $(fn $method<W: ?Sized + io::Write>(&mut self, out: &mut W $(, $arg: $type)*) -> io::Result<()> {
            self.0.$method(out $(, $arg)*)
        })*
    };
}

impl<F: Formatter> Formatter for Ascii<F> {
    layout! {
        begin_array(), end_array(), begin_array_value(first: bool), end_array_value(),
        begin_object(), end_object(), begin_object_key(first: bool), end_object_key(),
        begin_object_value(), end_object_value(),
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !c.is_ascii() || c == '\x7f') {
            out.write_all(&rest.as_bytes()[..at])?;
            let mut chars = rest[at..].chars();
            for unit in chars.next().into_iter().flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec()) {
                write!(out, "\\u{unit:04X}")?;
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_printable_ascii_leaves() {
        let value = json!({"é": "\x1b[2J\x7f\u{9b}\u{202e}🦀 ok\n"});
        assert_eq!(compact(&value), r#"{"\u00E9":"\u001b[2J\u007F\u009B\u202E\uD83E\uDD80 ok\n"}"#);
        assert_eq!(serde_json::from_str::<Value>(&compact(&value)).unwrap(), value);
    }

    #[test]
    fn pretty_and_compact_say_the_same() {
        let value = json!({"a": [1, {"b": null}], "c": []});
        assert_eq!(serde_json::from_str::<Value>(&pretty(&value)).unwrap(), value);
        assert!(pretty(&value).contains("\n  \"a\": [\n"));
        assert_eq!(compact(&value), r#"{"a":[1,{"b":null}],"c":[]}"#);
    }
}
