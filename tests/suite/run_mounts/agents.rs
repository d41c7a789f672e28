//! type=ssh, with the programs of OpenSSH: an agent outside, and a client in the step.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::leftovers::eventually;
use support::workspace::Varve;

use super::{last_layer, said};

/// An ssh-agent with one key. It ends with the value.
struct Agent {
    process: Child,
    socket: PathBuf,
    fingerprint: String,
}

impl Agent {
    fn start(varve: &Varve, name: &str) -> Self {
        let socket = varve.path(format!("{name}.sock"));
        let process = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("ssh-agent is installed");
        assert!(eventually(Duration::from_secs(10), || socket.exists()));
        let key = varve.path(format!("{name}.key")).display().to_string();
        let made = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &key];
        varve.tool("ssh-keygen", made).succeeded();
        let added = Command::new("ssh-add")
            .args(["-q", &key])
            .env("SSH_AUTH_SOCK", &socket)
            .status();
        assert!(added.unwrap().success());
        let shown = varve
            .tool("ssh-keygen", ["-l", "-f", &key])
            .success()
            .stdout;
        let fingerprint = shown.split(' ').nth(1).unwrap().to_owned();
        Agent {
            process,
            socket,
            fingerprint,
        }
    }

    fn keys(&self) -> usize {
        let listed = Command::new("ssh-add")
            .arg("-l")
            .env("SSH_AUTH_SOCK", &self.socket)
            .output();
        String::from_utf8_lossy(&listed.unwrap().stdout)
            .lines()
            .count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Puts ssh-add and ssh-keygen of this machine, with their libraries, into the context.
fn add_programs(varve: &Varve) {
    for program in ["/usr/bin/ssh-add", "/usr/bin/ssh-keygen"] {
        let listed = varve.tool("ldd", [program]).success().stdout;
        let libraries = listed
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        for file in libraries.chain([program]) {
            let target = varve.path(format!("context/host{file}"));
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(file, target).unwrap();
        }
    }
}

#[test]
fn a_step_lists_and_uses_the_keys_of_an_agent_and_cannot_change_them() {
    let varve = Varve::new();
    add_programs(&varve);
    let agent = Agent::start(&varve, "first");
    let lines = "COPY host /\nENV PATH=/bin:/usr/bin\n\
        RUN --mount=type=ssh echo $SSH_AUTH_SOCK && ssh-add -l && \
          ssh-add -L > /tmp.pub && echo text > /text && \
          ssh-keygen -Y sign -q -n test -f /tmp.pub /text && test -s /text.sig && \
          ! ssh-add -D 2>/dev/null && ssh-keygen -q -t ed25519 -N '' -f /own && \
          ! ssh-add /own 2>/dev/null && stat -c '%a %u' $SSH_AUTH_SOCK && rm /tmp.pub /own*\n";
    varve.dockerfile(&format!("FROM busybox\n{lines}"));
    let mut command = varve.build_command(["--ssh", "default", "-t", "app"]);
    command.env("SSH_AUTH_SOCK", &agent.socket);
    let built = support::workspace::run(&mut command).success();
    let transcript = built.transcript();
    let output = &transcript.step("RUN --mount=type=ssh").output;
    assert_eq!(output[0], "/run/buildkit/ssh_agent.0");
    assert!(output[1].contains(&agent.fingerprint), "{built}");
    assert_eq!(output.last().unwrap(), "600 0");
    assert_eq!(agent.keys(), 1);
    assert_eq!(
        varve.shell("app", "ls / | grep -c run || true; ls /text.sig"),
        "0\n/text.sig\n"
    );
}

#[test]
fn several_agents_have_ids_targets_and_owners() {
    let varve = Varve::new();
    add_programs(&varve);
    let (first, second) = (
        Agent::start(&varve, "first"),
        Agent::start(&varve, "second"),
    );
    let default = format!("default={}", first.socket.display());
    let other = format!("other={}", second.socket.display());
    let lines = "COPY host /\nENV PATH=/bin:/usr/bin\nUSER 1234\n\
        RUN --mount=type=ssh,uid=1234 --mount=type=ssh,id=other,target=/agents/other,mode=0666 \
          ssh-add -l && SSH_AUTH_SOCK=/agents/other ssh-add -l\n";
    let output = said(&varve, lines, &["--ssh", &default, "--ssh", &other]);
    assert!(output[0].contains(&first.fingerprint), "{output:?}");
    assert!(output[1].contains(&second.fingerprint), "{output:?}");
    assert!(last_layer_is_empty(&varve, lines));
}

fn last_layer_is_empty(varve: &Varve, lines: &str) -> bool {
    // The step is remembered, and needs no agent then.
    varve.dockerfile(&format!("FROM busybox\n{lines}"));
    last_layer(varve).is_empty()
}

#[test]
fn an_agent_that_is_required_and_missing_is_named_with_what_to_do() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN --mount=type=ssh test ! -e $SSH_AUTH_SOCK\n");
    varve.build([""; 0]).succeeded();
    varve.dockerfile("FROM busybox\nRUN --mount=type=ssh,required true\n");
    let failed = varve.build([""; 0]).code(1);
    let expect = "no SSH key \"default\" forwarded from the client; pass --ssh default";
    assert!(failed.stderr.contains(expect), "{failed}");
    assert!(failed.stderr.contains("   2 | >>> RUN --mount"), "{failed}");
    let key = varve.write("key", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let key = format!("default={}", key.display());
    let missing = "default=/nowhere/agent.sock";
    for (option, part) in [
        ("default", "make sure SSH_AUTH_SOCK is set"),
        (missing, "--ssh default: failed to stat /nowhere/agent.sock"),
        (key.as_str(), "ssh-add"),
        ("default=/dev/null", "no socket of an agent"),
        ("default=/a,/b", "only single socket allowed"),
    ] {
        let failed = varve.build(["--ssh", option]).code(1);
        assert!(failed.stderr.contains(part), "{option}: {failed}");
    }
}

#[test]
fn keys_of_files_are_served_during_the_build_and_never_longer() {
    let varve = Varve::new();
    add_programs(&varve);
    let key = varve.path("key").display().to_string();
    let locked = varve.path("locked").display().to_string();
    for (path, passphrase) in [(&key, ""), (&locked, "a passphrase")] {
        let words = ["-q", "-t", "ed25519", "-N", passphrase, "-f", path];
        varve.tool("ssh-keygen", words).succeeded();
    }
    varve.dockerfile(
        "FROM busybox\nCOPY host /\nENV PATH=/bin:/usr/bin\n\
         RUN --mount=type=ssh,id=deploy ssh-add -L > /listed && ! ssh-add -D 2>/dev/null\n",
    );
    let build = |ssh: &str, temporary: &str| {
        let mut command = varve.build_command(["--ssh", ssh, "-t", "app"]);
        std::fs::create_dir_all(varve.path(temporary)).unwrap();
        support::workspace::run(command.env("TMPDIR", varve.path(temporary)))
    };
    build(&format!("deploy={key}"), "temporary").succeeded();
    let public = varve.read("key.pub");
    let listed = varve.shell("app", "cat /listed");
    let body = |text: &str| text.split(' ').nth(1).map(str::to_owned);
    assert_eq!(body(&listed), body(&public));
    build(&format!("deploy={locked}"), "temporary")
        .refused_with(1, &["needs a passphrase", "ssh-add", "locked"]);
    // Nothing of either agent is left.
    assert_eq!(varve.path("temporary").read_dir().unwrap().count(), 0);
}
