//! Source files as the rules see them: the text, the code without comments and strings, and the
//! code without tests.

use std::fs;
use std::path::Path;

/// Directories whose files are no source of ours: build output, version control, and test input,
/// which may be wrong on purpose.
const SKIPPED_DIRECTORIES: &[&str] = &["target", ".git", "fixtures", "testdata", "corpus"];

/// Endings of the files that are read. Files without ending are scripts such as `.ci/run`.
const TEXT_ENDINGS: &[&str] = &["rs", "toml", "md", "proto", "sh", ""];

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) file: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// What is wrong, and what to do instead.
    pub(crate) message: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// One text file of the checkout.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// Relative to the checkout, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// `text` with comments and the insides of strings blanked; lines and columns stay. Rust only.
    pub(crate) code: String,
    /// `code` without what `#[cfg(test)]` guards; empty for files that are only tests. Rust only.
    pub(crate) product: String,
}

impl SourceFile {
    /// A file with this path and text.
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        if !has_ending(&path, "rs") {
            return Self {
                path,
                text,
                code: String::new(),
                product: String::new(),
            };
        }
        let code = blank_comments_and_strings(&text);
        let only_tests = path.ends_with("/tests.rs")
            || path
                .split('/')
                .any(|part| part == "tests" || part == "benches");
        let product = if only_tests {
            String::new()
        } else {
            blank_tests(&code)
        };
        Self {
            path,
            text,
            code,
            product,
        }
    }

    /// The file name without directories.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Where the modules that the file declares lie.
    fn module_directory(&self) -> &str {
        let (directory, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        match name {
            "lib.rs" | "main.rs" => directory,
            _ => self.path.strip_suffix(".rs").unwrap_or(&self.path),
        }
    }

    /// Whether the file lies in this directory, or is this file.
    pub(crate) fn is_below(&self, place: &str) -> bool {
        self.path
            .strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// A violation on the line of this byte of the text.
    pub(crate) fn violation_at(&self, offset: usize, message: impl Into<String>) -> Violation {
        let line = self
            .text
            .as_bytes()
            .iter()
            .take(offset)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        self.violation(line, message)
    }

    /// A violation on this line.
    pub(crate) fn violation(&self, line: usize, message: impl Into<String>) -> Violation {
        Violation {
            file: self.path.clone(),
            line,
            message: message.into(),
        }
    }
}

/// Whether a path ends in `.ending`, or, for the empty ending, has none.
pub(crate) fn has_ending(path: &str, ending: &str) -> bool {
    Path::new(path)
        .extension()
        .map_or(ending.is_empty(), |found| found == ending)
}

/// All text files of the checkout, ordered by path.
pub(crate) fn read_tree(root: &Path) -> Vec<SourceFile> {
    let mut files = Vec::new();
    read_directory(root, root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    mark_test_modules(&mut files);
    files
}

/// A file whose parent says `#[cfg(test)] mod NAME;` is a test like those inside braces.
fn mark_test_modules(files: &mut [SourceFile]) {
    let mut tests = Vec::new();
    for parent in files.iter().filter(|file| has_ending(&file.path, "rs")) {
        let directory = parent.module_directory();
        let words: Vec<&str> = parent.code.split_whitespace().collect();
        for window in words.windows(3) {
            if let ["#[cfg(test)]", "mod", name] = window {
                tests.push(format!("{directory}/{}", name.trim_end_matches(';')));
            }
        }
    }
    for file in files {
        let stem = file.path.strip_suffix(".rs").unwrap_or(&file.path);
        if tests.iter().any(|test| stem == test || file.is_below(test)) {
            file.product.clear();
        }
    }
}

fn read_directory(root: &Path, directory: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(directory).expect("the checkout is readable") {
        let entry = entry.expect("the checkout is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let kind = entry.file_type().expect("Linux tells the type");
        if kind.is_dir() && !SKIPPED_DIRECTORIES.contains(&name.as_str()) {
            read_directory(root, &path, files);
        } else if kind.is_file() && TEXT_ENDINGS.iter().any(|ending| has_ending(&name, ending)) {
            let relative = path
                .strip_prefix(root)
                .expect("it was found below root")
                .to_string_lossy()
                .into_owned();
            match fs::read(&path) {
                Ok(bytes) => files.push(SourceFile::new(relative, String::from_utf8_lossy(&bytes))),
                // Somebody's editor may have renamed it between the listing and now.
                Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => panic!("cannot read {}: {error}", path.display()),
            }
        }
    }
}

/// Replaces comments and the insides of string and character literals by blanks. Byte offsets and
/// line ends stay, so that a hit in the result has the same place in the text.
fn blank_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped_part_end(bytes, at);
        if end > at {
            blank(&mut out, at, end);
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment, string or character that begins at `at` ends; `at` where none begins there.
fn skipped_part_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after_word = at > 0 && is_word_byte(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => {
            at + rest
                .iter()
                .position(|byte| *byte == b'\n')
                .unwrap_or(rest.len())
        }
        [b'/', b'*', ..] => at + block_comment_length(rest),
        [b'"', ..] => at + quoted_length(rest),
        [b'r', b'"' | b'#', ..] if !after_word => at + raw_string_length(rest),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !after_word => {
            let length = raw_string_length(&rest[1..]);
            if length == 0 { at } else { at + 1 + length }
        }
        [b'\'', ..] => at + character_length(rest),
        _ => at,
    }
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn quoted_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"…"` or `r#"…"#`; 0 for a raw identifier such as `r#type`.
fn raw_string_length(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut closing = vec![b'"'];
    closing.resize(hashes + 1, b'#');
    let body = 2 + hashes;
    let found = rest[body..]
        .windows(closing.len())
        .position(|window| window == closing);
    found.map_or(rest.len(), |position| body + position + closing.len())
}

/// A character literal; 0 for a lifetime.
fn character_length(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|byte| *byte == b'\'');
        return close.map_or(0, |position| position + 4);
    }
    // One character, which UTF-8 may write with up to four bytes.
    let close = rest.iter().skip(2).take(4).position(|byte| *byte == b'\'');
    match close {
        Some(position)
            if std::str::from_utf8(&rest[1..position + 2])
                .is_ok_and(|c| c.chars().count() == 1) =>
        {
            position + 3
        }
        _ => 0,
    }
}

/// Removes the items under `#[cfg(test)]`. `code` has no comments or strings any more.
fn blank_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = item_end(code.as_bytes(), start + MARK.len());
        blank(&mut out, start, end);
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the item that begins at `at`: its `;`, or the brace that closes its first one.
fn item_end(code: &[u8], mut at: usize) -> usize {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    while at < code.len() {
        match code[at] {
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return at + 1;
                }
            }
            b'[' | b'(' => brackets += 1,
            b']' | b')' => brackets = brackets.saturating_sub(1),
            b';' if braces == 0 && brackets == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    code.len()
}

fn blank(out: &mut [u8], from: usize, to: usize) {
    let to = to.min(out.len());
    for byte in &mut out[from..to] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Whether a byte may be part of a Rust identifier.
pub(crate) fn is_word_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Offsets at which `word` stands in `code`, not as a part of a longer identifier.
pub(crate) fn find_words(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let is_apart = |offset: usize| {
        let before = offset.checked_sub(1).map(|index| bytes[index]);
        let after = bytes.get(offset + word.len()).copied();
        !before.is_some_and(is_word_byte) && !after.is_some_and(is_word_byte)
    };
    code.match_indices(word)
        .map(|(offset, _)| offset)
        .filter(|offset| is_apart(*offset))
        .collect()
}

/// Offsets at which `code` names `first::second`, also as `first::{…, second, …}`.
pub(crate) fn find_path(code: &str, first: &str, second: &str) -> Vec<usize> {
    let mut found = find_words(code, &format!("{first}::{second}"));
    for open in find_words(code, &format!("{first}::{{"))
        .into_iter()
        .chain(group_starts(code, first))
    {
        let Some(brace) = code[open..].find('{').map(|position| open + position) else {
            continue;
        };
        let group = &code[brace..item_end(code.as_bytes(), brace)];
        for offset in find_words(group, second) {
            // Depth one, and the first part of its path: `std::{env, fs::{self}}`, not `{a::env}`.
            let before = group[..offset].trim_end();
            let depth = before
                .matches('{')
                .count()
                .saturating_sub(before.matches('}').count());
            if depth == 1 && (before.ends_with('{') || before.ends_with(',')) {
                found.push(brace + offset);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// `find_words` wants an end of the word after `{`, and a group goes on right there.
fn group_starts(code: &str, first: &str) -> Vec<usize> {
    find_words(code, first)
        .into_iter()
        .filter(|offset| code[offset + first.len()..].starts_with("::{"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let check = |text: &str, expect: &str| {
            let code = SourceFile::new("a.rs", text).code;
            assert_eq!(
                code.split_whitespace().collect::<Vec<_>>().join(" "),
                expect,
                "{text}"
            );
            assert_eq!(code.len(), text.len(), "offsets must stay: {text}");
        };
        check("a // unsafe\nb", "a b");
        check("a /* unsafe /* nested */ still */ b", "a b");
        check(r#"a("unsafe \" unsafe") + b"#, "a( ) + b");
        check(r##"a(r#"unsafe " unsafe"#, br"unsafe") + b"##, "a( , ) + b");
        check(
            "fn f<'a>(x: &'a str) -> char { 'x' }",
            "fn f<'a>(x: &'a str) -> char { }",
        );
        check(
            r"let q = '\''; let u = '\u{1f600}'; let e = 'é'; b",
            "let q = ; let u = ; let e = ; b",
        );
        check("let r#type = for_r\"x\"; b", "let r#type = for_r ; b");
        check("a /* never closed", "a");
        check("a \"never closed", "a");
    }

    #[test]
    fn tests_are_no_product_code() {
        let text = "use a;\n#[cfg(test)]\nmod tests { fn f() { g(); } }\nuse b;\n#[cfg(test)]\nuse c;\n\
            #[cfg(test)]\n#[allow(x)]\nfn h(x: [u8; 2]) { }\nuse d;";
        let file = SourceFile::new("engine/src/a.rs", text);
        assert_eq!(
            file.product.split_whitespace().collect::<String>(),
            "usea;useb;used;"
        );
        assert_eq!(
            SourceFile::new("engine/src/scheduler/tests.rs", text).product,
            ""
        );
        assert_eq!(SourceFile::new("tests/support/lib.rs", text).product, "");
    }

    #[test]
    fn a_file_that_only_tests_declare_is_no_product_code() {
        let mut files = [
            SourceFile::new("llb/src/lib.rs", "#[cfg(test)]\nmod refusals;\nmod op;"),
            SourceFile::new("llb/src/op.rs", "#[cfg(test)] mod cases;"),
            SourceFile::new("llb/src/op/cases.rs", "a();"),
            SourceFile::new("llb/src/refusals.rs", "a();"),
            SourceFile::new("llb/src/refusals/deep.rs", "a();"),
        ];
        mark_test_modules(&mut files);
        let product: Vec<String> = files
            .iter()
            .map(|file| file.product.split_whitespace().collect())
            .collect();
        assert_eq!(product, ["modop;", "", "", "", ""]);
    }

    #[test]
    fn a_path_is_found_plain_and_in_a_group() {
        let check = |code: &str, expect: usize| {
            assert_eq!(find_path(code, "std", "env").len(), expect, "{code}")
        };
        check("use std::env;", 1);
        check("std::env::var(x)", 1);
        check("use std::{env, fs};", 1);
        check("use std::{fs,\n    env::{self, VarError}};", 1);
        check("use std::{fs::{self}, io};", 0);
        check("use std::{a::env, b::{env}};", 0);
        check("use std::environment; my_std::env; env::lower()", 0);
    }
}
