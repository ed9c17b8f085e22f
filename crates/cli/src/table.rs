//! Tables for people: columns, no lines, nothing at the end of a row.

use std::fmt;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement};
use qga_client::printable;

use crate::output::has_colours;

/// A table whose cells may hold anything a guest says.
#[derive(Debug)]
pub(crate) struct Table {
    inner: comfy_table::Table,
    alignments: Vec<CellAlignment>,
}

/// One cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Field {
    text: String,
    mood: Mood,
}

/// What a cell says about how things are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Plain,
    Warning,
    Alarm,
}

impl Table {
    /// A table with these headings; a heading with `>` in front has its column aligned to the right.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut inner = plain();
        let alignments: Vec<CellAlignment> = headings
            .iter()
            .map(|heading| if heading.starts_with('>') { CellAlignment::Right } else { CellAlignment::Left })
            .collect();
        inner.set_header(headings.iter().zip(&alignments).map(|(heading, alignment)| {
            Cell::new(heading.trim_start_matches('>')).add_attribute(Attribute::Bold).set_alignment(*alignment)
        }));
        Table { inner, alignments }
    }

    /// A list of names and values, without headings.
    pub(crate) fn list<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut inner = plain();
        for (name, value) in rows {
            let name = Cell::new(name).add_attribute(Attribute::Bold);
            inner.add_row([name, Cell::new(lines(&value))]);
        }
        Table { inner, alignments: vec![CellAlignment::Left; 2] }
    }

    /// One more row.
    pub(crate) fn row<const N: usize>(&mut self, fields: [Field; N]) {
        self.inner.add_row(fields.into_iter().zip(&self.alignments).map(|(field, alignment)| {
            let cell = Cell::new(lines(&field.text)).set_alignment(*alignment);
            match field.mood {
                Mood::Plain => cell,
                Mood::Warning => cell.fg(Color::Yellow),
                Mood::Alarm => cell.fg(Color::Red),
            }
        }));
    }
}

/// Columns without lines, in colours where they are wanted.
fn plain() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if has_colours() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

/// The text made harmless, line for line.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| printable(line).replace('\t', " ")).collect();
    lines.join("\n")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut inner = self.inner.clone();
        for column in inner.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in inner.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Field {
    /// In the colour of a warning, or of an alarm, when it is that much.
    pub(crate) fn coloured(mut self, is_warning: bool, is_alarm: bool) -> Self {
        self.mood = match (is_warning, is_alarm) {
            (_, true) => Mood::Alarm,
            (true, false) => Mood::Warning,
            (false, false) => Mood::Plain,
        };
        self
    }
}

impl<T: fmt::Display> From<Option<T>> for Field {
    /// A dash for nothing.
    fn from(value: Option<T>) -> Self {
        Field { text: value.map_or_else(|| "-".to_owned(), |value| value.to_string()), mood: Mood::Plain }
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Field { text: text.to_owned(), mood: Mood::Plain }
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Field { text, mood: Mood::Plain }
    }
}

/// Yes or no.
impl From<bool> for Field {
    fn from(value: bool) -> Self {
        Field::from(if value { "yes" } else { "no" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_what_a_guest_says_is_harmless() {
        let mut table = Table::new(&["NAME", ">SIZE", "NOTE"]);
        table.row(["a".into(), "12".into(), "\x1b[31mred".into()]);
        table.row(["longer".into(), Some(3).into(), None::<i64>.into()]);
        table.row(["two".into(), "".into(), "first\nsecond".into()]);
        let expected = "\
NAME    SIZE  NOTE
a         12  \\x1b[31mred
longer     3  -
two           first
              second
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn a_list_has_no_headings() {
        let table = Table::list([("name", "x".to_owned()), ("kernel", "6.1".to_owned())]);
        assert_eq!(table.to_string(), "name    x\nkernel  6.1\n");
    }
}
