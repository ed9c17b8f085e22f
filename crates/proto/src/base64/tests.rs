use proptest::prelude::*;

use super::*;

fn refusal(text: &str) -> String {
    let error = decode(text).expect_err(text);
    assert_eq!(check(text).expect_err(text), error);
    error.desc.into_owned()
}

#[test]
fn newlines_may_stand_anywhere_and_padding_may_lack() {
    for (text, bytes) in [
        ("", ""),
        ("\n", ""),
        ("aGVsbG8=", "hello"),
        ("aGVsbG8", "hello"),
        ("aGVs\nbG8=\n", "hello"),
        ("\na\nG\nV\ns\nb\nG\n8\n=\n\n", "hello"),
        ("aGk=", "hi"),
        ("aGk", "hi"),
        ("aA==", "h"),
        ("aA=\n=", "h"),
        ("aA=", "h"),
        ("aA", "h"),
        // Bits behind the last whole byte mean nothing.
        ("aP==", "h"),
    ] {
        assert_eq!(decode(text).as_deref(), Ok(bytes.as_bytes()), "{text:?}");
        assert_eq!(check(text), Ok(bytes.len()), "{text:?}");
    }
}

#[test]
fn characters_outside_of_the_alphabet_are_refused_before_anything_else() {
    for text in ["!!", "aGVs bG8=", "aGVs\rbG8=", "a-_a", "aGk=!", "a\u{e9}==", "aGk\0", "=aGk!", "aGk=aGk=!"] {
        assert_eq!(refusal(text), INVALID, "{text:?}");
    }
    for b in 0..128u8 {
        let text = format!("aGk{}", char::from(b));
        let good = b.is_ascii_alphanumeric() || b"+/=\n".contains(&b);
        assert_eq!(decode(&text).is_ok(), good, "{text:?}");
    }
}

#[test]
fn data_that_would_be_lost_or_invented_is_refused() {
    assert_eq!(refusal("a"), INCOMPLETE);
    assert_eq!(refusal("aGVsb"), INCOMPLETE);
    assert_eq!(refusal("aGVsb==="), INCOMPLETE);
    assert_eq!(refusal("="), SURPLUS);
    assert_eq!(refusal("===="), SURPLUS);
    assert_eq!(refusal("aGVs="), SURPLUS);
    assert_eq!(refusal("aGk=="), SURPLUS);
    assert_eq!(refusal("aA==="), SURPLUS);
    assert_eq!(refusal("aGk=aGk="), CONTINUED);
    assert_eq!(refusal("aGVs=bG8="), CONTINUED);
}

#[test]
fn it_is_text_for_people_and_bytes_for_our_writer() {
    let bytes = Base64Bytes(b"hello".to_vec());
    assert_eq!(serde_json::to_string(&bytes).expect("written"), "\"aGVsbG8=\"");
    assert_eq!(serde_json::from_str::<Base64Bytes>("\"aGVs\\nbG8=\"").expect("read"), bytes);
    let mut out = Vec::new();
    crate::json::write(&mut out, &bytes);
    assert_eq!(out, b"\"aGVsbG8=\"");
}

#[test]
fn a_text_of_several_pieces_is_put_together_right() {
    let bytes: Vec<u8> = (0..ENCODE_PIECE * 2 + 1000).map(|n| (n * 7 % 256) as u8).collect();
    let mut out = b"x".to_vec();
    encode_into(&mut out, &bytes);
    let text = String::from_utf8(out.split_off(1)).expect("ASCII");
    assert_eq!(text, ::base64::Engine::encode(&::base64::engine::general_purpose::STANDARD, &bytes));
    assert_eq!(decode(&text), Ok(bytes));
}

fn decode_in_pieces(text: &str, size: usize) -> Result<Vec<u8>> {
    let mut decoder = Decoder::new(text);
    let mut out = Vec::new();
    let mut buf = vec![0; size];
    loop {
        let count = decoder.next_piece(&mut buf)?;
        if count == 0 {
            return Ok(out);
        }
        out.extend_from_slice(&buf[..count]);
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded_wherever_newlines_are_put(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        width in 1usize..80,
        size in 1usize..100,
        padded: bool,
    ) {
        let mut out = Vec::new();
        encode_into(&mut out, &bytes);
        let mut text = String::from_utf8(out).expect("ASCII");
        if !padded {
            text = text.trim_end_matches('=').to_owned();
        }
        let wrapped: String = text.as_bytes().chunks(width).flat_map(|line| [line, b"\n"].concat()).map(char::from).collect();
        for text in [&text, &wrapped] {
            prop_assert_eq!(decode(text), Ok(bytes.clone()));
            prop_assert_eq!(check(text), Ok(bytes.len()));
            prop_assert_eq!(decode_in_pieces(text, size), Ok(bytes.clone()));
        }
    }

    #[test]
    fn the_three_ways_agree_on_any_text(text in "[aG8/+=\n!]{0,24}", size in 1usize..20) {
        let whole = decode(&text);
        prop_assert_eq!(check(&text), whole.as_ref().map(Vec::len).map_err(Clone::clone));
        let pieces = decode_in_pieces(&text, size);
        match whole {
            Ok(bytes) => prop_assert_eq!(pieces, Ok(bytes)),
            Err(_) => prop_assert!(pieces.is_err()),
        }
    }
}

#[test]
fn what_stands_at_the_borders_of_windows_is_seen() {
    for at in [0, CHECK_WINDOW - 1, CHECK_WINDOW, CHECK_WINDOW + 1, 2 * CHECK_WINDOW, 3 * CHECK_WINDOW - 2] {
        let with = |byte: u8| {
            let mut text = vec![b'A'; 3 * CHECK_WINDOW];
            text[at] = byte;
            String::from_utf8(text).expect("ASCII")
        };
        assert_eq!(refusal(&with(b'!')), INVALID, "{at}");
        let padded = check(&with(b'=')).expect_err("symbols behind the padding").desc;
        assert_eq!(padded, CONTINUED, "{at}");
        // Three symbols are left over.
        assert_eq!(check(&with(b'\n')), Ok((3 * CHECK_WINDOW - 1) / 4 * 3 + 2), "{at}");
        let short = "A".repeat(at / 4 * 4) + "AA==";
        assert_eq!(check(&short), Ok(at / 4 * 3 + 1), "{at}");
    }
}
