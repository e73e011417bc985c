//! Where metrics are counted: one recorder a process, made at first use.

use super::metric::{self, Kind};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

/// Bounds of the buckets of all times, in seconds: half a millisecond to ten seconds.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The process's metrics.
pub struct Metrics;

impl Metrics {
    /// Begins to count, with help for every metric, unless that was done before; the handle renders
    /// what was counted. Whoever holds it calls `run_upkeep` every few seconds, else times that nobody
    /// reads pile up.
    pub fn install() -> PrometheusHandle {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        HANDLE.get_or_init(begin).clone()
    }
}

fn begin() -> PrometheusHandle {
    let times = metric::ALL.iter().filter(|metric| metric.kind == Kind::Seconds);
    let builder = times.fold(PrometheusBuilder::new(), |builder, metric| {
        let bucketed = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), &BUCKETS);
        // It refuses an empty list of buckets, and this one is not.
        bucketed.unwrap_or_else(|_| PrometheusBuilder::new())
    });
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    // Somebody else's recorder (of a program that embeds this library) stays, and ours counts nothing.
    drop(metrics::set_global_recorder(recorder));
    describe();
    handle
}

/// Tells the recorder what each metric means.
fn describe() {
    for metric in metric::ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Seconds => metrics::describe_histogram!(metric.name, metrics::Unit::Seconds, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use crate::telemetry::metric::{self, Kind};

    #[test]
    fn every_metric_is_rendered_with_its_help_and_times_in_buckets() {
        let handle = Metrics::install();
        for metric in metric::ALL {
            match metric.kind {
                Kind::Counter => metrics::counter!(metric.name).increment(1),
                Kind::Gauge => metrics::gauge!(metric.name).set(1.0),
                Kind::Seconds => metrics::histogram!(metric.name).record(0.003),
            }
        }
        let text = Metrics::install().render();
        for metric in metric::ALL {
            assert!(
                text.contains(&format!("# HELP {} {}", metric.name, metric.help)),
                "{} {text}",
                metric.name
            );
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Seconds => "histogram",
            };
            assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{} {text}", metric.name);
        }
        assert!(text.contains("roost_delivery_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        handle.run_upkeep();
    }
}
