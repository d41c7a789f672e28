//! The kernel's mount table (proc_pid_mountinfo(5)), to find and end mounts that a killed process
//! left behind. It is read for the calling thread: `/proc/self/mountinfo` would show what the main
//! thread sees, which is something else after [`isolate_thread`](crate::isolate_thread).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::guard::{bury, detach};

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Unique while the mount exists.
    pub id: u64,
    /// Id of the mount that it stands on.
    pub parent: u64,
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Options of this mount.
    pub options: String,
    /// Type of the file system.
    pub kind: String,
    /// Device, image or label.
    pub source: OsString,
    /// Options of the file system.
    pub super_options: String,
}

/// Reads a mount table, in its order: a mount stands after those that it covers.
///
/// # Errors
/// A malformed line.
pub fn parse_mountinfo(table: &[u8]) -> Result<Vec<MountEntry>, Error> {
    let lines = table.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            parse_line(line).ok_or_else(|| Error::MountTable {
                line: index + 1,
                text: line.escape_ascii().to_string(),
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let _device = fields.next()?;
    let root = unescape(fields.next()?).into();
    let target = unescape(fields.next()?).into();
    let options = text(fields.next()?);
    // Optional fields, such as `shared:1`, end with a single hyphen.
    fields.by_ref().find(|field| *field == b"-")?;
    let kind = text(fields.next()?);
    let source = unescape(fields.next()?);
    // Some file systems of old kernels show no source, hence one field less.
    let super_options = fields.next().map(text).unwrap_or_default();
    Some(MountEntry {
        id,
        parent,
        root,
        target,
        options,
        kind,
        source,
        super_options,
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> String {
    unescape(field).to_string_lossy().into_owned()
}

/// Replaces `\040` and the like by the bytes that they stand for.
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = &tail[3..];
            }
            _ => plain.push(*byte),
        }
    }
    OsString::from_vec(plain)
}

/// The mounts at `directory` and below it, in the order of the mount table. A directory that does
/// not exist has none.
///
/// # Errors
/// The mount table cannot be read.
pub fn mounts_below(directory: &Path) -> Result<Vec<MountEntry>, Error> {
    let table = Path::new("/proc/thread-self/mountinfo");
    // The table shows paths without symbolic links.
    let Ok(directory) = std::fs::canonicalize(directory) else {
        return Ok(Vec::new());
    };
    let bytes = std::fs::read(table)
        .map_err(|error| Error::system("read the mount table", table, error))?;
    let mut entries = parse_mountinfo(&bytes)?;
    entries.retain(|entry| entry.target.starts_with(&directory));
    Ok(entries)
}

/// Unmounts everything at `directory` and below it, in the background where a file system is slow
/// to die or still in use, and tells how many mounts there were.
///
/// Meant for directories of which no process alive has mounts, e.g. after a crash.
///
/// # Errors
/// The mount table cannot be read; the first mount that could not be unmounted, after all others
/// were tried.
pub fn unmount_all_below(directory: &Path) -> Result<usize, Error> {
    let entries = mounts_below(directory)?;
    let mut result = Ok(());
    let mut mounts = Vec::with_capacity(entries.len());
    for entry in entries.iter().rev() {
        match detach(&entry.target) {
            Ok(mount) => mounts.extend(mount),
            Err(error) => result = result.and(Err(error)),
        }
    }
    bury(mounts);
    result.map(|()| entries.len())
}

#[cfg(test)]
mod tests {
    use super::{parse_mountinfo, unescape};
    use crate::error::Error;

    #[test]
    fn a_mount_table_is_read_with_and_without_optional_fields() {
        let table =
            b"36 35 98:0 /mnt1 /mnt2\\040x rw,noatime shared:1 master:2 - ext3 /dev/root rw\n\
            29 26 0:26 / /dev/pts rw - overlay over\\134lay ro,lowerdir=/a:/b\n";
        let entries = parse_mountinfo(table).expect("a good table");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].id, entries[0].parent), (36, 35));
        assert_eq!(entries[0].root.to_str(), Some("/mnt1"));
        assert_eq!(entries[0].target.to_str(), Some("/mnt2 x"));
        assert_eq!(entries[0].options, "rw,noatime");
        assert_eq!(
            (entries[0].kind.as_str(), entries[0].super_options.as_str()),
            ("ext3", "rw")
        );
        assert_eq!(entries[1].source, "over\\lay");
        assert_eq!(entries[1].super_options, "ro,lowerdir=/a:/b");
    }

    #[test]
    fn malformed_lines_are_refused_by_number() {
        for line in [
            "x",
            "1 2 3:4 / /a rw shared:1",
            "1 a 3:4 / /a rw - t s o",
            "1 2 3:4 /",
        ] {
            let table = format!("1 2 3:4 / / rw - t s o\n{line}\n");
            let result = parse_mountinfo(table.as_bytes());
            assert!(
                matches!(result, Err(Error::MountTable { line: 2, .. })),
                "{line}"
            );
        }
    }

    #[test]
    fn octal_escapes_become_bytes_and_nothing_else_changes() {
        let check = |field: &str, expect: &[u8]| {
            assert_eq!(unescape(field.as_bytes()).as_encoded_bytes(), expect);
        };
        check("plain", b"plain");
        check("a\\040b\\011c\\012d\\134e", b"a b\tc\nd\\e");
        check("\\377\\000", b"\xff\0");
        check("\\", b"\\");
        check("\\04", b"\\04");
        check("\\400\\089", b"\\400\\089");
    }
}
