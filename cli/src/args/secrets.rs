//! `--secret` and `--ssh`: what of the caller's steps may use, as `docker buildx build` takes it.

use std::path::PathBuf;

use super::csv;

/// Id of the agent that is meant without one.
const AGENT_DEFAULT: &str = "default";

/// `--secret id=ID[,src=FILE|,env=NAME][,type=file|env]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    /// What mounts name it by.
    pub(crate) id: String,
    /// Where it comes from.
    pub(crate) from: SecretFrom,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretFrom {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// The variable of the id's name if there is one, else the file of that name.
    IdItself,
}

/// `--ssh default|ID[=SOCKET]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    /// What mounts name it by.
    pub(crate) id: String,
    /// Its socket, or files with keys; those of `SSH_AUTH_SOCK` when empty.
    pub(crate) paths: Vec<PathBuf>,
}

/// Reads `--secret`.
///
/// # Errors
/// A sentence about the field that is wrong.
pub(crate) fn secret(text: &str) -> Result<Secret, String> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            format!("invalid field '{field}' must be a key=value pair, as in id=token,src=FILE")
        })?;
        let value = value.to_owned();
        match key.to_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            "type" if ["file", "env"].contains(&value.as_str()) => kind = Some(value),
            "type" => {
                return Err(format!(
                    "unsupported secret type {value:?}: it is file or env"
                ));
            }
            _ => {
                return Err(format!(
                    "unexpected key '{key}' in '{field}': keys are id, src, env and type"
                ));
            }
        }
    }
    let filled = |value: Option<String>| value.filter(|value| !value.is_empty());
    let id = filled(id).ok_or("it has no id: give one, as in id=token,src=FILE")?;
    let (file, variable) = (filled(file), filled(variable));
    let from = match (kind.as_deref(), file, variable) {
        (_, Some(_), Some(_)) => return Err("it has both src and env: give one".to_owned()),
        (Some("file"), None, Some(_)) => {
            return Err("type=file takes src=FILE, not env=NAME".to_owned());
        }
        (Some("env"), Some(name), None) | (_, None, Some(name)) => SecretFrom::Variable(name),
        (_, Some(file), None) => SecretFrom::File(file.into()),
        (Some("env"), None, None) => SecretFrom::Variable(id.clone()),
        (Some(_), None, None) => SecretFrom::File(id.clone().into()),
        (None, None, None) => SecretFrom::IdItself,
    };
    Ok(Secret { id, from })
}

/// Reads `--ssh`.
///
/// # Errors
/// A sentence about what is missing.
pub(crate) fn agent(text: &str) -> Result<Agent, String> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let paths = paths.split(',').filter(|path| !path.is_empty());
    let id = match id {
        "" => AGENT_DEFAULT,
        id => id,
    };
    if id.contains(',') {
        return Err(format!("the id {id:?} holds a comma: use ID=SOCKET"));
    }
    Ok(Agent {
        id: id.to_owned(),
        paths: paths.map(PathBuf::from).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_variables() {
        let file = |path: &str| SecretFrom::File(path.into());
        let variable = |name: &str| SecretFrom::Variable(name.into());
        for (text, from) in [
            ("id=t,src=/a", file("/a")),
            ("id=t,source=a b", file("a b")),
            ("type=file,id=t,src=/a", file("/a")),
            ("id=t,\"src=/a,b\"", file("/a,b")),
            ("id=t,env=TOKEN", variable("TOKEN")),
            ("id=t,type=env,src=TOKEN", variable("TOKEN")),
            ("id=t,type=env", variable("t")),
            ("ID=t,Type=file", file("t")),
            ("id=t", SecretFrom::IdItself),
            ("id=t,src=", SecretFrom::IdItself),
        ] {
            let expect = Secret {
                id: "t".into(),
                from,
            };
            assert_eq!(secret(text).unwrap(), expect, "{text}");
        }
    }

    #[test]
    fn secrets_that_say_too_little_or_too_much_are_refused() {
        for (text, part) in [
            ("token", "must be a key=value pair"),
            ("src=/a", "it has no id"),
            ("id=,src=/a", "it has no id"),
            ("id=t,type=vault", "unsupported secret type \"vault\""),
            ("id=t,file=/a", "unexpected key 'file'"),
            ("id=t,src=/a,env=B", "both src and env"),
            ("id=t,type=file,env=B", "type=file takes src"),
            ("id=t,\"src=/a", "quote"),
        ] {
            let error = secret(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn agents_have_an_id_and_perhaps_a_socket() {
        for (text, id, paths) in [
            ("default", "default", &[][..]),
            ("", "default", &[]),
            ("default=", "default", &[]),
            ("other=/run/agent.sock", "other", &["/run/agent.sock"]),
            ("other=a,b", "other", &["a", "b"]),
            ("=/run/agent.sock", "default", &["/run/agent.sock"]),
        ] {
            let found = agent(text).unwrap();
            let expect: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            assert_eq!((found.id.as_str(), found.paths), (id, expect), "{text}");
        }
        assert!(agent("a,b").is_err());
    }
}
