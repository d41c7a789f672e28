//! The command line of a bench binary, by hand: a handful of flags needs no library.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Disk-backed by the file hierarchy standard; /tmp may be a tmpfs, where some mounts do not work.
const SCRATCH: &str = "/var/tmp";

/// Timed rounds of each workload where `--rounds` does not say.
const ROUNDS: usize = 5;

/// What `--help` prints for a bench; `needs` is what it looks for on this machine.
#[must_use]
pub fn usage(target: &str, needs: &str) -> String {
    format!(
        "\
cargo xtask bench {target} [NAME…] [-- FLAGS]

  NAME…           only the workloads whose name contains one of these
  --rounds N      timed rounds of each workload ({ROUNDS}); one more, untimed, goes before them
  --json FILE     write every sample to FILE
  --scratch DIR   where all state lies for the time of the run ({SCRATCH}): a disk, not a tmpfs
  --peer-only     measure the peer alone; needs no varve
  --varve-only    measure varve alone
  --system        bench containerd: the system's containerd instead of containerd 2
  --list          print the names of the workloads
  --keep          leave the scratch directory behind, with the log of every command

{needs}"
    )
}

/// Which sides are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// varve, and the peer where it is installed.
    Both,
    /// The peer alone.
    Peer,
    /// varve alone.
    Varve,
}

/// A checked command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Parts of names; empty selects every workload.
    pub names: Vec<String>,
    /// Timed rounds, at least one.
    pub rounds: usize,
    /// Where the samples go.
    pub json: Option<PathBuf>,
    /// Where the directory of this run is made.
    pub scratch: PathBuf,
    /// Which sides are measured.
    pub sides: Sides,
    /// The system's containerd instead of containerd 2, where there is one in it.
    pub system: bool,
    /// Print names and end.
    pub list: bool,
    /// Print [`usage`] and end.
    pub help: bool,
    /// Leave the directory of this run behind.
    pub keep: bool,
    /// The directory of this run, made by the process outside: this process runs inside
    /// ([`crate::confinement`]).
    pub inside: Option<PathBuf>,
}

impl Options {
    /// Understands the words after the program's name.
    ///
    /// # Errors
    /// Names the word that is not understood.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            names: Vec::new(),
            rounds: ROUNDS,
            json: None,
            scratch: PathBuf::from(SCRATCH),
            sides: Sides::Both,
            system: false,
            list: false,
            help: false,
            keep: false,
            inside: None,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a value; see --help"))
            };
            match word.as_str() {
                "--rounds" => options.rounds = rounds(&value()?)?,
                "--json" => options.json = Some(value()?.into()),
                "--scratch" => options.scratch = value()?.into(),
                "--inside" => options.inside = Some(value()?.into()),
                "--peer-only" => options.sides = Sides::Peer,
                "--varve-only" => options.sides = Sides::Varve,
                "--system" => options.system = true,
                "--list" => options.list = true,
                "--keep" => options.keep = true,
                "--help" | "-h" => options.help = true,
                // `cargo bench` adds it.
                "--bench" => {}
                flag if flag.starts_with('-') => bail!("there is no flag {flag}; see --help"),
                _ => options.names.push(word),
            }
        }
        Ok(options)
    }

    /// Whether the workload of this name is asked for.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }
}

fn rounds(word: &str) -> Result<usize> {
    match word.parse() {
        Ok(rounds) if rounds > 0 => Ok(rounds),
        _ => bail!("--rounds {word}: not a number from 1 on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn flags_and_names_are_understood_in_any_order() {
        let options = parse("noop --bench --rounds 3 copy --json out.json --peer-only").unwrap();
        assert_eq!(options.names, ["noop", "copy"]);
        assert_eq!(options.rounds, 3);
        assert_eq!(options.json, Some("out.json".into()));
        assert_eq!(options.sides, Sides::Peer);
        assert!(options.selects("copy-big") && !options.selects("export"));
        assert!(parse("").unwrap().selects("anything"));
    }

    #[test]
    fn a_word_that_is_not_understood_is_named() {
        let check = |line: &str, part: &str| {
            let message = parse(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        };
        check("--runs 3", "no flag --runs");
        check("--rounds 0", "--rounds 0");
        check("--rounds many", "--rounds many");
        check("--json", "--json needs a value");
    }
}
