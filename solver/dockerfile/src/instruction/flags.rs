//! Flags of an instruction: `--name=value` between its keyword and its arguments.

use super::node::is_separator;
use crate::ast::Word;
use crate::error::Problem;
use crate::error::suggest::nearest;

/// Takes the flags from the start of `rest`. Their quotes and escapes are removed. A lone `--`
/// ends them and is dropped.
///
/// BuildKit treats bytes as characters here and garbles flags that are not ASCII; we do not.
pub(super) fn split_flags(rest: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = rest.trim_start_matches(is_separator);
    while rest.starts_with("--") {
        let (flag, after) = first_flag(rest, escape);
        rest = after.trim_start_matches(is_separator);
        if flag == "--" {
            break;
        }
        flags.push(flag);
    }
    (flags, rest)
}

/// The first word of `text` without quotes and escapes, and what stands behind it.
fn first_flag(text: &str, escape: char) -> (String, &str) {
    let mut flag = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        if quote.is_none() && is_separator(c) {
            return (flag, &text[index..]);
        }
        if c == escape {
            // An escape character at the very end is dropped.
            flag.extend(chars.next().map(|(_, escaped)| escaped));
            continue;
        }
        match quote {
            Some(mark) if c == mark => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            _ => flag.push(c),
        }
    }
    (flag, "")
}

/// A flag that an instruction knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    name: &'static str,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `--name`, `--name=true`, `--name=false`.
    Bool,
    /// `--name=text`, once.
    Text,
    /// `--name=text`, any number of times.
    Repeated,
}

impl Flag {
    pub(super) const fn bool(name: &'static str) -> Self {
        let form = Form::Bool;
        Self { name, form }
    }

    pub(super) const fn text(name: &'static str) -> Self {
        let form = Form::Text;
        Self { name, form }
    }

    pub(super) const fn repeated(name: &'static str) -> Self {
        let form = Form::Repeated;
        Self { name, form }
    }
}

/// The flags that were given, checked against those that are known.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// In the order given. `true` and `false` for booleans.
    values: Vec<(&'static str, String)>,
}

impl Flags {
    pub(super) fn parse(given: &[String], known: &[Flag]) -> Result<Self, Problem> {
        let mut flags = Self::default();
        for flag in given {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag.as_str(), None),
            };
            let name = name.strip_prefix("--").unwrap_or(name);
            let Some(known) = known.iter().find(|k| k.name == name) else {
                let mut names: Vec<&str> = known.iter().map(|k| k.name).collect();
                names.sort_unstable();
                return Err(Problem::UnknownFlag {
                    suggestion: nearest(name, &names),
                    name: name.to_owned(),
                });
            };
            if known.form != Form::Repeated && flags.get(name).is_some() {
                return Err(Problem::DuplicateFlag {
                    name: name.to_owned(),
                });
            }
            let value = known.check(value)?;
            flags.values.push((known.name, value));
        }
        Ok(flags)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.values.iter().find(|(given, _)| *given == name)?;
        Some(value)
    }

    /// A text flag's value.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)
    }

    /// A text flag's value; `None` also when it is empty, which BuildKit does not tell apart.
    pub(super) fn word(&self, name: &str) -> Option<Word> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .map(Word::from)
    }

    /// A boolean flag; `None` when not given.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "true")
    }

    /// All values of a repeated flag.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self.values.iter().filter(|(given, _)| *given == name);
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    /// The names given, each once, in ascending order.
    pub(super) fn used(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.values.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Flag {
    fn check(&self, value: Option<&str>) -> Result<String, Problem> {
        let name = || self.name.to_owned();
        match (self.form, value) {
            (Form::Bool, None) => Ok("true".to_owned()),
            (Form::Bool, Some(value)) => match value.to_lowercase().as_str() {
                "" => Err(Problem::FlagWithoutValue { name: name() }),
                lower @ ("true" | "false") => Ok(lower.to_owned()),
                _ => Err(Problem::FlagNotBoolean {
                    name: name(),
                    value: value.to_owned(),
                }),
            },
            (_, None) => Err(Problem::FlagWithoutValue { name: name() }),
            (_, Some(value)) => Ok(value.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Flag, Flags, split_flags};

    #[test]
    fn flags_are_taken_from_the_start_only() {
        let cases: [(&str, &[&str], &str); 10] = [
            ("--a=b --c d --e", &["--a=b", "--c"], "d --e"),
            ("--a='b c' d", &["--a=b c"], "d"),
            ("--a=\"b\\\"c\" d", &["--a=b\"c"], "d"),
            ("--a=b\\ c d", &["--a=b c"], "d"),
            ("-- --a b", &[], "--a b"),
            ("--a", &["--a"], ""),
            ("--", &[], ""),
            ("-a b", &[], "-a b"),
            ("\u{a0}--a b", &[], "\u{a0}--a b"),
            ("--a=안녕 é", &["--a=안녕"], "é"),
        ];
        for (text, flags, rest) in cases {
            let (found, after) = split_flags(text, '\\');
            assert_eq!(
                (found.as_slice(), after),
                (&strings(flags)[..], rest),
                "{text:?}"
            );
        }
    }

    #[test]
    fn values_are_checked() {
        let known = [
            Flag::bool("link"),
            Flag::text("chown"),
            Flag::repeated("exclude"),
        ];
        let errors = [
            ("--link=", "missing a value on flag: --link"),
            (
                "--link=x",
                "expecting boolean value for flag --link, not: x",
            ),
            ("--chown", "missing a value on flag: --chown"),
            ("--exclude", "missing a value on flag: --exclude"),
            ("--chwon=1", "unknown flag: --chwon (did you mean chown?)"),
            ("--LINK", "unknown flag: --LINK"),
            ("--=1", "unknown flag: --"),
        ];
        for (flag, message) in errors {
            let error = Flags::parse(&strings(&[flag]), &known).expect_err(flag);
            assert_eq!(error.to_string(), message);
        }
        let twice = strings(&["--link", "--link=false"]);
        let error = Flags::parse(&twice, &known).expect_err("twice");
        assert_eq!(error.to_string(), "duplicate flag specified: --link");

        let given = strings(&["--exclude=a", "--link=TRUE", "--chown=", "--exclude=b=c"]);
        let flags = Flags::parse(&given, &known).expect("valid");
        assert_eq!(flags.bool("link"), Some(true));
        assert_eq!(flags.text("chown"), Some(""));
        assert_eq!(flags.word("chown"), None);
        assert_eq!(flags.all("exclude"), ["a", "b=c"]);
        assert_eq!(flags.used(), ["chown", "exclude", "link"]);
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }
}
