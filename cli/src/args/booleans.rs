//! Words that docker's command line has beside those of clap: `--load=false`, `varve help build`,
//! `varve version`. They are brought to the form that clap reads before it does.

use std::ffi::OsString;

use clap::{ArgAction, Command};

use super::Arguments;

/// The command line in clap's words. What is unknown stays as it is, for clap to refuse.
pub(crate) fn plain(words: Vec<OsString>) -> Vec<OsString> {
    if !words.iter().skip(1).any(is_candidate) {
        return words;
    }
    let root = Arguments::command();
    let mut command = &root;
    let mut plain: Vec<OsString> = Vec::new();
    let mut words = words.into_iter();
    plain.extend(words.next());
    let mut is_of_others = false;
    // Of global options those with a value.
    let mut is_value = false;
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            plain.push(word);
            break;
        }
        let is_command = !is_value && !text.starts_with('-') && command.has_subcommands();
        is_value = matches!(text, "--root" | "--mounts");
        if is_command {
            if std::ptr::eq(command, &root) && text == "version" {
                plain.push("--version".into());
                continue;
            }
            if std::ptr::eq(command, &root) && text == "help" {
                plain.extend(words);
                plain.push("--help".into());
                return plain;
            }
            if let Some(below) = command.find_subcommand(text) {
                command = below;
                is_of_others = has_words_of_others(below);
            }
            plain.push(word);
            continue;
        }
        if is_of_others && !text.starts_with('-') {
            // What follows is the command line of another program.
            plain.push(word);
            break;
        }
        let (earlier, text) = unbundled(command, text).unwrap_or((None, text.to_owned()));
        plain.extend(earlier.map(OsString::from));
        match switched(command, &text) {
            Some((name, true)) => plain.push(name.into()),
            // The last one counts.
            Some((name, false)) => plain.retain(|earlier| earlier != name),
            None => {
                let has_value = is_of_others && is_before_value(command, &text);
                plain.push(word);
                if has_value {
                    plain.extend(words.next());
                }
            }
        }
    }
    plain.extend(words);
    plain
}

fn is_candidate(word: &OsString) -> bool {
    let text = word.to_str().unwrap_or_default();
    matches!(text, "help" | "version") || (text.starts_with('-') && text.contains('='))
}

fn has_words_of_others(command: &Command) -> bool {
    let mut positionals = command.get_positionals();
    positionals.any(|argument| argument.is_trailing_var_arg_set())
}

/// Whether the next word is the value of this option, or of the last one of these letters.
fn is_before_value(command: &Command, word: &str) -> bool {
    let takes = |argument: &clap::Arg| {
        let action = argument.get_action();
        action.takes_values()
            && argument
                .get_num_args()
                .is_none_or(|count| count.min_values() > 0)
    };
    let mut options = command.get_opts();
    if let Some(long) = word.strip_prefix("--") {
        let is_named = |argument: &&clap::Arg| {
            argument.get_long() == Some(long)
                || argument
                    .get_all_aliases()
                    .is_some_and(|others| others.contains(&long))
        };
        return options.find(is_named).is_some_and(takes);
    }
    let letters = word.strip_prefix('-').unwrap_or_default();
    // What stands behind the first one that takes a value is that value.
    let first = letters.char_indices().find(|(_, letter)| {
        let mut options = command.get_opts();
        options.any(|option| option.get_short() == Some(*letter) && takes(option))
    });
    first.is_some_and(|(at, letter)| at + letter.len_utf8() == letters.len())
}

/// `-it=false` as `-i` and `-t=false`: the value is that of the last letter, as docker reads it.
/// Nothing if the letters are not all options without a value.
fn unbundled(command: &Command, word: &str) -> Option<(Option<String>, String)> {
    let (letters, value) = word.strip_prefix('-')?.split_once('=')?;
    let is_switch = |letter: char| {
        let mut arguments = command.get_arguments();
        let named = arguments.find(|argument| argument.get_short() == Some(letter));
        named.is_some_and(|argument| matches!(argument.get_action(), ArgAction::SetTrue))
    };
    if letters.chars().count() < 2 || boolean(value).is_none() || !letters.chars().all(is_switch) {
        return None;
    }
    let (at, last) = letters.char_indices().last()?;
    Some((
        Some(format!("-{}", &letters[..at])),
        format!("-{last}={value}"),
    ))
}

/// The option and whether it is on, if the word says that of one that takes no value.
fn switched<'w>(command: &Command, word: &'w str) -> Option<(&'w str, bool)> {
    let (name, value) = word.split_once('=')?;
    let is_on = boolean(value)?;
    let is_named = |argument: &&clap::Arg| match name.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => {
            let mut letters = name.strip_prefix('-').unwrap_or_default().chars();
            let letter = letters.next();
            letters.next().is_none() && letter.is_some() && argument.get_short() == letter
        }
    };
    let argument = command.get_arguments().find(is_named)?;
    matches!(argument.get_action(), ArgAction::SetTrue).then_some((name, is_on))
}

/// As Go reads one.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expect: &str) {
        let words = line.split(' ').map(OsString::from).collect();
        let expect: Vec<_> = expect.split(' ').map(OsString::from).collect();
        assert_eq!(plain(words), expect, "{line}");
    }

    #[test]
    fn options_without_a_value_may_be_said_to_be_on_or_off() {
        check("varve build --load=true .", "varve build --load .");
        check("varve build --push=false .", "varve build .");
        check(
            "varve --root /r build --pull=1 -q=T --no-cache=f .",
            "varve --root /r build --pull -q .",
        );
        check("varve build --load --load=false .", "varve build .");
        check("varve build --load=false --load .", "varve build --load .");
        check("varve system df -v=true", "varve system df -v");
        check(
            "varve run -i=true --tty=false --rm=true -e A=1 -q image -t=true",
            "varve run -i --rm -e A=1 -q image -t=true",
        );
        check("varve run -it=false image", "varve run -i image");
        check("varve run -it=1 image", "varve run -i -t image");
        check(
            "varve run -t -t=0 -e -i=true image",
            "varve run -e -i=true image",
        );
    }

    #[test]
    fn what_has_a_value_or_is_none_of_ours_stays() {
        for line in [
            "varve build --load=perhaps .",
            "varve build --progress=true --rm=false -t=1 .",
            "varve build --build-arg A=true .",
            "varve build -- --load=true",
            "varve run image program --quiet=true",
            "varve run -e -t=true --name --tty=true -itv /a:/b -- image -i=true",
            "varve run -e A=b --volume /a:/b image -i=true --tty=true",
            "varve run -eA image --tty=true",
            "varve nonsense --quiet=true",
            "varve inspect help",
        ] {
            check(line, line);
        }
    }

    #[test]
    fn help_and_version_are_commands_too() {
        check("varve help", "varve --help");
        check("varve help build", "varve build --help");
        check("varve help history ls", "varve history ls --help");
        check("varve --root help version", "varve --root help --version");
    }
}
