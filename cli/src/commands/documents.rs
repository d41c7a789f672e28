//! `varve completion`, `varve man`: made from the very definition of the command line, so that they
//! say what the program does.

use std::fs;

use anyhow::Context;
use clap::{Command, CommandFactory};

use crate::args::{Arguments, documents as args};
use crate::error::print;

/// Prints what a shell has to read.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn completion(options: &args::Completion) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        options.shell,
        &mut Arguments::command(),
        "varve",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script))
}

/// Writes man pages.
///
/// # Errors
/// They cannot be written.
pub(super) fn man(options: &args::Man) -> anyhow::Result<()> {
    let mut command = Arguments::command();
    // Gives every command its full name and the options of all commands.
    command.build();
    let Some(directory) = &options.directory else {
        return print(&String::from_utf8_lossy(&page(&command)?));
    };
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let mut rest = vec![command];
    while let Some(command) = rest.pop() {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, page(&command)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        rest.extend(command.get_subcommands().cloned());
    }
    Ok(())
}

fn page(command: &Command) -> anyhow::Result<Vec<u8>> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .manual("varve manual")
        .render(&mut page)
        .context("cannot make a man page")?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command_with_its_examples() {
        let directory = tempfile::tempdir().unwrap();
        let options = args::Man {
            directory: Some(directory.path().join("man1")),
        };
        man(&options).unwrap();
        let read =
            |name: &str| fs::read_to_string(directory.path().join("man1").join(name)).unwrap();
        for name in ["varve", "varve-build", "varve-images", "varve-system-df"] {
            let page = read(&format!("{name}.1"));
            assert!(
                page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
                "{page}"
            );
        }
        assert!(read("varve-images.1").contains("Examples:"));
        assert!(read("varve-prune.1").contains("dry\\-run"));
    }

    #[test]
    fn every_shell_gets_a_script_with_all_commands() {
        use clap_complete::Shell;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "varve", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["build", "images", "inspect", "umount", "dry-run"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
