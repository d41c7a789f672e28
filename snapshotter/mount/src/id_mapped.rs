//! Mounts that show other owners than the file system has: mount_setattr(2), Linux 5.12; of EROFS
//! since 5.19.
#![expect(unsafe_code, reason = "no safe wrapper has fork and mount_setattr")]

use std::fmt;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::str::FromStr;

use nix::sched::CloneFlags;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::error::Error;
use crate::guard::MountGuard;

/// The kernel takes this many ranges of a user namespace.
const RANGES_MAX: usize = 340;

/// Ids of a container, and what stands for them outside: those of a file system, and what is shown
/// in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdRange {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many there are.
    pub length: u32,
}

/// Ranges that do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdRanges(Vec<IdRange>);

impl IdRanges {
    /// The id outside that stands for one inside.
    #[must_use]
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = inside.checked_sub(range.inside)?;
            (offset < range.length).then(|| range.outside + offset)
        })
    }

    /// Whether every id of `earlier` still stands for the same.
    #[must_use]
    pub fn keeps(&self, earlier: &IdRanges) -> bool {
        earlier.0.iter().all(|range| {
            let mut done = 0;
            while done < range.length {
                let inside = range.inside + done;
                let now = self.0.iter().find(|now| {
                    inside
                        .checked_sub(now.inside)
                        .is_some_and(|offset| offset < now.length)
                });
                match now {
                    Some(now) if now.outside + (inside - now.inside) == range.outside + done => {
                        done += now.length - (inside - now.inside);
                    }
                    _ => return false,
                }
            }
            true
        })
    }
}

/// As runc and containerd write it: `INSIDE:OUTSIDE:LENGTH`, several separated by commas.
impl FromStr for IdRanges {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = |text: &str| {
            let mut numbers = text.split(':').map(|number| number.trim().parse::<u32>());
            let mut next = || numbers.next()?.ok();
            let range = IdRange {
                inside: next()?,
                outside: next()?,
                length: next()?,
            };
            let fits = |first: u32| first.checked_add(range.length).is_some();
            let is_sound = range.length > 0 && fits(range.inside) && fits(range.outside);
            (is_sound && numbers.next().is_none()).then_some(range)
        };
        let ranges: Option<Vec<IdRange>> = text.split(',').map(range).collect();
        let ranges = ranges.ok_or("expected CONTAINER:HOST:LENGTH")?;
        if ranges.len() > RANGES_MAX {
            return Err("more ranges than the kernel takes");
        }
        let overlap = |(place, range): (usize, &IdRange)| {
            let starts =
                |first: u32, other: u32, length: u32| first >= other && first - other < length;
            ranges.iter().enumerate().any(|(other_place, other)| {
                other_place != place
                    && (starts(range.inside, other.inside, other.length)
                        || starts(range.outside, other.outside, other.length))
            })
        };
        match ranges.iter().enumerate().any(overlap) {
            true => Err("the ranges overlap"),
            false => Ok(IdRanges(ranges)),
        }
    }
}

/// The form of `/proc/<pid>/uid_map`.
impl fmt::Display for IdRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|range| {
            let IdRange {
                inside,
                outside,
                length,
            } = range;
            writeln!(f, "{inside} {outside} {length}")
        })
    }
}

/// Who owns what, inside and outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdMapping {
    /// User ids.
    pub users: IdRanges,
    /// Group ids.
    pub groups: IdRanges,
}

/// Mounts what is at `source` at the directory `target` once more, with owners that are mapped:
/// what belongs to an id inside is shown as one outside, and what belongs to none of them as
/// nobody's (65534).
///
/// # Errors
/// EINVAL if the file system cannot do it, EPERM without privilege.
pub fn mount_id_mapped(
    source: &Path,
    target: &Path,
    mapping: &IdMapping,
) -> Result<MountGuard, Error> {
    let failed = |operation: &'static str, path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| Error::system(operation, &path, error)
    };
    let namespace = user_namespace(mapping).map_err(failed("make a user namespace for", source))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = rustix::mount::open_tree(rustix::fs::CWD, source, flags)
        .map_err(|errno| Error::system("clone the mount", source, errno))?;
    set_id_mapping(clone.as_fd(), namespace.as_fd())
        .map_err(failed("map the owners of", source))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&clone, "", rustix::fs::CWD, target, flags)
        .map_err(|errno| Error::system("mount with mapped owners at", target, errno))?;
    Ok(MountGuard::new(target.into()))
}

fn set_id_mapping(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd().cast_unsigned().into(),
    };
    // SAFETY: the descriptors are open, the path is a string that ends with NUL, and the structure
    // has the size that is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A user namespace with these ids, which lives as long as the file. Only a process can make one: a
/// child that does nothing else.
fn user_namespace(mapping: &IdMapping) -> io::Result<File> {
    let (ready, tell_ready) = io::pipe()?;
    let (end, tell_end) = io::pipe()?;
    // SAFETY: until it ends the child only makes system calls and allocates nothing.
    match unsafe { nix::unistd::fork()? } {
        ForkResult::Child => {
            drop((ready, tell_end));
            let made = nix::sched::unshare(CloneFlags::CLONE_NEWUSER).is_ok();
            let told = nix::unistd::write(&tell_ready, &[u8::from(made)]);
            if told.is_ok() {
                // Until the parent is done or dead.
                nix::unistd::read(&end, &mut [0]).ok();
            }
            // SAFETY: ends the process and runs nothing of the parent's.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop((tell_ready, end));
            let namespace = mapped_namespace(child, ready, mapping);
            drop(tell_end);
            waitpid(child, None)?;
            namespace
        }
    }
}

fn mapped_namespace(child: Pid, mut ready: PipeReader, mapping: &IdMapping) -> io::Result<File> {
    let mut made = [0];
    ready.read_exact(&mut made)?;
    if made != [1] {
        // The number that the child saw is lost; what it can be is known.
        return Err(io::Error::other(
            "no user namespace: see /proc/sys/user/max_user_namespaces",
        ));
    }
    let maps = [("uid_map", &mapping.users), ("gid_map", &mapping.groups)];
    for (name, ranges) in maps {
        // All of it in one call, as the kernel wants it.
        let mut file = File::options()
            .write(true)
            .open(format!("/proc/{child}/{name}"))?;
        file.write_all(ranges.to_string().as_bytes())?;
    }
    fs::File::open(format!("/proc/{child}/ns/user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_ids_keep_what_was_and_other_ids_do_not() {
        let ranges = |text: &str| text.parse::<IdRanges>().unwrap();
        let earlier = ranges("0:1000:1,1:100000:100");
        for (now, keeps) in [
            ("0:1000:1,1:100000:100", true),
            ("0:1000:1,1:100000:50,51:100050:60", true),
            ("0:1000:1,1:100000:50,51:100051:60", false),
            ("0:1000:1,1:100000:99", false),
            ("0:1000:1", false),
            ("0:1001:1,1:100000:100", false),
        ] {
            assert_eq!(ranges(now).keeps(&earlier), keeps, "{now}");
        }
        assert!(earlier.keeps(&IdRanges::default()));
    }

    #[test]
    fn ranges_are_read_and_map_what_is_in_them() {
        let ranges: IdRanges = "0:1000:10,20:5000:5".parse().unwrap();
        let mapped = [0, 9, 10, 20, 24, 25].map(|id| ranges.outside(id));
        let expected = [Some(1000), Some(1009), None, Some(5000), Some(5004), None];
        assert_eq!(mapped, expected);
        assert_eq!(ranges.to_string(), "0 1000 10\n20 5000 5\n");
    }

    #[test]
    fn what_are_no_ranges_is_refused() {
        for text in [
            "",
            "0",
            "0:1",
            "0:1:2:3",
            "0:1:0",
            "-1:0:1",
            "0:4294967295:2",
            "0:0:10,5:100:10",
            "0:0:10,100:5:10",
            "a:b:c",
        ] {
            assert!(text.parse::<IdRanges>().is_err(), "{text}");
        }
        let many = vec!["0:0:1"; RANGES_MAX + 1].join(",");
        assert!(many.parse::<IdRanges>().is_err());
    }

    mod privileged {
        use std::os::unix::fs::{MetadataExt, chown};

        use super::*;

        #[test]
        fn owners_are_shown_as_mapped_and_the_rest_as_nobody() {
            let directory = tempfile::tempdir_in("/var/tmp").unwrap();
            let (source, target) = (directory.path().join("a"), directory.path().join("b"));
            fs::create_dir(&source).unwrap();
            fs::create_dir(&target).unwrap();
            for (name, owner) in [("root", 0), ("user", 7), ("other", 70_000)] {
                fs::write(source.join(name), name).unwrap();
                chown(source.join(name), Some(owner), Some(owner)).unwrap();
            }
            let mapping = IdMapping {
                users: "0:100000:65536".parse().unwrap(),
                groups: "0:200000:65536".parse().unwrap(),
            };
            let guard = mount_id_mapped(&source, &target, &mapping).unwrap();
            let owner = |name: &str| {
                let found = fs::metadata(target.join(name)).unwrap();
                (found.uid(), found.gid())
            };
            assert_eq!(owner("root"), (100_000, 200_000));
            assert_eq!(owner("user"), (100_007, 200_007));
            assert_eq!(owner("other"), (65_534, 65_534));
            assert_eq!(fs::read(target.join("user")).unwrap(), b"user");
            guard.unmount().unwrap();
        }
    }
}
