//! A revision of a git repository as a build context, by the machine's own `git`: it knows the
//! person's keys, helpers and proxies.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use engine::CancelToken;
use llb::op::LocalSource;
use rustix::process::{Pid, Signal, kill_process_group};
use store::{Editor, RelPath, Store, TreeRef, layout};

use crate::error::{Error, Result};
use crate::progress::{EventKind, Step};
use crate::sources::local;

/// Where `git` is without a word about it.
const PROGRAM: &str = "git";

/// How often it is looked whether git has ended, or is to be stopped.
const POLL: Duration = Duration::from_millis(10);

/// Most bytes of git's messages that are kept.
const MESSAGES_BYTES_MAX: u64 = 64 * 1024;

/// Settings under which a repository of a stranger is fetched: no hooks, no commands as transport.
const SETTINGS: [&str; 6] = [
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "advice.detachedHead=false",
];

/// A revision of a repository, or a directory in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitSource {
    /// Where the repository is, as git takes it.
    pub repository: String,
    /// Branch, tag or commit; the repository's default branch when `None`.
    pub revision: Option<String>,
    /// The directory that is the context; the root when `None`.
    pub directory: Option<String>,
    /// Whether `.git` is part of the context.
    pub keeps_git_directory: bool,
    /// Variables for git, all of them: the caller's, not this process's.
    pub environment: Vec<(OsString, OsString)>,
}

impl GitSource {
    /// Understands what docker takes for a repository: `https://HOST/PATH.git`, `git://`, `ssh://`,
    /// `USER@HOST:PATH`, `github.com/OWNER/NAME`, each with `#REVISION:DIRECTORY`. `None` for
    /// anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, fragment) = text.split_once('#').unwrap_or((text, ""));
        let repository = if place.starts_with("github.com/") {
            format!("https://{place}")
        } else {
            let over_http = ["http://", "https://"].iter().any(|s| place.starts_with(s));
            let own_scheme = ["git://", "ssh://"].iter().any(|s| place.starts_with(s));
            let is_git = match over_http {
                true => place.ends_with(".git"),
                false => own_scheme || is_scp_like(place),
            };
            is_git.then(|| place.to_owned())?
        };
        let (revision, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(GitSource {
            repository,
            revision: given(revision),
            directory: given(directory.trim_matches('/')),
            ..GitSource::default()
        })
    }

    /// As people write it, without passwords.
    pub(super) fn name(&self) -> String {
        let mut name = without_secrets(&self.repository);
        if self.revision.is_some() || self.directory.is_some() {
            name.push('#');
            name.push_str(self.revision.as_deref().unwrap_or_default());
        }
        if let Some(directory) = &self.directory {
            name.push(':');
            name.push_str(directory);
        }
        name
    }

    fn failed(&self, reason: impl Into<String>) -> Error {
        Error::Context {
            name: self.name(),
            reason: reason.into(),
        }
    }

    /// Checks out the revision and brings it into the store.
    pub(super) fn fetch(
        &self,
        store: &Store,
        step: &Step,
        cancel: &CancelToken,
    ) -> Result<TreeRef> {
        // What a killed process leaves there goes with the next start.
        let scratch = store.root().join(layout::INGEST);
        let directory = tempfile::Builder::new()
            .prefix("git-")
            .tempdir_in(&scratch)
            .map_err(|error| Error::io("create a directory in", &scratch, error))?;
        let git = Git {
            source: self,
            directory: directory.path(),
            step,
            cancel,
        };
        git.check_out()?;
        let mut wanted = LocalSource::new("context");
        if !self.keeps_git_directory {
            wanted.exclude_patterns = vec!["**/.git".to_owned()];
        }
        let read = |bytes| step.status(super::TRANSFER, bytes, None, false);
        let (tree, scanned) = local::scan(store, directory.path(), &wanted, &read)?;
        step.status(super::TRANSFER, scanned.bytes_read, None, true);
        local::forget(store, directory.path())?;
        self.select(store, tree)
    }

    /// The directory that is the context; links in the repository lead nowhere outside of it.
    fn select(&self, store: &Store, tree: TreeRef) -> Result<TreeRef> {
        let Some(directory) = &self.directory else {
            return Ok(tree);
        };
        let mut editor = Editor::open(store, tree);
        let path = RelPath::lenient(directory.as_bytes())?;
        let path = editor.resolve(&path, true)?;
        let found = editor.untouched(&path)?;
        found.ok_or_else(|| self.failed(format!("it has no directory {directory}")))
    }
}

/// Whether it is `USER@HOST:PATH`, git's short form of ssh.
fn is_scp_like(place: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let host_and_path = place
        .split_once('@')
        .filter(|(user, _)| !user.is_empty() && user.bytes().all(allowed));
    let host_and_path = host_and_path.and_then(|(_, rest)| rest.split_once(':'));
    host_and_path.is_some_and(|(host, path)| !host.is_empty() && !path.is_empty())
}

/// The address with what stands before `@` in place of a login made unreadable.
fn without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    match authority.rsplit_once('@') {
        Some((login, host)) if login.contains(':') => {
            format!("{scheme}://xxxxx:xxxxx@{host}{path}")
        }
        _ => address.to_owned(),
    }
}

/// A repository that is being checked out.
struct Git<'g> {
    source: &'g GitSource,
    directory: &'g Path,
    step: &'g Step,
    cancel: &'g CancelToken,
}

impl Git<'_> {
    fn check_out(&self) -> Result<()> {
        let source = self.source;
        let revision = source.revision.as_deref().unwrap_or("HEAD");
        if revision.starts_with('-') {
            return Err(source.failed(format!("{revision:?} is no revision")));
        }
        self.run(&["init", "--quiet", "--template="])?;
        let shallow = ["fetch", "--quiet", "--no-tags", "--depth=1", "--"];
        let shallow = [&shallow[..], &[&source.repository, revision]].concat();
        let target = match self.run(&shallow) {
            Ok(_) => "FETCH_HEAD",
            Err(error) if needs_everything(revision, &error) => {
                let all = ["fetch", "--quiet", "--tags", "--", &source.repository];
                let refs = ["+refs/heads/*:refs/heads/*", "+HEAD:refs/varve/HEAD"];
                self.run(&[&all[..], &refs].concat())?;
                match revision {
                    "HEAD" => "refs/varve/HEAD",
                    other => other,
                }
            }
            Err(error) => return Err(error),
        };
        let commit = format!("{target}^{{commit}}");
        self.run(&["checkout", "--quiet", "--force", "--detach", &commit])?;
        let commit = self.run(&["rev-parse", "HEAD"])?;
        self.step.show(EventKind::Log {
            is_stderr: false,
            bytes: format!("{}\t{revision}\n", commit.trim()).into_bytes(),
        });
        if self.directory.join(".gitmodules").exists() {
            let update = ["submodule", "update", "--quiet", "--init", "--recursive"];
            self.run(&[&update[..], &["--depth=1"]].concat())?;
        }
        Ok(())
    }

    /// Runs git and gives what it prints.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let source = self.source;
        let mut command = Command::new(PROGRAM);
        command
            .args(SETTINGS)
            .args(arguments)
            .current_dir(self.directory)
            .env_clear()
            .envs(source.environment.iter().cloned())
            // Nobody is there to be asked.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let is_set = |name| source.environment.iter().any(|(known, _)| known == name);
        if !is_set("GIT_SSH_COMMAND") && !is_set("GIT_SSH") {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                source.failed("it is fetched by git, which is not installed")
            }
            _ => source.failed(format!("cannot start git: {error}")),
        })?;
        let (succeeded, printed, messages) = self.wait(child)?;
        if succeeded {
            return Ok(printed);
        }
        let messages = messages.replace(&source.repository, &without_secrets(&source.repository));
        let lines = messages.lines().filter(|line| !line.trim().is_empty());
        let reason = lines.collect::<Vec<_>>().join("; ");
        Err(source.failed(match reason.is_empty() {
            true => format!("git {} failed", arguments[0]),
            false => format!("git {}: {reason}", arguments[0]),
        }))
    }

    /// Waits for git to end, and stops it when nobody wants it any more.
    fn wait(&self, mut child: Child) -> Result<(bool, String, String)> {
        let printed = child.stdout.take().map(|pipe| thread::spawn(|| read(pipe)));
        let messages = child.stderr.take().map(|pipe| thread::spawn(|| read(pipe)));
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if self.cancel.is_cancelled() => {
                    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                    if let Some(group) = group {
                        kill_process_group(group, Signal::KILL).ok();
                    }
                    break child.wait();
                }
                Ok(None) => thread::sleep(POLL),
                Err(error) => break Err(error),
            }
        };
        let text = |reader: Option<thread::JoinHandle<String>>| {
            reader
                .and_then(|reader| reader.join().ok())
                .unwrap_or_default()
        };
        let (printed, messages) = (text(printed), text(messages));
        let status = status.map_err(|error| self.source.failed(format!("git: {error}")))?;
        match self.cancel.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok((status.success(), printed, messages)),
        }
    }
}

/// Whether the revision can be had from a copy of everything only: a server need not give single
/// commits, and cannot tell what an abbreviated one is; some cannot give a part of the history.
fn needs_everything(revision: &str, error: &Error) -> bool {
    let is_commit = revision.len() >= 7 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit || error.to_string().contains("shallow")
}

/// The beginning of what comes through a pipe, which is read to its end.
fn read(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    let kept = pipe
        .by_ref()
        .take(MESSAGES_BYTES_MAX)
        .read_to_end(&mut bytes);
    if kept.is_ok() {
        std::io::copy(&mut pipe, &mut std::io::sink()).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>, Option<String>) {
        let source = GitSource::parse(text).unwrap_or_else(|| panic!("{text}"));
        (source.repository, source.revision, source.directory)
    }

    #[test]
    fn what_docker_takes_for_a_repository_is_one() {
        let some = |text: &str| Some(text.to_owned());
        for (text, repository, revision, directory) in [
            ("https://h/a.git", "https://h/a.git", None, None),
            ("https://h/a.git#v1", "https://h/a.git", some("v1"), None),
            ("http://h/a.git#:d/e/", "http://h/a.git", None, some("d/e")),
            ("git://h/a#b:c", "git://h/a", some("b"), some("c")),
            ("ssh://g@h:2/a", "ssh://g@h:2/a", None, None),
            ("git@h:o/a#b", "git@h:o/a", some("b"), None),
            ("github.com/o/a", "https://github.com/o/a", None, None),
        ] {
            let expect = (repository.to_owned(), revision, directory);
            assert_eq!(parsed(text), expect, "{text}");
        }
        for other in [
            "https://h/a.tar",
            "./a.git",
            "a@b",
            "/srv/a.git",
            "ext::sh",
            "a@h:",
            "x",
        ] {
            assert_eq!(GitSource::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_has_no_password_in_it() {
        let name = |text| GitSource::parse(text).unwrap().name();
        assert_eq!(
            name("https://me:secret@h/a.git#b:c"),
            "https://xxxxx:xxxxx@h/a.git#b:c"
        );
        assert_eq!(name("ssh://git@h/a"), "ssh://git@h/a");
        assert_eq!(name("git@h:a"), "git@h:a");
    }
}
