//! An ordinary user of the machine, who uses varve: with a home, with ids of its own, with or
//! without subordinate ones.
//!
//! The user is in no file of the host: each command runs in a mount namespace in which /etc/passwd,
//! /etc/subuid and /etc/subgid are others.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{Outcome, Varve, run};

/// What is prepared as root, before the user's command: `$@`.
const PREPARE: &str = r#"set -e
mount --bind "$ETC/passwd" /etc/passwd
for file in subuid subgid; do
    test -e /etc/$file || touch /etc/$file
    mount --bind "$ETC/$file" /etc/$file
done
mount --bind "$BINARY" "$ETC/varve"
case "$HURDLE" in
no-programs) mount --bind /dev/null /usr/bin/newuidmap ;;
chroot) mount --rbind / "$ETC/root" ;;
esac
"#;

/// What the user's own rights are enough for.
const BEGIN: &str = r#"-- sh -c 'cd "$HOME" && exec "$@"' sh "$@""#;

/// What is in the user's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hurdle {
    /// Nothing.
    #[default]
    None,
    /// There is no range of ids.
    NoRanges,
    /// newuidmap is not installed.
    NoPrograms,
    /// User namespaces are forbidden: in a chroot(2) the kernel does not give any.
    NoNamespaces,
    /// No privileges can be gained, as in many containers.
    NoNewPrivileges,
}

/// A user.
#[derive(Debug)]
pub struct User<'v> {
    varve: &'v Varve,
    id: u32,
    hurdle: Hurdle,
}

impl<'v> User<'v> {
    /// The user with this number, who shares the directory of `varve`, and the context there.
    ///
    /// # Panics
    /// The home cannot be made.
    #[must_use]
    pub fn new(varve: &'v Varve, number: u32) -> Self {
        Self::with(varve, number, Hurdle::None)
    }

    /// The same with something in the way.
    ///
    /// # Panics
    /// As [`User::new`].
    #[must_use]
    pub fn with(varve: &'v Varve, number: u32, hurdle: Hurdle) -> Self {
        let user = User {
            varve,
            id: 61_000 + number,
            hurdle,
        };
        let open = |path: PathBuf| fs::set_permissions(path, Permissions::from_mode(0o755));
        open(varve.path(".")).expect("the directory can be opened");
        open(varve.base().join("..")).expect("the base image can be opened");
        fs::create_dir_all(user.home()).expect("a home");
        chown(user.home(), Some(user.id), Some(user.id)).expect("a home");
        fs::create_dir_all(user.etc().join("root")).expect("a directory");
        let name = user.name();
        let ranges = match hurdle {
            Hurdle::NoRanges => String::new(),
            _ => format!("{name}:{}:65536\n", 2_000_000 + number * 65_536),
        };
        let host = fs::read_to_string("/etc/passwd").expect("users of the host");
        let line = format!(
            "{name}:x:{0}:{0}::{1}:/bin/sh\n",
            user.id,
            user.home().display()
        );
        user.etc_file("passwd", &(host + &line));
        user.etc_file("subuid", &ranges);
        user.etc_file("subgid", &ranges);
        user.etc_file("varve", "");
        user
    }

    fn etc_file(&self, name: &str, text: &str) {
        fs::write(self.etc().join(name), text).expect("a file");
    }

    fn etc(&self) -> PathBuf {
        self.varve.path(format!("etc-{}", self.id))
    }

    /// Login name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("varve{}", self.id)
    }

    /// User id on the host.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Home, in which commands run.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.varve.path(format!("home-{}", self.id))
    }

    /// The root directory that is used unless another is named.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.home().join(".local/share/varve")
    }

    /// A program of the user, with these arguments.
    pub fn program<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let id = self.id;
        let mut script = PREPARE.to_owned();
        script.push_str("exec ");
        if self.hurdle == Hurdle::NoNamespaces {
            script.push_str("chroot \"$ETC/root\" ");
        }
        script.push_str(&format!(
            "setpriv --reuid={id} --regid={id} --clear-groups --inh-caps=-all "
        ));
        if self.hurdle == Hurdle::NoNewPrivileges {
            script.push_str("--no-new-privs ");
        }
        script.push_str(BEGIN);
        let hurdle = match self.hurdle {
            Hurdle::NoPrograms => "no-programs",
            Hurdle::NoNamespaces => "chroot",
            Hurdle::None | Hurdle::NoRanges | Hurdle::NoNewPrivileges => "none",
        };
        let mut command = self.varve.command::<&str>([]);
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .filter(|(name, _)| name != "VARVE_ROOT")
            .collect();
        command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                &script,
                "sh",
            ])
            .arg(program.as_ref())
            .args(arguments)
            .env_clear()
            .envs(environment)
            .env("HOME", self.home())
            .env("USER", self.name())
            .env("ETC", self.etc())
            .env("BINARY", crate::varve_binary())
            .env("HURDLE", hurdle)
            .stdin(std::process::Stdio::null());
        command
    }

    /// The user's varve.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.program(self.etc().join("varve"), arguments)
    }

    /// Runs it to its end.
    pub fn varve<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        run(&mut self.command(arguments))
    }

    /// The command that builds the context of the test with plain progress and the base image at
    /// hand.
    pub fn build_command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = self.command(["build", "--progress=plain", "--build-context"]);
        command
            .arg(self.varve.base_context())
            .args(arguments)
            .arg(self.varve.context());
        command
    }

    /// Builds the context.
    pub fn build<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        run(&mut self.build_command(arguments))
    }
}
