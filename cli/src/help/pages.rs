//! Man pages, from what `--help` says. clap_mangen renders names and options; what is below the
//! options gets sections of its own here, as man-pages(7) orders them.

use std::io::{self, Write};

use clap::Command;

use super::text::{self, Block, Item};

/// A variable: its name, the commands that heed it (none: all), what it does.
const ENVIRONMENT: &[(&str, &[&str], &str)] = &[
    ("VARVE_ROOT", &[], "The directory of all state, as --root."),
    (
        "VARVE_LOG",
        &[],
        "Log levels, more exactly than --debug: solver=debug,warn.",
    ),
    (
        "VARVE_RUNTIME",
        &["build", "run", "doctor"],
        "What makes the containers, as --runtime.",
    ),
    (
        "VARVE_CONFIG",
        &["build", "prune"],
        "The configuration file, in place of /etc/varve/varve.toml.",
    ),
    (
        "SOURCE_DATE_EPOCH",
        &["build"],
        "Seconds since 1970: the creation time of the image; no file in a layer is newer.",
    ),
    (
        "BUILDKIT_PROGRESS",
        &["build"],
        "How progress is shown, as --progress.",
    ),
    (
        "DOCKER_DEFAULT_PLATFORM",
        &["build", "run", "pull"],
        "The platform where none is named, as --platform.",
    ),
    (
        "NO_COLOR",
        &["build", "pull", "push"],
        "If it is not empty, nothing is coloured.",
    ),
    (
        "BUILDKIT_COLORS",
        &["build"],
        "Colours of progress: run=blue:cancel=yellow:error=red:warning=yellow.",
    ),
    (
        "BUILDKIT_TTY_LOG_LINES",
        &["build"],
        "How many of the last lines of a running step are shown.",
    ),
    (
        "SSH_AUTH_SOCK",
        &["build"],
        "The socket of the ssh agent that --ssh default means.",
    ),
    (
        "DOCKER_CONFIG",
        &["build", "pull", "push"],
        "The directory with docker's config.json, in place of ~/.docker.",
    ),
    (
        "DOCKER_HOST",
        &["build"],
        "The docker that --load hands images to.",
    ),
    (
        "HTTPS_PROXY, HTTP_PROXY, NO_PROXY",
        &["build", "pull", "push"],
        "How registries are reached. Steps of a build get them too.",
    ),
];

/// A file: its path, the commands that use it (none: all), what it is.
const FILES: &[(&str, &[&str], &str)] = &[
    (
        "/var/lib/varve",
        &[],
        "State of root: images, build cache, history.",
    ),
    (
        "~/.local/share/varve",
        &[],
        "State of everybody else ($XDG_DATA_HOME/varve).",
    ),
    (
        "/etc/varve/varve.toml",
        &["build", "prune", "daemon"],
        "How large the build cache and the daemon's directory may become.",
    ),
    (
        "~/.docker/config.json",
        &["build", "pull", "push", "login", "logout"],
        "Logins at registries, as `docker login` and `varve login` write them.",
    ),
    (
        "/etc/varve/certs.d/HOST/hosts.toml",
        &["build", "pull", "push"],
        "Mirrors, certificates and plain HTTP of a registry; also looked for in \
         /etc/containerd/certs.d and /etc/docker/certs.d.",
    ),
    (
        "CONTEXT/.dockerignore",
        &["build"],
        "What of the context a build does not see; FILE.dockerignore beside the Dockerfile goes \
         before it.",
    ),
    (
        "/run/varve/snapshotter.sock",
        &["daemon", "snapshots", "debug"],
        "Where the daemon serves containerd.",
    ),
    (
        "/etc/containerd/config.toml",
        &["daemon"],
        "Where containerd is told of the snapshotter.",
    ),
];

/// Commands that belong together.
const RELATED: &[&[&str]] = &[
    &["build", "run", "images", "history"],
    &["images", "inspect", "tag", "rmi", "history"],
    &["pull", "push", "save", "load", "import"],
    &["diff", "cp", "mount", "umount"],
    &["du", "prune", "system", "fsck"],
    &["daemon", "snapshots", "debug", "doctor"],
    &["completion", "man"],
];

/// The page of a command that was built.
///
/// # Errors
/// None but those of memory.
pub(crate) fn page(command: &Command) -> io::Result<Vec<u8>> {
    let name = name_of(command);
    let man = clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .source(format!("varve {}", env!("CARGO_PKG_VERSION")))
        .manual("varve manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command, &mut page)?;
    man.render_description_section(&mut page)?;
    let below = command.get_after_help().map(ToString::to_string);
    let below = text::parse(&below.unwrap_or_default());
    for block in &below.blocks {
        if let Block::Prose(prose) | Block::Topic(prose) = block {
            writeln!(page, ".PP\n{}", escaped(prose))?;
        }
    }
    if command.get_arguments().any(|one| !one.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        writeln!(page, ".SH COMMANDS")?;
        for below in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            let about = below.get_about().map(ToString::to_string);
            let page_of = format!("{}(1)", name_of(below));
            tagged(&page_of, &about.unwrap_or_default(), &mut page)?;
        }
    }
    let mut last = Vec::new();
    for block in &below.blocks {
        match block {
            Block::Listing { title, items } if title == "Examples" => {
                listing("EXAMPLES", items, &mut last)?;
            }
            Block::Listing { title, items } if title == "Exit codes" => {
                listing("EXIT STATUS", items, &mut page)?;
            }
            Block::Listing { title, items } => {
                // What stands in brackets is a sentence of its own.
                let (title, note) = title.split_once(" (").unwrap_or((title, ""));
                heading(&title.to_uppercase(), &mut page)?;
                if !note.is_empty() {
                    writeln!(page, "{}", escaped(note.trim_end_matches(')')))?;
                }
                entries(items, &mut page)?;
            }
            Block::Prose(_) | Block::Topic(_) => {}
        }
    }
    table("ENVIRONMENT", ENVIRONMENT, command, &mut page)?;
    table("FILES", FILES, command, &mut page)?;
    page.extend(last);
    see_also(command, &mut page)?;
    Ok(page)
}

/// `varve-history-ls`.
pub(crate) fn name_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

/// The name of the command right below `varve` that this is, or is below of.
fn family(command: &Command) -> Option<&str> {
    name_of(command).split('-').nth(1)
}

fn synopsis(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:");
    writeln!(page, ".SH SYNOPSIS")?;
    for line in usage.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let bin = command.get_bin_name().unwrap_or(command.get_name());
        let rest = line.strip_prefix(bin).unwrap_or(line);
        writeln!(page, "\\fB{}\\fR{}", escaped(bin), escaped(rest))?;
    }
    Ok(())
}

fn listing(title: &str, items: &[Item], page: &mut Vec<u8>) -> io::Result<()> {
    heading(title, page)?;
    entries(items, page)
}

fn heading(title: &str, page: &mut Vec<u8>) -> io::Result<()> {
    writeln!(page, ".SH {}", quoted(title))
}

fn entries(items: &[Item], page: &mut Vec<u8>) -> io::Result<()> {
    items
        .iter()
        .try_for_each(|item| tagged(&item.typed, &item.does, page))
}

fn tagged(tag: &str, text: &str, page: &mut Vec<u8>) -> io::Result<()> {
    if text.is_empty() {
        return writeln!(page, ".PP\n.nf\n\\fB{}\\fR\n.fi", escaped(tag));
    }
    writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(tag), escaped(text))
}

fn table(
    title: &str,
    rows: &[(&str, &[&str], &str)],
    command: &Command,
    page: &mut Vec<u8>,
) -> io::Result<()> {
    let family = family(command);
    // The page of varve itself has them all.
    let concerns = |commands: &[&str]| {
        commands.is_empty() || family.is_none_or(|family| commands.contains(&family))
    };
    writeln!(page, ".SH {title}")?;
    let rows = rows.iter().filter(|(_, commands, _)| concerns(commands));
    for (name, _, text) in rows {
        tagged(name, text, page)?;
    }
    Ok(())
}

fn see_also(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let own = name_of(command);
    let mut others: Vec<String> = Vec::new();
    let parent = own.rsplit_once('-').map(|(parent, _)| parent);
    others.extend(parent.map(str::to_owned));
    others.extend(command.get_subcommands().map(|one| name_of(one).to_owned()));
    if let Some(family) = family(command) {
        others.push("varve".into());
        for group in RELATED.iter().filter(|group| group.contains(&family)) {
            others.extend(group.iter().map(|name| format!("varve-{name}")));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    others.retain(|name| name != own && seen.insert(name.clone()));
    let others = others
        .iter()
        .map(|name| format!("\\fB{}\\fR(1)", escaped(name)));
    let others: Vec<_> = others.collect();
    writeln!(page, ".SH \"SEE ALSO\"\n{}", others.join(", "))
}

/// Text that troff takes as it is: nothing of it is a request, an escape or a hyphen.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// An argument of a request.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text).replace('"', "\\(dq"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_request_and_no_escape() {
        for (text, expected) in [
            (".SH x", "\\&.SH x"),
            ("'quoted", "\\&'quoted"),
            ("a\\tb", "a\\etb"),
            ("--all", "\\-\\-all"),
        ] {
            assert_eq!(escaped(text), expected);
        }
        assert_eq!(quoted("a \"b\""), "\"a \\(dqb\\(dq\"");
    }

    #[test]
    fn tables_name_commands_that_there_are() {
        let command = super::super::arranged(100);
        let named = ENVIRONMENT
            .iter()
            .chain(FILES)
            .flat_map(|(_, commands, _)| *commands);
        let related = RELATED.iter().flat_map(|group| *group);
        for name in named.chain(related) {
            assert!(command.find_subcommand(name).is_some(), "{name}");
        }
    }
}
