//! Draws a picture over the one drawn before.
//!
//! Each frame is one write that hides the cursor, draws, and shows it again: whenever the program
//! ends, however it ends, the terminal is as it was, with the cursor below the picture.

use super::{Line, Paint, Size};
use crate::output::style::Colours;
use crate::output::text::columns;

/// What was drawn last.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// Columns of each line that stands above the cursor.
    drawn: Vec<usize>,
    colours: Option<Colours>,
}

impl Screen {
    /// A screen on which nothing is drawn yet.
    pub(crate) fn new(colours: Option<Colours>) -> Self {
        Screen {
            drawn: Vec::new(),
            colours,
        }
    }

    /// The bytes that replace what was drawn by `picture`.
    pub(crate) fn frame(&mut self, picture: &[Line], size: Size) -> Vec<u8> {
        let mut out = String::from("\x1b[?25l\r");
        // A terminal that became narrower has wrapped what stood there.
        let width = size.columns.max(1);
        let rows: usize = self
            .drawn
            .iter()
            .map(|columns| columns.div_ceil(width).max(1))
            .sum();
        let rows = rows.min(size.rows.saturating_sub(1));
        if rows > 0 {
            out.push_str(&format!("\x1b[{rows}A"));
        }
        for line in picture {
            // Erased before it is written: after a full line the cursor is still on its last
            // character.
            out.push_str("\x1b[2K");
            match self.colour(line.paint) {
                Some(colour) => out.push_str(&format!("\x1b[{colour}m{}\x1b[0m\n", line.text)),
                None => out.push_str(&format!("{}\n", line.text)),
            }
        }
        out.push_str("\x1b[J\x1b[?25h");
        self.drawn = picture.iter().map(|line| columns(&line.text)).collect();
        out.into_bytes()
    }

    /// Parameters of the control sequence that paints a line (ECMA-48, SGR).
    fn colour(&self, paint: Paint) -> Option<&str> {
        let colours = self.colours.as_ref()?;
        match paint {
            Paint::Normal => None,
            Paint::Ended => Some(&colours.run),
            Paint::Cancelled => Some(&colours.cancel),
            Paint::Warning => Some(&colours.warning),
            Paint::Failed => Some(&colours.error),
            Paint::Faint => Some("2"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts
            .iter()
            .map(|text| Line {
                text: (*text).into(),
                paint: Paint::Ended,
            })
            .collect()
    }

    fn frame(screen: &mut Screen, texts: &[&str], columns: usize) -> String {
        String::from_utf8(screen.frame(&lines(texts), Size { columns, rows: 24 })).unwrap()
    }

    #[test]
    fn a_frame_goes_back_over_the_last_one_and_clears_what_is_below() {
        let mut screen = Screen::new(None);
        assert_eq!(
            frame(&mut screen, &["a", "b"], 80),
            "\x1b[?25l\r\x1b[2Ka\n\x1b[2Kb\n\x1b[J\x1b[?25h"
        );
        assert_eq!(
            frame(&mut screen, &["c"], 80),
            "\x1b[?25l\r\x1b[2A\x1b[2Kc\n\x1b[J\x1b[?25h"
        );
        assert!(frame(&mut screen, &[], 80).contains("\x1b[1A"));
    }

    #[test]
    fn lines_that_the_terminal_wrapped_are_counted_when_going_back() {
        let mut screen = Screen::new(None);
        frame(&mut screen, &["0123456789", "x"], 10);
        assert!(frame(&mut screen, &["y"], 4).contains("\x1b[4A"));
    }

    #[test]
    fn every_frame_shows_the_cursor_again() {
        let mut screen = Screen::new(Some(Colours::default()));
        for texts in [&["a"][..], &[], &["b", "c"]] {
            let frame = frame(&mut screen, texts, 20);
            assert!(
                frame.starts_with("\x1b[?25l") && frame.ends_with("\x1b[?25h"),
                "{frame:?}"
            );
        }
    }

    #[test]
    fn colours_come_only_when_wanted() {
        assert!(
            frame(&mut Screen::new(Some(Colours::default())), &["a"], 20)
                .contains("\x1b[34ma\x1b[0m")
        );
        assert!(!frame(&mut Screen::new(None), &["a"], 20).contains("m"));
    }
}
