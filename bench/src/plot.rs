//! A plot of some lines as SVG, without a library: two axes, a legend, nothing else.

use std::fmt::Write;

use serde::Serialize;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 8] =
    ["#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#64473a", "#787774", "#d44c47"];

/// Lines over two axes.
#[derive(Debug, Serialize)]
pub struct Plot {
    /// What stands above it.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines, in the order of the legend.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// How values become places.
#[derive(Debug, Serialize)]
pub struct Axis {
    /// What the values are.
    pub label: String,
    /// How they are spread.
    pub scale: Scale,
}

/// How an axis spreads its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// In proportion.
    Linear,
    /// By their logarithm.
    Logarithmic,
    /// By the logarithm of 1 / (1 - share): the tail of a distribution gets the room.
    Percentile,
}

impl Axis {
    /// Values in proportion.
    pub fn linear(label: &str) -> Self {
        Self::new(label, Scale::Linear)
    }

    /// Values by their logarithm.
    pub fn logarithmic(label: &str) -> Self {
        Self::new(label, Scale::Logarithmic)
    }

    /// Values 1 / (1 - share), labelled by the share in percent.
    pub fn percentiles() -> Self {
        Self::new("percentile", Scale::Percentile)
    }

    fn new(label: &str, scale: Scale) -> Self {
        Self { label: label.to_owned(), scale }
    }

    /// The places of the ends and of the ticks, with their labels.
    fn ticks(&self, values: impl Iterator<Item = f64>) -> Ticks {
        let values: Vec<f64> = values.map(|value| self.place(value)).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if values.is_empty() {
            return Ticks { low: 0.0, high: 1.0, marks: Vec::new() };
        }
        if self.scale == Scale::Linear {
            return linear_ticks(high);
        }
        let low = low.floor();
        let high = high.ceil().max(low + 1.0);
        let marks =
            (low as i32..=high as i32).map(|power| (f64::from(power), self.label_of(power))).collect();
        Ticks { low, high, marks }
    }

    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic | Scale::Percentile => value.max(1e-3).log10(),
        }
    }

    fn label_of(&self, power: i32) -> String {
        let value = 10_f64.powi(power);
        match self.scale {
            Scale::Percentile => {
                let decimals = usize::try_from(power - 2).unwrap_or(0);
                format!("{:.decimals$} %", 100.0 - 100.0 / value)
            }
            _ => format!("{value}"),
        }
    }
}

struct Ticks {
    low: f64,
    high: f64,
    marks: Vec<(f64, String)>,
}

/// From zero to the next round number, in steps of 1, 2 or 5 of a power of ten.
fn linear_ticks(high: f64) -> Ticks {
    let high = if high > 0.0 { high } else { 1.0 };
    let power = 10_f64.powf((high / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|factor| factor * power)
        .find(|step| high / step <= 6.0)
        .unwrap_or(power * 10.0);
    let count = (high / step).ceil() as i32;
    let label = |value: f64| {
        let decimals = if step >= 1.0 { 0 } else { (-step.log10()).ceil() as usize };
        format!("{value:.decimals$}")
    };
    let marks = (0..=count).map(|index| f64::from(index) * step).map(|value| (value, label(value))).collect();
    Ticks { low: 0.0, high: f64::from(count) * step, marks }
}

impl Plot {
    /// A plot without lines yet.
    pub fn new(title: &str, x: Axis, y: Axis) -> Self {
        Self { title: title.to_owned(), x, y, lines: Vec::new() }
    }

    /// The plot as an SVG document.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let x_ticks = self.x.ticks(points().map(|point| point.0));
        let y_ticks = self.y.ticks(points().map(|point| point.1));
        let across =
            |place: f64| LEFT + (place - x_ticks.low) / (x_ticks.high - x_ticks.low) * (WIDTH - LEFT - RIGHT);
        let up = |place: f64| {
            HEIGHT - BOTTOM - (place - y_ticks.low) / (y_ticks.high - y_ticks.low) * (HEIGHT - TOP - BOTTOM)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
            escape(&self.title)
        );
        // Writing to a string cannot fail.
        for (place, label) in &x_ticks.marks {
            let x = across(*place);
            let _written = writeln!(
                svg,
                "<path d=\"M{x:.1} {TOP}V{:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0
            );
        }
        for (place, label) in &y_ticks.marks {
            let y = up(*place);
            let _written = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            );
        }
        let _written = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 12.0,
            escape(&self.x.label),
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            escape(&self.y.label)
        );
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let places: Vec<String> = line
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", across(self.x.place(*x)), up(self.y.place(*y))))
                .collect();
            let _written = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
                places.join(" "),
                LEFT + 10.0,
                TOP + 16.0 * (index as f64 + 1.0),
                escape(&line.name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::{Axis, Line, Plot, linear_ticks};

    #[test]
    fn every_line_is_drawn_within_the_frame() {
        let mut plot = Plot::new("a < b", Axis::percentiles(), Axis::logarithmic("ms"));
        plot.lines.push(Line {
            name: "delivery".to_owned(),
            points: vec![(1.0, 0.5), (2.0, 1.0), (100.0, 40.0), (1000.0, 0.0)],
        });
        let svg = plot.svg();
        assert!(svg.contains("a &lt; b") && svg.contains("99.9 %"));
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split(' ').count(), 4);
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            assert!((0.0..=800.0).contains(&x.parse::<f64>().unwrap()), "{point}");
            assert!((0.0..=460.0).contains(&y.parse::<f64>().unwrap()), "{point}");
        }
    }

    #[test]
    fn a_plot_without_points_is_still_a_document() {
        let svg = Plot::new("empty", Axis::linear("s"), Axis::linear("n")).svg();
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    }

    #[test]
    fn linear_ticks_reach_past_the_highest_value() {
        for high in [0.003, 0.9, 1.0, 7.0, 15_000.0] {
            let ticks = linear_ticks(high);
            assert!(ticks.high >= high * 0.999_999, "{high}");
            assert!((2..=8).contains(&ticks.marks.len()), "{high}");
        }
    }
}
