//! Files to build from, the same in every run: sizes and bytes come from a fixed seed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
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
    fn a_payload_has_its_size() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("payload");
        write_payload(&path, 2).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 << 20);
    }
}
