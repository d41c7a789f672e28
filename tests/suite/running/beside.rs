//! What other commands do to images and space while a container runs.

use support::leftovers::eventually;
use support::workspace::{Running, Varve};

use super::{SOON, varve};

/// A container that reads all files of its image once `said/go` is there.
fn reader(varve: &Varve) -> Running {
    let said = format!("{}:/said", varve.path("said").display());
    let script = ": > /said/runs; while [ ! -e /said/go ]; do sleep 0.05; done; \
                  cat /bin/busybox | md5sum; cat /srv/*";
    let mut command = varve.command(["run", "-v", &said, "app", "sh", "-c", script]);
    let running = Running::start(&mut command);
    assert!(eventually(SOON, || varve.path("said/runs").exists()));
    running
}

#[test]
fn files_of_a_running_container_survive_rmi_and_prune() {
    let varve = varve();
    let whole = varve.shell("app", "cat /bin/busybox | md5sum; cat /srv/*");
    let running = reader(&varve);
    varve.varve(["rmi", "-f", "app"]).succeeded();
    // It waits for commands that use the store, not for containers.
    let pruned = varve.varve(["prune", "--all", "--force"]).success();
    assert!(!pruned.stderr.contains("waiting"), "{pruned}");
    for _ in 0..3 {
        varve.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
        varve.build(["-t", "other"]).succeeded();
        varve.varve(["rmi", "-f", "other"]).succeeded();
        varve.varve(["prune", "--all", "--force"]).succeeded();
    }
    varve.write("said/go", "");
    assert_eq!(running.wait().success().stdout, whole);
    // Now they go.
    varve.varve(["prune", "--all", "--force"]).succeeded();
    let objects = std::process::Command::new("find")
        .arg(varve.root().join("objects"))
        .args(["-type", "f"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&objects.stdout), "");
}
