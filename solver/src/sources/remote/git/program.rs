//! Running git: its environment, what it prints, its end.

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

use super::super::{Address, without_secrets};
use super::{GitCall, GitSource, messages};
use crate::error::{Error, Result};

/// Where `git` is without a word about it.
const PROGRAM: &str = "git";

/// How often it is looked whether git has ended, or is to be stopped.
const POLL: Duration = Duration::from_millis(10);

/// Most bytes of what git prints that are kept.
const PRINTED_BYTES_MAX: u64 = 64 * 1024;

/// Settings under which a repository of a stranger is fetched: no hooks, no commands as transport.
const SETTINGS: [&str; 6] = [
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "advice.detachedHead=false",
];

/// ssh where nobody has said which: nobody is asked, and a host that is seen for the first time is
/// believed, as BuildKit believes it.
const SSH: &str = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new";

/// Secrets that tell a server who asks; a dot and the host may follow. BuildKit's names.
const HEADER_SECRET: &str = "GIT_AUTH_HEADER";
const TOKEN_SECRET: &str = "GIT_AUTH_TOKEN";

/// Whom a token is said to be of. Servers do not look at it; BuildKit's word.
const TOKEN_USER: &str = "x-access-token";

/// How many settings git finds in variables.
const SETTING_COUNT: &str = "GIT_CONFIG_COUNT";

/// A repository that is being looked at or checked out.
pub(super) struct Git<'g> {
    pub(super) source: &'g GitSource,
    pub(super) directory: &'g Path,
    pub(super) call: &'g GitCall<'g>,
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
        let login = login(source, call)?;
        Ok(Git {
            source,
            directory,
            call,
            login,
        })
    }

    /// Runs git and gives what it prints.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String> {
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
            command.env("GIT_SSH_COMMAND", SSH);
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
        let mut reason = lines.collect::<Vec<_>>().join("; ");
        if !self.login.is_empty() && reason.contains("returned error: 30") {
            reason.push_str(
                "; the server sends elsewhere, where nobody is told who asks: name the address \
                 that it sends to",
            );
        }
        Err(source.failed(match reason.is_empty() {
            true => format!("git {} failed", arguments[0]),
            false => format!("git {}: {reason}", arguments[0]),
        }))
    }

    /// Waits for git to end, and stops it when nobody wants it any more.
    fn wait(&self, mut child: Child) -> Result<(bool, String, String)> {
        let printed = child.stdout.take().map(|pipe| thread::spawn(|| read(pipe)));
        let reporter = self.call.reporter.clone();
        let messages = child.stderr.take();
        let messages = messages.map(|pipe| thread::spawn(move || messages::read(pipe, &reporter)));
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

/// The beginning of what comes through a pipe, which is read to its end.
fn read(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    let kept = pipe
        .by_ref()
        .take(PRINTED_BYTES_MAX)
        .read_to_end(&mut bytes);
    if kept.is_ok() {
        std::io::copy(&mut pipe, &mut std::io::sink()).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The variables by which git tells a server who asks, from secrets of the build. They are no
/// arguments, which everybody on the machine can read, and go to no other server.
fn login(source: &GitSource, call: &GitCall<'_>) -> Result<Vec<(OsString, OsString)>> {
    let address = Address::read(&source.reference.remote).filter(Address::is_web);
    let Some(Address {
        scheme,
        host: authority,
        ..
    }) = address
    else {
        return Ok(Vec::new());
    };
    let host = authority.split(':').next().unwrap_or_default();
    let find = |name: &str| {
        let of = |place: &str| format!("{name}.{place}");
        for id in [of(authority), of(host), name.to_owned()] {
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
    // After those that the caller has.
    let mut known = source.environment.iter();
    let known = known.find(|(name, _)| name == SETTING_COUNT);
    let first = known.and_then(|(_, count)| count.to_str()?.parse::<usize>().ok());
    let first = first.unwrap_or_default();
    let settings = [
        (
            format!("http.{scheme}://{authority}/.extraheader"),
            format!("Authorization: {header}"),
        ),
        ("http.followRedirects".to_owned(), "false".to_owned()),
    ];
    let count = (first + settings.len()).to_string();
    let mut variables = vec![(SETTING_COUNT.into(), count.into())];
    for (number, (key, value)) in settings.into_iter().enumerate() {
        let number = first + number;
        variables.push((format!("GIT_CONFIG_KEY_{number}").into(), key.into()));
        variables.push((format!("GIT_CONFIG_VALUE_{number}").into(), value.into()));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use engine::CancelToken;
    use store::fixtures::memory_store;

    use super::*;
    use crate::progress::Reporter;
    use crate::secrets::{SecretSource, SecretValue, Secrets};

    /// What git gets for a repository at `h:1`, and settings of the caller.
    fn variables(secret: &str, remote: &str) -> Vec<(OsString, OsString)> {
        let root = tempfile::tempdir().unwrap();
        let mut secrets = Secrets::default();
        let value = SecretValue::new(b"hunter2\n");
        secrets.insert(secret, SecretSource::Value(value));
        let mut source = GitSource::parse(remote).unwrap().unwrap();
        source.environment = vec![(SETTING_COUNT.into(), "2".into())];
        let call = GitCall {
            store: &memory_store(root.path()),
            secrets: &secrets,
            reporter: &Reporter::silent(),
            cancel: &CancelToken::new(),
        };
        login(&source, &call).unwrap()
    }

    #[test]
    fn a_token_is_for_its_host_and_comes_after_settings_of_the_caller() {
        let ids = ["GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN.h", "GIT_AUTH_TOKEN.h:1"];
        for id in ids {
            let found = variables(id, "https://me@h:1/a.git");
            assert_eq!(found[0], (SETTING_COUNT.into(), "4".into()));
            let key = "http.https://h:1/.extraheader";
            assert_eq!(found[1], ("GIT_CONFIG_KEY_2".into(), key.into()));
            assert!(found.contains(&("GIT_CONFIG_VALUE_3".into(), "false".into())));
        }
        assert_eq!(variables("GIT_AUTH_TOKEN.other", "https://h:1/a.git"), []);
        assert_eq!(variables("GIT_AUTH_TOKEN", "git://h/a"), []);
    }
}
