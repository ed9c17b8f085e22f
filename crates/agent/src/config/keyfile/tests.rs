use proptest::prelude::*;

use super::*;

fn value(text: &[u8], key: &str) -> Result<Option<String>, String> {
    KeyFile::parse(text)?.string("general", key)
}

#[test]
fn values_are_what_stands_after_the_first_equals_sign() {
    // (file, value of "path")
    let table: &[(&[u8], Option<&str>)] = &[
        (b"", None),
        (b"\n\n", None),
        (b"[general]\n", None),
        (b"[general]\npath=x", Some("x")),
        (b"[general]\npath=x\n", Some("x")),
        (b"[general]\n  path \t= \t x\n", Some("x")),
        (b"[general]\npath=x \t\n", Some("x \t")),
        (b"[general]\npath=x # text\n", Some("x # text")),
        (b"[general]\npath=a=b\n", Some("a=b")),
        (b"[general]\npath=\"x\"\n", Some("\"x\"")),
        (b"[general]\npath=\n", Some("")),
        (b"[general]\r\npath=x\r\n", Some("x")),
        (b"[general]\r\npath=x\r", Some("x\r")),
        (b"[general]\npath=a\npath=b\n", Some("b")),
        (b"[general]\npath=a\n[other]\npath=c\n[general]\npath=b\n", Some("b")),
        (b"[general]\npath=a\n[other]\npath=c\n[general]\nfoo=b\n", Some("a")),
        (b"[other]\npath=c\n", None),
        (b"[General]\npath=c\n", None),
        (b"[general]\nPath=c\n", None),
        (b"[general]  \npath=x\n", Some("x")),
        (b" [general]\npath=x\n", Some("x")),
        (b"# c\n[general]\n \t# path=y\npath=x\n", Some("x")),
        (b"[general]\npath[de]=y\n", None),
        (b"[general]\npath=\\s\\ta\\nb\\rc\\\\d\n", Some(" \ta\nb\rc\\d")),
        (b"[general]\npath=a;b\n", Some("a;b")),
        (b"[general]\nfoo=\xff\npath=x\n", Some("x")),
        (b"[gen\xfferal]\nfoo=\xff\n[general]\npath=x\n", Some("x")),
        (b"[general]\nb\xff=1\npath=x\n", Some("x")),
        ("[general]\npath=/tmp/ü\n".as_bytes(), Some("/tmp/ü")),
    ];
    for (text, expected) in table {
        assert_eq!(value(text, "path"), Ok(expected.map(str::to_owned)), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn what_is_no_key_file_is_refused_in_glibs_words() {
    let line = |l: &str| format!("Key file contains line “{l}” which is not a key-value pair, group, or comment");
    let bad = |k: &str| format!("Key file contains key “{k}” which has a value that cannot be interpreted.");
    let table: &[(&[u8], String)] = &[
        (b"[general]\nnothing\n", line("nothing")),
        (b"[general]\n; comment\n", line("; comment")),
        (b"[general]\n=x\n", line("=x")),
        (b"[general]x\na=b\n", line("[general]x")),
        (b"[general\na=b\n", line("[general")),
        (b"[general]\n\xff\n", line("\u{fffd}")),
        (b"[general]\n\x1b[2J\n", line("\u{fffd}[2J")),
        (b"\xef\xbb\xbf[general]\n", line("\u{feff}[general]")),
        (b"path=x\n", "Key file does not start with a group".into()),
        (b"[general]\na[b=x\n", "Invalid key name: a[b".into()),
        (b"[general]\na]=x\n", "Invalid key name: a]".into()),
        (b"[ge[neral]\n", "Invalid group name: ge[neral".into()),
        (b"[]\n", "Invalid group name: ".into()),
        (b"[general]\npath=a\\\n", bad("path")),
        (b"[general]\npath=a\\x41\n", bad("path")),
        (b"[general]\npath=a\\;\n", bad("path")),
        (b"[general]\npath=a\0b\n", bad("path")),
        (b"[general]\npath=a\xffb\n", "Key file contains key “path” with value “a\u{fffd}b” which is not UTF-8".into()),
    ];
    for (text, expected) in table {
        assert_eq!(value(text, "path"), Err(expected.clone()), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn booleans_are_true_false_1_and_0_and_nothing_else() {
    let read = |v: &str| KeyFile::parse(format!("[general]\nk={v}\n").as_bytes()).unwrap().boolean("general", "k");
    for (text, expected) in [("true", true), ("1", true), ("false", false), ("0", false), ("true \t", true)] {
        assert_eq!(read(text), Ok(Some(expected)));
    }
    for text in ["yes", "True", "maybe", "", "01", "true x", "10"] {
        assert!(read(text).unwrap_err().contains("key “k” which has a value that cannot be interpreted"), "{text}");
    }
}

#[test]
fn numbers_are_decimal_and_64_bits_wide() {
    let read = |v: &str| KeyFile::parse(format!("[g]\nk={v}\n").as_bytes()).unwrap().integer("g", "k");
    assert_eq!(read("1000"), Ok(Some(1000)));
    assert_eq!(read("-5 "), Ok(Some(-5)));
    assert_eq!(read("9223372036854775807"), Ok(Some(i64::MAX)));
    for text in ["", "x", "9223372036854775808", "0x10", "1 2", "1.0"] {
        assert!(read(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(file) = KeyFile::parse(&bytes) {
            for group in file.groups() {
                for key in file.keys(group) {
                    let _ = file.string(group, key);
                }
            }
        }
    }

    #[test]
    fn what_is_escaped_reads_back_the_same(text in "[ \t\r\n\\\\a-zü=#;\\[\\]]{0,30}") {
        let file = format!("[general]\npath={}\nend=1\n", escape(&text));
        prop_assert_eq!(value(file.as_bytes(), "path").unwrap(), Some(text));
    }
}
