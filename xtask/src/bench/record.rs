//! Results in `docs/performance.md`: each table stands between two marks and is replaced by the next run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::proc::field;
use super::report::save;
use crate::process::{Result, output};

/// A file of the documentation.
pub(super) fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join("docs").join(name)
}

/// Puts a table in its place.
pub(super) fn table(mark: &str, table: &str) -> Result {
    let path = document("performance.md");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = replaced(&text, mark, table).ok_or_else(|| format!("{}: no place for {mark}", path.display()))?;
    save(&path, &text)
}

/// The text with what stands between `<!-- MARK -->` and `<!-- end of MARK -->` replaced.
fn replaced(text: &str, mark: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(&format!("<!-- {mark} -->"))?;
    let end = format!("<!-- end of {mark} -->");
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}<!-- {mark} -->\n\n{}\n\n{end}{after}", table.trim_end()))
}

/// What this machine is, in one line.
pub(super) fn machine() -> String {
    let told = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        field(&text, name).unwrap_or("unknown").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let say =
        |program: &str, args: &[&str]| output(Command::new(program).args(args)).unwrap_or_default().trim().to_owned();
    format!(
        "Measured {} on {} ({} processors, {} of memory, Linux {}, load {} at the end).",
        say("date", &["-u", "+%Y-%m-%d"]),
        told("/proc/cpuinfo", "model name"),
        say("nproc", &["--all"]),
        told("/proc/meminfo", "MemTotal"),
        say("uname", &["-r"]),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or("unknown"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_former_one_and_of_nothing_else() {
        let text = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n<!-- y -->\nother\n<!-- end of y -->\n";
        let new = replaced(text, "x", "| new |\n").unwrap();
        assert_eq!(new, "a\n<!-- x -->\n\n| new |\n\n<!-- end of x -->\nb\n<!-- y -->\nother\n<!-- end of y -->\n");
        assert_eq!(replaced(&new, "x", "| new |\n").unwrap(), new);
        assert_eq!(replaced(text, "z", ""), None);
    }

    #[test]
    fn the_document_has_a_place_for_each_table() {
        let text = fs::read_to_string(document("performance.md")).unwrap();
        for mark in ["comparison", "growth", "port"] {
            assert!(replaced(&text, mark, "").is_some(), "{mark}");
        }
    }
}
