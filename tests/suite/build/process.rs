//! `varve run`: a process of an image.

use support::workspace::{Varve, run};

fn image(varve: &Varve, lines: &str) {
    varve.dockerfile(&format!("FROM busybox\n{lines}"));
    varve.build(["-t", "app"]).succeeded();
}

#[test]
fn the_exit_code_is_that_of_the_process_or_of_the_signal_that_killed_it() {
    let varve = Varve::new();
    image(
        &varve,
        "CMD [\"sh\", \"-c\", \"echo out; echo err >&2; exit 7\"]\n",
    );
    let ran = varve.varve(["run", "--rm", "app"]).code(7);
    assert_eq!(ran.stdout, "out\n");
    assert_eq!(ran.stderr, "err\n");
    let child = varve
        .varve(["run", "app", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"])
        .code(137);
    assert_eq!(child.stdout, "", "{child}");
}

#[test]
fn entrypoint_and_command_join_as_in_docker() {
    let varve = Varve::new();
    image(
        &varve,
        "ENTRYPOINT [\"echo\", \"entry\"]\nCMD [\"default\"]\n",
    );
    let output = |arguments: &[&str]| varve.varve(arguments).success().stdout;
    assert_eq!(output(&["run", "app"]), "entry default\n");
    assert_eq!(output(&["run", "app", "given", "-x"]), "entry given -x\n");
    assert_eq!(output(&["run", "--entrypoint", "/bin/echo", "app"]), "\n");
    assert_eq!(
        output(&["run", "--entrypoint", "/bin/echo", "app", "a"]),
        "a\n"
    );
    assert_eq!(
        output(&["run", "--entrypoint", "", "app", "echo", "b"]),
        "b\n"
    );
}

#[test]
fn environment_directory_and_user_can_be_set() {
    let varve = Varve::new();
    image(
        &varve,
        "ENV A=image B=image\nWORKDIR /srv\nUSER nobody\nRUN id -u\n",
    );
    let script = "echo $A,$B,$C,$(pwd),$(id -u):$(id -g)";
    assert_eq!(
        varve.shell("app", script),
        "image,image,,/srv,65534:65534\n"
    );
    let options = [
        "run",
        "-e",
        "A=given",
        "-e",
        "C",
        "-w",
        "/tmp",
        "-u",
        "1234:5678",
    ];
    let mut command = varve.command(options);
    command
        .args(["app", "sh", "-c", script])
        .env("C", "outside");
    assert_eq!(
        run(&mut command).success().stdout,
        "given,image,outside,/tmp,1234:5678\n"
    );
    let root = varve
        .varve(["run", "-u", "root", "app", "id", "-u"])
        .success();
    assert_eq!(root.stdout, "0\n");
}

#[test]
fn what_a_process_writes_is_gone_after_it() {
    let varve = Varve::new();
    image(&varve, "RUN echo built > /f\n");
    let changes = "echo changed > /f; rm -r /root; mkdir /made; cat /f; exec rm -r /bin";
    assert_eq!(varve.shell("app", changes), "changed\n");
    assert_eq!(
        varve.shell("app", "cat /f; echo /roo* /mad*"),
        "built\n/root /mad*\n"
    );
}

#[test]
fn a_process_without_network_sees_loopback_only() {
    let varve = Varve::new();
    image(&varve, "");
    let interfaces = varve.varve(["run", "--network", "none", "app", "ls", "/sys/class/net"]);
    assert_eq!(interfaces.success().stdout, "lo\n");
}
