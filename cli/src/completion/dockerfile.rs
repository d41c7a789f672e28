//! What the Dockerfile of a command line that is being typed names. Read by its lines, not parsed:
//! half of it may be missing yet.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// No Dockerfile is longer.
const BYTES_MAX: u64 = 1 << 20;

/// Names of its stages.
pub(super) fn stages(words: &[OsString]) -> Vec<(String, String)> {
    of(words, |text| {
        let stages = instructions(text, "FROM").filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let at = words
                .iter()
                .position(|word| word.eq_ignore_ascii_case("AS"))?;
            Some(((*words.get(at + 1)?).to_owned(), line.trim().to_owned()))
        });
        stages.collect()
    })
}

/// Its arguments, as far as they are to be given: `VERSION=`.
pub(super) fn arguments(words: &[OsString]) -> Vec<(String, String)> {
    of(words, |text| {
        let arguments = instructions(text, "ARG").filter_map(|line| {
            let name = line.split_whitespace().next()?.split('=').next()?;
            Some((format!("{name}="), line.trim().to_owned()))
        });
        arguments.collect()
    })
}

/// Images that it starts from or copies from, which another may stand for.
pub(super) fn bases(words: &[OsString]) -> Vec<(String, String)> {
    of(words, |text| {
        let bases = instructions(text, "FROM").filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.find(|word| !word.starts_with("--"))?;
            let is_one = !name.contains('$') && name != "scratch";
            is_one.then(|| (name.to_owned(), String::new()))
        });
        bases.collect()
    })
}

fn of<T>(words: &[OsString], read: impl Fn(&str) -> Vec<(String, T)>) -> Vec<(String, T)> {
    let is_short = |path: &Path| {
        let file = fs::metadata(path);
        file.is_ok_and(|file| file.is_file() && file.len() < BYTES_MAX)
    };
    let paths = candidates(words);
    let path = paths.iter().find(|path| is_short(path));
    let text = path.and_then(|path| fs::read_to_string(path).ok());
    let mut found = read(&text.unwrap_or_default());
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found.dedup_by(|(one, _), (other, _)| one == other);
    found
}

/// What stands behind a keyword.
fn instructions<'a>(text: &'a str, keyword: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        let (first, rest) = line.split_once(char::is_whitespace)?;
        first.eq_ignore_ascii_case(keyword).then_some(rest)
    })
}

/// Where the Dockerfile may be: what `-f` says, or in a directory that is named, or here.
fn candidates(words: &[OsString]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = Vec::new();
    let texts: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    for (at, word) in texts.iter().enumerate().skip(1) {
        let inline = word.strip_prefix("--file=").or(word.strip_prefix("-f"));
        match (*word, inline) {
            ("-f" | "--file", _) => files.extend(texts.get(at + 1).map(PathBuf::from)),
            (_, Some(file)) => files.push(PathBuf::from(file)),
            _ if Path::new(word).is_dir() => directories.push(Path::new(word).join("Dockerfile")),
            _ => {}
        }
    }
    files.extend(directories);
    files.push("Dockerfile".into());
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
ARG BASE=debian:12
FROM ${BASE} AS base
arg VERSION
FROM --platform=linux/amd64 golang:1.22 as compile
RUN echo FROM nothing AS nobody
FROM
FROM base
";

    #[test]
    fn stages_arguments_and_bases_are_read_of_the_file_that_is_meant() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("Dockerfile"), TEXT).unwrap();
        fs::write(directory.path().join("other"), "FROM x AS y\n").unwrap();
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let names = |found: Vec<(String, String)>| -> Vec<String> {
            found.into_iter().map(|(name, _)| name).collect()
        };
        let here = directory.path().to_str().unwrap();
        let line = words(&["varve", "build", here, "--target", ""]);
        assert_eq!(names(stages(&line)), ["base", "compile"]);
        assert_eq!(names(arguments(&line)), ["BASE=", "VERSION="]);
        assert_eq!(names(bases(&line)), ["base", "golang:1.22"]);
        let other = format!("{here}/other");
        let line = words(&["varve", "build", "-f", &other, here, "--target", ""]);
        assert_eq!(names(stages(&line)), ["y"]);
        let line = words(&["varve", "build", "--file=/nowhere", "--target", ""]);
        assert_eq!(names(stages(&line)), Vec::<String>::new());
    }
}
