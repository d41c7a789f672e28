//! User namespaces: where an ordinary user has root's rights over what is its own
//! (user_namespaces(7)).
//!
//! A process of its own makes the namespace and waits there until others have written the maps;
//! only then this process moves in. So whatever fails leaves this process as it was.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::error::Error;
use crate::fork::{Forked, fork_process};
use crate::id_mapped::{IdMapping, IdRanges};

/// Who writes the maps.
#[derive(Clone, Copy, Debug)]
pub enum MapWriter<'a> {
    /// These programs, which may give a user the ranges of /etc/subuid and /etc/subgid
    /// (newuidmap(1), newgidmap(1)).
    Programs {
        /// `newuidmap`.
        users: &'a Path,
        /// `newgidmap`.
        groups: &'a Path,
    },
    /// This process. The kernel lets it map a single id, its own, and nobody in the namespace may
    /// change supplementary groups.
    Kernel,
}

/// Moves this process to a new user namespace with these maps, in which it is privileged.
///
/// # Errors
/// Several threads are running; this host or the surrounding container forbids user namespaces; the
/// ids are not this user's to map. This process is as it was then.
pub fn enter_user_namespace(mapping: &IdMapping, writer: MapWriter<'_>) -> Result<(), Error> {
    let own = Path::new("/proc/self/ns/user");
    let failed = |operation: &'static str| move |error| Error::system(operation, own, error);
    let (told, tell) = io::pipe().map_err(failed("make a pipe for"))?;
    let (may_end, let_end) = io::pipe().map_err(failed("make a pipe for"))?;
    match fork_process()? {
        Forked::Child => {
            drop((told, let_end));
            hold(tell, may_end)
        }
        Forked::Parent(holder) => {
            drop((tell, may_end));
            let entered = enter(holder, told, mapping, writer);
            drop(let_end);
            // It ends by itself; whoever reaps it otherwise does no harm.
            waitpid(Pid::from_raw(holder.cast_signed()), None).ok();
            entered
        }
    }
}

/// Makes the namespace, tells how that went, and stays in it until the other end is closed.
fn hold(mut tell: PipeWriter, mut may_end: PipeReader) -> ! {
    // Some hosts give a namespace without any rights in it (AppArmor on Ubuntu).
    let made = unshare(CloneFlags::CLONE_NEWUSER).and_then(|()| unshare(CloneFlags::CLONE_NEWNS));
    let errno = made.err().map_or(0, |errno| errno as i32);
    let told = tell.write_all(&errno.to_ne_bytes());
    let waited = told.and_then(|()| may_end.read(&mut [0]));
    std::process::exit(i32::from(waited.is_err()));
}

fn enter(
    holder: u32,
    mut told: PipeReader,
    mapping: &IdMapping,
    writer: MapWriter<'_>,
) -> Result<(), Error> {
    let process = Path::new("/proc").join(holder.to_string());
    let failed = |error: io::Error| Error::system("make a user namespace for", &process, error);
    let mut errno = [0; 4];
    told.read_exact(&mut errno).map_err(failed)?;
    match i32::from_ne_bytes(errno) {
        0 => {}
        errno => return Err(failed(io::Error::from_raw_os_error(errno))),
    }
    match writer {
        MapWriter::Programs { users, groups } => {
            run_writer(users, holder, &mapping.users)?;
            run_writer(groups, holder, &mapping.groups)?;
        }
        MapWriter::Kernel => {
            // Before the groups' map: the kernel wants it so.
            write(&process.join("setgroups"), "deny")?;
            write(&process.join("uid_map"), &mapping.users.to_string())?;
            write(&process.join("gid_map"), &mapping.groups.to_string())?;
        }
    }
    let path = process.join("ns/user");
    let namespace = fs::File::open(&path).map_err(|error| Error::system("open", &path, error))?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| Error::system("enter the user namespace", &path, errno))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    // One call: the kernel takes a map once, whole.
    fs::write(path, text).map_err(|error| Error::system("write", path, error))
}

/// `newuidmap PID INSIDE OUTSIDE LENGTH …`
fn run_writer(program: &Path, holder: u32, ranges: &IdRanges) -> Result<(), Error> {
    let text = ranges.to_string();
    let output = Command::new(program)
        .arg(holder.to_string())
        .args(text.split_whitespace())
        .env_clear()
        .output()
        .map_err(|error| Error::system("run", program, error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::MapRefused {
        program: program.into(),
        said: match said.trim() {
            "" => output.status.to_string(),
            said => said.lines().collect::<Vec<_>>().join(", "),
        },
    })
}

/// The ids that there are for this process; `None` in the machine's first user namespace, which has
/// all.
#[must_use]
pub fn own_ids() -> Option<IdMapping> {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/self").join(name));
    let (users, groups) = (read("uid_map").ok()?, read("gid_map").ok()?);
    if is_whole(&users) && is_whole(&groups) {
        return None;
    }
    Some(IdMapping {
        users: parse_map(&users),
        groups: parse_map(&groups),
    })
}

/// A map in the form of `/proc/<pid>/uid_map`; `None` for that of the first user namespace, which
/// has all.
#[must_use]
pub fn partial_ids(map: &str) -> Option<IdRanges> {
    (!is_whole(map)).then(|| parse_map(map))
}

/// Whether a process here may change its supplementary groups, if it is privileged.
#[must_use]
pub fn may_set_groups() -> bool {
    fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow")
}

/// Whether a map is that of the first namespace: every id stands for itself.
fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// A map in the kernel's form. One that is empty, because nobody has written it yet, has no ids.
fn parse_map(map: &str) -> IdRanges {
    let lines = map.lines().map(|line| {
        let numbers: Vec<&str> = line.split_whitespace().collect();
        numbers.join(":")
    });
    lines
        .collect::<Vec<_>>()
        .join(",")
        .parse()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_namespace_is_known_by_its_map() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("0 1000 1\n"));
        assert!(!is_whole("0 1000 1\n1 100000 65536\n"));
        assert!(!is_whole("0 0 65536\n"));
        let ids = parse_map("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(ids, "0:1000:1,1:100000:65536".parse().unwrap());
        assert_eq!(ids.outside(65536), Some(165_535));
        assert_eq!(ids.outside(65537), None);
        assert_eq!(parse_map("").outside(0), None);
    }

    #[test]
    fn a_process_with_threads_stays_where_it_is() {
        let mapping = IdMapping::default();
        let refused = enter_user_namespace(&mapping, MapWriter::Kernel).unwrap_err();
        assert!(matches!(refused, Error::ThreadsRunning { .. }), "{refused}");
    }

    #[test]
    fn what_a_program_says_is_told() {
        let ranges = "0:1000:1".parse().unwrap();
        let refused = run_writer(Path::new("/bin/false"), 1, &ranges).unwrap_err();
        assert!(refused.to_string().contains("/bin/false"), "{refused}");
        assert!(refused.to_string().contains("exit status: 1"), "{refused}");
    }
}
