//! RUN: a process on a writable snapshot of its root input; what it changed is the result.

use std::sync::Arc;

use engine::{BoxFuture, CacheKey, Op, OpContext, OpError, OutputStream};
use executor::{Cancel, Exit, HostEntry, Network, Process, ResourceLimit, Stream};
use llb::Vertex;
use llb::op::{Exec, Security};
use tokio::sync::mpsc;

use crate::build::blocking;
use crate::error::{Error, Result};
use crate::exec_mounts::{self, Sources, StepMounts};
use crate::ops::{Environment, definition_key, missing_object, op_error, rebase};
use crate::result::Value;

/// Lines of output on their way to the display; a step that writes faster waits.
const OUTPUT_QUEUE_LINES: usize = 1_024;

/// An exec operation of the graph.
#[derive(Debug)]
pub(super) struct ExecOp {
    exec: Exec,
    /// What the process is for; this machine's own platform when `None`.
    platform: Option<llb::Platform>,
    definition: CacheKey,
    /// A step before it may have left something in one of its cache mounts.
    shares_cache: bool,
    environment: Arc<Environment>,
}

impl ExecOp {
    /// Checks that everything the operation asks for can be done.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub(super) fn new(
        exec: Exec,
        vertex: &Vertex,
        shares_cache: bool,
        environment: Arc<Environment>,
    ) -> Result<Self> {
        let unsupported = |what: &str| Err(Error::Unsupported { what: what.into() });
        if exec.security == Security::Insecure {
            return unsupported("RUN --security=insecure");
        }
        if !exec.devices.is_empty() {
            return unsupported("RUN --device");
        }
        exec_mounts::check(&exec)?;
        let definition = definition_key(vertex);
        Ok(ExecOp {
            exec,
            platform: vertex.platform().cloned(),
            definition,
            shares_cache,
            environment,
        })
    }

    /// What the process can read of its inputs: of each mount, what is below its selector.
    fn key_of_inputs(&self, inputs: &[Value]) -> Result<CacheKey> {
        let mut key = CacheKey::builder("varve solver: exec op inputs v2");
        for mount in &self.exec.mounts {
            let Some(input) = mount.input else { continue };
            key = match inputs[input.position()].tree() {
                None => key.bytes([]),
                Some(tree) => {
                    let store = self.environment.store();
                    let selected = exec_mounts::select(store, tree, &mount.selector)?;
                    key.bytes(selected.key.as_bytes())
                }
            };
        }
        Ok(key.finish())
    }

    fn process(&self) -> Result<Process> {
        let exec = &self.exec;
        let mut env = exec.env.clone();
        env.extend(proxy_variables(exec));
        let hosts = exec.extra_hosts.iter().map(|extra| {
            let address = extra.ip.parse();
            let address = address.map_err(|_| Error::Unsupported {
                what: format!("extra host {:?} with address {:?}", extra.host, extra.ip),
            })?;
            Ok(HostEntry {
                host: extra.host.clone(),
                address,
            })
        });
        let limits = exec.ulimits.iter().map(|limit| ResourceLimit {
            name: limit.name.clone(),
            // -1 is no limit, here as there.
            soft: limit.soft.cast_unsigned(),
            hard: limit.hard.cast_unsigned(),
        });
        let root_is_read_only = exec.root().is_some_and(|mount| mount.readonly);
        Ok(Process {
            args: exec.args.clone(),
            env,
            user: exec.user.clone(),
            cwd: exec.cwd.clone(),
            network: match exec.network {
                llb::op::Network::None => Network::None,
                // There is no bridge yet: the sandbox is the host's network.
                llb::op::Network::Sandbox | llb::op::Network::Host => Network::Host,
            },
            hostname: Some(exec.hostname.clone()).filter(|name| !name.is_empty()),
            extra_hosts: hosts.collect::<Result<_>>()?,
            mounts: Vec::new(),
            read_only_root: root_is_read_only,
            limits: limits.collect(),
            terminal: None,
            extras: executor::Extras::default(),
        })
    }

    /// Why programs of the platform do not run here, if they do not. The step is tried all the
    /// same: some images say that they are of another platform than their programs are.
    async fn check_platform(&self) -> Result<Option<Error>> {
        let Some(platform) = &self.platform else {
            return Ok(None);
        };
        let has_kernel = platform.os == llb::Platform::host().os;
        match self.environment.execution.check_platform(platform).await {
            Ok(()) => Ok(None),
            Err(refused @ Error::ForeignPlatform { .. }) if has_kernel => Ok(Some(refused)),
            Err(error) => Err(error),
        }
    }

    async fn run(&self, inputs: &[Value], context: OpContext) -> Result<Vec<Value>> {
        let mut process = self.process()?;
        let execution = &self.environment.execution;
        execution.check()?;
        let foreign = self.check_platform().await?;
        let mut mounts = {
            let (exec, inputs) = (self.exec.clone(), inputs.to_vec());
            let (environment, context) = (self.environment.clone(), context.clone());
            blocking(move || {
                check_objects(&inputs, &environment)?;
                let sources = Sources {
                    inputs: &inputs,
                    snapshots: &environment.snapshots,
                    directory: environment.execution.directory(),
                    cancel: &context.cancel,
                    output: &context.output,
                    checked: &environment.checked,
                    secrets: &environment.secrets,
                    agents: &environment.agents,
                };
                StepMounts::prepare(&exec, &sources)
            })
            .await?
        };
        process.env.extend(mounts.take_secret_env());
        let ran = self.supervise(&mounts, process, context).await;
        let ran = ran.map_err(|error| match (error, foreign) {
            (Error::NotStarted { .. }, Some(foreign)) => foreign,
            (error, _) => error,
        });
        match ran {
            Ok(()) => blocking(move || Ok(vec![mounts.commit()?])).await,
            Err(error) => {
                blocking(move || {
                    mounts.discard();
                    Err(error)
                })
                .await
            }
        }
    }

    /// Runs the process, passes its output on, and turns a bad exit into an error.
    async fn supervise(
        &self,
        mounts: &StepMounts,
        process: Process,
        context: OpContext,
    ) -> Result<()> {
        let (sender, mut lines) = mpsc::channel::<executor::OutputLine>(OUTPUT_QUEUE_LINES);
        let cancel = Cancel::new();
        let output = context.output.clone();
        let forward = async {
            while let Some(line) = lines.recv().await {
                let stream = match line.stream {
                    Stream::Stdout => OutputStream::Stdout,
                    Stream::Stderr => OutputStream::Stderr,
                };
                let mut bytes = line.text;
                if line.ends {
                    bytes.push(b'\n');
                }
                output.log(stream, bytes);
            }
        };
        let watch = async {
            context.cancel.cancelled().await;
            cancel.cancel();
            std::future::pending::<()>().await;
        };
        let execution = &self.environment.execution;
        let run = execution.run(
            mounts.root(),
            mounts.shown(),
            process,
            executor::Stdio::Lines(sender),
            cancel.clone(),
        );
        let both = async { tokio::join!(run, forward).0 };
        let exit = tokio::select! {
            exit = both => exit.map_err(|error| self.not_started(error))?,
            () = watch => unreachable!("watching never ends"),
        };
        self.judge(exit)
    }

    fn not_started(&self, error: Error) -> Error {
        match error {
            Error::Executor(executor::Error::Cancelled) => error,
            Error::Executor(source) => Error::NotStarted {
                command: self.exec.args.join(" "),
                source,
            },
            other => other,
        }
    }

    fn judge(&self, exit: Exit) -> Result<()> {
        let code = exit.code();
        let valid = &self.exec.valid_exit_codes;
        let good = if valid.is_empty() {
            code == 0
        } else {
            valid.contains(&code)
        };
        if good {
            return Ok(());
        }
        Err(Error::Exit {
            command: self.exec.args.join(" "),
            code,
        })
    }
}

impl Op for ExecOp {
    type Value = Value;

    fn cache_map(&self, _: OpContext) -> BoxFuture<'_, Result<CacheKey, OpError>> {
        Box::pin(async { Ok(self.definition) })
    }

    fn content_key<'a>(
        &'a self,
        inputs: &'a [Value],
        _: OpContext,
    ) -> BoxFuture<'a, Result<Option<CacheKey>, OpError>> {
        // What is in a cache mount is in no key. So such a step runs if one before it has run.
        let key = match self.shares_cache {
            true => Ok(None),
            false => self.key_of_inputs(inputs).map(Some).map_err(op_error),
        };
        Box::pin(async move { key })
    }

    fn rebase<'a>(
        &'a self,
        inputs: &'a [Value],
        found: Vec<Value>,
        _: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        let root = self.exec.root().and_then(|mount| mount.input);
        let base = root.map_or_else(Value::empty, |input| inputs[input.position()].clone());
        let environment = self.environment.clone();
        // The root is the only output.
        let moved = blocking(move || rebase(&found, &[base], &environment));
        Box::pin(async move { moved.await.map_err(op_error) })
    }

    fn exec<'a>(
        &'a self,
        inputs: &'a [Value],
        context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        Box::pin(async move { self.run(inputs, context).await.map_err(op_error) })
    }
}

/// Refuses to run a step on a file system of which a file is lost: the step would see an error in
/// its place, and might go on with a wrong result.
fn check_objects(inputs: &[Value], environment: &Environment) -> Result<()> {
    for tree in inputs.iter().filter_map(Value::tree) {
        if let Some(id) = missing_object(tree, environment.store(), &environment.checked)? {
            return Err(Error::Store(store::Error::BlobMissing { id }));
        }
    }
    Ok(())
}

/// The proxy variables in both spellings, as BuildKit sets them.
fn proxy_variables(exec: &Exec) -> Vec<String> {
    let Some(proxy) = &exec.proxy else {
        return Vec::new();
    };
    [
        ("HTTP_PROXY", &proxy.http),
        ("HTTPS_PROXY", &proxy.https),
        ("FTP_PROXY", &proxy.ftp),
        ("NO_PROXY", &proxy.no),
        ("ALL_PROXY", &proxy.all),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .flat_map(|(name, value)| {
        [
            format!("{name}={value}"),
            format!("{}={value}", name.to_lowercase()),
        ]
    })
    .collect()
}
