//! One stage while its instructions are lowered: its file system so far, the environment of its
//! next step, and its image configuration.

use llb::op::Network;
use llb::{Metadata, Output, Platform};

use super::arguments::{Globals, at};
use super::environment::Environment;
use super::paths;
use crate::ast::NetworkMode;
use crate::config::{DEFAULT_PATH, DockerImageConfig, WINDOWS};
use crate::error::{Error, Span};
use crate::stages::StageNode;
use crate::words::Variables;

/// Most variables of one stage. A process with more, or with larger ones, cannot be started.
const VARIABLES_MAX: usize = 4096;

/// The state of one stage.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    /// The file system; `None` when it is empty.
    pub(super) root: Option<Output>,
    /// Variables of the next step.
    pub(super) environment: Environment,
    /// Working directory of the next step.
    pub(super) directory: String,
    /// User of the next step; empty for root.
    pub(super) user: String,
    /// What `RUN` steps run for, when the base says so.
    pub(super) run_platform: Option<Platform>,
    /// What the stage is built for.
    pub(super) platform: Platform,
    /// The image so far.
    pub(super) image: DockerImageConfig,
    /// The image that the first stage of the chain was built on.
    pub(super) base_image: Option<DockerImageConfig>,
    /// `ARG`s in order, for history entries.
    pub(super) arguments: Vec<(String, Option<String>)>,
    /// The set of paths that are read of it; stages built on each other share one.
    pub(super) path_set: usize,
    /// `CMD` was given in this stage.
    pub(super) cmd_given: bool,
    /// Time of new entries.
    pub(super) created: Option<String>,
    /// What its steps are called.
    pub(super) naming: Naming,
    /// Its steps ignore the cache.
    pub(super) ignore_cache: bool,
}

/// How the steps of a stage are called.
#[derive(Debug, Clone, Default)]
pub(super) struct Naming {
    pub(super) label: String,
    pub(super) index: usize,
    pub(super) count: usize,
    pub(super) with_platform: bool,
    pub(super) is_trigger: bool,
}

impl StageState {
    /// A stage on top of this one.
    pub(super) fn child(&self) -> Self {
        let mut child = self.clone();
        // Triggers run in the next stage only.
        child.image.config.on_build.clear();
        child.cmd_given = false;
        child
    }

    /// Takes over what the stage's `FROM` line says.
    pub(super) fn begin(&mut self, node: &StageNode, with_platform: bool) {
        self.naming = Naming {
            label: node.label.clone(),
            count: node.step_count,
            with_platform,
            ..Naming::default()
        };
        self.ignore_cache = node.ignore_cache;
    }

    /// Takes over what the image configuration says of the steps to come.
    pub(super) fn inherit(&mut self, span: Span) -> Result<(), Error> {
        let config = &mut self.image.config;
        let names = |variable: &String| variable.split('=').next() == Some("PATH");
        if self.platform.os != WINDOWS && !config.env.iter().any(names) {
            config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for variable in config.env.clone() {
            let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
            self.set_variable(name, value, span)?;
        }
        let directory = self.image.config.working_dir.clone();
        if !directory.is_empty() {
            self.set_directory(&directory);
        }
        if !self.image.config.user.is_empty() {
            self.user.clone_from(&self.image.config.user);
        }
        Ok(())
    }

    /// Sets a variable of the steps to come.
    pub(super) fn set_variable(
        &mut self,
        name: &str,
        value: &str,
        span: Span,
    ) -> Result<(), Error> {
        self.environment.set(name, value);
        if self.environment.names().count() > VARIABLES_MAX {
            return Err(at(
                span,
                format!("more than {VARIABLES_MAX} variables in one stage"),
            ));
        }
        Ok(())
    }

    /// Sets the working directory, relative to the one before.
    pub(super) fn set_directory(&mut self, path: &str) {
        let directory = paths::absolute(&self.image.config.working_dir, path);
        self.image.config.working_dir.clone_from(&directory);
        self.directory = directory;
    }

    /// The command line of a shell form.
    pub(super) fn with_shell(&self, text: String) -> Vec<String> {
        let shell = &self.image.config.shell;
        let mut args = match shell.as_slice() {
            [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            shell => shell.to_vec(),
        };
        args.push(text);
        args
    }

    /// The name of the next step in BuildKit's form: `[label 2/3] text`.
    pub(super) fn step_name(&mut self, text: &str, platform: Option<&Platform>) -> String {
        let name = self.peek_step_name(text, platform);
        self.naming.index += usize::from(self.naming.count > 0);
        name
    }

    /// The same, without going on to the next step.
    pub(super) fn peek_step_name(&self, text: &str, platform: Option<&Platform>) -> String {
        let naming = &self.naming;
        if naming.count == 0 {
            return text.to_owned();
        }
        let platform = platform.filter(|_| naming.with_platform).map(|platform| {
            let cross = cross_platform(platform, &self.environment).unwrap_or_default();
            format!("{platform}{cross} ")
        });
        let platform = platform.unwrap_or_default();
        let label = match naming.label.as_str() {
            "" => String::new(),
            label => format!("{label} "),
        };
        let width = naming.count.ilog10() as usize + 1;
        let (index, count) = (naming.index + 1, naming.count);
        let trigger = if naming.is_trigger { "ONBUILD " } else { "" };
        format!("[{platform}{label}{index:width$}/{count}] {trigger}{text}")
    }

    /// Metadata of a step: its name, its place and whether it ignores the cache.
    pub(super) fn metadata(&self, name: String, locations: Vec<llb::Location>) -> Metadata {
        Metadata {
            ignore_cache: self.ignore_cache,
            locations,
            ..Metadata::named(name)
        }
    }
}

/// `->arm64`: what is built for in a step that runs on another platform, known from the `ARG`s in
/// force.
fn cross_platform(base: &Platform, variables: &Environment) -> Option<String> {
    let mut target = Platform::default();
    let whole = variables.get("TARGETPLATFORM");
    match whole.and_then(|text| Platform::parse(text, base).ok()) {
        Some(platform) => target = platform,
        None => {
            let mut given = false;
            for (name, field) in [
                ("TARGETOS", &mut target.os),
                ("TARGETARCH", &mut target.architecture),
                ("TARGETVARIANT", &mut target.variant),
            ] {
                if let Some(value) = variables.get(name) {
                    value.clone_into(field);
                    given = true;
                }
            }
            given.then_some(())?;
        }
    }
    if target.os.is_empty() {
        target.os.clone_from(&base.os);
    }
    if target.architecture.is_empty() {
        target.architecture.clone_from(&base.architecture);
    }
    let target = target.normalized();
    if target.os != base.os {
        return Some(format!("->{target}"));
    }
    (target.architecture != base.architecture).then(|| {
        let variant = Some(target.variant).filter(|variant| !variant.is_empty());
        let variant = variant
            .map(|variant| format!("/{variant}"))
            .unwrap_or_default();
        format!("->{}{variant}", target.architecture)
    })
}

/// The network of a step that asks for `wanted` in a build whose default is `default`.
pub(super) fn network(wanted: NetworkMode, default: NetworkMode) -> Network {
    match (wanted, default) {
        (NetworkMode::None, _) | (NetworkMode::Default, NetworkMode::None) => Network::None,
        (NetworkMode::Host, _) | (NetworkMode::Default, NetworkMode::Host) => Network::Host,
        (NetworkMode::Default, NetworkMode::Default) => Network::Sandbox,
    }
}

impl Globals {
    /// The state of a stage that starts from nothing but an image configuration.
    pub(super) fn state(
        &self,
        image: DockerImageConfig,
        platform: Platform,
        path_set: usize,
    ) -> StageState {
        StageState {
            root: None,
            environment: Environment::default(),
            directory: "/".to_owned(),
            user: String::new(),
            run_platform: None,
            platform,
            image,
            base_image: None,
            arguments: Vec::new(),
            path_set,
            cmd_given: false,
            created: self.created.clone(),
            naming: Naming::default(),
            ignore_cache: false,
        }
    }
}
