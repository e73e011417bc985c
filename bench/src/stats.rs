//! Figures: how they are gathered, shown and kept.
//!
//! A report is what a scenario hands back: figures with their bars, notes on how they came about, and
//! a plot. It prints as a table and is written as JSON and SVG.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::{Result, io_error};
use crate::plot::{Axis, Line, Plot};

/// A histogram of microseconds up to ten minutes, at three digits.
pub fn latencies() -> Histogram<u64> {
    // The bounds are constants that the library takes; the fallback differs only in its range.
    Histogram::new_with_bounds(1, 600_000_000, 3)
        .or_else(|_| Histogram::new(3))
        .unwrap_or_else(|_| unreachable!("three digits are within the library's bounds"))
}

/// The middle of some values; of an even number the mean of the middle two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// The value below which this share (0 to 1) of some values lie.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// Microseconds of CPU for each of so many.
pub fn micros_each(cpu: Duration, count: f64) -> f64 {
    cpu.as_secs_f64() * 1e6 / count
}

/// Bytes as MiB.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// One measured value.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// What the value counts.
    pub unit: &'static str,
    /// What it is to be at most, where there is a bar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// What it is to be, where no other value will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exactly: Option<f64>,
}

impl Figure {
    fn verdict(&self) -> String {
        if let Some(bar) = self.exactly {
            let is_met = (self.value - bar).abs() < f64::EPSILON;
            return format!("= {} {}", number(bar), if is_met { "met" } else { "MISSED" });
        }
        match self.at_most {
            None => String::new(),
            Some(bar) if self.value <= bar => format!("≤ {} met", number(bar)),
            Some(bar) => format!("≤ {} MISSED", number(bar)),
        }
    }
}

/// What a scenario found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The scenario's name, which names its files.
    pub scenario: String,
    /// The command that gave it.
    pub command: String,
    /// Seconds of the Unix clock.
    pub started_at: u64,
    /// Processors, memory, kernel.
    pub machine: String,
    /// The values, in the order in which they are shown.
    pub figures: Vec<Figure>,
    /// What must be known to read them.
    pub notes: Vec<String>,
    /// The values over time, or the spread of latencies.
    pub plot: Plot,
}

impl Report {
    /// An empty report whose plot will show the spread of latencies.
    pub fn new(scenario: &str) -> Self {
        Self {
            scenario: scenario.to_owned(),
            command: String::new(),
            started_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            machine: machine(),
            figures: Vec::new(),
            notes: Vec::new(),
            plot: Plot::new(scenario, Axis::percentiles(), Axis::logarithmic("milliseconds")),
        }
    }

    /// Adds a value.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.push(name.into(), value, unit, None);
    }

    /// Adds a value that is to be at most `at_most`.
    pub fn bar(&mut self, name: impl Into<String>, value: f64, unit: &'static str, at_most: f64) {
        self.push(name.into(), value, unit, Some(at_most));
    }

    /// Adds a value that is to be this one.
    pub fn exactly(&mut self, name: impl Into<String>, value: f64, unit: &'static str, exactly: f64) {
        let exactly = Some(exactly);
        self.figures.push(Figure { name: name.into(), value, unit, at_most: None, exactly });
    }

    /// Adds what must be known to read the values.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds p50, p99, p99.9 and the maximum of a histogram of microseconds, and its curve.
    pub fn latency(&mut self, name: &str, histogram: &Histogram<u64>, p99_at_most: Option<f64>) {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        self.figure(format!("{name}, p50"), at(0.50), "ms");
        self.push(format!("{name}, p99"), at(0.99), "ms", p99_at_most);
        self.figure(format!("{name}, p99.9"), at(0.999), "ms");
        self.figure(format!("{name}, max"), histogram.max() as f64 / 1e3, "ms");
        self.curve(name, histogram);
    }

    /// Adds only the curve of a histogram of microseconds.
    pub fn curve(&mut self, name: &str, histogram: &Histogram<u64>) {
        let shares = [
            0.0, 0.1, 0.25, 0.5, 0.65, 0.75, 0.85, 0.9, 0.95, 0.975, 0.99, 0.995, 0.998, 0.999, 0.9995,
            0.9999,
        ];
        let points = shares
            .iter()
            .filter(|share| (1.0 - **share) * histogram.len() as f64 >= 1.0)
            .map(|share| (1.0 / (1.0 - share), histogram.value_at_quantile(*share) as f64 / 1e3))
            .collect();
        self.plot.lines.push(Line { name: name.to_owned(), points });
    }

    /// The report as a table for the terminal.
    pub fn table(&self) -> String {
        let width = self.figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0);
        let mut table = format!("\n{} ({})\n", self.scenario, self.machine);
        for figure in &self.figures {
            let value = number(figure.value);
            let _written = writeln!(
                table,
                "  {:width$}  {value:>12} {:<12} {}",
                figure.name,
                figure.unit,
                figure.verdict()
            );
        }
        for note in &self.notes {
            let _written = writeln!(table, "  - {note}");
        }
        table
    }

    /// The report's rows of a Markdown table with the columns of [`markdown_head`].
    pub fn markdown(&self) -> String {
        let mut rows = String::new();
        for figure in &self.figures {
            let _written = writeln!(
                rows,
                "| {} | {} | {} {} | {} |",
                self.scenario,
                figure.name,
                number(figure.value),
                figure.unit,
                figure.verdict()
            );
        }
        rows
    }

    /// Writes `SCENARIO.json` and `SCENARIO.svg` into the folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        for (ending, text) in [("json", json), ("svg", self.plot.svg())] {
            let path = folder.join(format!("{}.{ending}", self.scenario));
            fs::write(&path, text).map_err(io_error(format!("writing {}", path.display())))?;
        }
        Ok(())
    }

    fn push(&mut self, name: String, value: f64, unit: &'static str, at_most: Option<f64>) {
        self.figures.push(Figure { name, value, unit, at_most, exactly: None });
    }
}

/// The head of the table whose rows are [`Report::markdown`].
pub fn markdown_head() -> &'static str {
    "| scenario | figure | value | bar |\n|---|---|---:|---|\n"
}

/// Three digits that count, and no more than the value is worth.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => grouped(value.round()),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("-{grouped}") } else { grouped }
}

fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo")
        .split_whitespace()
        .nth(1)
        .and_then(|kibibytes| kibibytes.parse::<f64>().ok())
        .map_or(0.0, |kibibytes| kibibytes / 1_048_576.0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("{processors} processors, {memory:.1} GiB, Linux {kernel}")
}

#[cfg(test)]
mod tests {
    use super::{Report, latencies, median, number, quantile};

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.0123, "0.012"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234_567.0, "1,234,567"),
            (-1_234.5, "-1,235"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn medians_and_quantiles_are_those_of_the_sorted_values() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!((quantile(&values, 0.95) - 95.0).abs() < f64::EPSILON);
        assert!((quantile(&values, 1.0) - 100.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_missed_bar_is_said_in_every_table() {
        let mut report = Report::new("test");
        let mut histogram = latencies();
        histogram.saturating_record(12_000);
        report.latency("delivery", &histogram, Some(10.0));
        report.bar("lost", 0.0, "posts", 0.0);
        report.exactly("frames", 2.0, "frames", 2.0);
        report.exactly("more frames", 1.9, "frames", 2.0);
        for table in [report.table(), report.markdown()] {
            assert_eq!(table.matches("MISSED").count(), 2, "{table}");
            assert_eq!(table.matches(" met").count(), 2, "{table}");
        }
    }
}
