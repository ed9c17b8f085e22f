use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::base64::Base64Bytes;
use crate::command::Empty;
use crate::json;
use crate::types::file::{FileOpenArgs, FileReadArgs, FileSeekArgs, FileWriteArgs, Whence};
use crate::types::fsfreeze::FsfreezeStatus;

fn bind<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    from_node(json::read(text.as_bytes()).expect("well-formed")).map_err(|error| error.desc.into_owned())
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Vcpu {
    logical_id: i64,
    online: bool,
    #[serde(default)]
    can_offline: Option<bool>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct VcpuArgs {
    vcpus: Vec<Vcpu>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Block {
    phys_index: u64,
    online: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
struct BlockArgs {
    #[serde(rename = "mem-blks")]
    blocks: Vec<Block>,
}

fn vcpus(text: &str) -> String {
    bind::<VcpuArgs>(text).expect_err("wrong")
}

#[test]
fn a_place_inside_is_named_by_its_path() {
    assert_eq!(vcpus("{}"), "Parameter 'vcpus' is missing");
    assert_eq!(vcpus(r#"{"vcpus": 1}"#), "Invalid parameter type for 'vcpus', expected: array");
    assert_eq!(vcpus(r#"{"vcpus": {}}"#), "Invalid parameter type for 'vcpus', expected: array");
    assert_eq!(vcpus(r#"{"vcpus": [1]}"#), "Invalid parameter type for 'vcpus[0]', expected: object");
    assert_eq!(vcpus(r#"{"vcpus": [{}]}"#), "Parameter 'vcpus[0].logical-id' is missing");
    assert_eq!(
        vcpus(r#"{"vcpus": [{"logical-id": 0, "online": true}, {"logical-id": 1}]}"#),
        "Parameter 'vcpus[1].online' is missing"
    );
    assert_eq!(
        vcpus(r#"{"vcpus": [{"logical-id": 0, "online": true, "can-offline": 1}]}"#),
        "Invalid parameter type for 'vcpus[0].can-offline', expected: boolean"
    );
    assert_eq!(
        vcpus(r#"{"vcpus": [{"logical-id": 0, "online": true, "bogus": 1}]}"#),
        "Parameter 'vcpus[0].bogus' is unexpected"
    );
}

#[test]
fn the_first_member_in_declared_order_is_complained_about_whatever_the_order_sent() {
    assert_eq!(vcpus(r#"{"vcpus": [{"online": 1}]}"#), "Parameter 'vcpus[0].logical-id' is missing");
    assert_eq!(
        vcpus(r#"{"vcpus": [{"online": 1, "logical-id": "x"}]}"#),
        "Invalid parameter type for 'vcpus[0].logical-id', expected: integer"
    );
    assert_eq!(vcpus(r#"{"x": 1}"#), "Parameter 'vcpus' is missing");
}

#[test]
fn of_several_unexpected_members_the_first_sent_is_named() {
    assert_eq!(bind::<Empty>(r#"{"foo": 1, "bar": 2}"#).unwrap_err(), "Parameter 'foo' is unexpected");
    let read = bind::<FileReadArgs>(r#"{"zz": 1, "count": 1, "yy": 2, "handle": 1, "xx": 3}"#);
    assert_eq!(read.unwrap_err(), "Parameter 'zz' is unexpected");
}

#[test]
fn null_is_not_absence() {
    assert_eq!(bind(r#"{"handle": 1}"#), Ok(FileReadArgs { handle: 1, count: None }));
    assert_eq!(
        bind::<FileReadArgs>(r#"{"handle": 1, "count": null}"#).unwrap_err(),
        "Invalid parameter type for 'count', expected: integer"
    );
    assert_eq!(
        bind::<FileOpenArgs<'_>>(r#"{"path": "/x", "mode": null}"#).unwrap_err(),
        "Invalid parameter type for 'mode', expected: string"
    );
}

#[test]
fn integers_are_integer_tokens_in_range() {
    for good in ["0", "-0", "9223372036854775807", "-9223372036854775808"] {
        assert!(bind::<i64>(good).is_ok(), "{good}");
    }
    for bad in ["1.0", "1e3", "true", "null", "\"1\"", "9223372036854775808", "-9223372036854775809", "[]", "{}"] {
        assert_eq!(bind::<i64>(bad).unwrap_err(), "Invalid parameter type for '', expected: integer", "{bad}");
    }
    assert_eq!(bind::<u8>("256").unwrap_err(), "Parameter '' expects uint8_t");
    assert_eq!(bind::<i32>("2147483648").unwrap_err(), "Parameter '' expects int32_t");
    assert_eq!(bind::<i32>("\"1\"").unwrap_err(), "Invalid parameter type for '', expected: integer");
    assert_eq!(bind::<u16>("65535"), Ok(65535));
}

#[test]
fn unsigned_integers_take_negative_ones_around_and_have_a_text_of_their_own() {
    assert_eq!(bind("18446744073709551615"), Ok(u64::MAX));
    assert_eq!(bind("-1"), Ok(u64::MAX));
    assert_eq!(bind("-9223372036854775808"), Ok(1u64 << 63));
    for bad in ["18446744073709551616", "-9223372036854775809", "1.5"] {
        assert_eq!(bind::<u64>(bad).unwrap_err(), "Parameter '' expects uint64", "{bad}");
    }
    assert_eq!(
        bind::<BlockArgs>(r#"{"mem-blks": [{"phys-index": "a", "online": true}]}"#).unwrap_err(),
        "Parameter 'mem-blks[0].phys-index' expects uint64"
    );
    assert_eq!(
        bind::<BlockArgs>(r#"{"mem-blks": [{"phys-index": -1}]}"#).unwrap_err(),
        "Parameter 'mem-blks[0].online' is missing"
    );
}

#[test]
fn the_other_types_are_named() {
    fn refused<'a, T: Deserialize<'a> + std::fmt::Debug>(text: &'a str, expected: &str) {
        let error = bind::<T>(text).expect_err(text);
        assert_eq!(error, format!("Invalid parameter type for '', expected: {expected}"));
    }
    refused::<bool>("1", "boolean");
    refused::<String>("1", "string");
    refused::<f64>("\"1\"", "number");
    refused::<f64>("1e400", "number");
    refused::<Vec<i64>>("{}", "array");
    refused::<Empty>("[]", "object");
    refused::<()>("1", "null");
    assert_eq!(bind::<f64>("3"), Ok(3.0));
    assert_eq!(bind::<Vec<String>>("[\"a\", 2]").unwrap_err(), "Invalid parameter type for '[1]', expected: string");
}

#[test]
fn enums_name_the_value_that_they_do_not_have() {
    assert_eq!(bind("\"frozen\""), Ok(FsfreezeStatus::Frozen));
    assert_eq!(bind::<FsfreezeStatus>("\"Frozen\"").unwrap_err(), "Parameter '' does not accept value 'Frozen'");
    assert_eq!(bind::<FsfreezeStatus>("1").unwrap_err(), "Invalid parameter type for '', expected: string");
}

#[test]
fn alternates_name_their_own_type() {
    let whence = |value: &str| {
        let text = format!(r#"{{"handle": 1, "offset": 0, "whence": {value}}}"#);
        bind::<FileSeekArgs>(&text).map(|args| args.whence)
    };
    assert_eq!(whence("\"end\""), Ok(Whence::End));
    assert_eq!(whence("1"), Ok(Whence::Cur));
    assert_eq!(whence("7"), Ok(Whence::Unknown(7)));
    assert_eq!(whence("\"SET\""), Err("Parameter 'whence' does not accept value 'SET'".into()));
    for wrong in ["null", "true", "{}", "[]"] {
        assert_eq!(whence(wrong), Err("Invalid parameter type for 'whence', expected: GuestFileWhence".into()));
    }
    for wrong in ["1.5", "1e400", "9223372036854775808"] {
        assert_eq!(whence(wrong), Err("Invalid parameter type for 'whence', expected: integer".into()), "{wrong}");
    }
    let absent = bind::<FileSeekArgs>(r#"{"handle": 1, "offset": 0}"#);
    assert_eq!(absent.unwrap_err(), "Parameter 'whence' is missing");
}

#[test]
fn a_string_without_escapes_is_borrowed_from_the_message() {
    let text = r#"{"handle": 1000, "buf-b64": "aGVsbG8="}"#;
    let args: FileWriteArgs<'_> = bind(text).expect("good");
    assert!(matches!(args.buf_b64, Cow::Borrowed("aGVsbG8=")));
    let text = r#"{"handle": 1000, "buf-b64": "aGVs\nbG8="}"#;
    let args: FileWriteArgs<'_> = bind(text).expect("good");
    assert_eq!(args.buf_b64, "aGVs\nbG8=");
}

#[test]
fn base64_in_an_argument_is_decoded_or_refused_with_its_own_text() {
    assert_eq!(bind("\"aGVsbG8=\""), Ok(Base64Bytes(b"hello".to_vec())));
    assert_eq!(bind::<Base64Bytes>("\"!!\"").unwrap_err(), "Base64 data contains invalid characters");
    assert_eq!(bind::<Base64Bytes>("1").unwrap_err(), "Invalid parameter type for '', expected: string");
}

#[test]
fn maps_and_any_value_are_bound_in_the_order_sent() {
    let map: BTreeMap<String, i64> = bind(r#"{"b": 1, "a": 2}"#).expect("good");
    assert_eq!(map, BTreeMap::from([("a".into(), 2), ("b".into(), 1)]));
    let wrong = bind::<BTreeMap<String, i64>>(r#"{"b": 1, "a": "x"}"#);
    assert_eq!(wrong.unwrap_err(), "Invalid parameter type for 'a', expected: integer");
    let value: serde_json::Value = bind(r#"{"b": [1, -1, 1.5, null, true, "x", 18446744073709551615]}"#).expect("good");
    assert_eq!(value, serde_json::json!({"b": [1, -1, 1.5, null, true, "x", 18446744073709551615u64]}));
}

#[test]
fn very_many_unexpected_members_do_not_take_long() {
    let members: Vec<String> = (0..200_000).map(|n| format!("\"k{n}\": 0")).collect();
    let text = format!("{{\"handle\": 1, {}}}", members.join(", "));
    assert_eq!(bind::<FileReadArgs>(&text).unwrap_err(), "Parameter 'k0' is unexpected");
}
