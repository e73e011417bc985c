//! What is logged while a test runs, line by line.

use std::io;
use std::sync::{Arc, Mutex};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// The lines of this thread; a test on tokio's single thread has all of its own.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Begins to listen.
    pub fn listen() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines that have this in them.
    pub fn lines(&self, having: &str) -> Vec<String> {
        let bytes = self.0.lock().expect("nobody panicked").clone();
        let text = String::from_utf8(bytes).expect("logs are text");
        text.lines().filter(|line| line.contains(having)).map(str::to_owned).collect()
    }

    /// Waits for a line that has this in it.
    pub async fn has(&self, what: &str) -> String {
        let line = async {
            loop {
                if let Some(line) = self.lines(what).pop() {
                    return line;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        super::within(what, line).await
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
