//! `varve completion`, `varve man`: made from the very definition of the command line, so that they
//! say what the program does.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::Command;

use crate::args::{Arguments, documents as args};
use crate::completion::{self, scripts};
use crate::daemon::Site;
use crate::environment::Environment;
use crate::error::print;
use crate::help;

/// This program, also if its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Prints what a shell has to read.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn completion(options: &args::Completion) -> anyhow::Result<()> {
    if let Some(script) = scripts::script(options.shell) {
        return print(&script);
    }
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(options.shell, &mut command, "varve", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Answers a shell.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn complete(site: &Site, options: &args::Complete) -> anyhow::Result<()> {
    let found = completion::candidates(&options.words, &site.root, Path::new(OWN_PROGRAM));
    print(&scripts::lines(options.shell, &found))
}

/// Writes man pages.
///
/// # Errors
/// They cannot be written.
pub(super) fn man(options: &args::Man) -> anyhow::Result<()> {
    let mut command = Arguments::command();
    // Gives every command its full name and the options of all commands.
    command.build();
    let page = |command: &Command| help::page(command).context("cannot make a man page");
    let Some(directory) = &options.directory else {
        return print(&String::from_utf8_lossy(&page(&command)?));
    };
    let directory = Environment::absolute(directory)?;
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let mut rest = vec![command];
    while let Some(command) = rest.pop() {
        let path = directory.join(format!("{}.1", help::name_of(&command)));
        let page = match help::stands_for(&command) {
            Some(other) => format!(".so man1/varve-{other}.1\n").into_bytes(),
            None => page(&command)?,
        };
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        let below = command.get_subcommands().filter(|one| !one.is_hide_set());
        rest.extend(below.cloned());
    }
    Ok(())
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
        for section in ["EXAMPLES", "ENVIRONMENT", "FILES", "\"SEE ALSO\""] {
            let heading = format!(".SH {section}\n");
            let quoted = format!(".SH \"{section}\"\n");
            let page = read("varve-images.1");
            assert!(page.contains(&heading) || page.contains(&quoted), "{page}");
        }
        // One page for what is said in two ways.
        assert_eq!(read("varve-image-ls.1"), ".so man1/varve-images.1\n");
        assert!(read("varve-image-prune.1").contains("EXAMPLES"));
        let hidden = fs::read_dir(directory.path().join("man1")).unwrap();
        let mut hidden = hidden.map(|entry| entry.unwrap().file_name());
        assert!(!hidden.any(|name| name.to_string_lossy().contains("__")));
        assert!(read("varve-prune.1").contains("dry\\-run"));
    }

    #[test]
    fn every_shell_gets_a_script() {
        use clap_complete::Shell;
        for shell in [Shell::Elvish, Shell::PowerShell] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "varve", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["build", "images", "inspect", "umount", "dry-run"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = scripts::script(shell).unwrap();
            assert!(script.contains("varve __complete"), "{script}");
        }
    }
}
