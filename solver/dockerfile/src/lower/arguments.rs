//! Arguments that exist before the first stage: platforms, `ARG`s above the first `FROM`, proxies,
//! and the time of the build.

use std::collections::BTreeMap;

use llb::Platform;
use llb::op::ProxyEnv;

use super::environment::Environment;
use super::history::rfc3339;
use super::options::Options;
use crate::ast::Dockerfile;
use crate::error::{Error, Span};
use crate::words::{Lexer, Variables};

/// Name of the argument that sets the time of the build.
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What all stages share.
#[derive(Debug)]
pub(crate) struct Globals {
    /// Variables of `FROM` lines; inside a stage only those that an `ARG` names again.
    pub(crate) variables: Environment,
    /// `--build-arg`.
    pub(crate) build_args: BTreeMap<String, String>,
    /// What is built for.
    pub(crate) target_platform: Platform,
    /// Nobody said what to build for, so a base image may.
    pub(crate) implicit_target: bool,
    /// Proxy variables among the build arguments.
    pub(crate) proxy: Option<ProxyEnv>,
    /// Time of the build, in seconds since the epoch.
    pub(crate) epoch: Option<i64>,
    /// The same as text.
    pub(crate) created: Option<String>,
    /// Under the escape character of the file.
    pub(crate) lexer: Lexer,
}

impl Globals {
    pub(super) fn new(dockerfile: &Dockerfile, options: &Options) -> Result<Self, Error> {
        let target_platform = options
            .target_platform
            .clone()
            .unwrap_or_else(|| options.build_platform.clone());
        let mut globals = Self {
            variables: Environment::default(),
            build_args: options.build_args.clone(),
            implicit_target: options.target_platform.is_none(),
            target_platform,
            proxy: proxy(&options.build_args),
            epoch: options.source_date_epoch,
            created: None,
            lexer: Lexer::new(dockerfile.directives.escape),
        };
        globals.set_predefined(dockerfile, options);
        globals.set_declared(dockerfile)?;
        globals.set_epoch(dockerfile)?;
        Ok(globals)
    }

    /// Platform arguments. A build argument of the name replaces the value.
    fn set_predefined(&mut self, dockerfile: &Dockerfile, options: &Options) {
        let (build, target) = (&options.build_platform, self.target_platform.normalized());
        let last_stage = dockerfile
            .stages
            .last()
            .and_then(|stage| stage.name.as_deref());
        let stage = options
            .target
            .as_deref()
            .or(last_stage)
            .unwrap_or("default");
        for (name, value) in [
            ("BUILDPLATFORM", build.short()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", build.os_version.clone()),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", build.variant.clone()),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os),
            ("TARGETOSVERSION", target.os_version),
            ("TARGETARCH", target.architecture),
            ("TARGETVARIANT", target.variant),
            ("TARGETSTAGE", stage.to_owned()),
        ] {
            self.variables
                .set(name, self.build_args.get(name).unwrap_or(&value));
        }
    }

    /// `ARG`s above the first `FROM`.
    fn set_declared(&mut self, dockerfile: &Dockerfile) -> Result<(), Error> {
        for instruction in &dockerfile.meta_args {
            for argument in &instruction.args {
                let value = match (self.build_args.get(&argument.name), &argument.default) {
                    (Some(given), _) => given.clone(),
                    (None, Some(default)) => self
                        .lexer
                        .process_word(default.as_str(), &self.variables)
                        .map_err(|error| at(instruction.origin.span, error))?,
                    (None, None) => continue,
                };
                self.variables.set(&argument.name, &value);
            }
        }
        Ok(())
    }

    fn set_epoch(&mut self, dockerfile: &Dockerfile) -> Result<(), Error> {
        let given = self.build_args.get(SOURCE_DATE_EPOCH).map(String::as_str);
        let declared = || {
            self.variables
                .get(SOURCE_DATE_EPOCH)
                .filter(|value| !value.is_empty())
        };
        let span = dockerfile
            .stages
            .first()
            .map_or(Span::line(1), |stage| stage.origin.span);
        if let Some(value) = given.or_else(declared).map(str::to_owned) {
            self.epoch = match value.as_str() {
                // A local directory has no time of its own.
                "" | "context" => None,
                value => Some(value.parse().map_err(|_| invalid_epoch(span, value))?),
            };
            self.replace_epoch();
        }
        if let Some(epoch) = self.epoch {
            let invalid = || invalid_epoch(span, &epoch.to_string());
            self.created = Some(rfc3339(epoch).ok_or_else(invalid)?);
        }
        Ok(())
    }

    /// What steps see as `SOURCE_DATE_EPOCH` is the number, whatever was given.
    fn replace_epoch(&mut self) {
        let value = self.epoch.map(|epoch| epoch.to_string());
        if self.build_args.remove(SOURCE_DATE_EPOCH).is_some()
            && let Some(value) = &value
        {
            self.build_args
                .insert(SOURCE_DATE_EPOCH.to_owned(), value.clone());
        }
        if self.variables.get(SOURCE_DATE_EPOCH).is_some() {
            match &value {
                Some(value) => self.variables.set(SOURCE_DATE_EPOCH, value),
                None => self.variables.remove(SOURCE_DATE_EPOCH),
            }
        }
    }
}

/// An error of one instruction.
pub(crate) fn at(span: Span, message: impl ToString) -> Error {
    Error::Lower {
        message: message.to_string(),
        span,
    }
}

fn invalid_epoch(span: Span, value: &str) -> Error {
    at(span, format!("invalid SOURCE_DATE_EPOCH: {value}"))
}

/// Proxy variables in any case; of several spellings the last one in text order counts.
fn proxy(build_args: &BTreeMap<String, String>) -> Option<ProxyEnv> {
    let mut proxy = ProxyEnv::default();
    let mut found = false;
    for (name, value) in build_args {
        let field = match name.to_ascii_lowercase().as_str() {
            "http_proxy" => &mut proxy.http,
            "https_proxy" => &mut proxy.https,
            "ftp_proxy" => &mut proxy.ftp,
            "no_proxy" => &mut proxy.no,
            "all_proxy" => &mut proxy.all,
            _ => continue,
        };
        field.clone_from(value);
        found = true;
    }
    found.then_some(proxy)
}
