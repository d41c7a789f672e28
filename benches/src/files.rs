//! Files to build from, the same in every run: sizes and bytes come from a fixed seed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Files in one directory: a package tree has few directories with more.
const FILES_PER_DIRECTORY: usize = 100;

/// Sizes of source files: in bytes, spread evenly.
const SIZE_MIN: usize = 200;
const SIZE_MAX: usize = 4_000;

/// 64 characters, so that six bits of a random number pick one.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 \n";

/// Writes `count` different files `dDDDD/fFFFFF.txt` below the directory.
pub(crate) fn write_tree(directory: &Path, count: usize) -> Result<()> {
    let mut random = Random(0x5EED);
    let mut text = vec![0; SIZE_MAX];
    for number in 0..count {
        let path = directory.join(path_of(number));
        if number % FILES_PER_DIRECTORY == 0
            && let Some(parent) = path.parent()
        {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        let spread = u64::try_from(SIZE_MAX - SIZE_MIN)?;
        let size = SIZE_MIN + usize::try_from(random.next() % spread)?;
        random.fill(&mut text[..size]);
        fs::write(&path, &text[..size]).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The path of a file of [`write_tree`].
pub(crate) fn path_of(number: usize) -> String {
    format!("d{:05}/f{number:05}.txt", number / FILES_PER_DIRECTORY)
}

/// Writes a file of `mebibytes` MiB that gzip makes a quarter smaller.
pub(crate) fn write_payload(path: &Path, mebibytes: usize) -> Result<()> {
    let context = || format!("write {}", path.display());
    let mut random = Random(0xB16);
    let mut file = BufWriter::new(File::create(path).with_context(context)?);
    let mut block = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        random.fill(&mut block);
        file.write_all(&block).with_context(context)?;
    }
    file.flush().with_context(context)
}

/// Sizes of an application's files: in bytes, most of them small.
const FILE_MIN: usize = 512;
const FILE_MAX: usize = 96 * 1024;

/// Words of which its texts are made.
const WORDS: usize = 1024;

/// Writes files `dDDDD/fFFFFF.txt` of `mebibytes` MiB in all below the directory: of each eight,
/// six are texts, one has keys, and one is an image that is compressed already.
///
/// # Errors
/// Where a file cannot be written.
pub fn write_application(directory: &Path, mebibytes: usize) -> Result<()> {
    let mut random = Random(0xA99);
    let words: Vec<Vec<u8>> = (0..WORDS)
        .map(|at| {
            let mut word = vec![0; 2 + at % 9];
            random.fill(&mut word);
            word.push(b' ');
            word
        })
        .collect();
    let (mut left, mut number) = (mebibytes << 20, 0);
    let mut content = Vec::new();
    while left > 0 {
        // The smaller of two: as sizes are in source trees.
        let mut size = || FILE_MIN + random.next() as usize % (FILE_MAX - FILE_MIN);
        let size = size().min(size()).min(left);
        content.clear();
        match number % 8 {
            0 => {
                let bytes = std::iter::repeat_with(|| random.next().to_le_bytes());
                content.extend(bytes.take(size / 8 + 1).flatten());
            }
            1 => {
                content.resize(size, 0);
                random.fill(&mut content);
            }
            _ => {
                while content.len() < size {
                    // Some words are much more frequent than others.
                    let bits = random.next() as usize;
                    let at = (bits & (bits >> 10)) % WORDS;
                    content.extend_from_slice(&words[at]);
                }
            }
        }
        content.truncate(size);
        let path = directory.join(path_of(number));
        if number % FILES_PER_DIRECTORY == 0
            && let Some(parent) = path.parent()
        {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        fs::write(&path, &content).with_context(|| format!("write {}", path.display()))?;
        left -= size;
        number += 1;
    }
    Ok(())
}

/// Writes the beginnings of every hundredth file below a context of [`write_application`] anew,
/// others in each round.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn edit_one_percent(directory: &Path, round: usize) -> Result<()> {
    for number in (round % 100..).step_by(100) {
        let path = directory.join(path_of(number));
        let Ok(mut content) = fs::read(&path) else {
            return Ok(());
        };
        let mark = format!("round {round}\n");
        let count = mark.len().min(content.len());
        content[..count].copy_from_slice(&mark.as_bytes()[..count]);
        fs::write(&path, &content).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// What the files below a directory take on the disk, in bytes; those with several names once.
///
/// # Errors
/// Where something cannot be read.
pub fn disk_bytes(directory: &Path) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut waiting = vec![directory.to_owned()];
    let mut bytes = 0;
    while let Some(path) = waiting.pop() {
        let context = || format!("look at {}", path.display());
        let found = fs::symlink_metadata(&path).with_context(context)?;
        if seen.insert((found.dev(), found.ino())) {
            // Whatever the file system's block size is (stat(2)).
            bytes += found.blocks() * 512;
        }
        if found.is_dir() {
            for entry in fs::read_dir(&path).with_context(context)? {
                waiting.push(entry?.path());
            }
        }
    }
    Ok(bytes)
}

/// SplitMix64 (Steele, Lea, Flood 2014): five lines, and good enough to look like text.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Fills it with letters, digits, blanks and line ends.
    pub fn fill(&mut self, text: &mut [u8]) {
        for characters in text.chunks_mut(8) {
            let mut bits = self.next();
            for character in characters {
                *character = ALPHABET[(bits & 63) as usize];
                bits >>= 6;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_its_number_of_different_files_and_is_always_the_same() {
        let write = || {
            let home = tempfile::tempdir().unwrap();
            write_tree(home.path(), 250).unwrap();
            let read = |number| fs::read(home.path().join(path_of(number))).unwrap();
            (0..250).map(read).collect::<Vec<_>>()
        };
        let first = write();
        assert_eq!(write(), first);
        let different: std::collections::BTreeSet<_> = first.iter().collect();
        assert_eq!(different.len(), 250);
    }

    #[test]
    fn an_application_has_its_size_and_can_be_edited() {
        let home = tempfile::tempdir().unwrap();
        write_application(home.path(), 5).unwrap();
        let read = |number| fs::read(home.path().join(path_of(number)));
        let files: Vec<_> = (0..).map_while(|number| read(number).ok()).collect();
        assert!(files.len() > 100);
        assert_eq!(files.iter().map(Vec::len).sum::<usize>(), 5 << 20);
        edit_one_percent(home.path(), 2).unwrap();
        let changed: Vec<_> = (0..files.len())
            .filter(|number| read(*number).unwrap() != files[*number])
            .collect();
        assert_eq!(changed, [2, 102]);
    }

    #[test]
    fn the_disk_counts_a_file_with_two_names_once_and_holes_not() {
        let home = tempfile::tempdir().unwrap();
        let before = disk_bytes(home.path()).unwrap();
        fs::write(home.path().join("a"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(home.path().join("a"), home.path().join("b")).unwrap();
        let hole = File::create(home.path().join("c")).unwrap();
        hole.set_len(1 << 30).unwrap();
        rustix::fs::sync();
        let taken = disk_bytes(home.path()).unwrap() - before;
        assert!((1 << 20..2 << 20).contains(&taken), "{taken}");
    }

    #[test]
    fn a_payload_has_its_size() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("payload");
        write_payload(&path, 2).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 << 20);
    }
}
