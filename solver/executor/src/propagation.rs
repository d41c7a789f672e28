//! Whether mounts that are made later come into a directory, by proc_pid_mountinfo(5).

use std::path::Path;

/// Whether the mount that a path is on gets those of others: it is shared, or a slave.
pub(crate) fn is_propagated(mountinfo: &str, path: &Path) -> bool {
    let mut best: Option<(usize, bool)> = None;
    for line in mountinfo.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(point) = fields.get(4) else {
            continue;
        };
        let point = point.replace("\\040", " ");
        let depth = Path::new(&point).components().count();
        // Of several at one place the last one is seen.
        if path.starts_with(&point) && best.is_none_or(|(known, _)| depth >= known) {
            let optional = fields[5..].iter().take_while(|field| **field != "-");
            let is = |field: &&str| field.starts_with("shared:") || field.starts_with("master:");
            best = Some((depth, optional.into_iter().any(is)));
        }
    }
    best.is_some_and(|(_, is_propagated)| is_propagated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_nearest_to_a_path_decides() {
        let mounts = "1 0 0:1 / / rw - ext4 a rw\n\
                      2 1 0:2 / /s rw shared:1 - tmpfs b rw\n\
                      3 2 0:3 / /s/private rw - tmpfs c rw\n\
                      4 1 0:4 / /a\\040b rw,nosuid master:7 propagate_from:1 - tmpfs d rw\n\
                      5 1 0:5 / /twice rw shared:9 - tmpfs e rw\n\
                      6 5 0:6 / /twice rw - tmpfs f rw\n";
        for (path, expected) in [
            ("/x", false),
            ("/s", true),
            ("/s/below", true),
            ("/sx", false),
            ("/s/private/x", false),
            ("/a b/c", true),
            ("/twice", false),
        ] {
            assert_eq!(is_propagated(mounts, Path::new(path)), expected, "{path}");
        }
        assert!(!is_propagated("", Path::new("/")));
    }
}
