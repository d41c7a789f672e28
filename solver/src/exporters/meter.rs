//! How far an output is: bytes are counted on their way out, and a step tells of them.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::progress::Step;

/// Bytes between two reports.
const REPORTED_BYTES: u64 = 1 << 20;

/// What is over sooner is not worth a line.
const QUIET: Duration = Duration::from_millis(300);

/// A writer that reports to a step.
pub(super) struct Meter<'s, W> {
    out: W,
    step: &'s Step,
    id: String,
    total: Option<u64>,
    written: u64,
    reported: u64,
    since: Instant,
}

impl<'s, W: Write> Meter<'s, W> {
    /// What goes to `out` is the part `id` of a step; `total` is about what will come.
    pub(super) fn new(out: W, step: &'s Step, id: String, total: Option<u64>) -> Self {
        Meter {
            out,
            step,
            id,
            total,
            written: 0,
            reported: 0,
            since: Instant::now(),
        }
    }

    /// So many bytes more were written, through this writer or by another way.
    pub(super) fn count(&mut self, bytes: u64) {
        self.written += bytes;
        let is_due = self.written >= self.reported + REPORTED_BYTES;
        if is_due && self.since.elapsed() >= QUIET {
            self.reported = self.written;
            // An estimate may be too low.
            let total = self.total.map(|total| total.max(self.written));
            self.step
                .status(self.id.as_str(), self.written, total, false);
        }
    }

    /// Tells that all of it was written; of what was over soon only if `always`.
    pub(super) fn end(self, always: bool) {
        if always || self.reported > 0 {
            let all = self.total.map(|_| self.written);
            self.step.status(self.id.as_str(), self.written, all, true);
        }
    }
}

impl<W: Write> Write for Meter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.count(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::progress::{Display, Event, EventKind, Progress};

    #[derive(Default)]
    struct Seen(Mutex<Vec<(u64, Option<u64>, bool)>>);

    impl Display for Seen {
        fn show(&self, event: Event) {
            if let EventKind::Status {
                current,
                total,
                completed,
                ..
            } = event.kind
            {
                self.0.lock().unwrap().push((current, total, completed));
            }
        }
    }

    #[test]
    fn what_takes_a_while_is_told_megabyte_by_megabyte() {
        let seen = Arc::new(Seen::default());
        let step = Progress::new(seen.clone()).step("export");
        let mut meter = Meter::new(io::sink(), &step, "part".into(), Some(2 << 20));
        meter.write_all(&[0; 1 << 20]).unwrap();
        assert_eq!(*seen.0.lock().unwrap(), [], "it may be over soon");
        meter.since -= QUIET;
        for _ in 0..8 {
            meter.write_all(&[0; 256 << 10]).unwrap();
        }
        meter.end(false);
        let mega = |count: u64| count << 20;
        let expect = [
            (mega(1) + (256 << 10), Some(mega(2)), false),
            (mega(2) + (256 << 10), Some(mega(2) + (256 << 10)), false),
            (mega(3), Some(mega(3)), true),
        ];
        assert_eq!(*seen.0.lock().unwrap(), expect);
        Meter::new(io::sink(), &step, "quick".into(), None).end(false);
        assert_eq!(seen.0.lock().unwrap().len(), 3);
    }
}
