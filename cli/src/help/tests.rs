//! Of every command, at several widths.

use unicode_width::UnicodeWidthStr;

use super::*;

fn all(command: &Command) -> Vec<Command> {
    let below = command.get_subcommands().flat_map(all);
    std::iter::once(command.clone()).chain(below).collect()
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [80, 100] {
        let mut command = arranged(width);
        command.build();
        for mut command in all(&command) {
            for help in [command.render_help(), command.render_long_help()] {
                let help = help.to_string();
                let wide = help.lines().find(|line| line.trim_end().width() > width);
                assert_eq!(wide, None, "{}:\n{help}", command.get_name());
            }
        }
    }
}

#[test]
fn every_command_that_is_carried_out_has_an_example_of_itself() {
    let mut command = arranged(80);
    command.build();
    for command in all(&command) {
        if command.has_subcommands() || command.is_hide_set() {
            continue;
        }
        let name = command.get_bin_name().unwrap_or_default();
        let below = command.get_after_help().map(ToString::to_string);
        let below = below.unwrap_or_default();
        let (_, examples) = below.split_once("Examples:").unwrap_or_default();
        assert!(examples.contains(name), "`{name} --help` shows no example");
    }
}

#[test]
fn help_is_given_wherever_it_is_asked_for() {
    for line in [
        &["varve", "--help"][..],
        &["varve", "build", "-h"],
        &["varve", "--root", "run", "history", "ls", "--help"],
    ] {
        let error = arranged(80).try_get_matches_from(line).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{error}");
    }
    let help = arranged(80).try_get_matches_from(["varve", "build", "--help"]);
    let help = help.unwrap_err().to_string();
    let column = "\n                                            to ./out";
    assert!(
        help.contains("--root <DIR>") && help.contains(column),
        "{help}"
    );
}
