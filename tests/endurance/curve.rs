//! What was measured over time, drawn: a small picture for each number, all over the same time.

use std::fmt::Write;

use crate::watch::{QUANTITIES, Samples};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 110.0;
const MARGIN: f64 = 24.0;
const COLUMNS: usize = 2;

/// As SVG.
pub(crate) fn svg(samples: &Samples) -> String {
    let rows = QUANTITIES.len().div_ceil(COLUMNS) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH * COLUMNS as f64,
        HEIGHT * rows
    );
    for index in 0..QUANTITIES.len() {
        let (across, down) = ((index % COLUMNS) as f64 * WIDTH, (index / COLUMNS) as f64 * HEIGHT);
        writeln!(svg, "<g transform=\"translate({across} {down})\">").unwrap();
        draw(&mut svg, samples, index);
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

/// One number from zero to the most that it was.
fn draw(svg: &mut String, samples: &Samples, index: usize) {
    let (bottom, width) = (HEIGHT - MARGIN, WIDTH - 2.0 * MARGIN);
    let most = samples.taken.iter().map(|(_, values)| values[index]).fold(1.0, f64::max);
    let end = samples.taken.last().map_or(1.0, |(time, _)| time.as_secs_f64());
    let mut points = String::new();
    for (time, values) in &samples.taken {
        let across = MARGIN + time.as_secs_f64() / end * width;
        let up = bottom - values[index] / most * (bottom - MARGIN);
        write!(points, "{across:.1},{up:.1} ").unwrap();
    }
    let name = QUANTITIES[index].name;
    writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"18\">{name}, at most {most:.0}</text>\n\
         <path d=\"M{MARGIN} {bottom}h{width}\" stroke=\"#999999\"/>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end:.0} s</text>\n\
         <polyline points=\"{points}\" fill=\"none\" stroke=\"#0072b2\"/>",
        MARGIN + width,
        bottom + 14.0
    )
    .unwrap();
}
