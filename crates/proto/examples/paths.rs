//! What a message goes through, one part at a time and so many times over, for counting instructions:
//! `paths PART TIMES`. Run by `tests/instructions.rs`.

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use qga_proto::base64::{self, Decoder};
use qga_proto::bind;
use qga_proto::frame::{Frame, Framer, Limits};
use qga_proto::json;
use qga_proto::types::memory::{GuestMemoryBlock, SetMemoryBlocksArgs};

/// Bytes of the file in the large message, and members of the lists.
const BYTES: usize = 256 << 10;
const MEMBERS: usize = 2_000;

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let (Some(part), Some(Ok(times))) = (args.next(), args.next().map(|times| times.parse::<u32>())) else {
        eprintln!("usage: paths PART TIMES");
        return ExitCode::FAILURE;
    };
    let bytes: Vec<u8> = (0..BYTES).map(|n| (n * 7 % 251) as u8).collect();
    let mut text = Vec::new();
    base64::encode_into(&mut text, &bytes);
    let text = String::from_utf8(text).unwrap_or_default();
    let large = format!(r#"{{"execute":"guest-file-write","arguments":{{"handle":1000,"buf-b64":"{text}"}}}}"#);
    let blocks: Vec<_> = (0..MEMBERS as u64)
        .map(|phys_index| GuestMemoryBlock { phys_index, online: true, can_offline: Some(true) })
        .collect();
    let mut list = b"{\"mem-blks\": ".to_vec();
    json::write(&mut list, &blocks);
    list.push(b'}');
    let small = r#"{"execute":"guest-sync","arguments":{"id":1234567}}"#.repeat(MEMBERS);
    let mut framer = Framer::new(Limits::default());
    framer.push(large.as_bytes());
    let Some(Frame::Document(document)) = framer.next() else { return ExitCode::FAILURE };
    let mut out = Vec::with_capacity(2 * BYTES);
    for _ in 0..times {
        match part.as_str() {
            "framer-large" => frames(&mut framer, large.as_bytes()),
            "framer-small" => frames(&mut framer, small.as_bytes()),
            "reader-large" => drop(black_box(json::read_document(&document))),
            "reader-list" => drop(black_box(json::read(&list))),
            "bind-list" => {
                let node = json::read(&list);
                drop(black_box(node.and_then(bind::from_node::<SetMemoryBlocksArgs>)));
            }
            "writer-list" => {
                out.clear();
                json::write(&mut out, black_box(&blocks));
            }
            "base64-encode" => {
                out.clear();
                base64::encode_into(&mut out, black_box(&bytes));
            }
            "base64-check" => drop(black_box(base64::check(&text))),
            "base64-decode" => {
                let mut piece = [0; 64 << 10];
                let mut decoder = Decoder::new(&text);
                while decoder.next_piece(&mut piece).is_ok_and(|count| count > 0) {
                    black_box(&piece);
                }
            }
            _ => {
                eprintln!("no such part: {part}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Through the framer as it would come from a socket.
fn frames(framer: &mut Framer, stream: &[u8]) {
    for piece in stream.chunks(64 << 10) {
        let space = framer.space(piece.len());
        space[..piece.len()].copy_from_slice(piece);
        framer.filled(piece.len());
        while let Some(frame) = framer.next() {
            if let Frame::Document(document) = black_box(frame) {
                framer.reuse(document);
            }
        }
    }
}
