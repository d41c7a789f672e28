//! What a build writes: `-o`, `--load` and `--annotation` together, with absolute paths.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use solver::frontend::normalize;
use solver::request::{
    Annotation, Destination, ImageFormat, ImageOutput, Output, SharedReceiver, StoreOutput,
};

use crate::args::allow::DELETE;
use crate::args::exports::annotations::Annotations;
use crate::args::exports::{Export, Load};
use crate::caller::open_stdout;
use crate::engines;
use crate::environment::Environment;
use crate::error::{EXIT_USAGE, Told, say};

/// What the command line asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// `-o`.
    pub(super) exports: Vec<Export>,
    /// `--annotation`.
    pub(super) annotations: Vec<Annotations>,
    /// `--load`.
    pub(super) is_loaded: bool,
    /// Whether there is a `-t`.
    pub(super) tagged: bool,
    /// Whether there is a `--iidfile`.
    pub(super) needs_id: bool,
    /// Whether there is a `-q`.
    pub(super) is_quiet: bool,
    /// Whether directories anywhere may be emptied.
    pub(super) may_delete: bool,
}

/// What to write, and whether the result goes nowhere without anybody having said so.
///
/// # Errors
/// Outputs that contradict each other or cannot be; no engine answers for `--load`.
pub(super) fn make(
    wanted: Wanted,
    environment: &Environment,
) -> anyhow::Result<(Vec<Output>, bool)> {
    let mut exports = wanted.exports;
    if wanted.is_loaded
        && !exports
            .iter()
            .any(|export| matches!(export, Export::Load(_)))
    {
        exports.push(Export::Load(Load::default()));
    }
    if exports.is_empty() && !wanted.tagged && (wanted.needs_id || wanted.is_quiet) {
        // Who asks for the id of an image wants an image.
        exports.push(Export::Write(Output::Store(StoreOutput::default())));
    }
    for export in &mut exports {
        if let Export::Write(Output::Store(store)) = export {
            store.keeps_unnamed = store.dangling_prefix.is_none();
        }
    }
    if exports.iter().filter(|export| export.is_stdout()).count() > 1 {
        bail!("two outputs go to standard output; give all but one a dest=FILE");
    }
    check_files(&exports)?;
    for name in exports.iter().flat_map(Export::names) {
        normalize(name).with_context(|| format!("invalid name={name:?} of an output"))?;
    }
    let notes = wanted.annotations.into_iter().flat_map(|notes| notes.0);
    annotate(&mut exports, notes.collect(), wanted.tagged)?;
    let makes_image = exports.iter_mut().any(|export| export.annotate(&[]));
    if wanted.needs_id && !makes_image && !wanted.tagged && !exports.is_empty() {
        bail!(
            "there will be no image id for --iidfile: local and tar outputs make no image; \
             name one with -t"
        );
    }
    let goes_nowhere = exports.is_empty() && !wanted.tagged;
    let mut outputs = Vec::new();
    for export in exports {
        match export {
            Export::Write(output) => {
                let output = absolute(output)?;
                if !wanted.may_delete {
                    check_deletion(&output)?;
                }
                outputs.push(output);
            }
            Export::Push(both) => {
                outputs.extend([Output::Store(both.0), Output::Registry(both.1)]);
            }
            Export::Load(load) => outputs.push(loaded(load, environment)?),
            Export::CacheOnly => {}
        }
    }
    Ok((outputs, goes_nowhere))
}

/// Whether something can be written there; what is missing of the directories above is made then.
/// Before a build is the time to tell, not after it.
fn check_place(path: &Path, is_file: bool) -> Result<(), String> {
    let there = path.metadata().is_ok();
    if is_file && path.is_dir() {
        return Err(format!(
            "{} is a directory; name a file in it",
            path.display()
        ));
    }
    let nearest = match there && is_file {
        true => path.parent(),
        false => path.ancestors().find(|path| path.metadata().is_ok()),
    };
    let Some(nearest) = nearest else {
        return Ok(());
    };
    if !nearest.is_dir() {
        return Err(format!("{} is not a directory", nearest.display()));
    }
    let is_special = path.metadata().is_ok_and(|found| !found.is_file());
    let written = match is_special && is_file {
        true => path,
        false => nearest,
    };
    rustix::fs::access(written, rustix::fs::Access::WRITE_OK)
        .map_err(|errno| format!("{}: {}", written.display(), std::io::Error::from(errno)))
}

/// Whether a file for programs can be written, whose directory has to be there.
///
/// # Errors
/// It cannot.
pub(super) fn check_file(option: &str, path: &Path) -> anyhow::Result<()> {
    let path = &Environment::absolute(path)?;
    let parent = path.parent().filter(|parent| !parent.is_dir());
    let reason = match parent {
        Some(parent) => Err(format!("{} is not a directory", parent.display())),
        None => check_place(path, true),
    };
    reason.map_err(|reason| anyhow!("invalid {option}: {reason}"))
}

/// No output is to replace another's file. Directories may be shared.
fn check_files(exports: &[Export]) -> anyhow::Result<()> {
    let mut known: Vec<(PathBuf, bool)> = Vec::new();
    for export in exports {
        let (path, is_file) = match export {
            Export::Write(Output::Image(image)) => match &image.destination {
                Destination::Path(path) => (path, !image.is_directory),
                _ => continue,
            },
            Export::Write(Output::Tar {
                destination: Destination::Path(path),
                ..
            }) => (path, true),
            Export::Write(Output::Local { directory, .. }) => (directory, false),
            _ => continue,
        };
        let path = Environment::absolute(path)?;
        check_place(&path, is_file)
            .map_err(|reason| anyhow!("cannot write an output: {reason}"))?;
        if known
            .iter()
            .any(|(other, other_is_file)| *other == path && (is_file || *other_is_file))
        {
            say(&format!(
                "ERROR: two outputs are written to {}; give each its own dest=",
                path.display()
            ));
            return Err(Told { code: EXIT_USAGE }.into());
        }
        known.push((path, is_file));
    }
    Ok(())
}

/// Adds notes to all images.
fn annotate(exports: &mut Vec<Export>, notes: Vec<Annotation>, tagged: bool) -> anyhow::Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    let is_kept = |export: &Export| match export {
        Export::Write(Output::Store(store)) => store.names.is_empty(),
        _ => false,
    };
    let is_pushed = |export: &Export| matches!(export, Export::Write(Output::Registry(_)));
    if tagged
        && !exports
            .iter()
            .any(|export| is_kept(export) || is_pushed(export))
    {
        // What -t alone would do, so that there is something to put the notes on.
        exports.insert(0, Export::Write(Output::Store(StoreOutput::default())));
    }
    let annotated = exports.iter_mut().map(|export| export.annotate(&notes));
    let is_used = annotated.fold(false, |used, annotated| used | annotated);
    if !is_used {
        bail!("--annotation is a note on an image, and none is made: name it with -t");
    }
    Ok(())
}

fn loaded(load: Load, environment: &Environment) -> anyhow::Result<Output> {
    let engine = engines::find(environment, load.context.as_deref())?;
    Ok(Output::Image(ImageOutput {
        format: ImageFormat::Docker,
        destination: Destination::Engine(SharedReceiver(engine)),
        is_directory: false,
        names: load.names,
        attributes: load.attributes,
    }))
}

/// As buildx: what is not below the working directory is emptied with a right to do so only.
fn check_deletion(output: &Output) -> anyhow::Result<()> {
    let Output::Local {
        directory,
        deletes_others: true,
        ..
    } = output
    else {
        return Ok(());
    };
    let here = Environment::absolute(Path::new("."))?;
    let here = here.canonicalize().context("no working directory")?;
    // Where it really is, as far as it is there.
    let known = directory.ancestors().find_map(|path| {
        let real = path.canonicalize().ok()?;
        Some(real.join(directory.strip_prefix(path).ok()?))
    });
    let real = known.unwrap_or_else(|| directory.clone());
    if real != here && real.starts_with(&here) {
        return Ok(());
    }
    bail!(
        "mode=delete removes whatever is in {} and not in the result, and that is not below the \
         working directory: add --allow {DELETE} if it is meant",
        directory.display()
    )
}

fn absolute(output: Output) -> anyhow::Result<Output> {
    let resolve = |destination| match destination {
        Destination::Path(path) => anyhow::Ok(Destination::Path(Environment::absolute(&path)?)),
        Destination::Stdout => Ok(Destination::Open(open_stdout()?)),
        other => Ok(other),
    };
    Ok(match output {
        Output::Local {
            directory,
            deletes_others,
            epoch,
            platform_split,
        } => Output::Local {
            directory: Environment::absolute(&directory)?,
            deletes_others,
            epoch,
            platform_split,
        },
        Output::Tar {
            destination,
            epoch,
            platform_split,
        } => Output::Tar {
            destination: resolve(destination)?,
            epoch,
            platform_split,
        },
        Output::Image(mut image) => {
            image.destination = resolve(image.destination)?;
            Output::Image(image)
        }
        output @ (Output::Store(_) | Output::Registry(_)) => output,
    })
}
