//! A terminal's screen as an SVG picture.

use std::fmt::Write;

use vt100::{Cell, Color, Screen};

/// Width and height of a character, and the room around all of them, in pixels.
const WIDTH: f64 = 8.4;
const HEIGHT: u32 = 18;
const MARGIN: u32 = 12;

const BACKGROUND: &str = "#16181d";
const TEXT: &str = "#d8dee9";

/// The sixteen colours that every terminal has.
const COLOURS: [&str; 16] = [
    "#2e3440", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9", "#5c6370", "#ef7f88",
    "#a9d48a", "#f0cd8c", "#7bbcf5", "#d08ae4", "#6cc8d4", "#ffffff",
];

/// How a character looks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    colour: String,
    background: Option<String>,
    is_bold: bool,
    is_dim: bool,
}

/// Draws the lines of a screen that are not empty at its end, with a title for those who do not see it.
pub(crate) fn draw(screen: &Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let is_used = |row: &u16| (0..columns).any(|column| screen.cell(*row, column).is_some_and(Cell::has_contents));
    let rows = (0..rows).rev().find(is_used).map_or(1, |last| last + 1);
    let width = (f64::from(columns) * WIDTH).ceil() as u32 + 2 * MARGIN;
    let height = u32::from(rows) * HEIGHT + 2 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"14\" \
         fill=\"{TEXT}\" style=\"white-space:pre\">\n",
        escape(title)
    );
    for row in 0..rows {
        draw_row(&mut out, screen, row, columns);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// Draws runs of characters that look the same, each in its place, whatever the font.
fn draw_row(out: &mut String, screen: &Screen, row: u16, columns: u16) {
    let top = MARGIN + u32::from(row) * HEIGHT;
    let mut column = 0;
    while column < columns {
        let Some(first) = screen.cell(row, column) else { return };
        let (look, start) = (look(first), column);
        let mut text = String::new();
        while let Some(cell) = screen.cell(row, column).filter(|cell| self::look(cell) == look) {
            if !cell.is_wide_continuation() {
                text.push_str(if cell.has_contents() { cell.contents() } else { " " });
            }
            column += 1;
            if column == columns {
                break;
            }
        }
        let x = f64::from(MARGIN) + f64::from(start) * WIDTH;
        // Writing to a string cannot fail.
        if let Some(background) = &look.background {
            let width = f64::from(column - start) * WIDTH;
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{background}\"/>"
            );
        }
        let shown = text.trim_end();
        if shown.is_empty() {
            continue;
        }
        // Blanks at the end are cut off; the columns of the rest are those of its characters, wide or not.
        let blanks = text.len() - shown.len();
        let length = f64::from(column - start) * WIDTH - blanks as f64 * WIDTH;
        let _ = write!(out, "<text x=\"{x:.1}\" y=\"{}\" textLength=\"{length:.1}\"", top + 13);
        if look.colour != TEXT {
            let _ = write!(out, " fill=\"{}\"", look.colour);
        }
        if look.is_bold {
            out.push_str(" font-weight=\"bold\"");
        }
        if look.is_dim {
            out.push_str(" opacity=\"0.6\"");
        }
        let _ = writeln!(out, ">{}</text>", escape(shown));
    }
}

fn look(cell: &Cell) -> Look {
    let (mut colour, mut background) = (name(cell.fgcolor()), name(cell.bgcolor()));
    if cell.inverse() {
        let swapped = colour.unwrap_or_else(|| TEXT.to_owned());
        colour = Some(background.unwrap_or_else(|| BACKGROUND.to_owned()));
        background = Some(swapped);
    }
    let colour = colour.unwrap_or_else(|| TEXT.to_owned());
    Look { colour, background, is_bold: cell.bold(), is_dim: cell.dim() }
}

/// A colour in the words of SVG; `None` for that of the terminal.
fn name(colour: Color) -> Option<String> {
    match colour {
        Color::Default => None,
        Color::Rgb(red, green, blue) => Some(format!("#{red:02x}{green:02x}{blue:02x}")),
        Color::Idx(number) => Some(match number {
            0..16 => COLOURS[usize::from(number)].to_owned(),
            // A cube of six steps in each direction, and then steps of grey.
            16..232 => {
                let step = |part: u8| if part == 0 { 0 } else { 55 + part * 40 };
                let number = number - 16;
                format!("#{:02x}{:02x}{:02x}", step(number / 36), step(number / 6 % 6), step(number % 6))
            }
            232.. => format!("#{0:02x}{0:02x}{0:02x}", 8 + (number - 232) * 10),
        }),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> String {
        let mut terminal = vt100::Parser::default();
        terminal.process(text.as_bytes());
        draw(terminal.screen(), "a & b")
    }

    #[test]
    fn text_is_drawn_in_its_place_and_colour() {
        let svg = drawn("a <b>\r\n\x1b[31mred\x1b[0m \x1b[1mbold\x1b[0m");
        assert!(svg.contains("<title>a &amp; b</title>"));
        assert!(svg.contains("<text x=\"12.0\" y=\"25\" textLength=\"42.0\">a &lt;b&gt;</text>"), "{svg}");
        assert!(svg.contains("<text x=\"12.0\" y=\"43\" textLength=\"25.2\" fill=\"#e06c75\">red</text>"), "{svg}");
        assert!(
            svg.contains("<text x=\"45.6\" y=\"43\" textLength=\"33.6\" font-weight=\"bold\">bold</text>"),
            "{svg}"
        );
        // Two lines are used, of 24.
        assert!(svg.contains("height=\"60\""), "{svg}");
    }

    #[test]
    fn wide_characters_take_two_columns_and_inverse_ones_a_background() {
        assert!(drawn("大き").contains("textLength=\"33.6\">大き<"));
        let svg = drawn("\x1b[7mx\x1b[0m");
        assert!(
            svg.contains(&format!("fill=\"{TEXT}\"/>")) && svg.contains(&format!("fill=\"{BACKGROUND}\">x<")),
            "{svg}"
        );
    }

    #[test]
    fn every_colour_has_a_name() {
        assert_eq!(name(Color::Idx(196)).as_deref(), Some("#ff0000"));
        assert_eq!(name(Color::Idx(255)).as_deref(), Some("#eeeeee"));
        assert_eq!(name(Color::Rgb(1, 2, 255)).as_deref(), Some("#0102ff"));
        assert!((0..=255).all(|number| name(Color::Idx(number)).is_some_and(|name| name.len() == 7)));
    }
}
