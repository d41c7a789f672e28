//! A build reads and writes nothing outside its root, its context and its outputs, whatever its
//! context, archives, links or steps say.

use std::fs;
use std::path::{Path, PathBuf};

use support::tree::{self, Tree};
use support::workspace::Varve;

mod add;
mod base_images;
mod copy;
mod outputs;
mod steps;

/// What the host keeps to itself; no build may show it.
const SECRET: &str = "the-secret-of-the-host";

/// A directory of the host beside the context, with a secret in it.
struct Outside {
    path: PathBuf,
    before: Tree,
}

impl Outside {
    fn of(varve: &Varve) -> Self {
        varve.write("outside/secret", SECRET);
        varve.write("outside/directory/secret", SECRET);
        let path = varve.path("outside");
        Outside {
            before: tree::list(&path),
            path,
        }
    }

    fn name(&self) -> String {
        self.path.to_str().unwrap().to_owned()
    }

    /// Up to the root of the host from however deep, and down again.
    fn by_dots(&self) -> String {
        format!(
            "{}{}",
            "../".repeat(20),
            self.name().trim_start_matches('/')
        )
    }

    #[track_caller]
    fn is_untouched(&self) {
        tree::assert_same(&self.before, &tree::list(&self.path));
    }
}

/// Whether a file below `directory` holds the secret. Links are not followed.
fn holds_secret(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return holds_secret(&entry.path());
        }
        let content = if kind.is_file() {
            fs::read(entry.path()).unwrap()
        } else {
            Vec::new()
        };
        content
            .windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes())
    })
}

/// Builds to the directory `out`, and looks whether it holds the secret. The build may fail: that
/// is safe.
#[track_caller]
fn no_secret_comes_out(varve: &Varve, what: &str) {
    let outcome = varve.build(["-o", "out"]);
    assert!([0, 1].contains(&outcome.code), "{what}: {outcome}");
    assert!(!outcome.stderr.contains("panicked"), "{what}: {outcome}");
    assert!(!outcome.stderr.contains(SECRET), "{what}: {outcome}");
    let out = varve.path("out");
    if out.exists() {
        assert!(!holds_secret(&out), "{what}: {outcome}");
        fs::remove_dir_all(out).unwrap();
    }
}
