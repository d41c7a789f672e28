//! Carries operations out.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, RenameFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::place::{Place, set_times};
use super::{AttributeChange, ContentChange, Made, Operation, is_directory, paths};
use crate::capture::read_xattrs;

/// A valid `security.capability` (version 2, CAP_NET_BIND_SERVICE).
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

type Outcome = Result<(), Errno>;

/// Carries out an operation. `number` makes the times, which the clock would make different.
pub(in super::super) fn perform(
    operation: &Operation,
    number: i64,
    place: &mut dyn Place,
) -> Outcome {
    let root = place.root().to_owned();
    let parent = |path: &Path| path.parent().unwrap_or(path).to_owned();
    let touched: Vec<PathBuf> = match operation {
        Operation::Content(path, change) => {
            let is_new = fs::symlink_metadata(root.join(path)).is_err();
            change_content(path, change, place)?;
            [path.clone()]
                .into_iter()
                .chain(is_new.then(|| parent(path)))
                .collect()
        }
        Operation::Make(path, made) => {
            make(&root.join(path), made)?;
            vec![path.clone(), parent(path)]
        }
        Operation::Attributes(path, change) => {
            change_attributes(path, change, place)?;
            matches!(change, AttributeChange::Time)
                .then(|| path.clone())
                .into_iter()
                .collect()
        }
        Operation::Remove(path) => {
            remove(&root.join(path))?;
            vec![parent(path)]
        }
        Operation::Replace(path) => {
            let (full, was_directory) = (root.join(path), is_directory(&root, path));
            remove(&full)?;
            match (was_directory, number % 3) {
                (true, 0) => fs::write(full, "a").unwrap(),
                (true, _) | (false, 0) => fs::create_dir(full).unwrap(),
                _ => std::os::unix::fs::symlink("new", full).unwrap(),
            }
            vec![path.clone(), parent(path)]
        }
        Operation::Rename { from, to, exchange } => {
            rename(from, to, *exchange, place)?;
            vec![parent(from), parent(to)]
        }
        Operation::Link { from, to } => {
            link(from, to, place)?;
            vec![parent(to)]
        }
    };
    let time = Timespec {
        tv_sec: 1_000_000 + number,
        tv_nsec: 123_456_789 + number,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    touched
        .iter()
        .for_each(|path| set_times(&root.join(path), &times));
    Ok(())
}

fn io(result: std::io::Result<()>) -> Outcome {
    result.map_err(|error| Errno::from_io_error(&error).expect("an error of the kernel"))
}

fn exists(path: &Path) -> Outcome {
    fs::symlink_metadata(path)
        .map(drop)
        .map_err(|_| Errno::NOENT)
}

fn change_content(path: &Path, change: &ContentChange, place: &mut dyn Place) -> Outcome {
    let full = place.root().join(path);
    match fs::symlink_metadata(&full) {
        // Opening a FIFO would wait, and a link leads anywhere.
        Ok(found) if !found.is_file() => return Err(Errno::INVAL),
        Err(_) if !matches!(change, ContentChange::Write(_)) => return Err(Errno::NOENT),
        _ => {}
    }
    place.before_copy_up(path);
    match change {
        ContentChange::Write(content) => io(fs::write(full, content)),
        ContentChange::Append(content) => {
            let mut file = fs::File::options().append(true).open(full).unwrap();
            io(file.write_all(content))
        }
        ContentChange::Rewrite => {
            let content = fs::read(&full).unwrap();
            io(fs::write(full, content))
        }
        ContentChange::Truncate(size) => {
            let file = fs::File::options().write(true).open(full).unwrap();
            io(file.set_len(*size))
        }
    }
}

fn make(path: &Path, made: &Made) -> Outcome {
    match made {
        Made::Directory => io(fs::create_dir(path)),
        Made::Symlink(target) => io(std::os::unix::fs::symlink(target, path)),
        Made::Node { kind, major, minor } => {
            let device = rustix::fs::makedev(*major, *minor);
            rustix::fs::mknodat(CWD, path, *kind, Mode::from_raw_mode(0o640), device)
        }
    }
}

fn change_attributes(path: &Path, change: &AttributeChange, place: &mut dyn Place) -> Outcome {
    let root = place.root().to_owned();
    let full = root.join(path);
    exists(&full)?;
    match change {
        AttributeChange::Mode { mode, recursive } => {
            for path in selected(&root, path, *recursive) {
                let full = root.join(&path);
                if !fs::symlink_metadata(&full).unwrap().is_symlink() {
                    place.before_copy_up(&path);
                    rustix::fs::chmod(full, Mode::from_raw_mode(*mode))?;
                }
            }
            Ok(())
        }
        AttributeChange::Owner {
            uid,
            gid,
            recursive,
        } => {
            for path in selected(&root, path, *recursive) {
                place.before_copy_up(&path);
                let (uid, gid) = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(CWD, root.join(&path), uid, gid, flags)?;
            }
            Ok(())
        }
        AttributeChange::SetXattr(name, value) => {
            let found = fs::symlink_metadata(&full).unwrap();
            let capability = *name == "security.capability";
            if !(found.is_file() || found.is_dir() && !capability) {
                return Err(Errno::PERM);
            }
            place.before_copy_up(path);
            let value = if capability { CAPABILITY } else { value };
            rustix::fs::lsetxattr(full, *name, value, XattrFlags::empty())
        }
        AttributeChange::RemoveXattr(name) => {
            let present = read_xattrs(&full).unwrap();
            if !present.iter().any(|(found, _)| found == name.as_bytes()) {
                return Err(Errno::NODATA);
            }
            place.before_copy_up(path);
            rustix::fs::lremovexattr(full, *name)
        }
        AttributeChange::Time => {
            place.before_copy_up(path);
            Ok(())
        }
    }
}

fn rename(from: &Path, to: &Path, exchange: bool, place: &mut dyn Place) -> Outcome {
    let root = place.root().to_owned();
    let (full_from, full_to) = (root.join(from), root.join(to));
    // What is refused before overlayfs hears of it copies nothing up.
    let refused = from.starts_with(to)
        || to.starts_with(from)
        || exists(&full_from).is_err()
        || exchange && exists(&full_to).is_err()
        || !exchange && is_directory(&root, to);
    if !refused {
        place.before_copy_up(from);
        if exchange {
            place.before_copy_up(to);
        }
    }
    let flags = if exchange {
        RenameFlags::EXCHANGE
    } else {
        RenameFlags::empty()
    };
    rustix::fs::renameat_with(CWD, full_from, CWD, full_to, flags)
}

fn link(from: &Path, to: &Path, place: &mut dyn Place) -> Outcome {
    let (full_from, full_to) = (place.root().join(from), place.root().join(to));
    exists(&full_from)?;
    if full_from.is_dir() && !full_from.is_symlink() || exists(&full_to).is_ok() {
        return Err(Errno::EXIST);
    }
    place.before_copy_up(from);
    rustix::fs::linkat(CWD, full_from, CWD, full_to, AtFlags::empty())
}

/// The path, or with everything below it.
fn selected(root: &Path, path: &Path, recursive: bool) -> Vec<PathBuf> {
    let mut selected = vec![path.to_owned()];
    if recursive && is_directory(root, path) {
        selected.extend(
            paths(&root.join(path))
                .into_iter()
                .map(|below| path.join(below)),
        );
    }
    selected
}

fn remove(path: &Path) -> Outcome {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => io(fs::remove_dir_all(path)),
        Ok(_) => io(fs::remove_file(path)),
        Err(error) => io(Err(error)),
    }
}
