use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::json::read;

fn written<T: Serialize + ?Sized>(value: &T) -> String {
    let mut out = Vec::new();
    write(&mut out, value);
    String::from_utf8(out).expect("UTF-8")
}

#[derive(serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    OneWord,
    Number(i32),
    Pair(i32, bool),
    Named { a: Option<u8> },
}

#[test]
fn the_form_is_qemus() {
    #[derive(serde::Serialize)]
    struct Members {
        a: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<bool>,
        b: Vec<u64>,
        c: (),
    }
    let value = Members { a: -1, absent: None, b: vec![1, u64::MAX], c: () };
    assert_eq!(written(&value), r#"{"a": -1, "b": [1, 18446744073709551615], "c": null}"#);
    assert_eq!(written(&BTreeMap::from([("k", true)])), r#"{"k": true}"#);
    assert_eq!(written(&Vec::<i8>::new()), "[]");
    assert_eq!(written(&crate::command::Empty {}), "{}");
    let kinds = [Kind::OneWord, Kind::Number(1), Kind::Pair(2, false), Kind::Named { a: Some(3) }];
    assert_eq!(written(&kinds), r#"["one-word", {"number": 1}, {"pair": [2, false]}, {"named": {"a": 3}}]"#);
}

#[test]
fn strings_are_ascii() {
    assert_eq!(written("\"\\\u{8}\u{c}\n\r\t/"), r#""\"\\\b\f\n\r\t/""#);
    assert_eq!(written("\0\u{1f}\u{7f}\u{80}\u{e9}\u{fffd}"), r#""\u0000\u001F\u007F\u0080\u00E9\uFFFD""#);
    assert_eq!(written("\u{1f600}"), r#""\uD83D\uDE00""#);
    assert_eq!(written("%d <>&'"), r#""%d <>&'""#);
    let long = "x".repeat(100);
    assert_eq!(written(&format!("{long}\u{e9}{long}")), format!("\"{long}\\u00E9{long}\""));
}

#[test]
fn doubles_have_seventeen_digits_as_c_prints_them() {
    for (value, text) in [
        (1.0, "1"),
        (0.0, "0"),
        (-0.0, "-0"),
        (1.5, "1.5"),
        (0.1, "0.10000000000000001"),
        (0.01, "0.01"),
        (0.0001, "0.0001"),
        (0.00001, "1.0000000000000001e-05"),
        (std::f64::consts::PI, "3.1415926535897931"),
        (1e16, "10000000000000000"),
        (1e17, "1e+17"),
        (1e22, "1e+22"),
        (1e308, "1e+308"),
        (5e-324, "4.9406564584124654e-324"),
        (18446744073709551616.0, "1.8446744073709552e+19"),
        (-9223372036854775809.0, "-9.2233720368547758e+18"),
        (123456789.123, "123456789.123"),
        (1e-300, "1e-300"),
    ] {
        assert_eq!(written(&value), text);
    }
}

#[test]
fn what_json_cannot_say_never_breaks_the_line() {
    assert_eq!(written(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]), "[null, null, null]");
    assert_eq!(written(&BTreeMap::from([(1, 2)])), "null");
    let mut out = b"[".to_vec();
    write(&mut out, &BTreeMap::from([((1, 2), 3)]));
    assert_eq!(out, b"[null");
}

#[test]
fn a_value_that_was_read_goes_out_as_it_came() {
    let mut out = Vec::new();
    let node = read("{\"z\":[1.0,-0,1e400],'a':\"\u{e9}'\",\"\\u0000\":null}".as_bytes()).expect("good");
    write_node(&mut out, &node);
    assert_eq!(out, br#"{"z": [1.0, -0, 1e400], "a": "\u00E9'", "\u0000": null}"#);
}

fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(text(), inner, 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Any string that the dialect can carry: no noncharacters.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace(|c: char| (c as u32) & 0xfffe == 0xfffe, "x"))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_equal_and_by_others_too(value in any_value()) {
        let text = written(&value);
        prop_assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)));
        // serde_json rounds the last digit of a double by eye unless it is told not to.
        let theirs: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        prop_assert!(same(&theirs, &value, 1e-15), "{}", text);
        let node = read(text.as_bytes()).expect("our own");
        let ours: serde_json::Value = crate::bind::from_node(node.clone()).expect("any value");
        prop_assert!(same(&ours, &value, 0.0), "{}", text);
        let mut again = Vec::new();
        write_node(&mut again, &node);
        prop_assert_eq!(String::from_utf8(again).expect("ASCII"), text);
    }

    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }
}

/// Equal, but that numbers are compared as numbers: a double without a fraction is written without one.
fn same(a: &serde_json::Value, b: &serde_json::Value, tolerance: f64) -> bool {
    use serde_json::Value::*;
    match (a, b) {
        (Number(a), Number(b)) => {
            let (x, y) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            a == b || (x - y).abs() <= tolerance * x.abs() && (a.is_f64() || b.is_f64())
        }
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, tolerance)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((ka, a), (kb, b))| ka == kb && same(a, b, tolerance))
        }
        _ => a == b,
    }
}
