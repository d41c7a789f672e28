//! `--ssh ID=KEYFILE`: an agent of the build's own, with keys of files.
//!
//! It is OpenSSH's: that reads every form of key there is. It runs around a program that reads
//! until this process closes a pipe or is gone, and ends with that. Its keys are taken out of it
//! as soon as the build has ended.

use std::fs;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};

use crate::environment::Environment;

/// Tells `ssh-add` where the agent is.
const SOCKET_VARIABLE: &str = "SSH_AUTH_SOCK";

/// Keeps `ssh-add` from asking anybody for a passphrase (OpenSSH 8.4).
const ASK_VARIABLE: &str = "SSH_ASKPASS_REQUIRE";

/// What the agent runs around: says that it is there, then waits.
const WAIT: &str = "echo ready; cat";

/// An agent with keys of files. Gone with the value.
#[derive(Debug)]
pub(super) struct KeyAgent {
    directory: PathBuf,
    process: Child,
}

impl KeyAgent {
    /// Starts one with the keys of these files.
    ///
    /// # Errors
    /// OpenSSH is not here; a file has no key, or one that needs a passphrase.
    pub(super) fn start(keys: &[PathBuf], environment: &Environment) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("varve-agent-{}-{number}", std::process::id());
        let directory = environment.temporary_directory().join(name);
        // It must not be there: nobody else has made it then.
        let made = fs::DirBuilder::new().mode(0o700).create(&directory);
        made.with_context(|| format!("cannot create {}", directory.display()))?;
        let mut command = Command::new("ssh-agent");
        command
            .arg("-a")
            .arg(directory.join("agent"))
            .args(["sh", "-c", WAIT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let process = match command.spawn() {
            Ok(process) => process,
            Err(error) => {
                fs::remove_dir(&directory).ok();
                return Err(error).context(
                    "cannot start ssh-agent; install OpenSSH's client, or name the socket of an \
                     agent",
                );
            }
        };
        let mut agent = KeyAgent { directory, process };
        let mut ready = [0];
        let stdout = agent.process.stdout.as_mut();
        let said = stdout.map(|stdout| stdout.read_exact(&mut ready));
        if !matches!(said, Some(Ok(()))) {
            bail!("ssh-agent does not start");
        }
        for key in keys {
            agent.add(key)?;
        }
        Ok(agent)
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("agent")
    }

    fn ssh_add(&self) -> Command {
        let mut command = Command::new("ssh-add");
        command
            .env(SOCKET_VARIABLE, self.socket())
            .env(ASK_VARIABLE, "never")
            .env_remove("DISPLAY")
            .stdin(Stdio::null());
        command
    }

    fn add(&self, key: &Path) -> anyhow::Result<()> {
        let added = self.ssh_add().arg("-q").arg(key).output();
        let added = added.context("cannot start ssh-add; install OpenSSH's client")?;
        if added.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&added.stderr);
        let said = said.trim().lines().last().unwrap_or_default();
        let key = key.display();
        if is_locked(said) {
            bail!(
                "{key} needs a passphrase, which is not asked for here; put it into an agent of \
                 yours, which asks: `eval $(ssh-agent); ssh-add {key}`, then --ssh default"
            );
        }
        bail!("ssh-add does not take {key}: {said}")
    }
}

/// Whether `ssh-add` would have asked for a passphrase.
fn is_locked(said: &str) -> bool {
    said.is_empty() || said.contains("passphrase") || said.contains("read_passphrase")
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        let emptied = self
            .ssh_add()
            .args(["-q", "-D"])
            .stderr(Stdio::null())
            .status();
        if let Err(error) = emptied {
            tracing::warn!(%error, "cannot take the keys out of an agent");
        }
        drop(self.process.stdin.take());
        if let Err(error) = self.process.wait() {
            tracing::debug!(%error, "cannot wait for an agent");
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(path = %self.directory.display(), %error, "cannot remove an agent's place");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(directory: &Path, passphrase: &str) -> PathBuf {
        let path = directory.join("key");
        let mut command = Command::new("ssh-keygen");
        command
            .args(["-q", "-t", "ed25519", "-N", passphrase, "-f"])
            .arg(&path);
        assert!(command.status().expect("openssh-client").success());
        path
    }

    fn environment(directory: &Path) -> Environment {
        Environment::of(&[("TMPDIR", directory.to_str().unwrap())], false)
    }

    fn left(directory: &Path) -> usize {
        let entries = fs::read_dir(directory).unwrap().flatten();
        entries
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with("varve-agent")
            })
            .count()
    }

    #[test]
    fn an_agent_has_the_keys_and_goes_with_the_value() {
        let directory = tempfile::tempdir().unwrap();
        let key = key(directory.path(), "");
        let agent = KeyAgent::start(&[key], &environment(directory.path())).unwrap();
        let listed = agent.ssh_add().arg("-l").output().unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).contains("ED25519"));
        drop(agent);
        assert_eq!(left(directory.path()), 0);
    }

    #[test]
    fn a_key_with_a_passphrase_or_none_at_all_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let locked = key(directory.path(), "a passphrase");
        let environment = environment(directory.path());
        let error = KeyAgent::start(&[locked], &environment).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("needs a passphrase") && error.contains("ssh-add"),
            "{error}"
        );
        let other = directory.path().join("other");
        fs::write(&other, "no key\n").unwrap();
        let error = KeyAgent::start(&[other], &environment)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("does not take") && error.contains("other"),
            "{error}"
        );
        assert_eq!(left(directory.path()), 0);
    }
}
