//! What we answer differently on purpose must be written down.

use std::sync::LazyLock;

use qga_testkit::Kind;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/differences.md");
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
});

/// Whether a line of a table in `docs/differences.md` starts with this id.
fn is_listed(id: &str) -> bool {
    DOCUMENT.lines().any(|line| line.starts_with(&format!("| {id} |")))
}

/// Whether `docs/differences.md` gives this reason in these words.
pub(crate) fn has_reason(reason: &str) -> bool {
    DOCUMENT.lines().any(|line| line.starts_with("| ") && line.contains(reason))
}

/// What the agent under test does in a case where the two differ.
#[track_caller]
pub(crate) fn differs<T>(id: &str, ours: T, c: T) -> T {
    assert!(is_listed(id), "the difference '{id}' is not in docs/differences.md");
    match crate::PROGRAM.kind() {
        Kind::Ours => ours,
        Kind::C(_) => c,
    }
}

/// What the agent under test does in a case where old C agents (7.2 is the one in use) differ from ours and today's.
pub(crate) fn today_or_7<T>(now: T, before: T) -> T {
    match crate::PROGRAM.kind() {
        Kind::C(..10) => before,
        _ => now,
    }
}

#[test]
fn every_difference_has_an_id_of_its_own_and_a_reason() {
    let mut ids = Vec::new();
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id |"));
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() >= 4 && cells.iter().all(|cell| !cell.is_empty()), "a row with an empty cell: {row}");
        assert!(!ids.contains(&cells[0]), "the id '{}' stands twice", cells[0]);
        ids.push(cells[0]);
    }
    assert!(ids.len() >= 10, "only {} differences were found", ids.len());
}
