use super::*;

fn text(doc: &str) -> String {
    match read(doc.as_bytes()) {
        Ok(Node::Str(text)) => text.into_owned(),
        other => panic!("{other:?}"),
    }
}

fn refusal(doc: impl AsRef<[u8]>) -> String {
    read(doc.as_ref()).expect_err("broken").desc.into_owned()
}

fn parse_error(text: &str) -> String {
    format!("JSON parse error, {text}")
}

#[test]
fn every_kind_of_value_is_read() {
    let node = read(b" {\"a\": [1, -0.5e3, 'x', true, false, null], 'b': {}, \"c\": []} ").expect("good");
    let list = Node::List(vec![
        Node::Number("1"),
        Node::Number("-0.5e3"),
        Node::Str("x".into()),
        Node::Bool(true),
        Node::Bool(false),
        Node::Null,
    ]);
    let expected =
        Node::Dict(vec![("a".into(), list), ("b".into(), Node::Dict(vec![])), ("c".into(), Node::List(vec![]))]);
    assert_eq!(node, expected);
    assert_eq!(node.member("a").and_then(Node::as_list).map(<[_]>::len), Some(6));
}

#[test]
fn a_string_without_escapes_costs_no_memory() {
    let doc = format!("\"{}\"", "a\u{e9}".repeat(1000));
    assert!(matches!(read(doc.as_bytes()), Ok(Node::Str(Cow::Borrowed(_)))));
}

#[test]
fn escapes_are_decoded() {
    assert_eq!(text(r#""\"\'\\\/\b\f\n\r\t""#), "\"'\\/\u{8}\u{c}\n\r\t");
    assert_eq!(text(r#""\u00e9\uD83d\uDe00x""#), "\u{e9}\u{1f600}x");
    assert_eq!(text(r#"'it\'s "so"'"#), "it's \"so\"");
    assert_eq!(text(r#""a\u0000b""#), "a\0b");
    assert_eq!(read(b"\"a\xc0\x80b\xc0\x80\""), Ok(Node::Str("a\0b\0".into())));
}

#[test]
fn what_is_no_character_is_refused_and_shown() {
    for (escape, shown) in [
        (r"\ud83d", r"\ud83d"),
        (r"\ud83dx", r"\ud83d"),
        (r"\ud83d\u0041", r"\ud83d"),
        (r"\ude00", r"\ude00"),
        (r"\uFFFE", r"\uFFFE"),
        (r"\uFDD0", r"\uFDD0"),
        (r"\uDBFF\uDFFF", r"\uDBFF\uDFFF"),
        (r"\u12G4", r"\u12G4"),
        (r"\u12", "\\u12\""),
        (r"\u", "\\u\""),
    ] {
        assert_eq!(refusal(format!("\"{escape}\"")), parse_error(&format!("{shown} is not a valid Unicode character")));
    }
    for escape in [r"\x41", r"\v", r"\0", r"\U00e9", "\\\u{e9}"] {
        assert_eq!(refusal(format!("\"{escape}\"")), parse_error("invalid escape sequence in string"));
    }
}

#[test]
fn bytes_that_are_no_utf8_or_stand_for_no_character_are_refused() {
    let sequences: [&[u8]; 10] = [
        b"\x80",
        b"\xc3",
        b"\xc3(",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\xef\xbf\xbe",
        b"\xef\xb7\x90",
        b"\xc0\x80\xf0\x9f\xbf\xbf",
    ];
    for bytes in sequences {
        let doc = [b"\"a", bytes, b"\""].concat();
        assert_eq!(refusal(doc), parse_error("invalid UTF-8 sequence in string"), "{bytes:x?}");
    }
}

#[test]
fn a_key_may_occur_once_in_an_object_of_any_size() {
    assert_eq!(refusal(r#"{"a": 1, "a": 1}"#), parse_error("duplicate key"));
    assert_eq!(refusal(r#"[{"b": {"a": 1, "\u0061": 1}}]"#), parse_error("duplicate key"));
    assert!(read(br#"{"a": {"a": 1}, "b": {"a": 1}}"#).is_ok());
    for count in [15, 16, 17, 18, 100] {
        let members: Vec<String> = (0..count).map(|n| format!("\"k{n}\": {n}")).collect();
        let good = format!("{{{}}}", members.join(","));
        assert!(read(good.as_bytes()).is_ok());
        for again in [0, count / 2, count - 1] {
            assert_eq!(refusal(format!("{{{}, \"k{again}\": 0}}", members.join(","))), parse_error("duplicate key"));
        }
    }
}

#[test]
fn a_very_large_object_is_read_in_linear_time() {
    let members: Vec<String> = (0..300_000).map(|n| format!("\"k{n}\": {n}")).collect();
    let doc = format!("{{{}}}", members.join(","));
    assert!(matches!(read(doc.as_bytes()), Ok(Node::Dict(members)) if members.len() == 300_000));
}

#[test]
fn the_deepest_document_is_read_and_one_level_more_is_refused() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(nested(1024).as_bytes()).is_ok());
    assert_eq!(refusal(nested(1025)), "JSON nesting depth limit exceeded");
    assert_eq!(refusal("{\"a\":".repeat(5000)), "JSON nesting depth limit exceeded");
}

#[test]
fn broken_documents_are_refused_with_the_same_words_as_by_the_framer() {
    for (doc, text) in [
        ("", "expecting value"),
        ("[", "expecting value"),
        ("[1,]", "expecting value"),
        ("{\"a\":}", "expecting value"),
        ("{} {}", "expecting value"),
        ("{", "expecting key"),
        ("{1:2}", "expecting key"),
        ("{\"a\":1,}", "expecting key"),
        ("{\"a\" 1}", "expecting ':'"),
        ("{\"a\":1]", "expected ',' or '}'"),
        ("[1 2]", "expected ',' or ']'"),
        ("nul", "invalid keyword 'nul'"),
        ("01", "stray '01'"),
        ("1.", "stray '1.'"),
        ("-", "stray '-'"),
        ("@", "stray '@'"),
        ("\"a\nb\"", "stray '\n'"),
        ("\"abc", "premature end of string"),
    ] {
        assert_eq!(refusal(doc), parse_error(text), "{doc}");
    }
}
