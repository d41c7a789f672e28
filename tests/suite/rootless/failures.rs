//! A container that cannot be made fails alone: what else the user runs goes on.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::leftovers::{eventually, processes};
use support::user::User;
use support::workspace::{Outcome, Running, Varve, run};

/// A process of the user in a session of its own, as in another terminal.
struct Bystander(Child);

impl Bystander {
    fn of(user: &User<'_>) -> Self {
        // Not the leader of a group, it becomes the program without another process.
        let mut command = user.program("setsid", ["sleep", "100000"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let bystander = Bystander(command.spawn().unwrap());
        let arguments = format!("/proc/{}/cmdline", bystander.0.id());
        let sleeps = || fs::read(&arguments).is_ok_and(|read| read.starts_with(b"sleep\0"));
        assert!(eventually(super::SOON, sleeps));
        bystander
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const NO_PROGRAM: &str =
    "unable to start container process: exec: \"/nonexist\": stat /nonexist: no such file";

#[test]
fn a_container_that_cannot_start_takes_nothing_else_of_the_user_down() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN touch /file\n");
    let user = User::new(&varve, 1);
    user.build(["-tapp"]).success();
    let mut bystander = Bystander::of(&user);
    let mut check = |outcome: Outcome, code: i32, part: &str| {
        let outcome = outcome.code(code);
        assert!(outcome.stderr.contains(part), "{part}\n{outcome}");
        assert!(bystander.lives(), "{outcome}");
    };
    check(
        user.varve(["run", "--rm", "app", "/nonexist"]),
        127,
        NO_PROGRAM,
    );
    check(
        user.varve(["run", "-v", "/tmp:/file", "app", "true"]),
        125,
        "/file",
    );
    check(
        user.varve(["run", "--tmpfs", "/file", "app", "true"]),
        125,
        "/file",
    );
    varve.dockerfile("FROM busybox\nRUN [\"/nonexist\"]\n");
    check(user.build(["-tother"]), 1, NO_PROGRAM);
    varve.dockerfile("FROM busybox\nRUN touch /file\nRUN --mount=type=tmpfs,target=/file true\n");
    check(user.build(["-tother"]), 1, "/file");
    user.varve(["run", "app", "true"]).success();
}

#[test]
fn root_without_the_right_to_mount_builds_and_fails_as_users_do() {
    let varve = Varve::new();
    let limited = |command: &Command| {
        let mut limited = Command::new("setpriv");
        limited.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
        limited.arg(command.get_program()).args(command.get_args());
        limited.current_dir(command.get_current_dir().unwrap());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        run(&mut limited)
    };
    varve.dockerfile("FROM busybox\nRUN echo built && touch /file\n");
    let built = limited(&varve.build_command(["-tapp"])).success();
    assert!(built.stderr.contains("built"), "{built}");
    let missing = limited(&varve.command(["run", "app", "/nonexist"])).code(127);
    assert!(missing.stderr.contains(NO_PROGRAM), "{missing}");
}

#[test]
fn a_killed_helper_of_a_user_leaves_no_process() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN touch /file\n");
    let user = User::new(&varve, 1);
    user.build(["-tapp"]).success();
    let root = user.root().display().to_string();
    let sleeper = format!("sleep {}", 2_000_000 + std::process::id());
    for turn in 0..8 {
        let script = ["run", "app", "sh", "-c", &format!("{sleeper}; :")];
        let running = Running::start(&mut user.command(script));
        let helpers = || {
            let all = processes("__oci-run");
            let ours = all.into_iter().filter(|line| line.contains(&root));
            ours.collect::<Vec<_>>()
        };
        let helper = loop {
            if let Some(line) = helpers().first() {
                break line.split(':').next().unwrap().parse().unwrap();
            }
        };
        std::thread::sleep(std::time::Duration::from_millis(turn * 8));
        kill_process(Pid::from_raw(helper).unwrap(), Signal::KILL).unwrap();
        let ended = running.wait().code(125);
        assert!(ended.stderr.contains("was it killed?"), "{ended}");
        assert_eq!(helpers(), [""; 0], "{turn}");
        assert_eq!(processes(&sleeper), [""; 0], "{turn}");
    }
}
