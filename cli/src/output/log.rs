//! The log of a step, cut into lines, each with its time since the step started.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Longest line in bytes: a longer one is cut, so that a step which never prints a line feed costs
/// no more memory than this.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A line, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// When its first byte came, counted from the start of the step.
    pub(crate) at: Duration,
    /// Its bytes without the line feed.
    pub(crate) text: Vec<u8>,
}

impl Line {
    /// `0.213 `: three places below 10 s, two below 100 s, then one; BuildKit's rule.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(self.at)
    }
}

/// Prints a time since the start of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp(Duration);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let places = match seconds {
            seconds if seconds < 10.0 => 3,
            seconds if seconds < 100.0 => 2,
            _ => 1,
        };
        write!(f, "{seconds:.places$}")
    }
}

/// The last lines of a log. Lines are numbered from 0 on, and keep their numbers when earlier ones
/// are forgotten.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    lines: VecDeque<Line>,
    /// How many lines were forgotten: the number of the first in `lines`.
    forgotten: u64,
    /// Whether the last line has not ended yet.
    is_open: bool,
    bytes: usize,
    /// All bytes that ever came.
    written: u64,
}

impl Log {
    /// Adds what a step wrote `at` a time since it started.
    pub(crate) fn write(&mut self, at: Duration, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.add(at, text);
            self.is_open = !ends;
        }
    }

    fn add(&mut self, at: Duration, mut text: &[u8]) {
        if self.is_open
            && let Some(last) = self.lines.back_mut()
        {
            let fits = (LINE_BYTES_MAX - last.text.len()).min(text.len());
            last.text.extend_from_slice(&text[..fits]);
            self.bytes += fits;
            text = &text[fits..];
            if text.is_empty() {
                return;
            }
        }
        loop {
            let fits = text.len().min(LINE_BYTES_MAX);
            self.lines.push_back(Line {
                at,
                text: text[..fits].to_vec(),
            });
            self.bytes += fits;
            text = &text[fits..];
            if text.is_empty() {
                return;
            }
        }
    }

    /// Number of the line after the last one.
    pub(crate) fn end(&self) -> u64 {
        self.forgotten + self.lines.len() as u64
    }

    /// Whether the last line has not ended yet.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Lines that are not here any more.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that were ever written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The kept lines from number `from` on, with their numbers.
    pub(crate) fn from(&self, from: u64) -> impl DoubleEndedIterator<Item = (u64, &Line)> {
        let skip = usize::try_from(from.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        let first = self.forgotten;
        self.lines
            .iter()
            .enumerate()
            .skip(skip)
            .map(move |(n, line)| (first + n as u64, line))
    }

    /// The kept lines.
    pub(crate) fn lines(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.lines.iter()
    }

    /// Forgets all but the last lines.
    pub(crate) fn keep_last(&mut self, lines: usize, bytes: usize) {
        while self.lines.len() > lines || (self.bytes > bytes && self.lines.len() > 1) {
            let Some(line) = self.lines.pop_front() else {
                return;
            };
            self.bytes -= line.text.len();
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: &Log) -> Vec<String> {
        log.lines()
            .map(|line| String::from_utf8_lossy(&line.text).into_owned())
            .collect()
    }

    #[test]
    fn pieces_of_a_line_are_put_together_whatever_the_cuts() {
        let text = b"one\n\ntwo\nthree";
        for cut in 0..=text.len() {
            for second in cut..=text.len() {
                let mut log = Log::default();
                for piece in [&text[..cut], &text[cut..second], &text[second..]] {
                    log.write(Duration::ZERO, piece);
                }
                assert_eq!(
                    texts(&log),
                    ["one", "", "two", "three"],
                    "cut at {cut} and {second}"
                );
                assert!(log.is_open());
            }
        }
    }

    #[test]
    fn a_line_has_the_time_of_its_first_byte() {
        let mut log = Log::default();
        log.write(Duration::from_millis(213), b"a");
        log.write(Duration::from_millis(500), b"b\nc\n");
        let stamps: Vec<_> = log.lines().map(|line| line.stamp().to_string()).collect();
        assert_eq!(stamps, ["0.213", "0.500"]);
        assert!(!log.is_open());
    }

    #[test]
    fn stamps_lose_places_as_they_grow() {
        for (millis, text) in [
            (0, "0.000"),
            (9_999, "9.999"),
            (12_345, "12.35"),
            (100_000, "100.0"),
        ] {
            assert_eq!(Stamp(Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn a_log_without_line_feeds_is_cut_and_stays_bounded() {
        let mut log = Log::default();
        for _ in 0..100 {
            log.write(Duration::ZERO, &[b'x'; 30_000]);
            log.keep_last(3, 1 << 20);
        }
        assert!(log.lines().all(|line| line.text.len() <= LINE_BYTES_MAX));
        assert!(log.bytes() <= 3 * LINE_BYTES_MAX);
        assert_eq!(log.written(), 3_000_000);
    }

    #[test]
    fn numbers_stay_when_lines_are_forgotten() {
        let mut log = Log::default();
        log.write(Duration::ZERO, b"a\nb\nc\nd\n");
        log.keep_last(2, usize::MAX);
        let numbers: Vec<_> = log.from(1).map(|(number, _)| number).collect();
        assert_eq!((numbers, log.end(), log.forgotten()), (vec![2, 3], 4, 2));
        assert_eq!(log.from(3).count(), 1);
        assert_eq!(log.from(9).count(), 0);
    }
}
