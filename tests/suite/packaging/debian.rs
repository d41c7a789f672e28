//! The Debian package, in a Debian of its own.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use support::debian_base;
use support::workspace::{Outcome, Varve, run};

use super::debian_package;

/// What a package may leave behind: dpkg's own notes, and what the user has made.
const NOT_OURS: [&str; 5] = [
    "./var/lib/dpkg/",
    "./var/log/",
    "./var/cache/",
    "./var/lib/varve",
    "./proc/",
];

/// A Debian in a directory.
struct System<'a> {
    varve: &'a Varve,
}

impl<'a> System<'a> {
    fn new(varve: &'a Varve) -> Self {
        let archive = debian_base::archive(&[]).unwrap();
        fs::create_dir(varve.path("system")).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xpf")
            .arg(archive)
            .arg("-C")
            .arg(varve.path("system"));
        run(&mut tar).succeeded();
        System { varve }
    }

    /// Runs a script in it.
    fn shell(&self, script: &str) -> Outcome {
        let inside = "mount --bind \"$1\" \"$1\"; mount -t proc proc \"$1/proc\"; exec chroot \"$1\" /bin/sh -ec \"$2\"";
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "/bin/sh", "-ec", inside, "sh"])
            .arg(self.varve.path("system"))
            .arg(script)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        run(&mut unshare)
    }

    fn files(&self) -> BTreeSet<String> {
        let mut find = Command::new("find");
        find.args([".", "-xdev"])
            .current_dir(self.varve.path("system"));
        let found = run(&mut find).success().stdout;
        let ours = |path: &&str| !NOT_OURS.iter().any(|other| path.starts_with(other));
        found.lines().filter(ours).map(str::to_owned).collect()
    }
}

#[test]
fn the_package_is_the_same_twice() {
    let varve = Varve::new();
    let first = debian_package(&varve, "first");
    let second = debian_package(&varve, "second");
    assert_eq!(first.file_name(), second.file_name());
    assert!(
        fs::read(first).unwrap() == fs::read(second).unwrap(),
        "other bytes"
    );
}

#[test]
fn it_installs_and_describes_itself_and_leaves_only_state_behind() {
    let varve = Varve::new();
    let package = debian_package(&varve, "package");
    let system = System::new(&varve);
    fs::copy(package, varve.path("system/varve.deb")).unwrap();
    let before = system.files();
    system.shell("dpkg -i /varve.deb").succeeded();

    let version = system.shell("varve --version").success().stdout;
    let expected = format!("varve {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version, expected);
    for path in [
        "usr/share/man/man1/varve.1.gz",
        "usr/share/man/man1/varve-history-ls.1.gz",
        "usr/share/bash-completion/completions/varve",
        "usr/share/zsh/vendor-completions/_varve",
        "usr/share/fish/vendor_completions.d/varve.fish",
        "usr/lib/systemd/system/varve.service",
        "usr/lib/systemd/system/varve.socket",
        "usr/share/doc/varve/copyright",
        "usr/share/doc/varve/third-party-licences.txt.gz",
        "etc/varve/varve.toml",
    ] {
        assert!(varve.path("system").join(path).is_file(), "{path}");
    }
    let altered = system.shell("dpkg --verify varve").success().stdout;
    assert_eq!(altered, "");
    system
        .shell("gzip -dc /usr/share/man/man1/varve-build.1.gz | grep '^.SH .EXAMPLES'")
        .succeeded();
    let script = "mkdir -p /src && echo text > /src/file && cd /src && \
        printf 'FROM scratch\\nCOPY file /\\n' > Dockerfile && \
        varve build -q -t app . && varve images --format '{{.Name}}'";
    let built = system.shell(script);
    assert!(
        built.clone().success().stdout.ends_with("\napp\n"),
        "{built}"
    );
    system.shell("rm -r /src").succeeded();

    // Nobody has enabled it; then somebody does, and a daemon has run.
    let wants = "/etc/systemd/system/sockets.target.wants/varve.socket";
    system.shell(&format!("! test -e {wants}")).succeeded();
    let enable = format!(
        "mkdir -p /etc/systemd/system/sockets.target.wants /run/varve && \
         ln -s /usr/lib/systemd/system/varve.socket {wants} && touch /run/varve/snapshotter.sock"
    );
    system.shell(&enable).succeeded();

    // A configuration that somebody has changed outlives a removal, not a purge.
    system
        .shell("echo 'gc = false' >> /etc/varve/varve.toml && dpkg -r varve")
        .succeeded();
    assert!(!varve.path("system/usr/bin/varve").exists());
    assert!(
        varve
            .read("system/etc/varve/varve.toml")
            .ends_with("gc = false\n")
    );
    system.shell("dpkg -P varve").succeeded();
    let after = system.files();
    let left: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(
        varve.path("system/var/lib/varve/db").is_dir(),
        "state is the user's"
    );
}

#[test]
fn systemd_understands_the_units() {
    let varve = Varve::new();
    let package = debian_package(&varve, "package");
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(package).arg(varve.path("tree"));
    run(&mut unpack).succeeded();
    let unit = varve.read("tree/usr/lib/systemd/system/varve.service");
    assert!(
        unit.contains("\nExecStart=/usr/bin/varve daemon\n"),
        "{unit}"
    );
    // It is looked for, and not started.
    fs::create_dir(varve.path("tree/bin")).unwrap();
    fs::copy("/bin/sh", varve.path("tree/bin/sh")).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no", "--recursive-errors=no", "--root"]);
    analyze
        .arg(varve.path("tree"))
        .args(["varve.service", "varve.socket"]);
    let verified = run(&mut analyze);
    let about = verified
        .stderr
        .lines()
        .filter(|line| line.contains("varve."));
    assert_eq!(about.collect::<Vec<_>>(), Vec::<&str>::new(), "{verified}");
}
