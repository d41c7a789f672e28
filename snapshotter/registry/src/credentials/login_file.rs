//! docker's config.json, to store a login in or to take one out. What else is in it stays.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::docker_config::{host_of, keys_of};
use super::helper::{HELPER_TIMEOUT, Helper};
use crate::error::{Error, Result, shortened};

/// The table of logins.
const AUTHS: &str = "auths";

/// A config.json that is about to be changed.
#[derive(Debug)]
pub struct LoginFile {
    path: PathBuf,
    document: Map<String, Value>,
    helper_directories: Option<Vec<PathBuf>>,
}

impl LoginFile {
    /// The file with this text, which may be empty; where it is is only for messages.
    ///
    /// # Errors
    /// It is no JSON object.
    pub fn parse(text: &[u8], path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let document = match text.trim_ascii() {
            b"" => Map::new(),
            text => serde_json::from_slice(text).map_err(|error| Error::Config {
                path: path.clone(),
                reason: shortened(&error.to_string()),
            })?,
        };
        Ok(LoginFile {
            path,
            document,
            helper_directories: None,
        })
    }

    /// Looks for credential helpers in these directories instead of the PATH of this process.
    #[must_use]
    pub fn with_helper_directories(mut self, directories: Vec<PathBuf>) -> Self {
        self.helper_directories = Some(directories);
        self
    }

    /// Stores a login: where a credential helper is configured for the registry with that, else
    /// as it is. Whether a helper has it.
    ///
    /// # Errors
    /// The helper fails: [`Error::Credentials`].
    pub async fn store(&mut self, registry: &str, username: &str, password: &str) -> Result<bool> {
        let key = keys_of(registry)[0];
        let helper = self.helper(registry)?;
        let mut entry = Map::new();
        if let Some(name) = &helper {
            let outcome = self.program(name).store(key, username, password).await;
            outcome.map_err(|reason| refused(registry, reason))?;
        } else {
            let auth = STANDARD.encode(format!("{username}:{password}"));
            entry.insert("auth".to_owned(), auth.into());
        }
        // An empty entry tells docker's own tools that there is a login.
        self.table(AUTHS)?
            .insert(key.to_owned(), Value::Object(entry));
        Ok(helper.is_some())
    }

    /// Takes a login out, from the helper too. Whether there was one.
    ///
    /// # Errors
    /// The helper fails: [`Error::Credentials`].
    pub async fn erase(&mut self, registry: &str) -> Result<bool> {
        let keys = keys_of(registry);
        let mut was_there = false;
        if let Some(name) = self.helper(registry)? {
            let outcome = self.program(&name).erase(keys[0]).await;
            was_there = outcome.map_err(|reason| refused(registry, reason))?;
        }
        if self.document.contains_key(AUTHS) {
            let auths = self.table(AUTHS)?;
            let before = auths.len();
            let is_for = |key: &str| keys.iter().any(|wanted| host_of(key) == host_of(wanted));
            auths.retain(|key, _| !is_for(key));
            was_there |= auths.len() < before;
        }
        Ok(was_there)
    }

    /// The text to write.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        // A map of values whose keys are text can always be written.
        let mut text = serde_json::to_vec_pretty(&self.document).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The helper that keeps the login of a registry.
    fn helper(&self, registry: &str) -> Result<Option<String>> {
        let helpers = self.document.get("credHelpers").and_then(Value::as_object);
        let own = helpers.and_then(|helpers| {
            let mut found = keys_of(registry)
                .into_iter()
                .filter_map(|key| helpers.get(key));
            found.next()
        });
        match own.or_else(|| self.document.get("credsStore")) {
            None => Ok(None),
            Some(Value::String(name)) => Ok(Some(name.clone()).filter(|name| !name.is_empty())),
            Some(_) => Err(self.misshapen("the name of a credential helper is no text")),
        }
    }

    fn program<'h>(&'h self, name: &'h str) -> Helper<'h> {
        Helper {
            name,
            directories: self.helper_directories.as_deref(),
            timeout: HELPER_TIMEOUT,
        }
    }

    fn table(&mut self, name: &str) -> Result<&mut Map<String, Value>> {
        let misshapen = self.misshapen(&format!("`{name}` is no object"));
        let table = self
            .document
            .entry(name)
            .or_insert_with(|| Map::new().into());
        table.as_object_mut().ok_or(misshapen)
    }

    fn misshapen(&self, reason: &str) -> Error {
        Error::Config {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }
}

fn refused(registry: &str, reason: String) -> Error {
    Error::Credentials {
        registry: registry.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::credentials::{Credential, Credentials as _, DockerConfig};

    fn file(text: &str) -> LoginFile {
        LoginFile::parse(text.as_bytes(), "config.json").unwrap()
    }

    async fn found(file: &LoginFile, registry: &str) -> Option<Credential> {
        let config = DockerConfig::parse(&file.text(), "config.json").unwrap();
        config.credential(registry).await.unwrap()
    }

    fn password(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password {
            username: username.into(),
            password: password.into(),
        })
    }

    #[tokio::test]
    async fn what_is_stored_is_found_and_what_is_erased_is_not() {
        let mut file = file("");
        for registry in ["docker.io", "r.example:5000", "[::1]:5000"] {
            let is_kept = file.store(registry, "me", "se:cret ü").await.unwrap();
            assert!(!is_kept, "no helper is configured");
            assert_eq!(found(&file, registry).await, password("me", "se:cret ü"));
            file.store(registry, "you", "other").await.unwrap();
            assert_eq!(found(&file, registry).await, password("you", "other"));
            assert!(file.erase(registry).await.unwrap());
            assert_eq!(found(&file, registry).await, None);
            assert!(!file.erase(registry).await.unwrap(), "it is gone already");
        }
    }

    #[tokio::test]
    async fn everything_else_in_the_file_stays() {
        let text = r#"{"auths": {"other": {"auth": "bTpw", "x": 1}, "https://r/v1/": {}},
            "HttpHeaders": {"A": "b"}, "psFormat": "table"}"#;
        let mut file = file(text);
        file.store("new", "me", "p").await.unwrap();
        assert!(
            file.erase("r").await.unwrap(),
            "a key with a scheme is found"
        );
        let now: Value = serde_json::from_slice(&file.text()).unwrap();
        let expected = serde_json::json!({
            "auths": {"other": {"auth": "bTpw", "x": 1}, "new": {"auth": "bWU6cA=="}},
            "HttpHeaders": {"A": "b"}, "psFormat": "table",
        });
        assert_eq!(now, expected);
    }

    #[tokio::test]
    async fn a_helper_gets_the_secret_and_the_file_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("docker-credential-test");
        let told = directory.path().join("told");
        let script = format!(
            "#!/bin/sh\n{{ echo $1; cat; echo; }} >> {}\n",
            told.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let directories = vec![directory.path().to_owned()];
        let mut file =
            file(r#"{"credHelpers": {"r": "test"}}"#).with_helper_directories(directories);
        assert!(file.store("r", "me", "secret").await.unwrap());
        let text = String::from_utf8(file.text()).unwrap();
        assert!(
            !text.contains("secret") && text.contains("\"r\": {}"),
            "{text}"
        );
        assert!(file.erase("r").await.unwrap());
        let told = std::fs::read_to_string(told).unwrap();
        let stored = r#"{"ServerURL":"r","Username":"me","Secret":"secret"}"#;
        assert_eq!(told, format!("store\n{stored}\nerase\nr\n"));
        // One that fails changes nothing.
        std::fs::write(
            &program,
            "#!/bin/sh\necho the key chain is locked; exit 1\n",
        )
        .unwrap();
        let before = file.text();
        let error = file
            .store("r", "me", "secret")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("the key chain is locked"), "{error}");
        assert_eq!(file.text(), before);
    }

    #[tokio::test]
    async fn a_file_of_another_form_is_left_alone() {
        let error = LoginFile::parse(b"[]", "c.json").unwrap_err().to_string();
        assert!(error.starts_with("c.json: "), "{error}");
        let error = file(r#"{"auths": []}"#).store("r", "me", "p").await;
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("`auths` is no object")
        );
    }
}
