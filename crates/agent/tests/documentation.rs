//! What the documents promise is there.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document(name: &str) -> String {
    let path = top().join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All source files below a directory.
fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                sources(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The words that follow `before` up to a character that no name has.
fn names_behind<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
        &rest[..end]
    })
}

/// The cells of a table's row, without those of its head.
fn rows(document: &str) -> impl Iterator<Item = Vec<&str>> {
    document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").map(str::trim).collect())
}

/// The names of all functions of the agent and of the tests.
fn functions() -> HashSet<String> {
    let mut files = Vec::new();
    sources(&top().join("crates"), &mut files);
    sources(&top().join("vm-tests"), &mut files);
    let mut functions = HashSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        functions.extend(names_behind(&text, "fn ").map(str::to_owned));
    }
    functions
}

#[test]
fn every_promise_has_a_test_that_is_there() {
    let functions = functions();
    let document = document("reliability.md");
    let mut promises = 0;
    for row in rows(&document).filter(|row| !["promise", "fault"].contains(&row[0])) {
        // A fault and what is done about it are two cells.
        assert!([2, 3].contains(&row.len()), "a row with another number of cells: {row:?}");
        let quoted: Vec<&str> = row[row.len() - 1].split('`').skip(1).step_by(2).collect();
        assert!(!quoted.is_empty(), "a promise without a test: {row:?}");
        for test in quoted {
            assert!(functions.contains(test), "the test `{test}` of '{}' does not exist", row[0]);
        }
        promises += 1;
    }
    assert!(promises > 20, "only {promises} promises were found");
}

#[test]
fn every_test_that_keeps_an_old_bug_away_is_there() {
    let functions = functions();
    let document = document("prior-bugs.md");
    let mut tests = 0;
    for row in rows(&document).filter(|row| row[0] != "bug") {
        assert_eq!(row.len(), 4, "a row with another number of cells: {row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "a row with an empty cell: {row:?}");
        let quoted: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
        assert!(
            !quoted.is_empty() || row[3].starts_with("no test"),
            "neither a test nor the word that there is none: {row:?}"
        );
        for test in quoted {
            assert!(functions.contains(test), "the test `{test}` of '{}' does not exist", row[0]);
            tests += 1;
        }
    }
    assert!(tests > 50, "only {tests} tests were found in the tables");
}

#[test]
fn the_readme_lists_every_command_once_and_how_many_there_are() {
    let text = fs::read_to_string(top().join("README.md")).unwrap();
    let section = text.split("\n## Commands\n").nth(1).expect("a section about commands");
    let section = section.split("\n## ").next().unwrap();
    let mut listed: Vec<&str> =
        rows(section).flat_map(|row| row[1].split('`').skip(1).step_by(2).collect::<Vec<_>>()).collect();
    let mut all: Vec<&str> = qemu_ga::commands::COMMANDS.iter().map(|entry| entry.name).collect();
    listed.sort_unstable();
    all.sort_unstable();
    assert_eq!(listed, all);
    assert!(section.contains(&format!("All {} ", all.len())), "the number is another");
}

#[test]
fn every_difference_that_a_test_names_is_listed() {
    let document = document("differences.md");
    let listed: HashSet<&str> = rows(&document).map(|row| row[0]).collect();
    let mut files = Vec::new();
    sources(&top().join("crates/agent/tests/conformance"), &mut files);
    let mut named = 0;
    for file in files {
        // A call may be broken after its parenthesis.
        let text = fs::read_to_string(&file).unwrap().replace("differs(\n", "differs(");
        let text = text.split("differs(").map(str::trim_start).collect::<Vec<_>>().join("differs(");
        for id in names_behind(&text, "differs(\"") {
            assert!(listed.contains(id), "{} names the difference '{id}', which is not listed", file.display());
            named += 1;
        }
    }
    assert!(named > 10, "only {named} differences were found in the tests");
}
