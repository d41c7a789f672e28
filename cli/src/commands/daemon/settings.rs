//! What may change while the daemon runs: read at the start, and again at SIGHUP.

use std::path::PathBuf;
use std::sync::Arc;

use snapshotter::Manager;
use snapshotter::containers::Containers;
use snapshotter::containers::quota::Quota;

use crate::args::DiskSpace;
use crate::commands::prune;
use crate::configuration::Configuration;
use crate::logging;
use crate::output::size;

/// What the command line says, which goes before the file, and where the file is.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// `--config`.
    pub(super) file: Option<PathBuf>,
    /// `--debug`.
    pub(super) is_debug: bool,
    /// `--max-used-space`.
    pub(super) max_used: Option<DiskSpace>,
    /// `--reserved-space`.
    pub(super) reserved: Option<DiskSpace>,
    /// `--min-free-space`.
    pub(super) min_free: Option<DiskSpace>,
}

impl Settings {
    /// Reads the file and has everything go by it from now on.
    ///
    /// # Errors
    /// The file cannot be read or understood; nothing has changed then.
    pub(super) fn apply(&self, containers: &Containers) -> anyhow::Result<()> {
        let config = self.read()?;
        let (_, total) = containers.manager().store().disk_bytes()?;
        let quota = self.quota(&config, total);
        logging::set_debug(self.is_debug || config.debug.unwrap_or(false));
        if quota != containers.space().0 {
            tracing::info!(
                max_used = quota.max_used.map(size),
                reserved = size(quota.reserved),
                min_free = size(quota.min_free),
                "the quota of the root directory"
            );
            containers.limit_space(quota, Arc::new(forget));
        }
        Ok(())
    }

    fn quota(&self, config: &Configuration, total: u64) -> Quota {
        let bytes = |said: Option<DiskSpace>, written: Option<DiskSpace>| {
            said.or(written).map(|space| space.of(total))
        };
        let limited = |bytes: &u64| *bytes > 0;
        Quota {
            // 0 is no limit, as it is for buildkitd.
            max_used: bytes(self.max_used, config.max_used_space).filter(limited),
            reserved: bytes(self.reserved, config.reserved_space).unwrap_or(0),
            min_free: bytes(self.min_free, config.min_free_space).unwrap_or(0),
        }
    }

    fn read(&self) -> anyhow::Result<Configuration> {
        Configuration::read(self.file.as_deref())
    }
}

/// Gives up the build cache.
fn forget(manager: &Manager) -> snapshotter::Result<usize> {
    let count = prune::forget_cache(manager)?;
    if count > 0 {
        tracing::warn!(count, "the build cache was given up for the quota");
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settings() -> Settings {
        Settings {
            file: None,
            is_debug: false,
            max_used: None,
            reserved: None,
            min_free: None,
        }
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let text = "maxUsedSpace = \"50%\"\nreservedSpace = 7\nminFreeSpace = \"1KB\"\n";
        let config: Configuration = toml::from_str(text).unwrap();
        let said = Settings {
            min_free: Some(DiskSpace::Bytes(5)),
            ..settings()
        };
        let expected = Quota {
            max_used: Some(500),
            reserved: 7,
            min_free: 5,
        };
        assert_eq!(said.quota(&config, 1_000), expected);
        let nothing = settings().quota(&Configuration::default(), 1_000);
        assert_eq!(nothing, Quota::default());
        let unlimited = Settings {
            max_used: Some(DiskSpace::Bytes(0)),
            ..settings()
        };
        assert_eq!(unlimited.quota(&config, 1_000).max_used, None);
    }

    #[test]
    fn a_file_that_is_named_must_be_there_and_be_understood() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("varve.toml");
        let named = Settings {
            file: Some(file.clone()),
            ..settings()
        };
        let refused = || format!("{:#}", named.read().unwrap_err());
        assert!(refused().contains("cannot read"), "{}", refused());
        for text in ["maxUsed = 1", "maxUsedSpace = \"much\"", "debug ="] {
            fs::write(&file, text).unwrap();
            assert!(refused().contains("cannot understand"), "{}", refused());
        }
        fs::write(&file, "debug = true").unwrap();
        assert_eq!(named.read().unwrap().debug, Some(true));
    }
}
