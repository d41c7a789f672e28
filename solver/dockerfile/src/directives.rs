//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the top of a file.
//!
//! Directives end at the first line that is none: another comment, an empty line, an instruction.

use crate::error::{Error, Problem, Span};
use crate::lines::{trim_line_ending, without_byte_order_mark};

/// The directives of one Dockerfile, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the frontend that the file asks for.
    pub syntax: Option<Syntax>,
    /// `# escape=`: `\` or a backtick.
    pub escape: char,
    /// `# check=`: how build checks behave.
    pub check: CheckOptions,
}

/// The value of `# syntax=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    /// The frontend's image reference: the value up to the first space.
    pub reference: String,
    /// The whole value.
    pub command_line: String,
    /// The line it stands on.
    pub line: usize,
}

/// The value of `# check=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// `skip=`: checks that are not made.
    pub skip: CheckSelection,
    /// `experimental=`: experimental checks that are made.
    pub experimental: CheckSelection,
    /// `error=true`: a failed check fails the build.
    pub error: bool,
}

/// Which checks an option names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckSelection {
    /// `all`.
    All,
    /// These.
    Named(Vec<String>),
}

impl Default for CheckSelection {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

impl CheckSelection {
    /// Whether a check is named.
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|known| known.eq_ignore_ascii_case(name)),
        }
    }

    fn parse(value: &str) -> Self {
        match value.trim() {
            "all" => Self::All,
            names => Self::Named(names.split(',').map(|n| n.trim().to_owned()).collect()),
        }
    }
}

impl CheckOptions {
    /// Reads `skip=A,B;error=true;experimental=all`; the parts may stand in any order.
    ///
    /// # Errors
    /// [`Problem::CheckOption`], [`Problem::CheckOptionValue`].
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut options = Self::default();
        if text.trim().is_empty() {
            return Ok(options);
        }
        for part in text.trim().splitn(3, ';') {
            let (key, value) = part.split_once('=').ok_or_else(|| Problem::CheckOption {
                option: part.to_owned(),
            })?;
            match key.trim() {
                "skip" => options.skip = CheckSelection::parse(value),
                "experimental" => options.experimental = CheckSelection::parse(value),
                "error" => {
                    let bad_value = || Problem::CheckOptionValue {
                        option: part.to_owned(),
                    };
                    options.error = parse_bool(value.trim()).ok_or_else(bad_value)?;
                }
                key => {
                    return Err(Problem::CheckOption {
                        option: key.to_owned(),
                    });
                }
            }
        }
        Ok(options)
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The known directives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectiveName {
    Syntax,
    Escape,
    Check,
}

impl DirectiveName {
    const ALL: [Self; 3] = [Self::Syntax, Self::Escape, Self::Check];

    fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Escape => "escape",
            Self::Check => "check",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|known| known.as_str().eq_ignore_ascii_case(name))
    }
}

/// Takes lines from the top of a file until one is no directive.
#[derive(Debug)]
pub(crate) struct DirectiveParser {
    comment_mark: &'static str,
    seen: Vec<DirectiveName>,
    is_finished: bool,
}

impl DirectiveParser {
    pub(crate) fn new(comment_mark: &'static str) -> Self {
        Self {
            comment_mark,
            seen: Vec::new(),
            is_finished: false,
        }
    }

    /// No directive can follow.
    pub(crate) fn finish(&mut self) {
        self.is_finished = true;
    }

    /// The directive on `line`, if it is one.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<Option<(DirectiveName, String)>, Problem> {
        if self.is_finished {
            return Ok(None);
        }
        let Some((name, value)) = self.split(line) else {
            self.finish();
            return Ok(None);
        };
        if self.seen.contains(&name) {
            return Err(Problem::DirectiveRepeated {
                name: name.as_str(),
            });
        }
        self.seen.push(name);
        Ok(Some((name, value)))
    }

    fn split(&self, line: &[u8]) -> Option<(DirectiveName, String)> {
        let line = line.strip_prefix(self.comment_mark.as_bytes())?;
        let line = String::from_utf8_lossy(trim_line_ending(line));
        let (name, value) = line.trim_start().split_once('=')?;
        let name = DirectiveName::parse(name.trim_end())?;
        let value = value.trim();
        (!value.is_empty()).then(|| (name, value.to_owned()))
    }
}

/// Which frontend a file asks for.
///
/// The file need not be a Dockerfile: besides `# syntax=` at its top, `// syntax=` and a JSON
/// object with a string `syntax` are understood. A byte order mark and a first line with `#!` are
/// skipped.
pub fn detect_syntax(data: &[u8]) -> Option<Syntax> {
    let (body, first_line) = without_shebang(without_byte_order_mark(data));
    let found = ["#", "//"]
        .into_iter()
        .find_map(|comment_mark| find(body, first_line, comment_mark, DirectiveName::Syntax));
    let (command_line, line) = found.or_else(|| Some((json_syntax(body)?, first_line)))?;
    let reference = match command_line.split_once(' ') {
        Some((reference, _)) => reference.to_owned(),
        None => command_line.clone(),
    };
    Some(Syntax {
        reference,
        command_line,
        line,
    })
}

/// The options in `# check=`, defaults without one. Only the value up to the first space counts.
///
/// # Errors
/// The value is not valid.
pub fn detect_check(data: &[u8]) -> Result<CheckOptions, Error> {
    let (body, first_line) = without_shebang(without_byte_order_mark(data));
    let Some((value, line)) = find(body, first_line, "#", DirectiveName::Check) else {
        return Ok(CheckOptions::default());
    };
    let value = value.split_once(' ').map_or(value.as_str(), |(v, _)| v);
    CheckOptions::parse(value).map_err(|problem| Error::Syntax {
        problem,
        span: Span::line(line),
    })
}

/// The rest after a `#!` line, and the number of its first line.
fn without_shebang(data: &[u8]) -> (&[u8], usize) {
    if !data.starts_with(b"#!") {
        return (data, 1);
    }
    let end = data.iter().position(|byte| *byte == b'\n');
    (end.map_or(&[], |end| &data[end + 1..]), 2)
}

/// The value of one directive and the line it stands on.
fn find(
    body: &[u8],
    first_line: usize,
    comment_mark: &'static str,
    wanted: DirectiveName,
) -> Option<(String, usize)> {
    let mut parser = DirectiveParser::new(comment_mark);
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let (name, value) = parser.line(line).ok()??;
        if name == wanted {
            return Some((value, first_line + index));
        }
    }
    None
}

fn json_syntax(body: &[u8]) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    Some(object.get("syntax")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{CheckOptions, CheckSelection, detect_check, detect_syntax};

    #[test]
    fn syntax_is_found_in_all_forms() {
        let cases: [(&[u8], &str, &str, usize); 10] = [
            (b"# syntax = a:1 // opts\nFROM x\n", "a:1", "a:1 // opts", 1),
            (b"#syntax=a\r\nFROM x", "a", "a", 1),
            (b"# escape=`\n# SynTax=a\n", "a", "a", 2),
            (b"#!/bin/sh\n# syntax=a\n", "a", "a", 2),
            (b"//syntax=a\n//key=value", "a", "a", 1),
            (b"#!/bin/sh\n//syntax=a", "a", "a", 2),
            (b"{\"syntax\": \"a b\", \"bar\": [1]}", "a", "a b", 1),
            (b"#!x\n{\"syntax\":\n\"a\"}", "a", "a", 2),
            (b"\xef\xbb\xbf# syntax=a\n", "a", "a", 1),
            (b"\xef\xbb\xbf#!/x\n# syntax=a\n", "a", "a", 2),
        ];
        for (data, reference, command_line, line) in cases {
            let name = String::from_utf8_lossy(data);
            let syntax = detect_syntax(data).unwrap_or_else(|| panic!("no syntax in {name:?}"));
            assert_eq!(syntax.reference, reference, "{name:?}");
            assert_eq!(syntax.command_line, command_line, "{name:?}");
            assert_eq!(syntax.line, line, "{name:?}");
        }
    }

    #[test]
    fn other_text_has_no_syntax() {
        let cases: [&[u8]; 9] = [
            b"",
            b"#!/bin/sh",
            b"FROM x\n# syntax=a",
            b"# comment\n# syntax=a\n",
            b"#!/bin/sh\n\n# syntax=a\n",
            b"# syntax=\n",
            b"{\"syntax\": \"foo\"",
            b"{\"syntax\": 3}",
            b"{\"syntax\": \"foo\"}\n# syntax=bar",
        ];
        for data in cases {
            assert_eq!(
                detect_syntax(data),
                None,
                "{:?}",
                String::from_utf8_lossy(data)
            );
        }
    }

    #[test]
    fn check_options_are_read() {
        let options = CheckOptions::parse("skip=A, B;error=true;experimental=all").expect("valid");
        let named = CheckSelection::Named(vec!["A".to_owned(), "B".to_owned()]);
        assert_eq!(options.skip, named);
        assert_eq!(options.experimental, CheckSelection::All);
        assert!(options.error);
        let options = detect_check(b"#check = skip=all // opts\nFROM x").expect("valid");
        assert_eq!(options.skip, CheckSelection::All);
    }

    #[test]
    fn wrong_check_options_are_refused_with_their_line() {
        for (data, message) in [
            ("# escape=`\n# check=skip", "invalid check option \"skip\""),
            ("# escape=`\n# check=a=b", "invalid check option \"a\""),
            (
                "# escape=`\n# check=error=maybe",
                "failed to parse check option \"error=maybe\": invalid boolean value",
            ),
        ] {
            let error = detect_check(data.as_bytes()).expect_err(data);
            assert_eq!(error.to_string(), message);
            assert_eq!(error.spans()[0].start, 2);
        }
    }
}
