//! `docker-credential-NAME`: a program that keeps logins. Asked for one it is given a host on its
//! standard input and prints JSON; to store one it is given such JSON.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::Credential;
use crate::error::shortened;

/// A key chain may ask a person for its password, but not for ever.
pub(super) const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// Nobody's login is longer.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// What helpers call a refresh token's user.
const TOKEN_USERNAME: &str = "<token>";

/// What helpers say when they have no login for a host.
const NOT_FOUND: &str = "credentials not found";

pub(super) struct Helper<'a> {
    pub(super) name: &'a str,
    /// In place of PATH.
    pub(super) directories: Option<&'a [PathBuf]>,
    pub(super) timeout: Duration,
}

/// A login to be stored.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stored<'s> {
    #[serde(rename = "ServerURL")]
    server_url: &'s str,
    username: &'s str,
    secret: &'s str,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper<'_> {
    /// Asks for the login of `server`. The error is a reason for a message.
    pub(super) async fn get(&self, server: &str) -> Result<Option<Credential>, String> {
        let Some(answer) = self.run("get", server.as_bytes()).await? else {
            return Ok(None);
        };
        let shown = self.program()?;
        let output: Output = serde_json::from_slice(&answer)
            // The text could hold the secret.
            .map_err(|_| {
                let shown = shown.display();
                format!("the answer of {shown} is not what was expected")
            })?;
        Ok(output.credential())
    }

    /// Has it keep a login. The error is a reason for a message.
    pub(super) async fn store(
        &self,
        server: &str,
        username: &str,
        secret: &str,
    ) -> Result<(), String> {
        let stored = Stored {
            server_url: server,
            username,
            secret,
        };
        let stored = serde_json::to_vec(&stored).map_err(|error| error.to_string())?;
        self.run("store", &stored).await.map(drop)
    }

    /// Has it forget a login; whether it says that there was one.
    pub(super) async fn erase(&self, server: &str) -> Result<bool, String> {
        let erased = self.run("erase", server.as_bytes()).await?;
        Ok(erased.is_some())
    }

    /// What it prints when it is told `verb` and given `input`; `None` if it knows no such login.
    async fn run(&self, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let program = self.program()?;
        let shown = program.display();
        match tokio::time::timeout(self.timeout, run(&program, verb, input)).await {
            Err(_) => Err(format!(
                "{shown} did not answer within {} s",
                self.timeout.as_secs_f64()
            )),
            Ok(Err(error)) => Err(format!("cannot run {shown}: {error}")),
            Ok(Ok(ended)) if ended.status.success() => Ok(Some(ended.output)),
            Ok(Ok(ended)) => {
                let said = [&ended.output, &ended.errors].map(|text| String::from_utf8_lossy(text));
                if said.iter().any(|text| text.contains(NOT_FOUND)) {
                    return Ok(None);
                }
                // The protocol has errors on standard output; scripts have them elsewhere.
                let said = said.iter().find(|text| !text.trim().is_empty());
                let reason = match said {
                    Some(text) => shortened(text),
                    None => format!("it ended with {} and said nothing", ended.status),
                };
                Err(format!("{shown} fails: {reason}"))
            }
        }
    }

    fn program(&self) -> Result<PathBuf, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !self.name.bytes().all(is_plain) {
            let name = shortened(self.name);
            return Err(format!("`{name}` is not the name of a credential helper"));
        }
        let file = format!("docker-credential-{}", self.name);
        let Some(directories) = self.directories else {
            return Ok(file.into());
        };
        let mut found = directories.iter().map(|directory| directory.join(&file));
        found
            .find(|path| path.is_file())
            .ok_or_else(|| format!("the credential helper {file} is not installed"))
    }
}

/// What became of a helper.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// Runs a helper to its end. Dropped, it kills the program.
async fn run(program: &Path, verb: &str, given: &[u8]) -> std::io::Result<Ended> {
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // It may answer without reading.
        if let Err(error) = input.write_all(given).await {
            tracing::debug!(%error, "a credential helper did not read its input");
        }
    }
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (output, errors) = tokio::try_join!(read(stdout), read(stderr))?;
    let status = child.wait().await?;
    Ok(Ended {
        status,
        output,
        errors,
    })
}

/// All that comes, as far as it is of any use. Who writes more finds nobody to read it.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

impl Output {
    fn credential(self) -> Option<Credential> {
        if self.secret.is_empty() {
            return None;
        }
        if self.username == TOKEN_USERNAME {
            return Some(Credential::IdentityToken(self.secret));
        }
        Some(Credential::Password {
            username: self.username,
            password: self.secret,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::credentials::{Credentials as _, DockerConfig};

    /// A helper that runs this shell script; the host is in `$host`.
    fn directory_with(script: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\nhost=$(cat)\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        directory
    }

    async fn ask(script: &str, config: &str, registry: &str) -> Result<Option<Credential>, String> {
        let directory = directory_with(script);
        let config = DockerConfig::parse(config.as_bytes(), "config.json")
            .unwrap()
            .with_helper_directories(vec![directory.path().to_owned()])
            .with_helper_timeout(Duration::from_secs(5));
        let found = config.credential(registry).await;
        found.map_err(|error| error.to_string())
    }

    const STORE: &str = r#"{"credsStore": "test"}"#;

    #[tokio::test]
    async fn a_helper_is_asked_for_the_host() {
        let echo = r#"echo "{\"ServerURL\":\"$host\",\"Username\":\"$1 $host\",\"Secret\":\"s\"}""#;
        let password = |username: &str| {
            Some(Credential::Password {
                username: username.into(),
                password: "s".into(),
            })
        };
        let found = ask(echo, STORE, "a.example:5000").await;
        assert_eq!(found, Ok(password("get a.example:5000")));
        let found = ask(echo, STORE, "docker.io").await;
        assert_eq!(found, Ok(password("get https://index.docker.io/v1/")));
        let helpers = r#"{"credHelpers": {"a.example": "test"}, "credsStore": "absent"}"#;
        let found = ask(echo, helpers, "a.example").await;
        assert_eq!(found, Ok(password("get a.example")));
        let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
        let found = ask(token, STORE, "a.example").await;
        assert_eq!(found, Ok(Some(Credential::IdentityToken("t".into()))));
    }

    #[tokio::test]
    async fn a_helper_without_a_login_leaves_it_to_the_file() {
        let none = "echo 'credentials not found in native keychain'; exit 1";
        let config = r#"{"credsStore": "test", "auths": {"x": {"identitytoken": "i"}}}"#;
        let found = ask(none, config, "x").await;
        assert_eq!(found, Ok(Some(Credential::IdentityToken("i".into()))));
        assert_eq!(ask(none, config, "y").await, Ok(None));
    }

    #[tokio::test]
    async fn a_helper_that_fails_is_named_with_what_it_says() {
        let check = async |script: &str, config: &str, part: &str| {
            let error = ask(script, config, "x").await.unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(error.contains("varve login x"), "{error}");
        };
        check(
            "printf 'no \\033[1m bus'; exit 1",
            STORE,
            "fails: no [1m bus",
        )
        .await;
        check("echo nonsense", STORE, "not what was expected").await;
        check("yes", STORE, "fails: y y").await;
        check("echo 'no bus' >&2; exit 1", STORE, "fails: no bus").await;
        let silent = "fails: it ended with exit status: 3 and said nothing";
        check("exit 3", STORE, silent).await;
        check(
            "",
            r#"{"credsStore": "absent"}"#,
            "docker-credential-absent is not installed",
        )
        .await;
        check("", r#"{"credsStore": "../x"}"#, "is not the name").await;
    }

    #[tokio::test]
    async fn a_helper_that_hangs_is_given_up() {
        let directory = directory_with("exec sleep 100");
        let directories = [directory.path().to_owned()];
        let helper = Helper {
            name: "test",
            directories: Some(&directories),
            timeout: Duration::from_millis(200),
        };
        let error = helper.get("x").await.unwrap_err();
        assert!(error.contains("did not answer within 0.2 s"), "{error}");
    }
}
