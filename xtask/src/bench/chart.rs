//! The chart of a run: how many times better than the C agent, as bars on a logarithmic scale.

use std::fmt::Write;

use super::report::{Report, Row, figure};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 64.0;
const LINE: f64 = 24.0;

/// Draws it. The colours are read on a light and on a dark page.
pub(super) fn svg(report: &Report) -> String {
    let rows = &report.rows;
    let most = rows.iter().map(|row| row.times().0.max(row.work.target)).fold(10.0, f64::max);
    let decades = most.log10().ceil().max(1.0);
    let bottom = TOP + LINE * rows.len() as f64;
    let x = |times: f64| LEFT + (WIDTH - LEFT - RIGHT) * (times.max(1.0).log10() / decades);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {:.0}\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#888\">\n<title>How many times better than the C agent</title>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"15\">times better than the C agent ({}), same run</text>\n\
         <text x=\"{LEFT}\" y=\"38\">bar: median of the rounds; thin line: their spread; tick: what is wanted</text>\n",
        bottom + 14.0,
        escape(&report.peer),
    );
    for decade in 0..=decades as i32 {
        let times = 10_f64.powi(decade);
        let at = x(times);
        let _ = writeln!(
            text,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\" stroke=\"#8884\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\">{times}</text>",
            TOP - 6.0
        );
    }
    for (index, row) in rows.iter().enumerate() {
        bar(&mut text, row, TOP + LINE * index as f64, x);
    }
    text.push_str("</svg>\n");
    text
}

fn bar(text: &mut String, row: &Row, y: f64, x: impl Fn(f64) -> f64) {
    let (median, least, most) = row.times();
    let (from, to, middle) = (x(1.0), x(median), y + LINE / 2.0);
    let colour = if row.is_reached() { "#3b82c4" } else { "#c4553b" };
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
         <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#888\"/>\
         <line x1=\"{target:.1}\" x2=\"{target:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#d9a400\" stroke-width=\"2\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{} x</text>",
        LEFT - 8.0,
        middle + 4.0,
        escape(row.work.name),
        y + 5.0,
        (to - from).max(1.0),
        LINE - 10.0,
        x(least),
        x(most),
        y + 2.0,
        y + LINE - 2.0,
        x(most).max(x(row.work.target)) + 8.0,
        middle + 4.0,
        figure(median),
        target = x(row.work.target),
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_are_text_in_the_picture() {
        assert_eq!(escape("a<b & c>d"), "a&lt;b &amp; c&gt;d");
    }
}
