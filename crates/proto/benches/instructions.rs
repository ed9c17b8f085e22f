//! What a message costs in instructions, whatever the machine's speed: `cargo bench` counts them by callgrind, and
//! fails when a part takes more than its limit. Run by `tests/instructions.rs`.

// What the macros make is public and has no documentation.
#![allow(missing_docs)]

use std::hint::black_box;

use iai_callgrind::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use qga_proto::base64::{self, Decoder};
use qga_proto::bind;
use qga_proto::frame::{Document, Frame, Framer, Limits};
use qga_proto::json::{self, ListWriter};
use qga_proto::types::memory::{GuestMemoryBlock, SetMemoryBlocksArgs};
use qga_proto::types::network::GuestNetworkRoute;

/// Bytes of the file in the large message, and members of the lists.
const BYTES: usize = 256 << 10;
const MEMBERS: usize = 2_000;

/// At most so many instructions for each byte or member: what was counted, and a little for another compiler.
fn at_most(each: f64, count: usize) -> LibraryBenchmarkConfig {
    let limit = (each * count as f64) as u64;
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, limit)]));
    config
}

fn bytes() -> Vec<u8> {
    (0..BYTES).map(|n| (n * 7 % 251) as u8).collect()
}

fn text() -> String {
    let mut text = Vec::new();
    base64::encode_into(&mut text, &bytes());
    String::from_utf8(text).unwrap()
}

fn large_message() -> Vec<u8> {
    format!(r#"{{"execute":"guest-file-write","arguments":{{"handle":1000,"buf-b64":"{}"}}}}"#, text()).into_bytes()
}

fn small_messages() -> Vec<u8> {
    r#"{"execute":"guest-sync","arguments":{"id":1234567}}"#.repeat(MEMBERS).into_bytes()
}

fn blocks() -> Vec<GuestMemoryBlock> {
    (0..MEMBERS as u64)
        .map(|phys_index| GuestMemoryBlock { phys_index, online: true, can_offline: Some(true) })
        .collect()
}

fn routes() -> Vec<GuestNetworkRoute> {
    let route = |metric: i64| GuestNetworkRoute {
        iface: "eth0".into(),
        destination: "10.0.123.45".into(),
        metric,
        gateway: Some("0.0.0.0".into()),
        mask: Some("255.255.255.255".into()),
        irtt: Some(0),
        flags: Some(5),
        refcnt: Some(0),
        usage: Some(0),
        window: Some(0),
        mtu: Some(0),
        version: 4,
        ..GuestNetworkRoute::default()
    };
    (0..MEMBERS as i64).map(route).collect()
}

fn list_of_blocks() -> Vec<u8> {
    let mut list = b"{\"mem-blks\": ".to_vec();
    json::write(&mut list, &blocks());
    list.push(b'}');
    list
}

/// A framer that has had a message of this kind before, and so has the memory for it.
fn framer(stream: Vec<u8>) -> (Framer, Vec<u8>) {
    let mut framer = Framer::new(Limits::default());
    through(&mut framer, &stream);
    (framer, stream)
}

/// Through the framer as it would come from a socket.
fn through(framer: &mut Framer, stream: &[u8]) {
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

fn document() -> Document {
    let mut framer = Framer::new(Limits::default());
    framer.push(&large_message());
    match framer.next() {
        Some(Frame::Document(document)) => document,
        other => panic!("{other:?}"),
    }
}

#[library_benchmark(setup = framer)]
#[bench::large(args = (large_message()), config = at_most(5.4, BYTES))]
#[bench::small(args = (small_messages()), config = at_most(3600.0, MEMBERS))]
fn framing((mut framer, stream): (Framer, Vec<u8>)) -> (Framer, Vec<u8>) {
    through(&mut framer, black_box(&stream));
    (framer, stream)
}

#[library_benchmark]
#[bench::large(args = (document()), config = at_most(0.8, BYTES))]
fn reading_a_document(document: Document) -> Document {
    drop(black_box(json::read_document(&document)));
    document
}

#[library_benchmark]
#[bench::list(args = (list_of_blocks()), config = at_most(4050.0, MEMBERS))]
fn reading(text: Vec<u8>) -> Vec<u8> {
    drop(black_box(json::read(&text)));
    text
}

#[library_benchmark]
#[bench::list(args = (list_of_blocks()), config = at_most(4500.0, MEMBERS))]
fn reading_and_binding(text: Vec<u8>) -> Vec<u8> {
    drop(black_box(json::read(&text).and_then(bind::from_node::<SetMemoryBlocksArgs>)));
    text
}

#[library_benchmark]
#[bench::list(args = (blocks(), Vec::with_capacity(1 << 20)), config = at_most(285.0, MEMBERS))]
fn writing(blocks: Vec<GuestMemoryBlock>, mut out: Vec<u8>) -> (Vec<GuestMemoryBlock>, Vec<u8>) {
    json::write(&mut out, black_box(&blocks));
    (blocks, out)
}

#[library_benchmark]
#[bench::list(args = (routes(), Vec::with_capacity(1 << 20)), config = at_most(1190.0, MEMBERS))]
fn writing_item_by_item(routes: Vec<GuestNetworkRoute>, mut out: Vec<u8>) -> (Vec<GuestNetworkRoute>, Vec<u8>) {
    let mut list = ListWriter::new(&mut out);
    for route in black_box(&routes) {
        list.item(route);
    }
    list.finish();
    (routes, out)
}

#[library_benchmark]
#[bench::encode(args = (bytes(), Vec::with_capacity(2 * BYTES)), config = at_most(2.75, BYTES))]
fn encoding(bytes: Vec<u8>, mut out: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    base64::encode_into(&mut out, black_box(&bytes));
    (bytes, out)
}

#[library_benchmark]
#[bench::check(args = (text()), config = at_most(1.85, BYTES))]
fn checking(text: String) -> String {
    let _ = black_box(base64::check(&text));
    text
}

#[library_benchmark]
#[bench::decode(args = (text(), vec![0; 64 << 10]), config = at_most(1.75, BYTES))]
fn decoding(text: String, mut piece: Vec<u8>) -> (String, Vec<u8>) {
    let mut decoder = Decoder::new(&text);
    while decoder.next_piece(&mut piece).is_ok_and(|count| count > 0) {
        black_box(&piece);
    }
    (text, piece)
}

library_benchmark_group!(
    name = messages;
    benchmarks = framing, reading_a_document, reading, reading_and_binding, writing, writing_item_by_item, encoding, checking, decoding
);

main!(library_benchmark_groups = messages);
