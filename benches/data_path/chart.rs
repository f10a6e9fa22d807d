//! Lines over a logarithmic axis, as SVG.

use std::fmt::Write;

/// A picture of some lines.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// Where it was measured.
    pub(crate) subtitle: String,
    /// What the logarithmic axis has.
    pub(crate) across: String,
    /// What the linear axis has.
    pub(crate) up: String,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(u64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 55.0;

/// Told apart also by those who see no red and green.
const COLOURS: [&str; 4] = ["#d55e00", "#444444", "#0072b2", "#009e73"];

const NAME_HEIGHT: f64 = 14.0;

/// How many steps the linear axis has about.
const STEPS: f64 = 5.0;

impl Chart {
    pub(crate) fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        svg += &text(LEFT, TOP - 46.0, "start", &self.title);
        svg += &text(LEFT, TOP - 30.0, "start", &self.subtitle);
        self.draw_linear_axis(&mut svg);
        self.draw_logarithmic_axis(&mut svg);
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            self.draw_line(&mut svg, line, colour);
        }
        self.draw_names(&mut svg);
        svg + "</svg>\n"
    }

    fn draw_linear_axis(&self, svg: &mut String) {
        let step = self.step();
        let mut value = 0.0;
        while value <= self.most() {
            let height = self.height(value);
            let end = WIDTH - RIGHT;
            writeln!(svg, "<path d=\"M{LEFT:.1} {height:.1}H{end:.1}\" stroke=\"#dddddd\"/>")
                .unwrap();
            let digits = usize::from(step < 1.0);
            *svg += &text(LEFT - 8.0, height + 4.0, "end", &format!("{value:.digits$}"));
            value += step;
        }
        *svg += &text(LEFT, TOP - 10.0, "start", &self.up);
    }

    fn draw_logarithmic_axis(&self, svg: &mut String) {
        let below = HEIGHT - BOTTOM + 18.0;
        for point in self.points() {
            *svg += &text(self.distance(point), below, "middle", &short(point));
        }
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        *svg += &text(middle, below + 22.0, "middle", &self.across);
    }

    fn draw_line(&self, svg: &mut String, line: &Line, colour: &str) {
        let places: Vec<_> = line
            .points
            .iter()
            .map(|&(point, value)| (self.distance(point), self.height(value)))
            .collect();
        let path: Vec<String> =
            places.iter().map(|(across, up)| format!("{across:.1},{up:.1}")).collect();
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        )
        .unwrap();
        for (across, up) in &places {
            writeln!(svg, "<circle cx=\"{across:.1}\" cy=\"{up:.1}\" r=\"3\" fill=\"{colour}\"/>")
                .unwrap();
        }
    }

    /// Beside the ends of the lines, the highest first, and none over another.
    fn draw_names(&self, svg: &mut String) {
        let end = |line: &Line| line.points.last().map(|point| (self.height(point.1), line.name));
        let mut ends: Vec<_> = self.lines.iter().filter_map(end).collect();
        ends.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut free = 0.0;
        for (height, name) in ends {
            let height = height.max(free);
            *svg += &text(WIDTH - RIGHT + 8.0, height + 4.0, "start", name);
            free = height + NAME_HEIGHT;
        }
    }

    fn points(&self) -> impl Iterator<Item = u64> {
        self.lines.first().into_iter().flat_map(|line| line.points.iter().map(|point| point.0))
    }

    fn most(&self) -> f64 {
        let values = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        values.fold(f64::MIN_POSITIVE, f64::max)
    }

    /// 1, 2 or 5 times a power of ten.
    fn step(&self) -> f64 {
        let about = self.most() / STEPS;
        let power = 10_f64.powf(about.log10().floor());
        let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= about);
        factor.unwrap_or(10.0) * power
    }

    fn height(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.most() * (HEIGHT - TOP - BOTTOM)
    }

    fn distance(&self, point: u64) -> f64 {
        let logarithm = |point: u64| (point as f64).ln();
        let least = self.points().min().map_or(0.0, logarithm);
        let most = self.points().max().map_or(1.0, logarithm);
        let part = (logarithm(point) - least) / (most - least).max(f64::MIN_POSITIVE);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }
}

fn text(across: f64, up: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{across:.1}\" y=\"{up:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

/// `4Ki` for 4096, `10k` for 10 000.
fn short(number: u64) -> String {
    match number {
        number if number >= 1 << 20 && number % (1 << 20) == 0 => format!("{}Mi", number >> 20),
        number if number >= 1 << 10 && number % (1 << 10) == 0 => format!("{}Ki", number >> 10),
        number if number >= 1000 && number % 1000 == 0 => format!("{}k", number / 1000),
        number => number.to_string(),
    }
}
