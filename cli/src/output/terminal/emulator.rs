//! A small terminal, for tests: what a person would see after some bytes, also when the window
//! was resized meanwhile. It wraps and joins lines as VTE and tmux do.

use unicode_width::UnicodeWidthChar;

use super::Size;

/// A terminal with everything that scrolled out of it.
pub(super) struct Emulator {
    size: Size,
    /// Lines between line feeds, however wide; the last is the newest.
    lines: Vec<Vec<char>>,
    /// Line, and characters before the cursor in it.
    cursor: (usize, usize),
    pub(super) is_cursor_shown: bool,
}

impl Emulator {
    pub(super) fn new(size: Size) -> Self {
        Emulator {
            size,
            lines: vec![Vec::new()],
            cursor: (0, 0),
            is_cursor_shown: true,
        }
    }

    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
    }

    fn width(line: &[char]) -> usize {
        line.iter().map(|c| c.width().unwrap_or(0)).sum()
    }

    /// Rows that a line takes.
    fn rows_of(&self, line: &[char]) -> usize {
        Self::width(line).div_ceil(self.size.columns).max(1)
    }

    /// Takes in bytes. Sequences that it does not know make the test fail.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            match character {
                '\r' => self.cursor.1 = 0,
                '\n' => self.line_feed(),
                '\x1b' => {
                    assert_eq!(rest.next(), Some('['), "{text:?}");
                    let parameters = rest.clone().take_while(|c| !c.is_ascii_alphabetic());
                    let parameters: String = parameters.collect();
                    let mut end = rest.by_ref().skip(parameters.chars().count());
                    let end = end.next().expect("a final byte");
                    self.control(&parameters, end);
                }
                character if character.is_control() => panic!("{character:?} in {text:?}"),
                character => {
                    let (line, at) = self.cursor;
                    self.lines[line].truncate(at);
                    self.lines[line].push(character);
                    self.cursor.1 += 1;
                }
            }
        }
    }

    fn line_feed(&mut self) {
        self.cursor = (self.cursor.0 + 1, 0);
        if self.cursor.0 == self.lines.len() {
            self.lines.push(Vec::new());
        }
    }

    fn control(&mut self, parameters: &str, end: char) {
        match (parameters, end) {
            ("?25", 'l') => self.is_cursor_shown = false,
            ("?25", 'h') => self.is_cursor_shown = true,
            ("2", 'K') => self.lines[self.cursor.0].clear(),
            ("" | "0", 'J') => {
                self.lines.truncate(self.cursor.0 + 1);
                self.lines[self.cursor.0].truncate(self.cursor.1);
            }
            (count, 'A') => self.up(count.parse().unwrap()),
            (_, 'm') => {}
            other => panic!("an unknown sequence {other:?}"),
        }
    }

    /// Goes up by rows of the screen, not further than its top.
    fn up(&mut self, rows: usize) {
        let below: usize = self.lines[self.cursor.0..]
            .iter()
            .map(|line| self.rows_of(line))
            .sum();
        let mut left = rows.min(self.size.rows.saturating_sub(below));
        while left > 0 && self.cursor.0 > 0 {
            self.cursor.0 -= 1;
            let rows = self.rows_of(&self.lines[self.cursor.0]);
            if rows > left {
                self.split(rows - left);
                left = rows;
            }
            left -= rows;
        }
    }

    /// Parts the line of the cursor behind so many rows; the cursor goes to the second part.
    fn split(&mut self, rows: usize) {
        let line = &mut self.lines[self.cursor.0];
        let mut end = 0;
        while end < line.len() && Self::width(&line[..=end]) <= rows * self.size.columns {
            end += 1;
        }
        let rest = line.split_off(end);
        self.cursor = (self.cursor.0 + 1, 0);
        self.lines.insert(self.cursor.0, rest);
    }

    /// Everything that was ever shown and not erased, line by line.
    pub(super) fn text(&self) -> Vec<String> {
        self.lines
            .iter()
            .map(|line| line.iter().collect())
            .collect()
    }
}
