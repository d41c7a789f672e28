//! One instruction: which file lowers it, and those that change the image configuration only.

use std::time::Duration;

use super::arguments::at;
use super::history::{Entry, health, list, quoted_list};
use super::stage::StageState;
use super::{Lowerer, copy};
use crate::ast::{CommandLine, HealthCommand, Healthcheck, InstructionKind, KeyValue, Word};
use crate::config::{Empty, HealthConfig};
use crate::error::{Error, Span};
use crate::stages::Command;

/// Signals by name, without `SIG`. `RTMIN+n` and `RTMAX-n` are computed.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

impl Lowerer<'_> {
    /// Lowers one instruction.
    pub(super) fn instruction(
        &mut self,
        stage: &mut StageState,
        command: &Command,
    ) -> Result<(), Error> {
        let origin = &command.instruction.origin;
        let span = origin.span;
        self.spend(origin.source.len(), span)?;
        match &command.instruction.kind {
            InstructionKind::Add(add) => self.copy(stage, command, &copy::Request::add(add)),
            InstructionKind::Copy(found) => self.copy(stage, command, &copy::Request::copy(found)),
            InstructionKind::Run(run) => self.run(stage, run, command),
            InstructionKind::Workdir(path) => self.workdir(stage, path, origin),
            InstructionKind::Env(pairs) => self.env(stage, pairs, span),
            InstructionKind::Arg(arguments) => self.arg(stage, arguments, span),
            InstructionKind::Label(pairs) => self.label(stage, pairs, span),
            InstructionKind::Expose(ports) => self.expose(stage, ports, span),
            InstructionKind::Volume(paths) => self.volume(stage, paths, span),
            InstructionKind::User(user) => {
                let user = self.expand(stage, user, span)?;
                stage.commit(format!("USER {user}"), Entry::Empty);
                stage.user.clone_from(&user);
                stage.image.config.user = user;
                Ok(())
            }
            InstructionKind::StopSignal(signal) => {
                let signal = self.expand(stage, signal, span)?;
                if !is_signal(&signal) {
                    return Err(at(span, format!("invalid signal: {signal}")));
                }
                stage.commit(format!("STOPSIGNAL {signal}"), Entry::Empty);
                stage.image.config.stop_signal = signal;
                Ok(())
            }
            other => {
                configure(stage, other);
                Ok(())
            }
        }
    }

    fn label(
        &mut self,
        stage: &mut StageState,
        pairs: &[KeyValue],
        span: Span,
    ) -> Result<(), Error> {
        let mut message = "LABEL".to_owned();
        for pair in pairs {
            let key = self.expand(stage, &pair.key, span)?;
            let value = self.expand(stage, &pair.value, span)?;
            message.push_str(&format!(" {key}={value}"));
            stage.image.config.labels.insert(key, value);
        }
        stage.commit(message, Entry::Empty);
        Ok(())
    }

    fn volume(&mut self, stage: &mut StageState, paths: &[Word], span: Span) -> Result<(), Error> {
        let mut volumes = Vec::with_capacity(paths.len());
        for path in paths {
            volumes.push(self.expand(stage, path, span)?);
        }
        if volumes.iter().any(String::is_empty) {
            return Err(at(span, "VOLUME specified can not be an empty string"));
        }
        let set = &mut stage.image.config.volumes;
        set.extend(volumes.iter().map(|path| (path.clone(), Empty {})));
        stage.commit(format!("VOLUME {}", list(&volumes)), Entry::Empty);
        Ok(())
    }
}

/// Instructions without variables that change the image configuration.
fn configure(stage: &mut StageState, kind: &InstructionKind) {
    match kind {
        InstructionKind::Maintainer(name) => {
            stage.image.author.clone_from(name);
            stage.commit(format!("MAINTAINER {name}"), Entry::Empty);
        }
        InstructionKind::Cmd(command) => {
            let args = command_line(stage, command);
            stage.commit(format!("CMD {}", quoted_list(&args)), Entry::Empty);
            stage.image.config.cmd = args;
            stage.image.config.args_escaped = true;
            stage.cmd_given = true;
        }
        InstructionKind::Entrypoint(command) => {
            let args = command_line(stage, command);
            stage.commit(format!("ENTRYPOINT {}", quoted_list(&args)), Entry::Empty);
            stage.image.config.entrypoint = args;
            // A command of the base image was meant for its own entry point.
            if !stage.cmd_given {
                stage.image.config.cmd.clear();
            }
        }
        InstructionKind::Shell(shell) => {
            stage.commit(format!("SHELL {}", list(shell)), Entry::Empty);
            stage.image.config.shell.clone_from(shell);
        }
        InstructionKind::Healthcheck(check) => {
            let check = health_config(check);
            stage.commit(format!("HEALTHCHECK {}", health(&check)), Entry::Empty);
            stage.image.config.healthcheck = Some(check);
        }
        InstructionKind::Onbuild(onbuild) => {
            stage.image.config.on_build.push(onbuild.trigger.clone());
        }
        // `instruction` has taken the others away.
        _ => {}
    }
}

fn command_line(stage: &StageState, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Shell(text) => stage.with_shell(text.clone()),
        CommandLine::Exec(args) => args.clone(),
    }
}

fn health_config(check: &Healthcheck) -> HealthConfig {
    let check: &HealthCommand = match check {
        Healthcheck::None => {
            return HealthConfig {
                test: vec!["NONE".to_owned()],
                ..HealthConfig::default()
            };
        }
        Healthcheck::Check(check) => check,
    };
    let test = match &check.command {
        CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
        CommandLine::Exec(args) => std::iter::once("CMD".to_owned())
            .chain(args.iter().cloned())
            .collect(),
    };
    let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    HealthConfig {
        test,
        interval_ns: nanoseconds(check.interval),
        timeout_ns: nanoseconds(check.timeout),
        start_period_ns: nanoseconds(check.start_period),
        start_interval_ns: nanoseconds(check.start_interval),
        retries: check.retries.into(),
    }
}

/// A number other than 0, or a name with or without `SIG`.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str, max: u8| {
        let plain = text.len() == text.trim_start_matches(['0', '+', '-']).len();
        plain
            && text
                .parse()
                .is_ok_and(|offset: u8| (1..=max).contains(&offset))
    };
    SIGNALS.contains(&name)
        || matches!(name, "RTMIN" | "RTMAX")
        || name
            .strip_prefix("RTMIN+")
            .is_some_and(|text| offset(text, 15))
        || name
            .strip_prefix("RTMAX-")
            .is_some_and(|text| offset(text, 14))
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn signals_are_numbers_or_names() {
        for signal in [
            "9",
            "SIGTERM",
            "term",
            "SIGRTMIN+3",
            "RTMAX-14",
            "-1",
            "RTMIN",
        ] {
            assert!(is_signal(signal), "{signal}");
        }
        for signal in [
            "0", "", "SIG", "FOO", "RTMIN+16", "RTMAX-15", "RTMIN+0", "RTMIN+03",
        ] {
            assert!(!is_signal(signal), "{signal}");
        }
    }
}
