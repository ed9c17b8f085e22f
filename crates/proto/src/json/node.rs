//! A parsed value that borrows from the message it was read from.

use std::borrow::Cow;

/// A JSON value. Strings without escapes and numbers are slices of the message, so that a string of 64 MiB costs
/// no memory; objects keep the order in which their members were sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Node<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as the text that was sent: an `id` goes back unchanged, whatever its precision.
    Number(&'a str),
    /// A string.
    Str(Cow<'a, str>),
    /// An array.
    List(Vec<Node<'a>>),
    /// An object; its keys are distinct.
    Dict(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The number if it is an integer token (no fraction, no exponent) from -2^63 to 2^63-1.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Node::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The number if it is an integer token from 0 to 2^64-1.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Node::Number("-0") => Some(0),
            Node::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The number if it is one and not beyond the range of a double. Rounds to the nearest double.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Node::Number(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        }
    }

    /// The text if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Node::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements if it is an array.
    pub fn as_list(&self) -> Option<&[Node<'a>]> {
        match self {
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// The member of this name, if it is an object and has one.
    pub fn member(&self, name: &str) -> Option<&Node<'a>> {
        match self {
            Node::Dict(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_in_their_ranges_and_refused_outside() {
        let number = |text| Node::Number(text);
        assert_eq!(number("9223372036854775807").as_i64(), Some(i64::MAX));
        assert_eq!(number("-9223372036854775808").as_i64(), Some(i64::MIN));
        assert_eq!(number("-0").as_i64(), Some(0));
        assert_eq!(number("9223372036854775808").as_i64(), None);
        assert_eq!(number("-9223372036854775809").as_i64(), None);
        assert_eq!(number("1.0").as_i64(), None);
        assert_eq!(number("1e3").as_i64(), None);
        assert_eq!(number("18446744073709551615").as_u64(), Some(u64::MAX));
        assert_eq!(number("18446744073709551616").as_u64(), None);
        assert_eq!(number("-0").as_u64(), Some(0));
        assert_eq!(number("-1").as_u64(), None);
    }

    #[test]
    fn doubles_round_and_never_become_infinite() {
        assert_eq!(Node::Number("18446744073709551616").as_f64(), Some(18446744073709551616.0));
        assert_eq!(Node::Number("0.1").as_f64(), Some(0.1));
        assert_eq!(Node::Number("1e309").as_f64(), None);
        assert_eq!(Node::Number("-1e309").as_f64(), None);
        assert_eq!(Node::Number("1e-400").as_f64(), Some(0.0));
        assert_eq!(Node::Null.as_f64(), None);
    }
}
