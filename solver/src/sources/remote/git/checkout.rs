//! Running git: what a revision is, and its files in a directory.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};

use super::super::without_secrets;
use super::{GitCall, GitSource};
use crate::error::{Error, Result};

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

/// Secrets that tell a server who asks; a dot and the host may follow. BuildKit's names.
const HEADER_SECRET: &str = "GIT_AUTH_HEADER";
const TOKEN_SECRET: &str = "GIT_AUTH_TOKEN";

/// Whom a token is said to be of. Servers do not look at it; BuildKit's word.
const TOKEN_USER: &str = "x-access-token";

/// Hexadecimal digits of a whole name of an object: SHA-1 or SHA-256.
const OBJECT_NAME_LENGTHS: [usize; 2] = [40, 64];

/// What a revision is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// What is asked for: the full name of a reference, a commit, or, where the server knows
    /// neither, the revision as it was given.
    name: String,
    /// The commit, if that is known before it is fetched.
    pub(crate) commit: Option<String>,
    /// The annotated tag that names it.
    tag: Option<String>,
}

/// A repository that is being looked at or checked out.
pub(super) struct Git<'g> {
    source: &'g GitSource,
    directory: &'g Path,
    call: &'g GitCall<'g>,
    /// Variables besides those of the source: what tells who asks.
    login: Vec<(OsString, OsString)>,
}

impl<'g> Git<'g> {
    /// Works in an empty directory.
    ///
    /// # Errors
    /// A secret cannot be read.
    pub(super) fn new(
        source: &'g GitSource,
        directory: &'g Path,
        call: &'g GitCall<'g>,
    ) -> Result<Self> {
        let login = login(&source.reference.remote, call)?;
        Ok(Git {
            source,
            directory,
            call,
            login,
        })
    }

    /// Asks the server what the revision is. Of a branch and a tag of one name the branch is meant,
    /// as in BuildKit.
    pub(super) fn resolve(&self) -> Result<Resolved> {
        let reference = &self.source.reference;
        let revision = reference.revision.as_deref().unwrap_or("HEAD");
        if revision.starts_with('-') {
            return Err(self.source.failed(format!("{revision:?} is no revision")));
        }
        let is_whole = OBJECT_NAME_LENGTHS.contains(&revision.len());
        if is_whole && revision.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let commit = revision.to_ascii_lowercase();
            return Ok(Resolved {
                name: commit.clone(),
                commit: Some(commit),
                tag: None,
            });
        }
        let peeled = format!("{revision}^{{}}");
        let listed = self.run(&["ls-remote", "--", &reference.remote, revision, &peeled])?;
        let known: Vec<_> = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        let find = |name: &str| {
            let found = known.iter().find(|(_, known)| *known == name);
            found.map(|(object, _)| (*object).to_owned())
        };
        for prefix in ["", "refs/heads/", "refs/tags/", "refs/"] {
            let name = format!("{prefix}{revision}");
            if let Some(object) = find(&name) {
                let commit = find(&format!("{name}^{{}}"));
                let tag = commit.is_some().then(|| object.clone());
                let commit = Some(commit.unwrap_or(object));
                return Ok(Resolved { name, commit, tag });
            }
        }
        Ok(Resolved {
            name: revision.to_owned(),
            commit: None,
            tag: None,
        })
    }

    pub(super) fn check_out(&self, resolved: &Resolved) -> Result<()> {
        let (source, reference) = (self.source, &self.source.reference);
        let revision = resolved.name.as_str();
        self.run(&["init", "--quiet", "--template="])?;
        let shallow = ["fetch", "--quiet", "--no-tags", "--depth=1", "--"];
        let shallow = [&shallow[..], &[&reference.remote, revision]].concat();
        let target = match self.run(&shallow) {
            Ok(_) => "FETCH_HEAD",
            Err(error) if needs_everything(revision, &error) => {
                let all = [
                    "fetch",
                    "--quiet",
                    "--tags",
                    "--update-head-ok",
                    "--",
                    &reference.remote,
                ];
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
        let commit = commit.trim();
        self.check(commit, resolved)?;
        let shown = reference.revision.as_deref().unwrap_or("HEAD");
        self.call.reporter.log(format!("{commit}\t{shown}\n"));
        let has_submodules = self.directory.join(".gitmodules").exists();
        if has_submodules && !source.reference.skips_submodules {
            let update = ["submodule", "update", "--quiet", "--init", "--recursive"];
            self.run(&[&update[..], &["--depth=1"]].concat())?;
        }
        Ok(())
    }

    /// Whether this is the commit that was asked for.
    fn check(&self, commit: &str, resolved: &Resolved) -> Result<()> {
        if let Some(expected) = &self.source.reference.checksum {
            let mut names = [Some(commit), resolved.tag.as_deref()]
                .into_iter()
                .flatten();
            if !names.any(|name| name.starts_with(expected.as_str())) {
                let reason = format!("expected checksum to match {expected}, got {commit}");
                return Err(self.source.failed(reason));
            }
        }
        match &resolved.commit {
            // An annotated tag may be named by its own object.
            Some(known) if known != commit && *known != resolved.name => {
                let reason = "the revision has moved meanwhile; build again";
                Err(self.source.failed(reason))
            }
            _ => Ok(()),
        }
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
            .envs(self.login.iter().cloned())
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
        let remote = &source.reference.remote;
        let messages = messages.replace(remote, &without_secrets(remote));
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
                Ok(None) if self.call.cancel.is_cancelled() => {
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
        match self.call.cancel.is_cancelled() {
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

/// The variables by which git tells a server who asks, from secrets of the build. They are no
/// arguments, which everybody on the machine can read.
fn login(remote: &str, call: &GitCall<'_>) -> Result<Vec<(OsString, OsString)>> {
    let Some((scheme @ ("http" | "https"), rest)) = remote.split_once("://") else {
        return Ok(Vec::new());
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    let find = |name: &str| {
        for id in [format!("{name}.{host}"), name.to_owned()] {
            if let Some(value) = call.secrets.get(&id, true)? {
                return value.text(&id).map(Some);
            }
        }
        Ok::<_, Error>(None)
    };
    let header = match find(HEADER_SECRET)? {
        Some(header) => Some(header.trim().to_owned()),
        None => find(TOKEN_SECRET)?.map(|token| {
            let login = format!("{TOKEN_USER}:{}", token.trim());
            format!("basic {}", STANDARD.encode(login))
        }),
    };
    let Some(header) = header else {
        return Ok(Vec::new());
    };
    let variables = [
        ("GIT_CONFIG_COUNT", "1".to_owned()),
        (
            "GIT_CONFIG_KEY_0",
            format!("http.{scheme}://{authority}/.extraheader"),
        ),
        ("GIT_CONFIG_VALUE_0", format!("Authorization: {header}")),
    ];
    Ok(variables
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec())
}
