//! What one workload is: which Dockerfile is built in which context, what is timed, and how fast it
//! should be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::figure::Target;
use crate::files;
use crate::side::Compression;

/// Stage that is timed.
pub const RESULT: &str = "result";

/// Stage on top of [`RESULT`] whose RUN steps fail where the result is wrong.
pub const CHECK: &str = "check";

/// A workload, as a row of a table.
///
/// A round is, for each side: `edit`; what comes before the [`Moment`] of an export; then the timed
/// build of stage `result`; then an untimed build of stage `check`. The round before the first
/// timed one fills the caches, unless the workload is `cold`.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// One word to select it by.
    pub name: &'static str,
    /// What the table says.
    pub title: &'static str,
    /// What is in the context.
    pub content: Content,
    /// Text of the Dockerfile up to the stage `result`. The argument is another word in each round:
    /// where it stands in a step, the step is executed in each round.
    pub dockerfile: fn(&str) -> String,
    /// Shell commands that fail where the result is wrong; the argument is that of the round.
    pub check: fn(&str) -> String,
    /// Whether the word of the round is written into one file of the context beforehand.
    pub edit: bool,
    /// Whether each round begins with empty state.
    pub cold: bool,
    /// What is written besides the cache.
    pub export: Option<Exported>,
    /// Whether the state has few but large files: it is removed at once. Many removed files would
    /// make ext4 slow for what comes after, so they stay until the end.
    pub bulky: bool,
    /// What must be reached now.
    pub target: Target,
    /// What shall be reached: the budget of the design.
    pub budget: Target,
}

/// An archive that a workload writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Of its layers.
    pub compression: Compression,
    /// What is timed.
    pub moment: Moment,
}

/// When an archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The image was built a moment ago: only the export is timed.
    Built,
    /// The same image was exported a moment ago.
    Exported,
    /// In one command with the build.
    Building,
}

/// What a context holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// No file that anything copies.
    Nothing,
    /// So many source files, `dNNNNN/fNNNNN.txt`.
    Tree(usize),
    /// One file `payload` of so many MiB.
    Payload(usize),
    /// So many MiB as an application has them: texts, some images, some keys.
    Application(usize),
}

/// The directories of one workload, which all sides read.
#[derive(Debug)]
pub struct Place {
    /// The build context.
    pub context: PathBuf,
    /// Holds the Dockerfile of what is timed.
    pub recipe: PathBuf,
    /// Holds the same Dockerfile with the stage `check`. Its own directory: a Dockerfile that
    /// changes in each round would not be a rebuild of nothing.
    pub check_recipe: PathBuf,
}

impl Workload {
    /// Writes the context below the new directory `home`.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn set_up(&self, home: &Path) -> Result<Place> {
        let place = Place {
            context: home.join("context"),
            recipe: home.join("recipe"),
            check_recipe: home.join("check-recipe"),
        };
        for directory in [&place.context, &place.recipe, &place.check_recipe] {
            fs::create_dir_all(directory)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        match self.content {
            Content::Nothing => {}
            Content::Tree(count) => files::write_tree(&place.context, count)?,
            Content::Payload(mebibytes) => {
                files::write_payload(&place.context.join("payload"), mebibytes)?;
            }
            Content::Application(mebibytes) => {
                files::write_application(&place.context, mebibytes)?;
            }
        }
        Ok(place)
    }

    /// Writes what changes from round to round.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn begin_round(&self, place: &Place, word: &str) -> Result<()> {
        let dockerfile = (self.dockerfile)(word);
        let check = (self.check)(word);
        let checked = format!("{dockerfile}\nFROM {RESULT} AS {CHECK}\nRUN : {word}; {check}\n");
        write_if_new(&place.recipe.join("Dockerfile"), &dockerfile)?;
        write_if_new(&place.check_recipe.join("Dockerfile"), &checked)?;
        if self.edit {
            write_if_new(&place.context.join(edited_file()), &format!("{word}\n"))?;
        }
        Ok(())
    }
}

/// The file that [`Workload::edit`] writes: not the first, not the last.
#[must_use]
pub fn edited_file() -> String {
    files::path_of(1234)
}

/// A file that is written again is a changed file, so one that is right already stays.
fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDITING: Workload = Workload {
        name: "editing",
        title: "",
        content: Content::Tree(1_300),
        dockerfile: |_| format!("FROM base AS {RESULT}\nCOPY . /\n"),
        check: |word| format!("grep -q {word} /x"),
        edit: true,
        cold: false,
        export: None,
        bulky: false,
        target: Target::Ratio(1.0),
        budget: Target::Ratio(1.0),
    };

    #[test]
    fn a_round_changes_one_file_and_leaves_an_equal_dockerfile_alone() {
        let home = tempfile::tempdir().unwrap();
        let place = EDITING.set_up(home.path()).unwrap();
        let recipe = place.recipe.join("Dockerfile");
        EDITING.begin_round(&place, "r1").unwrap();
        let modified = fs::metadata(&recipe).unwrap().modified().unwrap();
        EDITING.begin_round(&place, "r2").unwrap();
        assert_eq!(fs::metadata(&recipe).unwrap().modified().unwrap(), modified);
        let edited = fs::read_to_string(place.context.join(edited_file())).unwrap();
        assert_eq!(edited, "r2\n");
        let check = fs::read_to_string(place.check_recipe.join("Dockerfile")).unwrap();
        assert!(
            check.ends_with("FROM result AS check\nRUN : r2; grep -q r2 /x\n"),
            "{check}"
        );
    }
}
