//! Lines of text in colours, bars, and rows of small columns.

use std::fmt::Write;

use crossterm::style::{Attribute, Color, Stylize};
use unicode_width::UnicodeWidthChar;

/// How a piece of a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Bold,
    Dim,
    Good,
    Warning,
    Alarm,
}

/// The signs that charts are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signs {
    /// Whether the terminal knows more than ASCII.
    pub(crate) has_blocks: bool,
}

/// One line of the screen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pieces: Vec<(String, Tone)>,
}

impl Line {
    /// A line that begins with this; it must be harmless for a terminal already.
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Line::default().then(text, tone)
    }

    /// With more behind it.
    pub(crate) fn then(mut self, text: impl Into<String>, tone: Tone) -> Self {
        // A tab is as wide as it likes.
        self.pieces.push((text.into().replace('\t', " "), tone));
        self
    }

    /// With another line behind it.
    pub(crate) fn join(mut self, other: Line) -> Self {
        self.pieces.extend(other.pieces);
        self
    }

    /// The text alone.
    pub(crate) fn plain(&self) -> String {
        let text: String = self.pieces.iter().map(|(text, _)| text.as_str()).collect();
        text.trim_end().to_owned()
    }

    /// What makes a terminal show it, cut off where the terminal ends.
    pub(crate) fn styled(&self, width: usize, has_colours: bool) -> String {
        let mut out = String::new();
        let mut left = width;
        for (text, tone) in &self.pieces {
            let whole = text;
            let text = cut(whole, left);
            // Nothing comes behind what was cut, even if it would still fit.
            left = if text.len() == whole.len() { left - width_of(&text) } else { 0 };
            // Writing to a string cannot fail.
            let _ = match (tone, has_colours) {
                (Tone::Plain, _) => write!(out, "{text}"),
                (Tone::Bold, _) => write!(out, "{}", text.attribute(Attribute::Bold)),
                (Tone::Dim, true) => write!(out, "{}", text.attribute(Attribute::Dim)),
                (Tone::Good, true) => write!(out, "{}", text.with(Color::Green)),
                (Tone::Warning, true) => write!(out, "{}", text.with(Color::Yellow)),
                (Tone::Alarm, true) => write!(out, "{}", text.with(Color::Red)),
                (_, false) => write!(out, "{text}"),
            };
        }
        out
    }
}

/// How many columns a text takes.
pub(crate) fn width_of(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The start of a text that fits into so many columns.
pub(crate) fn cut(text: &str, width: usize) -> String {
    let mut left = width;
    let fits = |c: &char| {
        let columns = c.width().unwrap_or(0);
        let fits = columns <= left;
        left -= columns.min(left);
        fits
    };
    text.chars().take_while(fits).collect()
}

/// The text in exactly so many columns, cut or filled up.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let missing = width - width_of(&text);
    text + &" ".repeat(missing)
}

/// The text at the right end of so many columns.
pub(crate) fn right(text: &str, width: usize) -> String {
    let text = cut(text, width);
    " ".repeat(width - width_of(&text)) + &text
}

impl Signs {
    /// A bar in brackets, so many columns wide in all, filled to a fraction from 0 to 1.
    pub(crate) fn bar(self, fraction: f64, width: usize) -> String {
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let inside = width.saturating_sub(2);
        // A fraction that is none, such as 0/0, is an empty bar.
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        let bar = if self.has_blocks {
            let eighths = (fraction * inside as f64 * 8.0).round() as usize;
            "█".repeat(eighths / 8) + PARTS[eighths % 8]
        } else {
            "#".repeat((fraction * inside as f64).round() as usize)
        };
        format!("[{}]", fit(&bar, inside))
    }

    /// The newest of these values from 0 to 1 as columns, the last one at the right.
    pub(crate) fn columns(self, values: impl DoubleEndedIterator<Item = f64>, width: usize) -> String {
        let steps: &[char] = if self.has_blocks {
            &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        } else {
            &['_', '.', '-', '=', '+', '*', '%', '#']
        };
        let step = |value: f64| steps[((value.clamp(0.0, 1.0) * 8.0) as usize).min(steps.len() - 1)];
        let newest: Vec<char> = values.rev().take(width).map(step).collect();
        newest.into_iter().rev().collect()
    }
}

/// The tone of something that becomes a problem when it is nearly 1.
pub(crate) fn tone(fraction: f64) -> Tone {
    match fraction {
        fraction if fraction >= 0.95 => Tone::Alarm,
        fraction if fraction >= 0.8 => Tone::Warning,
        _ => Tone::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: Signs = Signs { has_blocks: true };
    const ASCII: Signs = Signs { has_blocks: false };

    #[test]
    fn bars_are_as_long_as_they_should_be_whatever_the_value() {
        let cases = [
            (0.0, "[          ]"),
            (0.5, "[█████     ]"),
            (0.55, "[█████▌    ]"),
            (1.0, "[██████████]"),
            (7.0, "[██████████]"),
            (-1.0, "[          ]"),
            (f64::NAN, "[          ]"),
            (f64::INFINITY, "[██████████]"),
        ];
        for (fraction, bar) in cases {
            assert_eq!(BLOCKS.bar(fraction, 12), bar, "{fraction}");
        }
        assert_eq!(ASCII.bar(0.35, 12), "[####      ]");
        assert_eq!(BLOCKS.bar(0.5, 0), "[]");
    }

    #[test]
    fn the_newest_value_is_at_the_right() {
        let values = [0.0, 0.2, 0.5, 1.0, f64::NAN];
        assert_eq!(BLOCKS.columns(values.into_iter(), 10), "▁▂▅█▁");
        assert_eq!(ASCII.columns(values.into_iter(), 2), "#_");
    }

    #[test]
    fn lines_are_cut_where_the_terminal_ends() {
        let line = Line::new("大きさ", Tone::Plain).then("abc", Tone::Alarm);
        assert_eq!(line.styled(80, false), "大きさabc");
        assert_eq!(line.styled(5, false), "大き");
        assert_eq!(line.styled(7, false), "大きさa");
        assert_eq!(fit("大きさ", 5), "大き ");
        assert_eq!(right("ab", 4), "  ab");
        assert!(line.styled(80, true).contains("\x1b["));
        assert_eq!(line.plain(), "大きさabc");
    }
}
