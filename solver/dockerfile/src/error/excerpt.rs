//! The lines of a Dockerfile around an error, as `docker build` and `buildctl` print them.

use std::borrow::Cow;
use std::fmt;

use super::Span;

/// Prints the marked lines with a few lines around them:
///
/// ```text
/// Dockerfile:3
/// --------------------
///    1 |     FROM busybox
///    2 |     
///    3 | >>> FOO bar
///    4 |     
/// --------------------
/// ```
///
/// One marked line gets two lines of context on each side, several get one (BuildKit's
/// `solver/errdefs/source.go`). Displays as nothing when no span lies inside the file.
#[derive(Debug, Clone)]
pub struct Excerpt<'a> {
    file_name: &'a str,
    lines: Vec<Cow<'a, str>>,
    spans: &'a [Span],
}

impl<'a> Excerpt<'a> {
    /// An excerpt of `data`, the whole file, named `file_name` in the head line.
    pub fn new(file_name: &'a str, data: &'a [u8], spans: &'a [Span]) -> Self {
        let text_of = |line: &'a [u8]| String::from_utf8_lossy(without_carriage_return(line));
        Self {
            file_name,
            lines: data.split(|byte| *byte == b'\n').map(text_of).collect(),
            spans,
        }
    }

    /// First and last marked line.
    fn marked(&self) -> Option<Span> {
        let start = self.spans.iter().map(|s| s.start).min()?;
        let end = self.spans.iter().map(|s| s.end.max(s.start)).max()?;
        if start < 1 || start > self.lines.len() {
            return None;
        }
        Some(Span::new(start, end.min(self.lines.len())))
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(marked) = self.marked() else {
            return Ok(());
        };
        let context = if marked.start == marked.end { 2 } else { 1 };
        let first = marked.start.saturating_sub(context).max(1);
        let last = (marked.end + context).min(self.lines.len());

        writeln!(f, "{}:{}", self.file_name, marked.start)?;
        writeln!(f, "--------------------")?;
        for number in first..=last {
            let is_marked = self.spans.iter().any(|span| span.contains(number));
            let mark = if is_marked { ">>>" } else { "   " };
            writeln!(f, " {number:>3} | {mark} {}", self.lines[number - 1])?;
        }
        writeln!(f, "--------------------")
    }
}

/// A Windows line ending would send the terminal's cursor home.
fn without_carriage_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::{Excerpt, Span};

    const RULE: &str = "--------------------\n";

    fn excerpt(data: &str, spans: &[Span]) -> String {
        Excerpt::new("Dockerfile", data.as_bytes(), spans).to_string()
    }

    #[test]
    fn one_line_has_two_lines_of_context() {
        let text = excerpt("FROM busybox\n\nFOO bar\n", &[Span::line(3)]);
        let expected = format!(
            "Dockerfile:3\n{RULE}   1 |     FROM busybox\n   2 |     \n   3 | >>> FOO bar\n\
             \x20  4 |     \n{RULE}"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn several_lines_have_one_line_of_context() {
        let text = excerpt("a\nb\nc\nd\ne\n", &[Span::new(3, 4)]);
        let expected = format!(
            "Dockerfile:3\n{RULE}   2 |     b\n   3 | >>> c\n   4 | >>> d\n   5 |     e\n{RULE}"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn lines_between_two_marks_are_shown_unmarked() {
        let text = excerpt("a\nb\nc\nd\ne", &[Span::line(4), Span::line(2)]);
        let expected = format!(
            "Dockerfile:2\n{RULE}   1 |     a\n   2 | >>> b\n   3 |     c\n   4 | >>> d\n\
             \x20  5 |     e\n{RULE}"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn windows_line_endings_are_not_printed() {
        assert!(!excerpt("a\r\nb\r\n", &[Span::line(1)]).contains('\r'));
    }

    #[test]
    fn spans_outside_the_file_print_nothing() {
        assert_eq!(excerpt("a\n", &[]), "");
        assert_eq!(excerpt("a\n", &[Span::line(0)]), "");
        assert_eq!(excerpt("a\n", &[Span::line(9)]), "");
        assert!(excerpt("a\nb", &[Span::new(2, 9)]).contains("   2 | >>> b\n"));
    }
}
