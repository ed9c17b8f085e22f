use proptest::prelude::*;

use super::input::{KEEP, TAKE_OVER};
use super::*;

const PING: &str = r#"{"execute":"guest-ping"}"#;

/// What comes out when the input arrives in these pieces.
fn frames_of<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut framer = Framer::new(limits);
    let mut found = Vec::new();
    for piece in pieces {
        framer.push(piece);
        while let Some(frame) = framer.next() {
            found.push(match frame {
                Frame::Document(document) => String::from_utf8_lossy(document.as_bytes()).into_owned(),
                Frame::Resync => "resync".to_owned(),
                Frame::Broken(error) => format!("error: {}", error.desc),
            });
        }
    }
    found
}

fn frames(input: impl AsRef<[u8]>) -> Vec<String> {
    frames_of(Limits::default(), [input.as_ref()])
}

fn parse_error(text: &str) -> String {
    format!("error: JSON parse error, {text}")
}

#[test]
fn documents_need_no_newline_and_may_be_any_value() {
    assert_eq!(
        frames("{}{} [1, {\"a\": [true]}]\"s\"'t' 12 null\n"),
        ["{}", "{}", "[1, {\"a\": [true]}]", "\"s\"", "'t'", "12", "null"]
    );
}

#[test]
fn nothing_of_a_request_stays_in_the_buffer() {
    let mut framer = Framer::new(Limits::default());
    framer.push(br#"{"password": "#);
    assert!(framer.next().is_none());
    framer.push(br#""czNjcmV0"}"#);
    assert!(matches!(framer.next(), Some(Frame::Document(_))));
    assert!(framer.next().is_none());
    assert!(framer.input.buf.iter().all(|&b| b == 0));
    framer.push(br#"{"password": "czNj"#);
    assert!(framer.next().is_none());
    framer.reset();
    assert!(framer.input.buf.iter().all(|&b| b == 0));
}

#[test]
fn a_number_or_a_word_at_top_level_waits_for_what_follows() {
    assert_eq!(frames("12"), [""; 0]);
    assert_eq!(frames("12 "), ["12"]);
    assert_eq!(frames("true"), [""; 0]);
    assert_eq!(frames("true{}"), ["true", "{}"]);
}

#[test]
fn a_newline_in_a_string_costs_one_error_and_the_next_request_is_understood() {
    let input = format!("{{\"execute\":\"guest-pi\n\"}}{PING}");
    assert_eq!(frames(input), [parse_error("stray '\n'"), PING.into()]);
}

#[test]
fn after_a_broken_message_the_next_line_is_understood_whatever_was_left_open() {
    for broken in
        ["{\"a\":[1,}", "{\"a\":[[{", "{\"a\": @ [", "{\"a\":\"b", "[{'a' 1, \"b", "{\"a\": 1e [", "{\"a\":\"\\"]
    {
        let found = frames(format!("{broken}\n  {PING}\n{PING}"));
        assert_eq!(found.len(), 3, "{broken}: {found:?}");
        assert!(found[0].starts_with("error"), "{broken}: {found:?}");
        assert_eq!(found[1..], [PING, PING], "{broken}");
    }
}

#[test]
fn lines_of_a_broken_message_that_begin_otherwise_are_dropped_and_counted() {
    assert_eq!(frames(format!("{{\n\"a\": @,\n\"b\": [1]\n}}{PING}")), [parse_error("stray '@'"), PING.into()]);
    assert_eq!(frames(format!("[1 2\n, [\n]\n]\n{PING}")), [parse_error("expected ',' or ']'"), PING.into()]);
}

#[test]
fn a_bracket_that_ends_a_number_wrongly_still_closes() {
    for number in ["1.", "-", "1e", "1e+"] {
        let found = frames(format!("{{\"id\":{number}}}{PING}"));
        assert_eq!(found, [parse_error(&format!("stray '{number}}}'")), PING.into()]);
    }
}

#[test]
fn one_broken_message_is_one_error_however_many_faults_it_has() {
    for broken in ["{\"a\": @, \"b\": @, \"c\": {\"d\": 01}}", "{\"a\" 1, \"b\": @, \"c\": 2}", "[1 2 3 {] ]"] {
        let found = frames(format!("{broken}\n{PING}"));
        assert_eq!(found.len(), 2, "{broken}: {found:?}");
        assert_eq!(found[1], PING);
    }
}

#[test]
fn a_control_character_abandons_a_message() {
    for character in ["\0", "\u{1b}"] {
        let found = frames(format!("{{\"execute\":\"guest-ping\",{character}{PING}"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], PING);
    }
    assert_eq!(frames(format!("{{,\0\0}} ] 1\n{PING}")), [parse_error("expecting key"), PING.into()]);
}

#[test]
fn ff_drops_everything_in_every_state_and_says_nothing() {
    for before in ["", " ", "{", "{\"a", "{\"a\\", "[1", "nul", "-", "{,", "{\"a\":[1,}", "@", "{@", "{\"a\": \0"] {
        assert_eq!(after_0xff(before), [frames(before), vec!["resync".into(), PING.into()]].concat(), "{before}");
    }
}

#[test]
fn a_word_or_a_number_that_0xff_cuts_off_is_dropped_like_all_that_had_begun() {
    for before in ["es", "true", "5", "-1.5e3", "[}]es", "{nul", "{5", "{\"a\" 5", "[1 2"] {
        assert_eq!(after_0xff(before), [frames(before), vec!["resync".into(), PING.into()]].concat(), "{before}");
    }
}

/// What is found in this, a byte 0xFF and a request.
fn after_0xff(before: &str) -> Vec<String> {
    frames([before.as_bytes(), b"\xff", PING.as_bytes()].concat())
}

#[test]
fn errors_never_show_the_inside_of_a_string() {
    for end in ["\n", "\u{1}", "\t"] {
        let found = frames(format!("{{\"password\":\"hunter2{end}\"}}\n"));
        assert!(found.iter().all(|text| !text.contains("hunter2")), "{found:?}");
    }
}

#[test]
fn an_error_shows_what_was_read_and_no_more_than_fits() {
    assert_eq!(frames("-x\n"), [parse_error("stray '-x'")]);
    assert_eq!(frames(b"\xfd\n"), [parse_error("stray '\u{fffd}'")]);
    assert_eq!(frames(b"\0"), [parse_error("stray ''")]);
    let long = frames(format!("{}\n", "x".repeat(5000)));
    assert_eq!(long, [parse_error(&format!("invalid keyword '{}", "x".repeat(1006)))]);
}

#[test]
fn the_deepest_message_is_accepted_and_one_level_more_is_one_error() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(frames(nested(1024)), [nested(1024)]);
    assert_eq!(frames(nested(1025) + PING), ["error: JSON nesting depth limit exceeded", PING]);
}

#[test]
fn tokens_are_counted() {
    let limits = Limits { tokens: 7, ..Limits::default() };
    assert_eq!(
        frames_of(limits, [&b"[1,2,3] [1,2,3,4] {}"[..]]),
        ["[1,2,3]", "error: JSON token count limit exceeded", "{}"]
    );
}

#[test]
fn as_many_tokens_as_the_c_agent_takes_are_taken() {
    let list = |numbers: usize| format!("[{}1]", "1,".repeat(numbers - 1));
    assert_eq!(frames(list(1_048_575)).len(), 1);
    assert_eq!(frames(list(1_048_576)), ["error: JSON token count limit exceeded"]);
}

#[test]
fn bytes_are_counted_without_white_space_and_a_string_is_not_read_to_its_end_first() {
    let limits = Limits { bytes: 10, ..Limits::default() };
    let size = "error: JSON token size limit exceeded";
    assert_eq!(frames_of(limits, [&b"\"1234567\"{}"[..]]), ["\"1234567\"", "{}"]);
    assert_eq!(frames_of(limits, [&b"\"12345678\"{}"[..]]), [size, "{}"]);
    assert_eq!(frames_of(limits, [&b"\"1234567890abc"[..]]), [size]);
    assert_eq!(frames_of(limits, [&b"\"1234567890abc{\"{}"[..]]), [size, "{}"]);
    assert_eq!(frames_of(limits, [&b"[1,  2,  3,  4]{}"[..]]), ["[1,  2,  3,  4]", "{}"]);
    assert_eq!(frames_of(limits, [&b"[1,2,3,4,5,[6]]{}"[..]]), [size, "{}"]);
    assert_eq!(frames_of(limits, [&b"12345678901234 {}"[..]]), [size, "{}"]);
    assert_eq!(frames_of(limits, [&b"abcdefghijklmn {}"[..]]), [size, "{}"]);
    let blanks = format!("[{}1]{{}}", " ".repeat(21));
    assert_eq!(frames_of(limits, [blanks.as_bytes()]), [size, "{}"]);
}

#[test]
fn the_largest_string_is_taken_and_one_byte_more_is_refused_without_keeping_it() {
    let mut framer = Framer::new(Limits::default());
    let piece = vec![b'a'; 1 << 20];
    let feed = |framer: &mut Framer, mut len: usize| {
        framer.push(b"\"");
        let mut found = Vec::new();
        while len > 0 {
            let count = len.min(piece.len());
            framer.push(&piece[..count]);
            found.extend(framer.next());
            len -= count;
        }
        framer.push(b"\"");
        found.extend(framer.next());
        found
    };
    let found = feed(&mut framer, (64 << 20) - 3);
    assert!(matches!(&found[..], [Frame::Document(document)] if document.as_bytes().len() == (64 << 20) - 1));
    let found = feed(&mut framer, (64 << 20) - 2);
    assert!(matches!(&found[..], [Frame::Broken(_)]), "{found:?}");
    let found = feed(&mut framer, 80 << 20);
    assert!(matches!(&found[..], [Frame::Broken(_)]), "{found:?}");
    assert_eq!(framer.pending(), 0);
    // It is there for the next one until somebody says that there is none.
    assert!(framer.has_spare());
    framer.release();
    assert!(framer.input.buf.capacity() <= KEEP, "{}", framer.input.buf.capacity());
}

#[test]
fn the_memory_of_a_large_message_serves_the_next_but_never_while_something_is_held() {
    let large = format!("[\"{}\"]", "x".repeat(KEEP + 1));
    let mut framer = Framer::new(Limits::default());
    let message = |framer: &mut Framer| {
        framer.push(large.as_bytes());
        match framer.next() {
            Some(Frame::Document(document)) => {
                assert!(document.as_bytes() == large.as_bytes());
                document
            }
            other => panic!("{other:?}"),
        }
    };
    let first = message(&mut framer);
    let address = first.bytes.as_ptr();
    framer.reuse(first);
    assert!(framer.has_spare());
    framer.push(b"[1]");
    assert!(matches!(framer.next(), Some(Frame::Document(document)) if document.as_bytes() == b"[1]"));
    let second = message(&mut framer);
    assert_eq!(second.bytes.as_ptr(), address);
    framer.push(b"[2");
    framer.reuse(second);
    assert!(!framer.has_spare());
    framer.push(b"]");
    assert!(matches!(framer.next(), Some(Frame::Document(document)) if document.as_bytes() == b"[2]"));
}

#[test]
fn a_broken_message_of_any_length_needs_no_memory() {
    let mut framer = Framer::new(Limits::default());
    framer.push(b"{,");
    assert!(matches!(framer.next(), Some(Frame::Broken(_))));
    for _ in 0..256 {
        framer.push(&[b'1'; 65536]);
        assert!(framer.next().is_none());
        assert_eq!(framer.pending(), 0);
    }
    assert!(framer.input.buf.capacity() <= KEEP);
}

#[test]
fn white_space_between_messages_is_not_kept() {
    let mut framer = Framer::new(Limits::default());
    for _ in 0..256 {
        framer.push(&[b' '; 65536]);
        assert!(framer.next().is_none());
        assert_eq!(framer.pending(), 0);
    }
}

#[test]
fn a_large_message_takes_the_buffer_over_and_what_follows_is_kept() {
    let large = format!("\"{}\"", "x".repeat(TAKE_OVER));
    let mut framer = Framer::new(Limits::default());
    framer.push(b"[1]");
    framer.push(large.as_bytes());
    framer.push(b"[2][3");
    let address = framer.input.buf.as_ptr();
    let mut next = || match framer.next() {
        Some(Frame::Document(document)) => document,
        other => panic!("{other:?}"),
    };
    assert_eq!(next().as_bytes(), b"[1]");
    let document = next();
    assert_eq!(document.as_bytes(), large.as_bytes());
    assert_eq!(document.bytes.as_ptr(), address, "it was not copied");
    assert_eq!(next().as_bytes(), b"[2]");
    assert_eq!(framer.pending(), 2);
}

#[test]
fn input_may_be_read_straight_into_the_framer() {
    let mut framer = Framer::new(Limits::default());
    let room = framer.space(PING.len());
    room[..PING.len()].copy_from_slice(PING.as_bytes());
    framer.filled(10);
    assert!(framer.next().is_none());
    assert_eq!(framer.pending(), 10);
    framer.space(100)[..PING.len() - 10].copy_from_slice(&PING.as_bytes()[10..]);
    framer.filled(PING.len() - 10);
    assert!(matches!(framer.next(), Some(Frame::Document(document)) if document.as_bytes() == PING.as_bytes()));
}

#[test]
fn a_reset_drops_what_was_left_unfinished() {
    for left in ["{\"execute\":\"gue", "{\"a\" 1", "{,", "@@", "[", "12"] {
        let mut framer = Framer::new(Limits::default());
        framer.push(left.as_bytes());
        while framer.next().is_some() {}
        framer.reset();
        assert_eq!(framer.pending(), 0);
        framer.push(PING.as_bytes());
        assert!(matches!(framer.next(), Some(Frame::Document(document)) if document.as_bytes() == PING.as_bytes()));
    }
}

/// Bytes of which messages are made, and some that break them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec!["{", "}", "[", "]", ":", ",", "\"", "'", "\\", "\n", " ", "\t"]).prop_map(Vec::from),
        3 => prop::sample::select(vec!["\"a\":", "\"b\"", "1", "0", "-", ".5", "e1", "true", "nul", PING, "\r\n"])
            .prop_map(Vec::from),
        1 => any::<u8>().prop_map(|b| vec![b]),
        1 => prop::sample::select(vec![0x00, 0x1b, 0x7f, 0x80, 0xfe, 0xff]).prop_map(|b| vec![b]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn it_does_not_matter_how_the_input_is_cut(
        input in stream(),
        cuts in prop::collection::vec(1usize..9, 1..20),
        bytes in 4usize..40,
    ) {
        let limits = Limits { depth: 4, tokens: 20, bytes };
        let whole = frames_of(limits, [&input[..]]);
        prop_assert_eq!(&frames_of(limits, input.chunks(1)), &whole);
        let mut rest = &input[..];
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*cut));
            pieces.push(piece);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&frames_of(limits, pieces), &whole);
    }

    #[test]
    fn whatever_came_before_a_resync_is_understood(input in stream()) {
        let request = br#"{"execute":"guest-sync-delimited","arguments":{"id":5}}"#;
        let input = [&input[..], b"\xff", request].concat();
        let found = frames(input);
        prop_assert_eq!(found.last().map(String::as_bytes), Some(&request[..]));
        prop_assert_eq!(found[found.len() - 2].as_str(), "resync");
    }

    #[test]
    fn whatever_was_broken_the_second_line_after_it_is_understood(input in stream()) {
        let input = [&input[..], b"
", PING.as_bytes(), b"
", PING.as_bytes(), b"
"].concat();
        let found = frames(&input);
        // An unfinished list or object may take up the first request as its element; it breaks at the second.
        prop_assert_eq!(found.last().map(String::as_str), Some(PING));
    }

    #[test]
    fn what_the_framer_passes_the_reader_refuses_only_for_its_contents(input in stream()) {
        for text in frames(input) {
            if text.starts_with("error") || text == "resync" {
                continue;
            }
            if let Err(error) = crate::json::read(text.as_bytes()) {
                let known = ["duplicate key", "escape", "Unicode character", "UTF-8"];
                prop_assert!(known.iter().any(|known| error.desc.contains(known)), "{} {:?}", error.desc, text);
            }
        }
    }
}

#[test]
fn a_document_is_read_the_same_whether_or_not_the_framer_has_looked_at_its_strings() {
    let long = "a".repeat(100);
    let plain = [
        r#"{"execute":"guest-sync","arguments":{"id":1}}"#.to_owned(),
        format!(r#"["", "{long}", '{long}"', "it's", 'a"b']"#),
        r#""""#.to_owned(),
        "[]".to_owned(),
    ];
    let not_plain = [
        r#"["a\nb"]"#.to_owned(),
        format!(r#"["{long}\"{long}"]"#),
        format!(r#"['{long}\'']"#),
        format!("[\"{long}ä\", \"b\"]"),
        format!("{{\"{long}ä\": 1}}"),
    ];
    let mut framer = Framer::new(Limits::default());
    for (text, is_plain) in plain.iter().map(|text| (text, true)).chain(not_plain.iter().map(|text| (text, false))) {
        // One behind the other, each in pieces as well: nothing is taken over from the message before.
        for piece in [1, 7, 1000] {
            let mut documents = Vec::new();
            for part in text.as_bytes().chunks(piece) {
                framer.push(part);
                while let Some(frame) = framer.next() {
                    match frame {
                        Frame::Document(document) => documents.push(document),
                        other => panic!("{other:?} in {text}"),
                    }
                }
            }
            let [document] = documents.as_slice() else { panic!("{documents:?}") };
            assert_eq!(document.is_plain(), is_plain, "{text}");
            assert_eq!(crate::json::read_document(document), crate::json::read(text.as_bytes()), "{text}");
        }
    }
}
