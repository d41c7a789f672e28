//! The configuration file: `/etc/varve/varve.toml`. Keys that buildkitd.toml has too have the same
//! names and mean the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::Context;
use registry::{Limits, RegistrySettings};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use solver::gc::policy::{Condition, Rule, default_rules};

use crate::args::DiskSpace;
use crate::commands::times;
use crate::environment::Environment;

/// Read unless another file is named; there need not be one.
const CONFIG_DEFAULT: &str = "/etc/varve/varve.toml";

/// Names another file.
const CONFIG_VARIABLE: &str = "VARVE_CONFIG";

/// What the build cache may keep unless something else is said: buildkitd's defaults.
const RESERVED_DEFAULT: DiskSpace = DiskSpace::Bytes(10_000_000_000);
const RESERVED_PART: DiskSpace = DiskSpace::Percent(10);
const MAX_USED_DEFAULT: DiskSpace = DiskSpace::Percent(60);
const MIN_FREE_DEFAULT: DiskSpace = DiskSpace::Percent(20);

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Configuration {
    /// Whether the daemon says more.
    pub(crate) debug: Option<bool>,
    /// Limits of the root directory under a daemon, and of the build cache.
    pub(crate) max_used_space: Option<DiskSpace>,
    /// See `max_used_space`.
    #[serde(alias = "gckeepstorage")]
    pub(crate) reserved_space: Option<DiskSpace>,
    /// See `max_used_space`.
    pub(crate) min_free_space: Option<DiskSpace>,
    /// Whether builds collect garbage when they end.
    gc: Option<bool>,
    /// Rules in place of the default ones.
    gcpolicy: Option<Vec<Policy>>,
    /// The same rules where buildkitd.toml has them.
    worker: Option<Workers>,
    /// How hosts are spoken to, as in buildkitd.toml.
    #[serde(default)]
    pub(crate) registry: BTreeMap<String, RegistrySettings>,
    /// How long a registry may say nothing before it is asked again.
    registry_timeout: Option<Duration>,
    /// How often it is asked.
    registry_attempts: Option<NonZeroU32>,
}

/// `[worker]`, of which there is one here, whatever it is called there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Workers {
    oci: Option<Worker>,
    containerd: Option<Worker>,
}

/// `[worker.oci]`: what it says of garbage collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Worker {
    gc: Option<bool>,
    #[serde(alias = "gckeepstorage")]
    reserved_space: Option<DiskSpace>,
    max_used_space: Option<DiskSpace>,
    min_free_space: Option<DiskSpace>,
    gcpolicy: Option<Vec<Policy>>,
}

/// `[[gcpolicy]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    /// Everything, not only what is made again easily; varve has no records that this would spare.
    #[serde(default)]
    all: bool,
    /// Of several texts one must hold, of what is between commas all.
    #[serde(default)]
    filters: Vec<String>,
    keep_duration: Option<Duration>,
    #[serde(alias = "keepBytes")]
    reserved_space: Option<DiskSpace>,
    max_used_space: Option<DiskSpace>,
    min_free_space: Option<DiskSpace>,
}

/// `"48h"`, or seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Duration {
    seconds: u64,
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Seconds(u64),
            Text(String),
        }
        let form = Form::deserialize(deserializer);
        let form = form.map_err(|_| D::Error::custom("expected a duration like \"48h\""))?;
        let seconds = match form {
            Form::Seconds(seconds) => seconds,
            Form::Text(text) => {
                let duration = times::duration(&text).map_err(D::Error::custom)?;
                u64::try_from(duration.as_secs()).map_err(D::Error::custom)?
            }
        };
        Ok(Duration { seconds })
    }
}

impl Configuration {
    /// Reads a file that was named, or the usual one if it is there.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub(crate) fn read(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = named.unwrap_or(Path::new(CONFIG_DEFAULT));
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => {
                return Ok(Configuration::default());
            }
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let understood = || format!("cannot understand {}", path.display());
        let mut read: Configuration = toml::from_str(&text).with_context(understood)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        read.registry
            .values_mut()
            .for_each(|settings| settings.resolve(directory));
        read.take_worker().with_context(understood)?;
        // So that a wrong filter is told at once, and not when a build has ended.
        read.rules(0).with_context(understood)?;
        Ok(read)
    }

    /// Takes rules that stand where buildkitd.toml has them.
    fn take_worker(&mut self) -> anyhow::Result<()> {
        let workers = self.worker.take().unwrap_or_default();
        let (oci, containerd) = (workers.oci, workers.containerd);
        anyhow::ensure!(
            oci.is_none() || containerd.is_none(),
            "[worker.oci] and [worker.containerd]: there is one build cache, so one of them is \
             enough"
        );
        let Some(worker) = oci.or(containerd) else {
            return Ok(());
        };
        let has_own = self.gc.is_some()
            || self.gcpolicy.is_some()
            || self.reserved_space.is_some()
            || self.max_used_space.is_some()
            || self.min_free_space.is_some();
        anyhow::ensure!(
            !has_own,
            "the build cache has rules below [worker] and outside of it: put them into one place"
        );
        (self.gc, self.gcpolicy) = (worker.gc, worker.gcpolicy);
        self.reserved_space = worker.reserved_space;
        self.max_used_space = worker.max_used_space;
        self.min_free_space = worker.min_free_space;
        Ok(())
    }

    /// The same where the environment may name the file.
    ///
    /// # Errors
    /// As [`Configuration::read`].
    pub(crate) fn of(environment: &Environment) -> anyhow::Result<Self> {
        let named = environment.get(CONFIG_VARIABLE).map(PathBuf::from);
        Configuration::read(named.as_deref().filter(|path| !path.as_os_str().is_empty()))
    }

    /// How long and how often registries are asked.
    pub(crate) fn registry_limits(&self) -> Limits {
        let mut limits = Limits::default();
        if let Some(Duration { seconds }) = self.registry_timeout {
            let timeout = std::time::Duration::from_secs(seconds.max(1));
            limits.stall_timeout = timeout;
            limits.connect_timeout = timeout.min(limits.connect_timeout);
        }
        if let Some(attempts) = self.registry_attempts {
            limits.attempts_max = attempts.get();
            limits.connect_attempts_max = attempts.get().min(limits.connect_attempts_max);
            limits.mirror_attempts_max = attempts.get().min(limits.mirror_attempts_max);
        }
        limits
    }

    /// By what rules the build cache is kept small, on a disk of `total` bytes.
    ///
    /// # Errors
    /// A filter that is none.
    pub(crate) fn rules(&self, total: u64) -> anyhow::Result<Vec<Rule>> {
        if self.gc == Some(false) {
            return Ok(Vec::new());
        }
        let bytes = |space: Option<DiskSpace>| space.map_or(0, |space| space.of(total));
        let Some(policies) = &self.gcpolicy else {
            let limits = [
                self.reserved_space,
                self.max_used_space,
                self.min_free_space,
            ];
            if limits.iter().any(Option::is_some) {
                let [reserved, max_used, min_free] = limits.map(bytes);
                return Ok(default_rules(reserved, max_used, min_free));
            }
            return Ok(default_rules(
                RESERVED_DEFAULT.of(total).min(RESERVED_PART.of(total)),
                MAX_USED_DEFAULT.of(total),
                MIN_FREE_DEFAULT.of(total),
            ));
        };
        let rule = |policy: &Policy| {
            tracing::debug!(all = policy.all, "a rule for the build cache");
            let group = |text: &String| {
                let conditions = text.split(',').map(|one| Condition::parse(one.trim()));
                conditions.collect::<solver::Result<Vec<_>>>()
            };
            let filters = policy.filters.iter().map(group);
            Ok(Rule {
                filters: filters.collect::<solver::Result<Vec<_>>>()?,
                keep_seconds: policy.keep_duration.map(|keep| keep.seconds),
                reserved: bytes(policy.reserved_space),
                max_used: bytes(policy.max_used_space),
                min_free: bytes(policy.min_free_space),
            })
        };
        policies.iter().map(rule).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> anyhow::Result<Vec<Rule>> {
        let mut read = toml::from_str::<Configuration>(text)?;
        read.take_worker()?;
        read.rules(1_000_000)
    }

    #[test]
    fn rules_are_written_as_buildkitd_has_them() {
        let read = rules(
            "[[gcpolicy]]\nkeepDuration = \"48h\"\nmaxUsedSpace = \"50%\"\n\
             filters = [\"type==source.local,shared=false\", \"type==exec.cachemount\"]\n\
             [[gcpolicy]]\nall = true\nkeepDuration = 60\nreservedSpace = 7\nminFreeSpace = \"1KB\"\n",
        )
        .unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(
            read[0].filters.iter().map(Vec::len).collect::<Vec<_>>(),
            [2, 1]
        );
        assert_eq!(
            (read[0].keep_seconds, read[0].max_used),
            (Some(48 * 3_600), 500_000)
        );
        assert_eq!(
            (read[1].keep_seconds, read[1].reserved, read[1].min_free),
            (Some(60), 7, 1_024)
        );
        assert!(rules("gc = false").unwrap().is_empty());
        let limited = rules("maxUsedSpace = \"10%\"").unwrap();
        assert_eq!(limited.last().unwrap().max_used, 100_000);
        let usual = rules("").unwrap();
        assert_eq!(usual.len(), 3);
        assert_eq!((usual[2].reserved, usual[2].max_used), (100_000, 600_000));
    }

    #[test]
    fn rules_stand_where_buildkitd_toml_has_them_or_at_the_top() {
        for (header, policy) in [
            ("[worker.oci]\ngc = true\n", "[[worker.oci.gcpolicy]]\n"),
            ("[worker.containerd]\n", "[[worker.containerd.gcpolicy]]\n"),
            ("gc = true\n", "[[gcpolicy]]\n"),
        ] {
            let limits = "keepBytes = 512000\nkeepDuration = 172800\n";
            let read = rules(&format!("{header}{policy}{limits}")).unwrap();
            assert_eq!(read.len(), 1, "{header}");
            assert_eq!(read[0].reserved, 512_000, "{header}");
            assert_eq!(read[0].keep_seconds, Some(48 * 3_600), "{header}");
            let kept = rules(&format!("{header}gckeepstorage = \"10%\"\n")).unwrap();
            assert_eq!(kept[2].reserved, 100_000, "{header}");
        }
        assert!(rules("[worker.oci]\ngc = false\n").unwrap().is_empty());
        for text in [
            "gc = true\n[worker.oci]\ngc = true\n",
            "[worker.oci]\ngc = true\n[worker.containerd]\ngc = true\n",
            "[worker.oci]\ngcc = true\n",
            "[worker.runc]\ngc = true\n",
            "[[gcpolicy]]\nkeepBytes = 1\nreservedSpace = 2\n",
        ] {
            assert!(rules(text).is_err(), "{text}");
        }
    }

    #[test]
    fn registries_are_written_as_buildkitd_has_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("varve.toml");
        fs::write(
            &file,
            "registryTimeout = \"5s\"\nregistryAttempts = 1\n\
             [registry.\"r.example:5000\"]\nhttp = true\nca = [\"ca.pem\", \"/a.pem\"]\n",
        )
        .unwrap();
        let read = Configuration::read(Some(&file)).unwrap();
        let settings = &read.registry["r.example:5000"];
        assert_eq!(settings.http, Some(true));
        assert_eq!(settings.ca[0], directory.path().join("ca.pem"));
        assert_eq!(settings.ca[1], Path::new("/a.pem"));
        let limits = read.registry_limits();
        assert_eq!(limits.stall_timeout.as_secs(), 5);
        assert_eq!((limits.attempts_max, limits.connect_attempts_max), (1, 1));
        for text in ["registryAttempts = 0", "[registry.\"r\"]\nhtpp = true"] {
            fs::write(&file, text).unwrap();
            assert!(Configuration::read(Some(&file)).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "[[gcpolicy]]\nkeepDuration = \"soon\"",
            "[[gcpolicy]]\nfilters = [\"colour=red\"]",
            "[[gcpolicy]]\nmaxUsed = 1",
            "gc = 3",
        ] {
            assert!(rules(text).is_err(), "{text}");
        }
    }
}
