//! `docs/commands.md`, made from the table.

use std::fmt::Write;
use std::{env, fs};

use super::{COMMANDS, Lane};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");

const HEAD: &str = "\
# Commands

Made from the table in `crates/agent/src/commands/mod.rs` by `UPDATE_DOCS=1 cargo test -p qemu-ga --lib document`; do not
edit. Arguments, results and their meaning are in the documentation of `qga_proto::types`.

*Since* is the release of QEMU that brought the command. *Runs* says where: `loop` never waits, `worker` may take its
time, and a host that has waited long enough resynchronises past it. *Frozen* says whether it may be called while file
systems are frozen, *answers* whether it answers when it succeeds (the four that do not end or suspend the guest; an
error is always told).

| command | since | runs | frozen | answers | needs |
|---|---|---|---|---|---|
";

fn document() -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut text = HEAD.to_owned();
    for entry in COMMANDS {
        let lane = match entry.lane {
            Lane::Instant => "loop",
            Lane::Worker | Lane::Thaw => "worker",
        };
        let needs = if entry.needs.is_empty() { "nothing" } else { entry.needs };
        let (frozen, answers) = (yes(entry.while_frozen), yes(entry.success_response));
        writeln!(text, "| `{}` | {} | {lane} | {frozen} | {answers} | {needs} |", entry.name, entry.since).unwrap();
    }
    text
}

#[test]
fn the_document_is_what_the_table_says() {
    let expected = document();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PATH, &expected).unwrap();
    }
    let is = fs::read_to_string(PATH).unwrap_or_default();
    assert!(is == expected, "docs/commands.md is out of date; write it with UPDATE_DOCS=1");
}

#[test]
fn every_command_says_since_when_it_is_there() {
    for entry in COMMANDS {
        let numbers = entry.since.split('.').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>();
        assert!(numbers.is_ok_and(|numbers| numbers.len() >= 2), "{}: {}", entry.name, entry.since);
        assert!(!entry.needs.contains(['|', '\n']), "{}: {}", entry.name, entry.needs);
    }
}
