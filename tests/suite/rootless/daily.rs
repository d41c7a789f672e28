//! Daily work of an ordinary user: mounts of RUN, images as things, builds at once, kill -9.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal};
use support::user::User;
use support::workspace::{Running, Varve};

use super::mounts_below;

#[test]
fn mounts_of_run_are_those_that_root_gets() {
    let varve = Varve::new();
    let user = User::new(&varve, 1);
    varve.write("context/file", "content\n");
    varve.write("context/token", "hush\n");
    varve.dockerfile(
        "FROM busybox\n\
         RUN --mount=type=cache,target=/cache,uid=5,gid=6 stat -c 'cache %u:%g' /cache && \
             echo x >> /cache/n\n\
         RUN --mount=type=cache,target=/cache,uid=5,gid=6 echo lines $(wc -l < /cache/n)\n\
         RUN --mount=type=bind,target=/context stat -c 'bound %u' /context/file\n\
         RUN --mount=type=tmpfs,target=/memory touch /memory/x && echo memory\n\
         RUN --mount=type=secret,id=token,uid=7,mode=0400 \
             stat -c 'secret %u %a' /run/secrets/token && cat /run/secrets/token | wc -c\n\
         RUN --network=none ip link | grep -c UP\n",
    );
    let secret = format!("id=token,src={}", varve.path("context/token").display());
    let built = user.build(["--secret", &secret, "-tapp"]).success();
    for line in [
        "cache 5:6",
        "lines 1",
        "bound 0",
        "memory",
        "secret 7 400",
        " 5\n",
    ] {
        assert!(built.stderr.contains(line), "{line} is missing\n{built}");
    }
    let run = user.varve([
        "run",
        "--rm",
        "app",
        "sh",
        "-c",
        "id -u; cat /run/secrets/token",
    ]);
    assert_eq!(run.stdout, "0\n", "{run}");
    user.varve(["run", "app", "test", "-e", "/cache/n"]).code(1);
}

#[test]
fn run_gives_a_user_what_needs_no_cgroup_and_refuses_the_rest_with_the_reason() {
    let varve = Varve::new();
    let user = User::new(&varve, 1);
    varve.dockerfile("FROM busybox\nRUN true\n");
    user.build(["-tapp"]).succeeded();
    let volume = format!("{}/shown:/shown", user.home().display());
    let run = |options: &[&str], script: &str| {
        let words = ["run", "-v", &volume];
        let words = words.iter().chain(options);
        user.varve(words.chain(&["app", "sh", "-c", script]))
    };
    let options = ["--init", "--cap-drop", "ALL", "--dns", "192.0.2.1"];
    let script = "echo $$ > /shown/pid; grep -c ^nameserver.192.0.2.1 /etc/resolv.conf; \
                  grep CapEff /proc/self/status | cut -f2";
    let ran = run(&options, script).success();
    assert_eq!(ran.stdout, "1\n0000000000000000\n", "{ran}");
    let pid = fs::read_to_string(user.home().join("shown/pid")).unwrap();
    assert_eq!(pid, "2\n");
    for option in ["--memory=64m", "--cpus=0.5", "--pids-limit=9"] {
        run(&[option], "true").refused_with(125, &["it has no cgroup of its own here"]);
    }
    let refused = run(&["--device", "/dev/fuse"], "true");
    refused.refused_with(125, &["only the root of this machine makes devices"]);
    assert_eq!(mounts_below(&user.home()), [""; 0]);
}

#[test]
fn images_are_listed_checked_and_removed() {
    let varve = Varve::new();
    let user = User::new(&varve, 1);
    varve.dockerfile(
        "FROM busybox\nRUN mkdir /d && touch /d/f && chown -R 9:9 /d && chmod 700 /d\n",
    );
    user.build(["-tapp"]).success();
    assert!(user.varve(["images"]).success().stdout.contains("app "));
    assert!(
        user.varve(["history", "ls"])
            .success()
            .stdout
            .contains("Completed")
    );
    let sound = user.varve(["fsck"]).success();
    assert!(
        (sound.stdout.clone() + &sound.stderr).contains("sound"),
        "{sound}"
    );
    let copied = user.varve(["cp", "app:/d/f", "f"]).success();
    assert!(user.home().join("f").exists(), "{copied}");
    let refused = user.varve(["mount", "app"]).code(1);
    assert!(refused.stderr.contains("varve cp app:/"), "{refused}");
    user.varve(["rmi", "app"]).success();
    user.varve(["prune", "--all", "--force"]).success();
    user.varve(["system", "df"]).success();
    // What belonged to other ids is gone too.
    for directory in ["checkouts", "snapshots", "trash"] {
        let left = fs::read_dir(user.root().join(directory)).unwrap().count();
        assert_eq!(left, 0, "{directory}");
    }
}

#[test]
fn builds_at_once_of_one_user_and_of_two_all_succeed() {
    let varve = Varve::new();
    let users = [User::new(&varve, 1), User::new(&varve, 2)];
    varve.dockerfile(
        "FROM busybox\nARG N\nRUN touch x && chown 9 x && sleep 0.2 && echo built $N\n",
    );
    let start = |user: &User<'_>, n: usize| {
        let argument = format!("--build-arg=N={n}");
        Running::start(&mut user.build_command([argument, format!("-tapp{n}")]))
    };
    let running: Vec<_> = (0..6).map(|n| (n, start(&users[n % 2], n))).collect();
    for (n, one) in running {
        let built = one.wait().success();
        assert!(built.stderr.contains(&format!("built {n}")), "{built}");
    }
    for (user, names) in users
        .iter()
        .zip([["app0", "app2", "app4"], ["app1", "app3", "app5"]])
    {
        let listed = user.varve(["images"]).success().stdout;
        assert!(names.iter().all(|name| listed.contains(name)), "{listed}");
        assert_eq!(listed.lines().count(), 4, "{listed}");
    }
}

#[test]
fn a_killed_build_leaves_no_process_and_no_mount_and_the_next_one_works() {
    let varve = Varve::new();
    let user = User::new(&varve, 1);
    for kill_owner in [false, true] {
        varve.dockerfile("FROM busybox\nRUN touch x && chown 9 x && echo begun && sleep 1234.5\n");
        let running = Running::start(&mut user.build_command(["-tapp"]));
        let sleeper = loop {
            if let Some(id) = sleeper() {
                break id;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        };
        let owner = fs::read_to_string(user.root().join("lock")).unwrap();
        let owner: i32 = owner.trim().parse().unwrap();
        let victim = match kill_owner {
            true => owner,
            // `sh`, `unshare` and `setpriv` have become varve by execve(2).
            false => i32::try_from(running.id()).unwrap(),
        };
        rustix::process::kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
        let ended = running.wait();
        assert_ne!(ended.code, 0, "{ended}");
        let gone = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            [owner, sleeper]
                .iter()
                .all(|id| !fs::exists(format!("/proc/{id}")).unwrap())
        });
        assert!(gone, "the container or varve lives on");
        assert_eq!(mounts_below(&user.home()), [""; 0]);
        varve.dockerfile("FROM busybox\nRUN touch x && chown 9 x && echo again\n");
        user.build(["-tapp"]).success();
    }
}

/// The process of the step that sleeps, if it does already.
fn sleeper() -> Option<i32> {
    let processes = Command::new("pgrep")
        .args(["-fx", "sleep 1234.5"])
        .output()
        .unwrap();
    let text = String::from_utf8(processes.stdout).unwrap();
    text.lines().next()?.parse().ok()
}
