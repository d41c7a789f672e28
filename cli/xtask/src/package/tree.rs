//! Where the files of an installation lie, and writing them: the same modes whatever the umask, and
//! the same times if times are said.

use std::fs::{self, File, FileTimes};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use super::output_of;
use crate::checks::run_to_end;
use crate::error::{Context, Error, Result};
use crate::workspace::Workspace;

/// In the units, where `cargo xtask install` puts the program.
const PROGRAM_IN_UNITS: &str = "/usr/local/bin/varve";

/// Where systemd units are in the checkout.
const UNITS: &str = "cli/package";

/// The configuration as it is without a file.
const CONFIGURATION: &str = "cli/package/varve.toml";

/// Modes of files.
const MODE_PLAIN: u32 = 0o644;
const MODE_PROGRAM: u32 = 0o755;

/// Where what goes.
#[derive(Debug)]
pub(super) struct Layout {
    prefix: PathBuf,
    /// Below the prefix: where zsh looks differs from system to system.
    zsh: &'static str,
    /// What is not below the prefix.
    configuration: PathBuf,
    /// The path that units start the program by.
    started_as: PathBuf,
    compresses: bool,
}

impl Layout {
    /// Below a prefix of this machine.
    pub(super) fn installed(prefix: &Path) -> Self {
        // In a prefix of somebody's own it is an example: varve reads no other than this one.
        let configuration = match prefix == Path::new("/usr") || prefix == Path::new("/usr/local") {
            true => "/etc/varve".into(),
            false => prefix.join("share/doc/varve/examples"),
        };
        Layout {
            prefix: prefix.to_owned(),
            zsh: "share/zsh/site-functions",
            configuration,
            started_as: prefix.join("bin/varve"),
            compresses: false,
        }
    }

    /// Of a Debian package.
    pub(super) fn debian() -> Self {
        Layout {
            zsh: "share/zsh/vendor-completions",
            compresses: true,
            ..Layout::installed(Path::new("/usr"))
        }
    }

    /// Of an archive that is unpacked in `/usr/local`, or in `/usr`.
    pub(super) fn archived() -> Self {
        Layout {
            started_as: PROGRAM_IN_UNITS.into(),
            ..Layout::installed(Path::new("/"))
        }
    }

    /// Path of the program.
    pub(super) fn program(&self) -> PathBuf {
        self.prefix.join("bin/varve")
    }

    /// Path of a document.
    pub(super) fn document(&self, name: &str) -> PathBuf {
        self.prefix.join("share/doc/varve").join(name)
    }
}

/// A directory that files are written into.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    /// What all its files and directories get.
    time: Option<SystemTime>,
    files: Vec<PathBuf>,
}

impl Tree {
    /// What lies in `root`, which stands for `/`.
    pub(super) fn new(root: &Path, time: Option<SystemTime>) -> Self {
        Tree {
            root: root.to_owned(),
            time,
            files: Vec::new(),
        }
    }

    /// The files that were written, as they are called in the tree.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Where a path of the tree really is.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Writes a file, in place of one that is there: whoever runs that goes on with it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&mut self, path: &Path, content: &[u8], mode: u32) -> Result<()> {
        let place = self.place(path);
        let directory = place.parent().unwrap_or(&self.root);
        fs::create_dir_all(directory).at("create", directory)?;
        let unfinished = place.with_extension("varve-new");
        fs::write(&unfinished, content).at("write", &unfinished)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(mode))
            .at("change", &unfinished)?;
        fs::rename(&unfinished, &place).at("write", &place)?;
        self.files.push(path.to_owned());
        Ok(())
    }

    /// Writes a file that a person reads.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn text(&mut self, path: &Path, text: &str) -> Result<()> {
        self.write(path, text.as_bytes(), MODE_PLAIN)
    }

    /// Writes a file that a person reads, compressed: its name gets `.gz`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn compressed(&mut self, path: &Path, text: &str) -> Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".gz");
        let plain = self.place(path);
        self.text(path, text)?;
        self.files.pop();
        let packed = self.place(Path::new(&name));
        gzip(&plain, &packed, true)?;
        fs::remove_file(&plain).at("remove", &plain)?;
        self.files.push(name.into());
        Ok(())
    }

    /// Sets modes of directories and all times. To be called last.
    ///
    /// # Errors
    /// Something cannot be changed.
    pub(super) fn finish(&self) -> Result<()> {
        let mut directories = vec![self.root.clone()];
        let mut at = 0;
        while let Some(directory) = directories.get(at).cloned() {
            at += 1;
            for entry in fs::read_dir(&directory).at("read", &directory)? {
                let path = entry.at("read", &directory)?.path();
                match path.is_dir() {
                    true => directories.push(path),
                    false => self.date(&path)?,
                }
            }
        }
        for directory in directories {
            fs::set_permissions(&directory, fs::Permissions::from_mode(MODE_PROGRAM))
                .at("change", &directory)?;
            self.date(&directory)?;
        }
        Ok(())
    }

    fn date(&self, path: &Path) -> Result<()> {
        let Some(time) = self.time else {
            return Ok(());
        };
        let times = FileTimes::new().set_modified(time).set_accessed(time);
        let file = File::open(path).at("open", path)?;
        file.set_times(times).at("change", path)
    }
}

/// Writes everything that an installation consists of.
///
/// # Errors
/// The program does not describe itself, or a file cannot be written.
pub(super) fn lay_out(
    workspace: &Workspace,
    program: &Path,
    layout: &Layout,
    tree: &mut Tree,
) -> Result<()> {
    let content = fs::read(program).at("read", program)?;
    tree.write(&layout.program(), &content, MODE_PROGRAM)?;
    manual(program, layout, tree)?;
    let shells = [
        ("bash", "share/bash-completion/completions/varve".to_owned()),
        ("zsh", format!("{}/_varve", layout.zsh)),
        ("fish", "share/fish/vendor_completions.d/varve.fish".into()),
    ];
    for (shell, path) in shells {
        let script = output_of(Command::new(program).args(["completion", shell]))?;
        tree.text(&layout.prefix.join(path), &script)?;
    }
    units(workspace, layout, tree)?;
    configuration(workspace, layout, tree)?;
    for name in ["README.md", "CHANGELOG.md"] {
        let path = workspace.root.join(name);
        let text = fs::read_to_string(&path).at("read", &path)?;
        match layout.compresses && name == "CHANGELOG.md" {
            true => tree.compressed(&layout.document(name), &text)?,
            false => tree.text(&layout.document(name), &text)?,
        }
    }
    Ok(())
}

fn manual(program: &Path, layout: &Layout, tree: &mut Tree) -> Result<()> {
    let pages = tree.place(&layout.document("man-pages"));
    super::recreate(&pages)?;
    run_to_end(Command::new(program).arg("man").arg(&pages))?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&pages).at("read", &pages)? {
        names.push(entry.at("read", &pages)?.file_name());
    }
    names.sort();
    for name in names {
        let from = pages.join(&name);
        let text = fs::read_to_string(&from).at("read", &from)?;
        let section = from.extension().unwrap_or_default().to_string_lossy();
        let page = layout.prefix.join(format!("share/man/man{section}"));
        match layout.compresses {
            true => tree.compressed(&page.join(&name), &text)?,
            false => tree.text(&page.join(&name), &text)?,
        }
    }
    fs::remove_dir_all(&pages).at("remove", &pages)
}

fn units(workspace: &Workspace, layout: &Layout, tree: &mut Tree) -> Result<()> {
    for name in unit_names(workspace)? {
        let path = workspace.root.join(UNITS).join(&name);
        let text = fs::read_to_string(&path).at("read", &path)?;
        let started_as = layout.started_as.display().to_string();
        let text = text.replace(PROGRAM_IN_UNITS, &started_as);
        tree.text(&layout.prefix.join("lib/systemd/system").join(name), &text)?;
    }
    Ok(())
}

/// Names of the systemd units, in order.
///
/// # Errors
/// Their directory cannot be read.
pub(super) fn unit_names(workspace: &Workspace) -> Result<Vec<String>> {
    let directory = workspace.root.join(UNITS);
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).at("read", &directory)? {
        let name = entry.at("read", &directory)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.retain(|name| name.ends_with(".service") || name.ends_with(".socket"));
    names.sort();
    Ok(names)
}

/// A configuration that somebody has changed stays.
fn configuration(workspace: &Workspace, layout: &Layout, tree: &mut Tree) -> Result<()> {
    let source = workspace.root.join(CONFIGURATION);
    let text = fs::read_to_string(&source).at("read", &source)?;
    let path = layout.configuration.join("varve.toml");
    match fs::symlink_metadata(tree.place(&path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => tree.text(&path, &text),
        _ => Ok(()),
    }
}

/// Compresses a file; the same bytes at any time.
///
/// # Errors
/// `gzip` fails.
pub(super) fn gzip(from: &Path, to: &Path, well: bool) -> Result<()> {
    let output = File::create(to).at("create", to)?;
    let mut gzip = Command::new("gzip");
    let level = if well { "-9" } else { "-1" };
    gzip.args([level, "--no-name", "--stdout"]).arg(from);
    let status = gzip.stdout(Stdio::from(output)).status();
    let status = status.at("run gzip for", from)?;
    if !status.success() {
        return Err(Error::new(format!(
            "gzip of {} ended with {status}",
            from.display()
        )));
    }
    fs::set_permissions(to, fs::Permissions::from_mode(MODE_PLAIN)).at("change", to)
}
