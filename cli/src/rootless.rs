//! What a process may do here: root's rights, or those of root in a user namespace of an ordinary
//! user's own, or neither.
//!
//! An ordinary user's varve moves to a user namespace in which it is root, with the ids that
//! /etc/subuid and /etc/subgid give that user. From then on all other code goes as it does for
//! root; what is different there is found by trying ([`crate::host`]). Owners in trees and images
//! are those seen inside, so an image is the same as one that root builds.

mod subordinate;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mount::{IdMapping, MapWriter};

use crate::environment::Environment;
use subordinate::Account;

/// Where the programs that map ids are looked for beside PATH.
const PROGRAM_DIRECTORIES: &str = "/usr/bin:/usr/sbin:/bin:/sbin";

/// What this process may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Everything that root may.
    Root,
    /// It is root of a user namespace with this user's own and subordinate ids.
    Mapped {
        /// How many ids there are inside.
        ids: u32,
    },
    /// The same with a single id.
    SingleId {
        /// Why there are no others, and what to do.
        reason: String,
    },
    /// It cannot mount anything or start containers.
    Nothing {
        /// Why not, and what to do.
        reason: String,
    },
}

impl Standing {
    /// That of a process as it was started.
    pub(crate) fn at_start(environment: &Environment) -> Self {
        match environment.is_root() {
            true => Standing::Root,
            false => Standing::Nothing {
                reason: "an ordinary user's own rights do not go so far".to_owned(),
            },
        }
    }

    /// Whether file systems can be mounted.
    pub(crate) fn may_mount(&self) -> bool {
        !matches!(self, Standing::Nothing { .. })
    }

    /// Who this process is, in a few words.
    /// `is_root`: with whose rights it was started.
    pub(crate) fn describe(&self, is_root: bool) -> String {
        let who = match is_root {
            true => "root without CAP_SYS_ADMIN (bounding set of this container?)",
            false => "not root",
        };
        match self {
            Standing::Root => "root".to_owned(),
            Standing::Mapped { ids } => {
                format!("{who}; root of a user namespace with {ids} ids of its own")
            }
            Standing::SingleId { .. } => {
                format!("{who}; root of a user namespace with a single id")
            }
            Standing::Nothing { .. } => format!("{who}, and no user namespace"),
        }
    }

    /// What somebody has to know who runs containers.
    pub(crate) fn warning(&self) -> Option<String> {
        match self {
            Standing::SingleId { reason } => Some(format!(
                "WARNING: there is one user in containers, root, because {reason}. What changes \
                 owners or users fails; `varve doctor` tells more"
            )),
            _ => None,
        }
    }
}

/// Gets the rights that there are to be had, before the first thread starts: as root a mount
/// namespace, so that no mount outlives this process; else a user namespace too. Root of a
/// container without CAP_SYS_ADMIN is an ordinary user.
///
/// # Errors
/// As root, or inside the user namespace, the mount namespace cannot be made.
pub(crate) fn take_rights(environment: &Environment) -> anyhow::Result<Standing> {
    if environment.is_root() {
        match mount::enter_private_namespace() {
            Ok(()) => return Ok(Standing::Root),
            Err(error) if is_denied(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let standing = enter(environment);
    if standing.may_mount() {
        mount::enter_private_namespace()?;
    }
    Ok(standing)
}

fn is_denied(error: &mount::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error())
}

/// Moves to a user namespace if that is possible.
fn enter(environment: &Environment) -> Standing {
    let account = Account::of_this_process(environment);
    let wide = account
        .mapping()
        .and_then(|(mapping, ids)| Ok((mapping, ids, Programs::find(environment)?)));
    let reason = match wide {
        Ok((mapping, ids, programs)) => match programs.enter(&mapping) {
            Ok(()) => return Standing::Mapped { ids },
            Err(mount::Error::MapRefused { program, said }) => {
                refused(&program, &said, account.name())
            }
            Err(error) => {
                return Standing::Nothing {
                    reason: forbidden(&error),
                };
            }
        },
        Err(reason) => reason,
    };
    match mount::enter_user_namespace(&account.own_ids(), MapWriter::Kernel) {
        Ok(()) => Standing::SingleId { reason },
        Err(error) => Standing::Nothing {
            reason: forbidden(&error),
        },
    }
}

/// The programs that write a user's maps.
struct Programs {
    users: PathBuf,
    groups: PathBuf,
}

impl Programs {
    fn find(environment: &Environment) -> Result<Self, String> {
        let path = environment.get("PATH").unwrap_or_default();
        let directories = path.split(':').chain(PROGRAM_DIRECTORIES.split(':'));
        let directories: Vec<&Path> = directories
            .map(Path::new)
            .filter(|directory| directory.is_absolute())
            .collect();
        let find = |name: &str| {
            let mut candidates = directories.iter().map(|directory| directory.join(name));
            candidates.find(|path| path.is_file()).ok_or_else(|| {
                format!(
                    "{name} is not installed: install the package uidmap (Debian, Ubuntu) or \
                     shadow-utils (Fedora)"
                )
            })
        };
        Ok(Programs {
            users: find("newuidmap")?,
            groups: find("newgidmap")?,
        })
    }

    fn enter(&self, mapping: &IdMapping) -> Result<(), mount::Error> {
        let writer = MapWriter::Programs {
            users: &self.users,
            groups: &self.groups,
        };
        mount::enter_user_namespace(mapping, writer)
    }
}

/// Why a program did not map ids, as far as that can be told.
fn refused(program: &Path, said: &str, user: &str) -> String {
    let has_right = fs::metadata(program).is_ok_and(|found| {
        let is_set_uid = found.permissions().mode() & 0o4000 != 0 && found.uid() == 0;
        is_set_uid || has_capabilities(program)
    });
    let text = format!(
        "{} refused to map the ids of {user} ({said})",
        program.display()
    );
    match has_right {
        false => format!(
            "{text}: it is neither set-user-ID root nor has file capabilities: reinstall the \
             package uidmap"
        ),
        true if no_new_privileges() => format!(
            "{text}: this process may gain no privileges (no_new_privs, as in many containers)"
        ),
        true => format!("{text}: compare /etc/subuid and /etc/subgid"),
    }
}

fn has_capabilities(program: &Path) -> bool {
    let mut value = [0u8; 64];
    rustix::fs::getxattr(program, "security.capability", &mut value[..]).is_ok()
}

fn no_new_privileges() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .filter_map(|line| line.strip_prefix("NoNewPrivs:"))
        .any(|value| value.trim() == "1")
}

/// Why there are no user namespaces for this user, and what to do.
fn forbidden(error: &mount::Error) -> String {
    let setting = |name: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
        text.map(|text| text.trim().to_owned())
    };
    forbidden_by(error, &setting)
}

fn forbidden_by(error: &mount::Error, setting: &dyn Fn(&str) -> Option<String>) -> String {
    let is = |name: &str, value: &str| setting(name).as_deref() == Some(value);
    let by_setting = |name: &str, value: &str, wanted: &str| {
        format!(
            "user namespaces are forbidden to users here ({name} is {value}): sudo sysctl -w \
             {name}={wanted}"
        )
    };
    if is("user/max_user_namespaces", "0") {
        return by_setting("user.max_user_namespaces", "0", "15000");
    }
    if is("kernel/unprivileged_userns_clone", "0") {
        return by_setting("kernel.unprivileged_userns_clone", "0", "1");
    }
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        let name = "kernel.apparmor_restrict_unprivileged_userns";
        return by_setting(name, "1", "0") + ", or give varve an AppArmor profile with `userns,`";
    }
    let text = match error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error)
    {
        Some(rustix::io::Errno::NOSPC | rustix::io::Errno::USERS) => {
            "there are too many of them, or they are nested too deeply"
        }
        Some(rustix::io::Errno::INVAL) => "this kernel was built without them",
        Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
            "the container or security module around this process forbids them"
        }
        _ => return format!("no user namespace can be made: {error}"),
    };
    format!("no user namespace can be made: {text}")
}

/// Refuses a root directory of another user: what root has made no user can change, and what root
/// would put into a user's, that user could not change any more.
///
/// # Errors
/// Whose it is and what to do.
pub(crate) fn check_owner(root: &Path) -> anyhow::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let lock = fs::symlink_metadata(root.join(store::layout::LOCK));
    let found = match lock {
        Ok(found) => Some(found),
        // Whether there is one may not be for everybody to see.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            fs::symlink_metadata(root).ok()
        }
        Err(_) => None,
    };
    let owner = match found.map(|found| found.uid()) {
        Some(owner) if owner != own => owner,
        _ => return Ok(()),
    };
    let name = |id| subordinate::user_name(id).unwrap_or_else(|| format!("the user with id {id}"));
    anyhow::bail!(
        "{} belongs to {}, and this is {}: run varve as {}, or choose another --root",
        root.display(),
        name(owner),
        name(own),
        name(owner),
    )
}

/// Refuses a root directory whose files belong to ids that are others now: what varve keeps in
/// plain directories would belong to strangers. Both are maps of users and of groups.
///
/// # Errors
/// What the ids were, and what to do.
pub(crate) fn check_ids(
    earlier: &[String; 2],
    now: &[String; 2],
    standing: &Standing,
    root: &Path,
) -> anyhow::Result<()> {
    for (earlier, now) in earlier.iter().zip(now) {
        // Outside of user namespaces there are all, and nothing is changed that is not one's own.
        let (Some(earlier), Some(now)) = (mount::partial_ids(earlier), mount::partial_ids(now))
        else {
            continue;
        };
        let shown = |ids: &mount::IdRanges| {
            let lines: Vec<_> = ids.to_string().lines().map(ToOwned::to_owned).collect();
            lines.join(", ")
        };
        let why = match standing {
            Standing::SingleId { reason } => format!("; now there is one, because {reason}"),
            _ => String::new(),
        };
        anyhow::ensure!(
            now.keeps(&earlier),
            "the files of {} belong to ids that this user had and has no more: inside, outside, \
             count were {}, and are {}: give the user the earlier ids again (/etc/subuid, \
             /etc/subgid, the package uidmap), or choose another --root{why}",
            root.display(),
            shown(&earlier),
            shown(&now),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_is_named_with_the_command_that_allows() {
        let error = mount::enter_user_namespace(&IdMapping::default(), MapWriter::Kernel);
        let error = error.unwrap_err();
        for (name, value, expect) in [
            (
                "user/max_user_namespaces",
                "0",
                "sysctl -w user.max_user_namespaces=15000",
            ),
            (
                "kernel/unprivileged_userns_clone",
                "0",
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ] {
            let setting = |asked: &str| (asked == name).then(|| value.to_owned());
            let text = forbidden_by(&error, &setting);
            assert!(text.contains(expect), "{text}");
        }
        let text = forbidden_by(&error, &|_| None);
        assert!(
            text.starts_with("no user namespace can be made: "),
            "{text}"
        );
    }

    #[test]
    fn ids_may_be_added_and_not_taken_away() {
        let maps = |text: &str| [text.to_owned(), text.to_owned()];
        let (one, many) = (maps("0 1000 1\n"), maps("0 1000 1\n1 100000 65536\n"));
        let all = maps("0 0 4294967295\n");
        let root = Path::new("/root-of-store");
        for (earlier, now) in [(&one, &many), (&many, &many), (&all, &one), (&many, &all)] {
            check_ids(earlier, now, &Standing::Root, root).unwrap();
        }
        let standing = Standing::SingleId {
            reason: "newuidmap is not installed".to_owned(),
        };
        let refused = check_ids(&many, &one, &standing, root);
        let text = refused.unwrap_err().to_string();
        assert!(
            text.ends_with("because newuidmap is not installed"),
            "{text}"
        );
        assert!(
            text.contains("1 100000 65536") && text.contains("/root-of-store"),
            "{text}"
        );
    }

    #[test]
    fn ones_own_directory_is_no_other_users() {
        let directory = tempfile::tempdir().unwrap();
        check_owner(directory.path()).unwrap();
        check_owner(&directory.path().join("none")).unwrap();
    }
}
