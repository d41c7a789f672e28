//! `varve history`: builds, or how an image was made.

mod image;
mod inspect;
mod list;
mod page;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use solver::history::History;
use solver::history::record::{BuildRecord, Status};
use store::Store;

use crate::args::history::{self, BuildReference, HistoryCommand, InspectForm, LogForm};
use crate::daemon::Site;
use crate::environment::Environment;
use crate::error::{print, say};
use crate::output::replay;

/// Carries out `varve history`.
///
/// # Errors
/// There is no such build or image; those of the store.
pub(super) fn history(site: &Site, options: history::History) -> anyhow::Result<()> {
    let command = match (options.command, options.image) {
        (None, Some(image)) => {
            let platform = options.platform.as_deref();
            return image::history(site, (&image, platform), &options.list, options.human);
        }
        (Some(_), Some(image)) => {
            bail!("say either an image ({image}) or what to do with builds, not both")
        }
        (None, None) => HistoryCommand::Ls(options.list),
        (Some(command), None) => command,
    };
    let history = History::new(open(site)?);
    match command {
        HistoryCommand::Ls(options) => list::list(&history, &options),
        HistoryCommand::Logs { build, progress } => {
            let record = find(&history, build)?;
            let start = Instant::now();
            print(&match progress {
                LogForm::Plain => replay::plain(&record, start),
                LogForm::Rawjson => replay::raw_json(&record, start),
            })
        }
        HistoryCommand::Inspect { build, format } => {
            let record = find(&history, build)?;
            print(&match format {
                InspectForm::Pretty => inspect::pretty(&record),
                InspectForm::Json => serde_json::to_string_pretty(&record)? + "\n",
            })
        }
        HistoryCommand::Open {
            build,
            output,
            no_open,
        } => {
            let record = find(&history, build)?;
            drop(history);
            show(site, &record, output.as_deref(), no_open)
        }
        HistoryCommand::Rm { builds, all } => remove(&history, &builds, all),
    }
}

fn open(site: &Site) -> anyhow::Result<Arc<Store>> {
    site.open_store()
}

/// The build that somebody means.
fn find(history: &History, build: BuildReference) -> anyhow::Result<BuildRecord> {
    let number = number_of(history, build)?;
    match history.get(number) {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err(unknown(history, &format!("{number}"))),
        Err(error) => Err(error).with_context(|| {
            format!("build {number} cannot be read; `varve history rm {number}` forgets it")
        }),
    }
}

fn number_of(history: &History, build: BuildReference) -> anyhow::Result<u64> {
    let numbers = history.numbers()?;
    let found = match build {
        BuildReference::Number(number) => numbers.contains(&number).then_some(number),
        // One that runs has nothing to show yet.
        BuildReference::Back(back) => {
            let builds = history.list()?.into_iter().rev();
            let mut ended = builds.filter(|build| build.status != Status::Running);
            ended.nth(back).map(|build| build.number)
        }
    };
    found.ok_or_else(|| {
        let told = match build {
            BuildReference::Number(number) => number.to_string(),
            BuildReference::Back(back) => format!("^{back}"),
        };
        unknown(history, &told)
    })
}

fn unknown(history: &History, told: &str) -> anyhow::Error {
    let numbers = history.numbers().unwrap_or_default();
    match (numbers.first(), numbers.last()) {
        (Some(first), Some(last)) if first == last => {
            anyhow::anyhow!("no build {told} is in the history; it holds build {first}")
        }
        (Some(first), Some(last)) => {
            anyhow::anyhow!("no build {told} is in the history; it holds builds {first} to {last}")
        }
        _ => anyhow::anyhow!("there is no build in the history; `varve build` makes one"),
    }
}

fn remove(history: &History, builds: &[BuildReference], all: bool) -> anyhow::Result<()> {
    let numbers = match all {
        true => history.numbers()?,
        // All of them are looked up before one goes.
        false => {
            let numbers = builds.iter().map(|build| number_of(history, *build));
            numbers.collect::<anyhow::Result<Vec<_>>>()?
        }
    };
    history.remove(&numbers)?;
    for number in numbers {
        say(&format!("removed build {number}"));
    }
    Ok(())
}

/// Writes the page of a build, prints where it is, and shows it where there is a screen.
fn show(
    site: &Site,
    record: &BuildRecord,
    output: Option<&Path>,
    no_open: bool,
) -> anyhow::Result<()> {
    let page = page::page(record);
    let number = record.summary.number;
    let path = match output {
        Some(path) if path == Path::new("-") => return print(&page),
        Some(path) => {
            std::fs::write(Environment::absolute(path)?, page)
                .with_context(|| format!("cannot write {}", path.display()))?;
            path.to_owned()
        }
        None => {
            let directory = site.environment.temporary_directory();
            page::write_new(&directory, number, &page)
                .with_context(|| format!("cannot write a page to {}", directory.display()))?
        }
    };
    print(&format!("{}\n", path.display()))?;
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| {
        let value = site.environment.get(name);
        value.is_some_and(|value| !value.is_empty())
    });
    if no_open || !has_screen {
        return Ok(());
    }
    let opened = Command::new("xdg-open")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = opened {
        say(&format!(
            "WARNING: no browser was started (xdg-open: {error}); open the file in one"
        ));
    }
    Ok(())
}
