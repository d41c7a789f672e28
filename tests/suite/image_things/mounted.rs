//! `varve mount`: files that stay, whatever becomes of the image, until `varve umount`.

use std::fs;
use std::path::{Path, PathBuf};

use support::workspace::Varve;

/// Unmounts when a test fails, so that the workspace can be removed.
struct Unmounted<'v>(&'v Varve);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        self.0.varve(["umount", "--all", "--force"]);
    }
}

fn built() -> Varve {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN mkdir /d && echo mounted > /d/f && chmod 4755 /bin/busybox\n",
    );
    varve.build(["-t", "app:1"]).succeeded();
    varve
}

fn mounted(varve: &Varve, arguments: &[&str]) -> PathBuf {
    let words = ["mount"].iter().chain(arguments);
    PathBuf::from(varve.varve(words).success().stdout.trim())
}

fn text(directory: &Path) -> String {
    fs::read_to_string(directory.join("d/f")).unwrap()
}

#[test]
fn a_mounted_image_is_there_after_the_command_and_cannot_be_changed() {
    let varve = built();
    let _unmounted = Unmounted(&varve);
    let directory = mounted(&varve, &["app:1"]);
    assert_eq!(text(&directory), "mounted\n");
    let error = fs::write(directory.join("new"), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30), "read-only: {error}");
    assert_eq!(mounted(&varve, &["app:1"]), directory, "mounted once");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(directory.to_str().unwrap()))
        .unwrap();
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");

    fs::create_dir(varve.path("here")).unwrap();
    let here = mounted(&varve, &["app:1", "here"]);
    assert_eq!(here, fs::canonicalize(varve.path("here")).unwrap());
    assert_eq!(text(&here), "mounted\n");
    let listed = varve.varve(["mount"]).success().stdout;
    assert!(listed.starts_with("IMAGE "), "{listed}");
    assert_eq!(listed.matches("app:1 ").count(), 2, "{listed}");
    let again = varve.varve(["mount", "app:1", "here"]).code(1);
    assert!(again.stderr.contains("mounted there already"), "{again}");

    varve.varve(["umount", "here"]).succeeded();
    assert!(!here.join("d").exists());
    assert_eq!(text(&directory), "mounted\n");
    varve.varve(["umount", "app:1"]).succeeded();
    assert!(!directory.exists(), "its own directory goes too");
    let nothing = varve.varve(["umount", "app:1"]).code(1);
    assert!(nothing.stderr.contains("nothing is"), "{nothing}");
}

#[test]
fn no_collection_takes_the_files_of_a_mounted_image() {
    let varve = built();
    let _unmounted = Unmounted(&varve);
    let directory = mounted(&varve, &["app:1"]);
    let refused = varve.varve(["rmi", "app:1"]).code(1);
    assert!(refused.stderr.contains("mounted at"), "{refused}");
    assert!(refused.stderr.contains("varve umount"), "{refused}");
    varve.varve(["rmi", "-f", "app:1"]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    varve.varve(["fsck"]).succeeded();
    for entry in ["d/f", "bin/busybox", "etc/passwd"] {
        assert!(
            !fs::read(directory.join(entry)).unwrap().is_empty(),
            "{entry}"
        );
    }
    varve.dockerfile("FROM busybox\nRUN echo built beside > /f\n");
    varve.build(["-t", "other"]).succeeded();
    assert_eq!(text(&directory), "mounted\n", "a build leaves it alone");

    varve.varve(["umount", "app:1"]).succeeded();
    varve.varve(["rmi", "other"]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    let left = varve.varve(["du"]).success().stdout;
    assert!(!left.contains("/d/f"), "{left}");
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn a_mount_in_use_is_kept_unless_forced_and_one_that_is_gone_is_forgotten() {
    let varve = built();
    let _unmounted = Unmounted(&varve);
    let directory = mounted(&varve, &["app:1"]);
    let open = fs::File::open(directory.join("bin/busybox")).unwrap();
    let refused = varve.varve(["umount", "app:1"]).code(1);
    assert!(refused.stderr.contains("--force"), "{refused}");
    assert_eq!(text(&directory), "mounted\n");
    varve.varve(["umount", "--force", "app:1"]).succeeded();
    assert!(!directory.join("d").exists());
    drop(open);
    assert!(!varve.varve(["mount"]).success().stdout.contains("app:1"));

    // Unmounted behind our back.
    let directory = mounted(&varve, &["app:1"]);
    mount::unmount(&directory).unwrap();
    assert!(!varve.varve(["mount"]).success().stdout.contains("app:1"));
    varve.varve(["rmi", "app:1"]).succeeded();

    for (arguments, told) in [
        (&["mount", "none"][..], "no such image"),
        (&["mount", "busybox", "missing"], "no such image"),
        (&["umount", "/"], "no image \"/\" is mounted"),
    ] {
        let refused = varve.varve(arguments).code(1);
        assert!(refused.stderr.contains(told), "{refused}");
    }
}

#[test]
fn a_mount_that_cannot_be_made_leaves_nothing() {
    let varve = built();
    let _unmounted = Unmounted(&varve);
    varve.write("file", "x");
    for (target, told) in [("file", "not a directory"), ("missing", "No such file")] {
        let refused = varve.varve(["mount", "app:1", target]).code(1);
        assert!(refused.stderr.contains(told), "{refused}");
    }
    assert_eq!(varve.varve(["mount"]).success().stdout.lines().count(), 1);
    varve.varve(["rmi", "app:1"]).succeeded();
}
