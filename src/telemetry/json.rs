//! Log lines as JSON, one object a line.
//!
//! They are tracing-subscriber's own. That writes an object piece by piece, each checked and passed on, some hundred times a line;
//! lines of [`DELIVERIES`], of which there may be ten thousand a second, have the same shape and are put together in one go.

use super::lines::DELIVERIES;
use serde::ser::{SerializeMap, Serializer};
use std::fmt;
use tracing::{Event, Subscriber};
use tracing_serde::{AsSerde, SerdeMapVisitor};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The bytes of a line of a delivery, with room to spare.
const LINE: usize = 512;

/// How a line is made of an event.
pub struct JsonLines(Format<Json>);

impl JsonLines {
    /// With all spans of a line, not the innermost alone: a request's ids stand on the outermost.
    pub fn new() -> Self {
        let format = tracing_subscriber::fmt::format().json();
        Self(format.flatten_event(true).with_current_span(false).with_span_list(true))
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != DELIVERIES || context.lookup_current().is_some() {
            return self.0.format_event(context, writer, event);
        }
        let line = at_once(event).map_err(|_| fmt::Error)?;
        writer.write_str(str::from_utf8(&line).map_err(|_| fmt::Error)?)
    }
}

/// The line of an event outside of all spans.
fn at_once(event: &Event<'_>) -> serde_json::Result<Vec<u8>> {
    let mut time = String::with_capacity(32);
    SystemTime.format_time(&mut Writer::new(&mut time)).map_err(serde::ser::Error::custom)?;
    let mut line = Vec::with_capacity(LINE);
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("timestamp", &time)?;
    object.serialize_entry("level", &event.metadata().level().as_serde())?;
    let mut fields = SerdeMapVisitor::new(object);
    event.record(&mut fields);
    object = fields.take_serializer()?;
    object.serialize_entry("target", event.metadata().target())?;
    object.end()?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::JsonLines;
    use crate::telemetry::DELIVERIES;
    use serde_json::Value;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is said of a delivery and of anything else, as lines.
    macro_rules! say {
        ($target:expr) => {
            tracing::info!(
                target: $target,
                requestId = "quoted \" and \\ and \u{1F600}\n", shown = %7, debugged = ?Some("x"), number = 42, yes = true,
                "delivered"
            )
        };
    }

    #[test]
    fn a_line_of_a_delivery_has_the_shape_of_any_other() {
        let sink = Sink::default();
        let written = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .event_format(JsonLines::new())
            .with_writer(move || written.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            say!("another");
            say!(DELIVERIES);
            tracing::info_span!("request", id = "seven").in_scope(|| say!(DELIVERIES));
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let shape = |line: &str| {
            let (time, rest) = line.split_once(r#","level""#).unwrap();
            let time: Value = serde_json::from_str(&format!("{time}}}")).unwrap();
            assert_eq!(time["timestamp"].as_str().unwrap().len(), "2026-01-03T00:00:00.123456Z".len());
            rest.replace(DELIVERIES, "another")
        };
        assert_eq!(shape(lines[0]), shape(lines[1]));
        assert!(lines[1].contains(r#""requestId":"quoted \" and \\ and 😀\n""#), "{}", lines[1]);
        let within: Value = serde_json::from_str(lines[2]).unwrap();
        assert_eq!(within["spans"][0]["id"], "seven");
        assert_eq!(lines.len(), 3);
    }
}
