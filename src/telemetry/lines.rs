//! Log lines on their way out, in their order, each whole.
//!
//! A line is written at once, but for those of [`DELIVERIES`]: what is logged for each of many deliveries would cost a call of the
//! system each. Those are gathered, and written with the next other line, once they are `FULL`, and `LATEST` after the first
//! of them at the latest. A process that ends in order loses none; one that is killed loses what it had gathered.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The target of lines that tell of one delivery each. They may wait for others.
pub const DELIVERIES: &str = "roost::chat::delivered";
/// How long they wait at most.
const LATEST: Duration = Duration::from_millis(50);
/// As many bytes wait for no more.
const FULL: usize = 64 * 1024;

/// Where lines are written to.
pub struct Lines<W>(Arc<Shared<W>>);

struct Shared<W> {
    gathered: Mutex<Gathered<W>>,
    /// Something is gathered, or it is over.
    told: Condvar,
}

struct Gathered<W> {
    text: Vec<u8>,
    sink: W,
    is_over: bool,
}

/// Who holds it has what was gathered written when it is dropped; from then on every line is written at once.
#[must_use]
pub struct LinesEnd<W: Write>(Lines<W>);

/// One line's way.
pub struct Line<'a, W> {
    shared: &'a Shared<W>,
    may_wait: bool,
}

impl<W: Write + Send + 'static> Lines<W> {
    /// To `sink`, from a thread of its own where they have waited.
    ///
    /// # Errors
    /// Where there can be no thread.
    pub fn to(sink: W) -> io::Result<(Self, LinesEnd<W>)> {
        let gathered = Gathered { text: Vec::new(), sink, is_over: false };
        let shared = Arc::new(Shared { gathered: Mutex::new(gathered), told: Condvar::new() });
        let waited = shared.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || waited.write_what_waited())?;
        Ok((Self(shared.clone()), LinesEnd(Self(shared))))
    }
}

impl<W: Write> Shared<W> {
    fn write_what_waited(&self) {
        loop {
            let nothing = |gathered: &mut Gathered<W>| gathered.text.is_empty() && !gathered.is_over;
            let waited = self.told.wait_while(self.lock(), nothing);
            if waited.unwrap_or_else(PoisonError::into_inner).is_over {
                return;
            }
            std::thread::sleep(LATEST);
            self.lock().write_out();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered<W>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> Gathered<W> {
    /// Nobody can be told where it fails.
    fn write_out(&mut self) {
        let _ = self.sink.write_all(&self.text);
        self.text.clear();
        self.text.shrink_to(FULL);
    }
}

impl<'a, W: Write + 'a> MakeWriter<'a> for Lines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line { shared: &self.0, may_wait: false }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Line<'a, W> {
        Line { shared: &self.0, may_wait: line.target() == DELIVERIES }
    }
}

impl<W: Write> Write for Line<'_, W> {
    /// Takes a whole line: the layer formats one before it writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut gathered = self.shared.lock();
        let is_first = gathered.text.is_empty();
        gathered.text.extend_from_slice(line);
        if !self.may_wait || gathered.is_over || gathered.text.len() >= FULL {
            gathered.write_out();
        } else if is_first {
            self.shared.told.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for LinesEnd<W> {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut gathered = shared.lock();
        gathered.is_over = true;
        gathered.write_out();
        drop(gathered);
        shared.told.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::{DELIVERIES, FULL, Line, Lines};
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use tracing_subscriber::layer::SubscriberExt;

    /// What is written, write by write.
    struct Sink(Sender<String>);

    impl Write for Sink {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let told = self.0.send(String::from_utf8_lossy(text).into_owned());
            told.map(|()| text.len()).map_err(io::Error::other)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sink() -> (Sink, Receiver<String>) {
        let (written, read) = channel();
        (Sink(written), read)
    }

    #[test]
    fn lines_come_whole_in_their_order_and_many_in_one_write() {
        let (sink, read) = sink();
        let (lines, end) = Lines::to(sink).unwrap();
        let layer = tracing_subscriber::fmt::layer().without_time().with_ansi(false).with_writer(lines);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(target: DELIVERIES, "one");
            tracing::info!(target: DELIVERIES, "two");
            tracing::info!("three");
        });
        let written = read.recv().unwrap();
        // One that waited long enough on a busy machine was written before.
        let rest: String = read.try_iter().collect();
        let all = written + &rest;
        let words: Vec<&str> = all.lines().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(words, ["one", "two", "three"]);
        drop(end);
    }

    #[test]
    fn what_waits_is_written_without_another_line_when_there_is_much_and_at_the_end() {
        let (sink, read) = sink();
        let (lines, end) = Lines::to(sink).unwrap();
        let line = |may_wait| Line { shared: &lines.0, may_wait };
        line(true).write_all(b"waits\n").unwrap();
        assert_eq!(read.recv().unwrap(), "waits\n");
        line(true).write_all(&[b'x'; FULL]).unwrap();
        assert_eq!(read.recv().unwrap().len(), FULL);
        line(true).write_all(b"the last\n").unwrap();
        drop(end);
        assert_eq!(read.recv().unwrap(), "the last\n");
        line(true).write_all(b"after it\n").unwrap();
        assert_eq!(read.recv().unwrap(), "after it\n");
    }
}
