//! Control groups: where a container's own group lies, and how it is emptied and removed.
//!
//! The runtimes create and join the group; this file finds the place for cgroup v1, hybrid and v2
//! alike, and cleans up whatever happened to the runtime. Limits are set by the runtimes.

mod controllers;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

/// Name of the group above all our containers. It stays when the last container is gone: another
/// process of varve may be about to use it.
const GROUP: &str = "varve";

/// Where every distribution mounts the hierarchies.
pub(crate) const MOUNT_ROOT: &str = "/sys/fs/cgroup";

/// The path of a group that nobody makes, for a container that gets none.
pub(crate) const NO_GROUP: &str = "/varve-without-group";

/// How long an emptied group may stay busy. The kernel finishes dying processes asynchronously;
/// microseconds are usual, a machine under load may take a second.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Age at which an empty group of another pid namespace counts as abandoned. A container joins its
/// group within a second of its making.
const FOREIGN_AGE: Duration = Duration::from_secs(60 * 60);

/// Depth of groups below a container's own that are looked into; its process cannot create any,
/// because it sees the hierarchy read-only.
const DEPTH_MAX: usize = 16;

/// How this host has mounted its control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Version 2 only.
    Unified,
    /// Version 1, with or without a version 2 hierarchy beside it (hybrid).
    Legacy,
    /// None that we may write to: containers stay in the group of this process.
    Unavailable,
}

/// The hierarchies of this host and our place in them.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    setup: Setup,
    mount_points: Vec<PathBuf>,
    /// The group of this process, when it is the same in every hierarchy; else the root.
    own: PathBuf,
}

impl Cgroups {
    /// A host without any.
    pub(crate) fn none() -> Self {
        Self {
            setup: Setup::Unavailable,
            mount_points: Vec::new(),
            own: "/".into(),
        }
    }

    /// Looks at the mounts of this process.
    pub(crate) fn detect() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::from_texts(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    pub(crate) fn from_texts(mountinfo: &str, cgroup: &str) -> Self {
        let mut mount_points: Vec<PathBuf> = Vec::new();
        let mut unified = false;
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let kind = right.split(' ').next().unwrap_or_default();
            let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            if !matches!(kind, "cgroup" | "cgroup2") || !point.starts_with(MOUNT_ROOT) {
                continue;
            }
            if point == Path::new(MOUNT_ROOT) {
                // Mounted over whatever was there before.
                unified = kind == "cgroup2";
                mount_points.clear();
            }
            if !mount_points.contains(&point) {
                mount_points.push(point);
            }
        }
        let setup = match (unified, mount_points.is_empty()) {
            (true, _) => Setup::Unified,
            (false, false) => Setup::Legacy,
            (false, true) => Setup::Unavailable,
        };
        let own = own_group(cgroup, setup == Setup::Unified);
        Self {
            setup,
            mount_points,
            own,
        }
    }

    /// None where only the host's root may set up groups as a container needs them: on version 1
    /// that a directory can be made says nothing, a user namespace makes no rules for devices.
    pub(crate) fn without_privileged(self) -> Self {
        match self.setup {
            Setup::Legacy => Self::none(),
            Setup::Unified | Setup::Unavailable => self,
        }
    }

    pub(crate) fn setup(&self) -> Setup {
        self.setup
    }

    /// The mount points, in the order in which they were mounted.
    #[cfg(feature = "embedded-runtime")]
    pub(crate) fn into_mount_points(self) -> Vec<PathBuf> {
        self.mount_points
    }

    /// The path of the container's group within each hierarchy, for `linux.cgroupsPath`.
    pub(crate) fn path_of(&self, id: &str) -> PathBuf {
        self.own.join(GROUP).join(id)
    }

    /// Every hierarchy and the directory of the group `path` in it.
    pub(crate) fn directories<'a>(
        &'a self,
        path: &'a Path,
    ) -> impl Iterator<Item = (&'a Path, PathBuf)> {
        self.mount_points
            .iter()
            .map(move |point| (point.as_path(), below(point, path)))
    }

    /// Makes the group in each v1 hierarchy, or the group above it in v2 (there the runtime makes
    /// the last one, because only then it hands controllers down).
    ///
    /// When this process may not, a warning is logged and the result says that containers stay
    /// where this process is.
    pub(crate) fn prepare(self, path: &Path) -> Self {
        let parent = path.parent().unwrap_or(path);
        let wanted = if self.setup == Setup::Unified {
            parent
        } else {
            path
        };
        let failed = self.directories(wanted).find_map(|(_, directory)| {
            std::fs::create_dir_all(&directory)
                .err()
                .map(|error| (directory, error))
        });
        match failed {
            None => self,
            Some((directory, error)) => {
                let place = directory.display();
                // An ordinary user rarely has a group that may be divided.
                match mount::own_ids() {
                    None => tracing::warn!(
                        "containers get no cgroup of their own: cannot create {place}: {error}"
                    ),
                    Some(_) => tracing::debug!(%place, %error, "no cgroup for containers"),
                }
                self.remove(path);
                Self {
                    setup: Setup::Unavailable,
                    mount_points: Vec::new(),
                    own: "/".into(),
                }
            }
        }
    }

    /// Removes the empty groups of containers whose varve is dead: one that is killed while it
    /// makes a container has nobody that cleans up after it.
    ///
    /// Nothing is killed, and a group that is in use cannot be removed. Whether a maker in another
    /// pid namespace is alive cannot be asked: its group goes when nobody has used it for long.
    pub(crate) fn remove_abandoned(&self) {
        let top = Path::new("/").join(GROUP);
        let own = self.own.join(GROUP);
        let places = [Some(&own), Some(&top).filter(|top| **top != own)];
        let places = places.into_iter().flatten();
        for (_, groups) in places.flat_map(|place| self.directories(place)) {
            let groups = std::fs::read_dir(groups).into_iter().flatten();
            for entry in groups.flatten() {
                let name = entry.file_name();
                let maker = name.to_str().and_then(maker_of);
                if maker.is_some_and(|maker| maker.has_abandoned(&entry.path())) {
                    // Not worth a word when it fails: somebody else may be as fast.
                    std::fs::remove_dir(entry.path()).ok();
                }
            }
        }
    }

    /// Kills what is left in the group `path`, waits until it is dead, and removes the group.
    pub(crate) fn remove(&self, path: &Path) {
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        for (_, directory) in self.directories(path) {
            while let Err(error) = remove_group(&directory, DEPTH_MAX) {
                let busy = error.kind() == io::ErrorKind::ResourceBusy;
                if !busy || Instant::now() >= deadline {
                    tracing::warn!("failed to remove cgroup {}: {error}", directory.display());
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// An id for the container with this number of this process: unique on the host, and says whose it
/// is after the process has died.
#[must_use]
pub fn container_id(number: u64) -> String {
    let namespace = pid_namespace();
    format!("{GROUP}-{}-{namespace:x}-{number}", std::process::id())
}

/// Who made a container: a process number means something in its pid namespace only.
#[derive(Debug, PartialEq, Eq)]
struct Maker {
    pid: Pid,
    namespace: u64,
}

impl Maker {
    /// Whether nobody will use its group any more.
    fn has_abandoned(&self, group: &Path) -> bool {
        if self.namespace == pid_namespace() {
            return !is_alive(self.pid);
        }
        let modified = std::fs::metadata(group).and_then(|group| group.modified());
        modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > FOREIGN_AGE))
    }
}

/// The maker of the container with this id, when [`container_id`] gave it.
fn maker_of(id: &str) -> Option<Maker> {
    let mut fields = id.strip_prefix(GROUP)?.strip_prefix('-')?.split('-');
    let (pid, namespace, number) = (fields.next()?, fields.next()?, fields.next()?);
    number.parse::<u64>().ok()?;
    let namespace = u64::from_str_radix(namespace, 16).ok()?;
    let pid = Pid::from_raw(pid.parse().ok()?)?;
    fields.next().is_none().then_some(Maker { pid, namespace })
}

/// The number of the pid namespace that this process is in; 0 without /proc.
fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

fn is_alive(pid: Pid) -> bool {
    !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH))
}

/// The group of this process out of proc_pid_cgroup(5) (`id:controllers:path` lines).
fn own_group(cgroup: &str, unified: bool) -> PathBuf {
    let mut own: Option<&str> = None;
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // Beside v1, the v2 line and named hierarchies say nothing about where limits come from.
        let counts = if unified {
            id == "0"
        } else {
            id != "0" && !controllers.contains('=')
        };
        if counts && own.is_some_and(|own| own != path) {
            return PathBuf::from("/");
        }
        if counts {
            own = Some(path);
        }
    }
    let own = own.unwrap_or("/");
    // A path outside of the namespace is shown with `..`: then only its root is ours to use.
    let outside = Path::new(own)
        .components()
        .any(|part| part == Component::ParentDir);
    PathBuf::from(if outside { "/" } else { own })
}

fn below(mount_point: &Path, path: &Path) -> PathBuf {
    mount_point.join(path.strip_prefix("/").unwrap_or(path))
}

/// One attempt at killing and removing a group and those below it; success if it is gone.
fn remove_group(directory: &Path, depth: usize) -> io::Result<()> {
    // Asked first because on a read-only mount removing something absent is not "not found".
    if !directory.exists() {
        return Ok(());
    }
    match std::fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(error) if depth == 0 => return Err(error),
        Err(_) => {}
    }
    // v2 kills a whole tree by one write; v1 has no such file, then process by process.
    if std::fs::write(directory.join("cgroup.kill"), "1").is_err() {
        kill_processes(&directory.join("cgroup.procs"));
    }
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path(), depth - 1)?;
        }
    }
    std::fs::remove_dir(directory)
}

fn kill_processes(procs: &Path) {
    let text = std::fs::read_to_string(procs).unwrap_or_default();
    for pid in text
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter_map(Pid::from_raw)
    {
        match rustix::process::kill_process(pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!("failed to kill process {pid:?} of a container: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(mountinfo: &str, cgroup: &str) -> (Setup, String, Vec<String>) {
        let found = Cgroups::from_texts(mountinfo, cgroup);
        let path = found.path_of("x");
        let directories = found.directories(&path).map(|(_, directory)| directory);
        let directories = directories.map(|path| path.display().to_string()).collect();
        (found.setup, path.display().to_string(), directories)
    }

    const V1: &str = "30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        34 30 0:29 / /mnt/elsewhere rw - cgroup2 cgroup2 rw\n";
    const V2: &str = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_hybrid_host_has_one_directory_per_hierarchy() {
        let (setup, path, directories) = detect(V1, "2:cpu:/\n1:memory:/\n0::/elsewhere\n");
        assert_eq!((setup, path.as_str()), (Setup::Legacy, "/varve/x"));
        let expect = ["cpu", "memory", "unified"].map(|h| format!("/sys/fs/cgroup/{h}/varve/x"));
        assert_eq!(directories, expect);
    }

    #[test]
    fn our_group_lies_below_our_own_if_that_is_the_same_everywhere() {
        assert_eq!(detect(V1, "2:cpu:/a\n1:memory:/a\n0::/\n").1, "/a/varve/x");
        assert_eq!(detect(V1, "2:cpu:/a\n1:memory:/b\n").1, "/varve/x");
        assert_eq!(detect(V2, "0::/a/b\n").1, "/a/b/varve/x");
        assert_eq!(detect(V2, "0::/../b\n").1, "/varve/x");
    }

    #[test]
    fn version_two_may_be_mounted_over_version_one() {
        let (setup, _, directories) = detect(&format!("{V1}{V2}"), "0::/\n");
        assert_eq!((setup, directories.len()), (Setup::Unified, 1));
        assert_eq!(detect("", "").0, Setup::Unavailable);
    }

    #[test]
    fn an_id_names_the_process_that_made_the_container() {
        let own = maker_of(&container_id(7)).unwrap();
        assert_eq!(own.pid, rustix::process::getpid());
        for other in [
            "varve",
            "varve-1",
            "varve-1-2",
            "varve-1-x-1",
            "varve-0-1-1",
            "varve-1-1-1-1",
            "docker-1-1-1",
        ] {
            assert_eq!(maker_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_fresh_group_of_another_pid_namespace_is_not_abandoned() {
        let group = tempfile::tempdir().unwrap();
        // No process has this number: PID_MAX_LIMIT is 4194304.
        let gone = Pid::from_raw(i32::MAX).unwrap();
        let maker = |namespace| Maker {
            pid: gone,
            namespace,
        };
        assert!(maker(pid_namespace()).has_abandoned(group.path()));
        assert!(!maker(pid_namespace() + 1).has_abandoned(group.path()));
        let long_ago = std::time::SystemTime::now() - 2 * FOREIGN_AGE;
        let directory = std::fs::File::open(group.path()).unwrap();
        directory.set_modified(long_ago).unwrap();
        assert!(maker(pid_namespace() + 1).has_abandoned(group.path()));
        let own = container_id(1);
        assert!(!maker_of(&own).unwrap().has_abandoned(group.path()));
    }

    #[test]
    fn a_group_that_is_gone_already_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        remove_group(&directory.path().join("none"), 1).unwrap();
    }
}
