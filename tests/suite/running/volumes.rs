//! What a container may do with directories of the host, and with the volumes of its image.

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

#[test]
fn volumes_of_an_image_are_there_with_its_content_and_can_be_written_to() {
    let varve = varve();
    let recipe = "FROM app\nRUN mkdir /data && echo image > /data/said && chown 7:8 /data\n\
                  RUN ln -s data /link\n\
                  VOLUME /data /missing/below /link/inside relative\n";
    varve.write("stateful/Dockerfile", recipe);
    let context = varve.path("stateful").display().to_string();
    varve
        .varve(["build", "-q", "-t", "stateful", &context])
        .succeeded();
    varve.write("host/file", "of the host\n");
    let host = format!("{}:/data/host", varve.path("host").display());
    let script = "stat -c '%n %u:%g %a' /data /missing/below /relative; cat /data/said; \
                  for place in /data /missing/below /data/inside /relative; do \
                  echo x > $place/new || exit 1; grep -c \" $place \" /proc/mounts; done; \
                  cat /data/host/file; touch /bin/x 2>/dev/null && echo wrote";
    for runtime in ["embedded", "runc"] {
        let run = |options: &[&str]| {
            let run = ["run", "--runtime", runtime, "-v", &host];
            let script = ["stateful", "sh", "-c", script];
            varve.varve([&run, options, &script].concat()).stdout
        };
        let expected = "/data 7:8 755\n/missing/below 0:0 755\n/relative 0:0 755\nimage\n\
                        1\n1\n1\n1\nof the host\n";
        assert_eq!(run(&["--read-only"]), expected);
        assert_eq!(run(&[]), format!("{expected}wrote\n"));
    }
    // The caller may name more, and have them read only.
    let script = "touch /bin/x /data/x /data/y; ls /bin/x /data";
    let options = ["-v", "/bin", "--mount", "dst=/data,readonly", "stateful"];
    let options = [&["run", "--read-only"], &options[..], &["sh", "-c", script]].concat();
    assert_eq!(
        varve.varve(options).stdout,
        "/bin/x\n\n/data:\ninside\nsaid\n"
    );
    // A directory of the host takes the place of a volume.
    let instead = format!("{}:/data", varve.path("host").display());
    let listed = varve.varve(["run", "-v", &instead, "stateful", "ls", "/data"]);
    assert_eq!(listed.stdout, "file\n");
}
