//! What a container may do with directories of the host.

use std::process::Command;

use super::varve;

/// A file system in memory below a directory of the test.
struct Below(std::path::PathBuf);

impl Drop for Below {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn read_only_is_what_is_mounted_below_too() {
    let varve = varve();
    let below = varve
        .write("source/below/x", "")
        .parent()
        .unwrap()
        .to_owned();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "tmpfs"]).arg(&below);
    assert!(mount.status().unwrap().success());
    let below = Below(below);
    let source = varve.path("source").display().to_string();
    let script = "touch /to/a 2>&1; touch /to/below/b 2>&1; :";
    let volume = format!("{source}:/to:ro");
    let bind = format!("type=bind,src={source},dst=/to,readonly");
    for runtime in ["embedded", "runc"] {
        for option in [["-v", &volume], ["--mount", &bind]] {
            let run = ["run", "--runtime", runtime].into_iter().chain(option);
            let ran = varve
                .varve(run.chain(["app", "sh", "-c", script]))
                .success();
            let refused = ran.stdout.matches("Read-only file system").count();
            assert_eq!(refused, 2, "{ran}");
        }
    }
    let volume = format!("{source}:/to");
    let writes = ["run", "-v", &volume, "app", "touch", "/to/below/c"];
    varve.varve(writes).succeeded();
    assert!(below.0.join("c").exists());
}
