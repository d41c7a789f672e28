//! What the command line gives RUN steps, with the values of the environment and the files that it
//! names looked at.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use solver::agents::Agents;
use solver::request::{HostIp, StepInputs, Ulimit};
use solver::secrets::{SECRET_BYTES_MAX, SecretSource, SecretValue, Secrets};

use super::keys::KeyAgent;
use crate::args::secrets::{Agent, Secret, SecretFrom};
use crate::args::steps::StepOptions;
use crate::environment::Environment;

/// Variable that tells where an ssh agent listens.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// Reads the options.
///
/// # Errors
/// A secret or an agent is not there; a key cannot be read.
pub(super) fn inputs(
    options: &StepOptions,
    environment: &Environment,
) -> anyhow::Result<(StepInputs, Vec<KeyAgent>)> {
    let (agents, own) = agents(&options.agents, environment)?;
    let inputs = StepInputs {
        variables: environment.all(),
        secrets: secrets(&options.secrets, environment)?,
        agents,
        shm_size_bytes: options.shm_size,
        ulimits: options
            .ulimits
            .iter()
            .map(|limit| Ulimit {
                name: limit.name.clone(),
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
        extra_hosts: options
            .hosts
            .iter()
            .map(|host| HostIp {
                host: host.name.clone(),
                ip: host.address.to_string(),
            })
            .collect(),
    };
    Ok((inputs, own))
}

fn secrets(given: &[Secret], environment: &Environment) -> anyhow::Result<Secrets> {
    let mut secrets = Secrets::default();
    for Secret { id, from } in given {
        let variable = |name: &str| environment.get(name);
        let source = match from {
            SecretFrom::File(path) => secret_file(id, path)?,
            SecretFrom::Variable(name) => match variable(name) {
                Some(value) => SecretSource::Value(SecretValue::new(value.as_bytes())),
                // As buildx: only a step that requires it fails.
                None => continue,
            },
            SecretFrom::IdItself => match variable(id) {
                Some(value) => SecretSource::Value(SecretValue::new(value.as_bytes())),
                None => secret_file(id, Path::new(id))?,
            },
        };
        secrets.insert(id, source);
    }
    Ok(secrets)
}

fn secret_file(id: &str, path: &Path) -> anyhow::Result<SecretSource> {
    let absolute = Environment::absolute(path)?;
    let found = std::fs::metadata(&absolute).with_context(|| {
        format!(
            "--secret id={id}: failed to stat {}; name the file with src=FILE or a variable \
             with env=NAME",
            path.display()
        )
    })?;
    if found.is_dir() {
        bail!("--secret id={id}: {} is a directory", path.display());
    }
    if found.len() > SECRET_BYTES_MAX {
        bail!("--secret id={id}: secret {id} too big. max size 500KB");
    }
    Ok(SecretSource::File(absolute))
}

/// The agents, and those of them that were started for keys in files.
fn agents(given: &[Agent], environment: &Environment) -> anyhow::Result<(Agents, Vec<KeyAgent>)> {
    let (mut agents, mut own) = (Agents::default(), Vec::new());
    for Agent { id, paths } in given {
        let keys: Vec<_> = paths
            .iter()
            .map(|path| Environment::absolute(path))
            .collect::<anyhow::Result<_>>()?;
        if !keys.is_empty() && keys.iter().all(|path| path.is_file()) {
            let agent = KeyAgent::start(&keys, environment)
                .with_context(|| format!("--ssh {id}: no agent can be made of it"))?;
            if !agents.insert(id, agent.socket()) {
                bail!("--ssh {id}: duplicate agent ID {id:?}; give each an id of its own");
            }
            own.push(agent);
            continue;
        }
        let socket = match paths.as_slice() {
            [] => environment
                .get(AGENT_VARIABLE)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .with_context(|| {
                    format!(
                        "--ssh {id}: invalid empty ssh agent socket: make sure {AGENT_VARIABLE} is \
                         set (`eval $(ssh-agent)`), or name one with --ssh {id}=SOCKET"
                    )
                })?,
            [socket] => socket.clone(),
            [_, _, ..] => bail!(
                "--ssh {id}: only single socket allowed, or several files with keys; put keys into \
                 an agent of yours with `ssh-add`"
            ),
        };
        let socket = agent_socket(id, &socket)?;
        if !agents.insert(id, socket) {
            bail!("--ssh {id}: duplicate agent ID {id:?}; give each an id of its own");
        }
    }
    Ok((agents, own))
}

fn agent_socket(id: &str, path: &Path) -> anyhow::Result<PathBuf> {
    let absolute = Environment::absolute(path)?;
    let found = std::fs::metadata(&absolute)
        .with_context(|| format!("--ssh {id}: failed to stat {}", path.display()))?;
    if found.file_type().is_socket() {
        return Ok(absolute);
    }
    bail!("--ssh {id}: {} is no socket of an agent", path.display())
}
