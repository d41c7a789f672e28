//! `cargo xtask install` and `cargo xtask package`: a program for other machines, and what goes
//! with it. Equal sources and `SOURCE_DATE_EPOCH` give equal bytes.
//!
//! Reading order: `binary` (how it is linked, what it may need), `tree` (where files go), `deb`.

mod binary;
mod deb;
mod licences;
mod tree;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::checks::run_to_end;
use crate::console;
use crate::error::{Context, Error, Result};
use crate::workspace::Workspace;
use tree::{Layout, Tree};

/// Where what was not packaged belongs.
pub(crate) const PREFIX_DEFAULT: &str = "/usr/local";

/// The profile of the root Cargo.toml for others.
pub(crate) const PROFILE_DEFAULT: &str = "dist";

/// Says of when everything in a package is.
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Below the target directory.
const DIRECTORY: &str = "package";

/// `cargo xtask install`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    /// Below it everything lies.
    pub(crate) prefix: PathBuf,
    /// What stands for `/`.
    pub(crate) destdir: Option<PathBuf>,
    /// How it is compiled.
    pub(crate) profile: String,
}

/// `cargo xtask package`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// What to make.
    pub(crate) forms: Vec<Form>,
    /// Where to.
    pub(crate) directory: Option<PathBuf>,
    /// A program that was built before.
    pub(crate) binary: Option<PathBuf>,
    /// Whether to take less time and more space: for tests.
    pub(crate) fast: bool,
}

/// What a release consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The program alone.
    Binary,
    /// A Debian package.
    Deb,
    /// An archive for every other system: `tar -C /usr/local -xf`.
    Tar,
}

impl Form {
    /// Everything.
    pub(crate) const ALL: [Form; 3] = [Form::Binary, Form::Deb, Form::Tar];

    /// By its name on the command line.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "binary" => Some(Form::Binary),
            "deb" => Some(Form::Deb),
            "tar" => Some(Form::Tar),
            _ => None,
        }
    }
}

/// Builds the program and puts it and its files where this machine finds them.
///
/// # Errors
/// Where something does not build, or a file cannot be written.
pub(crate) fn install(workspace: &Workspace, installation: &Installation) -> Result<()> {
    let started = Instant::now();
    if !installation.prefix.is_absolute() {
        return Err(Error::new(format!(
            "--prefix {} is no absolute path",
            installation.prefix.display()
        )));
    }
    let program = binary::build(workspace, &installation.profile)?;
    let work = workspace.target.join(DIRECTORY);
    fs::create_dir_all(&work).at("create", &work)?;
    let stripped = work.join("installed");
    binary::strip(&program, &stripped)?;
    let destdir = installation.destdir.clone().unwrap_or_else(|| "/".into());
    let layout = Layout::installed(&installation.prefix);
    let mut tree = Tree::new(&destdir, None);
    tree::lay_out(workspace, &stripped, &layout, &mut tree)?;
    fs::remove_file(&stripped).at("remove", &stripped)?;
    console::done(
        &format!(
            "{} files installed; {} is the program",
            tree.files().len(),
            layout.program().display()
        ),
        started.elapsed(),
    );
    Ok(())
}

/// Makes what a release consists of.
///
/// # Errors
/// Where something does not build, or the program needs libraries that not every machine has.
pub(crate) fn run(workspace: &Workspace, order: &Order) -> Result<()> {
    let started = Instant::now();
    console::heading("program");
    let program = match &order.binary {
        Some(binary) => fs::canonicalize(binary).at("find", binary)?,
        None => binary::build(workspace, PROFILE_DEFAULT)?,
    };
    let directory = match &order.directory {
        Some(directory) => directory.clone(),
        None => workspace.target.join(DIRECTORY),
    };
    fs::create_dir_all(&directory).at("create", &directory)?;
    let directory = fs::canonicalize(&directory).at("find", &directory)?;
    let work = directory.join("work");
    recreate(&work)?;
    let stripped = work.join("varve");
    binary::strip(&program, &stripped)?;
    // A package of a program that was built otherwise (a test's) is as good as that program.
    let needs = binary::Needs::of(&stripped)?;
    if order.binary.is_none() {
        needs.check()?;
    }
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: epoch(workspace)?,
        program: stripped,
        needs,
        compresses_well: !order.fast,
    };
    console::heading("package");
    for form in &order.forms {
        let began = Instant::now();
        let made = match form {
            Form::Binary => release.binary(&directory)?,
            Form::Deb => deb::make(workspace, &release, &work, &directory)?,
            Form::Tar => release.tar(workspace, &work, &directory)?,
        };
        let size = fs::metadata(&made).at("look at", &made)?.len();
        console::done(
            &format!("{} ({:.1} MB)", made.display(), size as f64 / 1e6),
            began.elapsed(),
        );
    }
    fs::remove_dir_all(&work).at("remove", &work)?;
    console::done("all made", started.elapsed());
    Ok(())
}

/// What all forms have in common.
#[derive(Debug)]
struct Release {
    version: String,
    epoch: SystemTime,
    /// Without symbols.
    program: PathBuf,
    needs: binary::Needs,
    compresses_well: bool,
}

impl Release {
    /// `varve-0.1.0-linux-x86_64`.
    fn name(&self) -> String {
        format!("varve-{}-linux-{}", self.version, env::consts::ARCH)
    }

    fn seconds(&self) -> u64 {
        let since = self.epoch.duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    fn binary(&self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join(self.name());
        fs::copy(&self.program, &path).at("write", &path)?;
        Ok(path)
    }

    fn tar(&self, workspace: &Workspace, work: &Path, directory: &Path) -> Result<PathBuf> {
        let root = work.join("tar");
        recreate(&root)?;
        let mut tree = Tree::new(&root, Some(self.epoch));
        let layout = Layout::archived();
        tree::lay_out(workspace, &self.program, &layout, &mut tree)?;
        licences::write(workspace, &layout, &mut tree)?;
        tree.finish()?;
        let plain = work.join("archive.tar");
        let mut tar = Command::new("tar");
        tar.args(["--create", "--format=gnu", "--sort=name"])
            .args(["--owner=root:0", "--group=root:0", "--numeric-owner"])
            .arg("--file")
            .arg(&plain)
            .arg("--directory")
            .arg(&root)
            .arg(".");
        run_to_end(&mut tar)?;
        let path = directory.join(format!("{}.tar.gz", self.name()));
        tree::gzip(&plain, &path, self.compresses_well)?;
        Ok(path)
    }
}

/// `SOURCE_DATE_EPOCH`, or the time of the last commit, or that of the change log.
fn epoch(workspace: &Workspace) -> Result<SystemTime> {
    let said = env::var(EPOCH_VARIABLE)
        .ok()
        .filter(|said| !said.is_empty());
    let seconds = match said {
        Some(said) => {
            let seconds = said.parse::<u64>();
            Some(seconds.map_err(|_| {
                Error::new(format!("{EPOCH_VARIABLE}={said} is no number of seconds"))
            })?)
        }
        None => commit_seconds(workspace),
    };
    match seconds {
        Some(seconds) => Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        None => {
            let log = workspace.root.join("CHANGELOG.md");
            let written = fs::metadata(&log).and_then(|log| log.modified());
            written.at("look at", &log)
        }
    }
}

fn commit_seconds(workspace: &Workspace) -> Option<u64> {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(&workspace.root);
    let output = git.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// An empty directory in place of whatever is there.
fn recreate(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).at("remove", directory)?;
    }
    fs::create_dir_all(directory).at("create", directory)
}

/// What a program prints; an error if it does not end well.
fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .map_err(|cause| Error::new(format!("cannot run {command:?}: {cause}")))?;
    if !output.status.success() {
        return Err(Error::new(format!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
