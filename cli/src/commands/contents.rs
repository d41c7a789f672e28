//! `varve diff`, `varve cp`: the files of images, out of their trees and without a mount.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use solver::exporters::copy_out::Source;
use solver::images::compare::{Change, Kind, compare};
use solver::images::find::platform;
use solver::images::{Image, Images};
use store::TreeRef;

use super::images::find;
use crate::args::contents as args;
use crate::caller::Caller;
use crate::daemon::Site;
use crate::environment::Environment;
use crate::error::{Told, print};
use crate::output::format::Columns;
use crate::output::size;
use crate::output::template::visible;

/// An image that a person named, with what to call it.
pub(super) fn opened(images: &Images, text: &str) -> anyhow::Result<(String, Image)> {
    let found = find(images, text, None)?;
    let name = found.called();
    let image = images.open(&name, &found.target, &platform(None)?)?;
    Ok((name, image))
}

fn tree(images: &Images, text: &str) -> anyhow::Result<Option<TreeRef>> {
    let (name, image) = opened(images, text)?;
    Ok(images.unpack(&name, &image)?.tree())
}

/// `varve diff`.
///
/// # Errors
/// There is no such image; those of the store.
pub(super) fn diff(site: &Site, options: &args::Diff) -> anyhow::Result<()> {
    let snapshots = site.open_snapshots()?;
    let _work = snapshots.store().work();
    let images = Images::new(snapshots.clone());
    let (before, after) = (
        tree(&images, &options.before)?,
        tree(&images, &options.after)?,
    );
    let mut changes = Vec::new();
    let store = &**snapshots.store();
    compare(before, after, store, &mut |change| {
        changes.push(change);
        Ok(())
    })?;
    match &options.format {
        Some(format) => {
            let rows: Vec<_> = changes.iter().map(row).collect();
            let fields = [
                ("KIND", "Kind"),
                ("PATH", "Path"),
                ("BEFORE", "Before"),
                ("AFTER", "After"),
            ];
            let columns = Columns {
                fields: &fields,
                right: &[2, 3],
            };
            print(&format.list(&rows, &columns)?)
        }
        None => {
            let lines = changes.iter().map(|change| line(change, options.size));
            print(&lines.collect::<String>())?;
            match options.size {
                true => print(&format!("Total: {}\n", sum(before, after))),
                false => Ok(()),
            }
        }
    }
}

fn letter(kind: Kind) -> &'static str {
    match kind {
        Kind::Added => "A",
        Kind::Changed => "C",
        Kind::Deleted => "D",
    }
}

fn path(change: &Change) -> String {
    format!("/{}", String::from_utf8_lossy(&change.path.to_bytes()))
}

fn line(change: &Change, with_size: bool) -> String {
    let path = visible(&path(change), true);
    let sign = match with_size && change.before != change.after {
        true => format!("  {}", grown(change.before, change.after)),
        false => String::new(),
    };
    format!("{} {path}{sign}\n", letter(change.kind))
}

/// `+1.00kB`.
fn grown(before: u64, after: u64) -> String {
    match after >= before {
        true => format!("+{}", size(after - before)),
        false => format!("-{}", size(before - after)),
    }
}

fn sum(before: Option<TreeRef>, after: Option<TreeRef>) -> String {
    let bytes = |tree: Option<TreeRef>| tree.map_or(0, |tree| tree.bytes);
    let (before, after) = (bytes(before), bytes(after));
    format!(
        "{} ({} to {})",
        grown(before, after),
        size(before),
        size(after)
    )
}

fn row(change: &Change) -> Value {
    json!({
        "Kind": letter(change.kind),
        "Path": path(change),
        "Parts": change.parts,
        "Before": change.before,
        "After": change.after,
    })
}

/// `varve cp`.
///
/// # Errors
/// There is no such image or path; the target cannot be written.
pub(super) fn copy(site: &Site, options: &args::Cp) -> anyhow::Result<()> {
    let caller = Caller::current();
    let to_stdout = options.target == Path::new("-");
    anyhow::ensure!(
        !(to_stdout && caller.stdout().is_terminal()),
        "a tar archive is nothing for a terminal: send it into a file or a pipe"
    );
    let snapshots = site.open_snapshots()?;
    let _work = snapshots.store().work();
    let images = Images::new(snapshots.clone());
    let source = Source {
        tree: tree(&images, &options.source.image)?,
        path: options.source.path.as_bytes(),
        follow: options.follow_link,
    };
    if !to_stdout {
        let target = Environment::absolute(&options.target)?;
        return Ok(source.files(&snapshots, &target, options.archive)?);
    }
    let mut out = Watched {
        out: std::io::BufWriter::with_capacity(1 << 20, caller.stdout()),
        reader_left: false,
    };
    let written = source.archive(&snapshots, &mut out);
    let flushed = out.flush();
    match out.reader_left {
        // `varve cp … - | tar x one/file` has what it wants.
        true => Err(Told { code: 0 }.into()),
        false => Ok(written.and(flushed.map_err(|source| solver::Error::Io {
            operation: "write",
            path: "standard output".into(),
            source,
        }))?),
    }
}

/// Remembers that nobody reads any more.
struct Watched<W> {
    out: W,
    reader_left: bool,
}

impl<W: Write> Watched<W> {
    fn note<T>(&mut self, result: std::io::Result<T>) -> std::io::Result<T> {
        if let Err(error) = &result {
            self.reader_left |= error.kind() == std::io::ErrorKind::BrokenPipe;
        }
        result
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let result = self.out.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let result = self.out.flush();
        self.note(result)
    }
}
