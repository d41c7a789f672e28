//! Which controllers the group of a container can have: what limits need.

use std::path::{Path, PathBuf};

use super::{Cgroups, MOUNT_ROOT, Setup, below};

impl Cgroups {
    /// The first of these controllers that the group `path` cannot have. On version 2 they are
    /// handed down from group to group, and this is where that is done.
    pub(crate) fn lacks<'n>(&self, path: &Path, controllers: &[&'n str]) -> Option<&'n str> {
        let has = |name: &str| match self.setup {
            Setup::Unavailable => false,
            Setup::Legacy => self.hierarchy(name).is_some(),
            Setup::Unified => {
                let parent = path.parent().unwrap_or(path);
                hand_down(Path::new(MOUNT_ROOT), parent, name);
                has_enabled(&below(Path::new(MOUNT_ROOT), parent), name)
            }
        };
        controllers.iter().find(|name| !has(name)).copied()
    }

    /// The same hierarchies with the groups of containers at the top. On version 2 a group with
    /// processes, as that of a login is, has no controllers for groups below it; the topmost has.
    pub(crate) fn at_top(&self) -> Option<Self> {
        let is_below = self.setup == Setup::Unified && self.own != Path::new("/");
        is_below.then(|| Cgroups {
            own: PathBuf::from("/"),
            ..self.clone()
        })
    }

    /// Whether swap can be limited.
    pub(crate) fn counts_swap(&self) -> bool {
        match self.setup {
            Setup::Unavailable => false,
            Setup::Unified => Path::new("/proc/swaps").exists(),
            Setup::Legacy => self
                .hierarchy("memory")
                .is_some_and(|place| place.join("memory.memsw.limit_in_bytes").exists()),
        }
    }

    /// Where a controller of version 1 is mounted, perhaps together with others.
    fn hierarchy(&self, controller: &str) -> Option<&PathBuf> {
        self.mount_points.iter().find(|point| {
            let name = point.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.split(',').any(|one| one == controller))
        })
    }
}

/// Enables a controller in every group from `root` to the group `path`, as far as that goes.
fn hand_down(root: &Path, path: &Path, controller: &str) {
    let groups: Vec<_> = path.ancestors().map(|group| below(root, group)).collect();
    for group in groups
        .iter()
        .rev()
        .filter(|group| !has_enabled(group, controller))
    {
        let enabled = std::fs::write(
            group.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
        if let Err(error) = enabled {
            tracing::debug!(group = %group.display(), controller, %error, "not handed down");
        }
    }
}

/// Whether groups below this one have a controller.
fn has_enabled(group: &Path, controller: &str) -> bool {
    let enabled = std::fs::read_to_string(group.join("cgroup.subtree_control"));
    let enabled = enabled.unwrap_or_default();
    enabled.split_whitespace().any(|name| name == controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_handed_down_where_it_is_not_enabled() {
        let root = tempfile::tempdir().unwrap();
        let control = |group: &str| root.path().join(group).join("cgroup.subtree_control");
        std::fs::create_dir_all(root.path().join("a/varve")).unwrap();
        for (group, enabled) in [("", "cpu memory\n"), ("a", "cpu\n"), ("a/varve", "")] {
            std::fs::write(control(group), enabled).unwrap();
        }
        hand_down(root.path(), Path::new("/a/varve"), "memory");
        let read = |group: &str| std::fs::read_to_string(control(group)).unwrap();
        assert_eq!(read(""), "cpu memory\n");
        // The kernel would add it to what is there.
        assert_eq!(
            (read("a").as_str(), read("a/varve").as_str()),
            ("+memory", "+memory")
        );
        assert!(has_enabled(root.path(), "cpu") && !has_enabled(root.path(), "cp"));
        assert!(!has_enabled(&root.path().join("none"), "cpu"));
    }

    #[test]
    fn the_hierarchy_of_a_controller_may_be_that_of_others_too() {
        let mounts = "30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let found = Cgroups::from_texts(mounts, "1:cpu,cpuacct:/\n");
        let path = found.path_of("x");
        assert_eq!(found.lacks(&path, &["cpu"]), None);
        assert_eq!(found.lacks(&path, &["cpu", "memory"]), Some("memory"));
        assert_eq!(Cgroups::none().lacks(&path, &["cpu"]), Some("cpu"));
        assert!(found.at_top().is_none());
        let unified = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let top = Cgroups::from_texts(unified, "0::/user/session\n")
            .at_top()
            .unwrap();
        assert_eq!(top.path_of("x"), Path::new("/varve/x"));
        assert!(Cgroups::from_texts(unified, "0::/\n").at_top().is_none());
    }
}
