//! `.dockerignore` files and `--exclude` patterns.
//!
//! The last pattern that matches a path, or a directory above it, decides: excluded, or with `!`
//! not excluded. Patterns are those of [`Glob::with_double_star`], from the context's root.
//!
//! As in `patternmatcher`, a pattern is compared with a path only if it could change what those
//! before it say; and that it matches a directory is known below only if it was compared there. So
//! `!src` brings nothing back of what `**/*.c` takes away: `src` itself was never taken away.

use crate::error::{Error, Problem};
use crate::glob::{Glob, PATTERN_SIZE_MAX};
use crate::lines::without_byte_order_mark;

/// The most patterns of one file. Every path of the context is compared with all of them.
pub const PATTERN_COUNT_MAX: usize = 1 << 16;

/// The largest ignore file. Bytes. Compiled patterns take some fifty times as much memory.
pub const IGNORE_FILE_SIZE_MAX: usize = 2 << 20;

/// A list of patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// Written with `!`.
    is_exception: bool,
    /// Cleaned, without `!`.
    pattern: Vec<u8>,
    glob: Glob,
    reach: Reach,
}

/// Which directories can hold matches of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reach {
    /// One pattern for each level of directories.
    levels: Vec<Glob>,
    /// Below the last level anything may match: the pattern goes on with `**`, or with something
    /// that may stand for a slash.
    is_open: bool,
}

impl Ignore {
    /// Reads the text of an ignore file.
    ///
    /// Lines that start with `#` are comments; white space around a pattern is removed; `a/../b/`
    /// is cleaned to `b`; one leading slash is removed.
    ///
    /// # Errors
    /// [`Error::Pattern`] with the line of the first malformed pattern, or a limit.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        if data.len() > IGNORE_FILE_SIZE_MAX {
            let problem = Problem::IgnoreFileTooLarge {
                size: data.len(),
                size_max: IGNORE_FILE_SIZE_MAX,
            };
            return Err(pattern_error(problem, b"", 0));
        }
        let mut ignore = Self::default();
        let lines = without_byte_order_mark(data).split(|byte| *byte == b'\n');
        for (index, line) in lines.enumerate() {
            if line.starts_with(b"#") {
                continue;
            }
            let text = trim(line);
            if text.is_empty() {
                continue;
            }
            let (mark, pattern) = split_mark(text);
            let mut pattern = clean_if_any(trim(pattern));
            if pattern.len() > 1 && pattern[0] == b'/' {
                pattern.remove(0);
            }
            ignore
                .push(&[mark, &pattern].concat())
                .map_err(|problem| pattern_error(problem, text, index + 1))?;
        }
        Ok(ignore)
    }

    /// A list of patterns that do not come from a file, such as those of `COPY --exclude`.
    ///
    /// # Errors
    /// [`Error::Pattern`] for the first malformed pattern, or a limit.
    pub fn from_patterns<P: AsRef<[u8]>>(
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, Error> {
        let mut ignore = Self::default();
        for pattern in patterns {
            let text = pattern.as_ref();
            ignore
                .push(text)
                .map_err(|problem| pattern_error(problem, text, 0))?;
        }
        Ok(ignore)
    }

    /// Adds one pattern, trimmed and cleaned with its mark, as `patternmatcher` does it (also to
    /// what `parse` has cleaned already: `./ a` is `a`).
    fn push(&mut self, text: &[u8]) -> Result<(), Problem> {
        let text = clean_if_any(trim(text));
        if text.is_empty() {
            return Ok(());
        }
        let (mark, pattern) = split_mark(&text);
        if pattern.is_empty() {
            return Err(Problem::EmptyExclusion);
        }
        if self.rules.len() == PATTERN_COUNT_MAX {
            return Err(Problem::TooManyPatterns {
                count_max: PATTERN_COUNT_MAX,
            });
        }
        // Refused as `filepath.Match` refuses it, before `**` gets its meaning.
        Glob::new(pattern)?;
        self.rules.push(Rule {
            is_exception: !mark.is_empty(),
            glob: Glob::with_double_star(pattern)?,
            reach: Reach::of(pattern)?,
            pattern: pattern.to_vec(),
        });
        Ok(())
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The patterns, cleaned, `!` in front of exceptions: as BuildKit sends them to a client.
    pub fn patterns(&self) -> Vec<Vec<u8>> {
        let of_rule = |rule: &Rule| {
            let mark: &[u8] = if rule.is_exception { b"!" } else { b"" };
            [mark, &rule.pattern].concat()
        };
        self.rules.iter().map(of_rule).collect()
    }

    /// Whether `path`, relative to the root with `/` between names, is excluded. Files and
    /// directories are treated alike. The root itself is never excluded.
    pub fn excludes(&self, path: impl AsRef<[u8]>) -> bool {
        let path = relative(path.as_ref());
        let decisive = self.decisive(path);
        decisive.is_some_and(|index| !self.rules[index].is_exception)
    }

    /// Whether the directory `path` and all that can be below it are excluded, so that nobody
    /// needs to look into it.
    pub fn excludes_all_below(&self, path: impl AsRef<[u8]>) -> bool {
        let path = relative(path.as_ref());
        let Some(index) = self.decisive(path) else {
            return false;
        };
        let (rules, later) = self.rules.split_at(index + 1);
        let is_excluded = rules.last().is_some_and(|rule| !rule.is_exception);
        // Everything below matches that pattern too, so only later ones can bring it back.
        is_excluded
            && !later
                .iter()
                .any(|r| r.is_exception && r.reach.is_below(path))
    }

    /// The last rule that matches.
    fn decisive(&self, path: &[u8]) -> Option<usize> {
        if path.is_empty() {
            return None;
        }
        let mut matched = vec![false; self.rules.len()];
        let mut decisive = None;
        let slashes = (0..path.len()).filter(|at| path[*at] == b'/');
        for end in slashes.chain([path.len()]) {
            let mut is_excluded = false;
            decisive = None;
            for (index, rule) in self.rules.iter().enumerate() {
                if !matched[index] {
                    if rule.is_exception != is_excluded {
                        continue;
                    }
                    matched[index] = rule.glob.is_match(&path[..end]);
                }
                if matched[index] {
                    is_excluded = !rule.is_exception;
                    decisive = Some(index);
                }
            }
        }
        decisive
    }
}

impl Reach {
    fn of(pattern: &[u8]) -> Result<Self, Problem> {
        let mut levels = Vec::new();
        for level in pattern.split(|byte| *byte == b'/') {
            let is_fixed = !level.windows(2).any(|pair| pair == b"**")
                && !level.iter().any(|byte| matches!(byte, b'[' | b'\\'));
            if !is_fixed {
                return Ok(Self {
                    levels,
                    is_open: true,
                });
            }
            levels.push(Glob::new(level)?);
        }
        Ok(Self {
            levels,
            is_open: false,
        })
    }

    /// Whether something strictly below the directory `path` can match. May say yes too often.
    fn is_below(&self, path: &[u8]) -> bool {
        let mut levels = self.levels.iter();
        for name in path.split(|byte| *byte == b'/') {
            match levels.next() {
                Some(level) if level.is_match(name) => {}
                Some(_) => return false,
                None => return self.is_open,
            }
        }
        levels.next().is_some() || self.is_open
    }
}

fn pattern_error(problem: Problem, pattern: &[u8], line: usize) -> Error {
    let shown = &pattern[..pattern.len().min(PATTERN_SIZE_MAX)];
    Error::Pattern {
        problem,
        pattern: String::from_utf8_lossy(shown).into_owned(),
        line,
    }
}

/// The `!` in front of a pattern, or nothing, and the pattern.
fn split_mark(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(usize::from(text.starts_with(b"!")))
}

/// `text` without surrounding white space; Unicode's if the text is UTF-8.
fn trim(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

/// `path` without what makes no difference at its start and end. Empty for the root.
fn relative(path: &[u8]) -> &[u8] {
    let mut path = path;
    while let Some(rest) = path.strip_prefix(b"/").or(path.strip_prefix(b"./")) {
        path = rest;
    }
    while let Some(rest) = path.strip_suffix(b"/") {
        path = rest;
    }
    if path == b"." { b"" } else { path }
}

fn clean_if_any(pattern: &[u8]) -> Vec<u8> {
    if pattern.is_empty() {
        Vec::new()
    } else {
        clean(pattern)
    }
}

/// The shortest equal path (Go's `filepath.Clean`): no `.`, no inner `..`, no doubled slashes.
fn clean(path: &[u8]) -> Vec<u8> {
    let is_rooted = path.starts_with(b"/");
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.last().is_some_and(|last| *last != b"..") => {
                names.pop();
            }
            b".." if is_rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join(&b'/');
    match (is_rooted, joined.is_empty()) {
        (true, _) => [b"/".as_slice(), &joined].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests;
