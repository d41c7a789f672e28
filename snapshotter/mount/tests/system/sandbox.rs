//! Directories for tests, in a mount namespace that dies with the test's thread, whatever happens.

use std::path::{Path, PathBuf};

use mount::{Lower, isolate_thread, mounts_below};
use tempfile::TempDir;

/// The directory to which the files of the fixture images redirect.
pub(crate) const NONCE: &str = "2f1c7bb0e6d94f0c8a5511d3907ecb42";

pub(crate) const LOW: &[u8] = include_bytes!("../fixtures/low.erofs");
pub(crate) const HIGH: &[u8] = include_bytes!("../fixtures/high.erofs");

pub(crate) struct Sandbox {
    directory: TempDir,
}

/// Whether privileged tests are left out on request.
pub(crate) fn is_left_out() -> bool {
    let left_out = std::env::var_os("VARVE_TEST_UNPRIVILEGED").is_some_and(|value| value == "1");
    if left_out {
        notice();
    }
    left_out
}

impl Sandbox {
    pub(crate) fn new() -> Option<Self> {
        if is_left_out() {
            return None;
        }
        isolate_thread().expect(
            "a private mount namespace; set VARVE_TEST_UNPRIVILEGED=1 to leave these tests out",
        );
        Some(Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn make_directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("make a directory");
        path
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("make a directory");
        }
        std::fs::write(&path, content).expect("write a file");
        path
    }

    /// A directory `name` with one file `name` that contains `name`.
    pub(crate) fn lower(&self, name: &str) -> Lower {
        self.write(&format!("{name}/{name}"), name.as_bytes());
        Lower::Directory(self.path(name))
    }

    pub(crate) fn upper(&self, name: &str) -> Option<(PathBuf, PathBuf)> {
        let upper = self.make_directory(&format!("{name}-upper"));
        Some((upper, self.make_directory(&format!("{name}-work"))))
    }

    /// The data-only directory with the contents of both fixture images.
    pub(crate) fn objects(&self) -> PathBuf {
        self.write(&format!("objects/{NONCE}/ab/low"), b"low!");
        self.write(&format!("objects/{NONCE}/ab/high"), b"high!");
        self.path("objects")
    }

    pub(crate) fn mount_count(&self) -> usize {
        mounts_below(self.root()).expect("the mount table").len()
    }
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Names in a directory, sorted.
pub(crate) fn list(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("list a directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("ascii")
        })
        .collect();
    names.sort();
    names
}

/// Says once, past the harness that captures the output of tests, that tests are left out.
fn notice() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let text = "NOTICE: VARVE_TEST_UNPRIVILEGED=1 leaves out the tests that need root\n";
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).expect("write");
    });
}
