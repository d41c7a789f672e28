//! What variables of the environment say where the command line does not.
//!
//! Not by clap: it looks at this process's own environment, and a command may be carried out by a
//! process that somebody else has started. Nor are such values part of what was typed, which clap
//! shows when something is wrong with it.

use clap::ValueEnum;
use clap::error::ErrorKind;

use super::{Arguments, Command};
use crate::environment::Environment;
use crate::output::Mode;

/// Stands for `--root`.
const ROOT: &str = "VARVE_ROOT";

/// Stands for `--runtime`.
const RUNTIME: &str = "VARVE_RUNTIME";

/// Stands for `--progress` of builds, as with buildx.
const PROGRESS: &str = "BUILDKIT_PROGRESS";

/// Stands for `--platform`, as with docker.
const PLATFORM: &str = "DOCKER_DEFAULT_PLATFORM";

impl Arguments {
    /// Fills in what was not said. Empty variables say nothing.
    ///
    /// # Errors
    /// A value is none that the option could have.
    pub(super) fn complete(mut self, environment: &Environment) -> Result<Self, clap::Error> {
        let get = |name| environment.get(name).filter(|value| !value.is_empty());
        let invalid = |name: &str, value: &str, possible: &str| {
            let message = format!("invalid value '{value}' for the variable {name}: {possible}\n");
            clap::Error::raw(ErrorKind::InvalidValue, message)
        };
        let root = || environment.path(ROOT);
        self.global.root = self.global.root.or_else(root);
        let runtime = match &mut self.command {
            Command::Build(build) => {
                if let (None, Some(value)) = (build.progress, get(PROGRESS)) {
                    let mode = Mode::from_str(value, true);
                    let possible = "there are auto, plain, tty, quiet and rawjson";
                    build.progress = Some(mode.map_err(|_| invalid(PROGRESS, value, possible))?);
                }
                if build.platforms.is_empty() {
                    build.platforms.extend(get(PLATFORM).map(str::to_owned));
                }
                Some(&mut build.runtime)
            }
            Command::Run(run) => {
                let platform = || get(PLATFORM).map(str::to_owned);
                run.platform = run.platform.take().or_else(platform);
                Some(&mut run.runtime)
            }
            Command::Pull(pull) => {
                if pull.platforms.is_empty() {
                    pull.platforms.extend(get(PLATFORM).map(str::to_owned));
                }
                None
            }
            Command::Doctor(doctor) => Some(&mut doctor.runtime),
            _ => None,
        };
        if let (Some(runtime), Some(value)) = (runtime, get(RUNTIME))
            && runtime.said.is_none()
        {
            let possible = "auto, embedded, runc, or the path of a program like runc";
            let parsed = value.parse().map_err(|_| invalid(RUNTIME, value, possible));
            runtime.said = Some(parsed?);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use executor::RuntimeChoice;

    use super::*;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<Arguments, clap::Error> {
        Arguments::read(line.split(' '), &Environment::of(variables, true))
    }

    #[test]
    fn variables_say_what_options_do_not() {
        let variables = [
            ("VARVE_ROOT", "/r"),
            ("VARVE_RUNTIME", "runc"),
            ("BUILDKIT_PROGRESS", "plain"),
            ("DOCKER_DEFAULT_PLATFORM", "linux/arm64"),
        ];
        let build = |line, variables: &[_]| match read(line, variables).unwrap() {
            Arguments {
                global,
                command: Command::Build(build),
            } => (
                global.root,
                build.runtime.choice().clone(),
                build.progress,
                build.platforms,
            ),
            other => panic!("{other:?}"),
        };
        let said = build("varve build .", &variables);
        let platforms = vec!["linux/arm64".to_owned()];
        let plain = Some(Mode::Plain);
        assert_eq!(
            said,
            (Some("/r".into()), RuntimeChoice::Runc, plain, platforms)
        );
        let line = "varve --root /s build --runtime auto --progress tty --platform linux/386 .";
        let platforms = vec!["linux/386".to_owned()];
        assert_eq!(
            build(line, &variables),
            (
                Some("/s".into()),
                RuntimeChoice::Auto,
                Some(Mode::Tty),
                platforms
            )
        );
        let empty = variables.map(|(name, _)| (name, ""));
        assert_eq!(
            build("varve build .", &empty),
            (None, RuntimeChoice::Auto, None, vec![])
        );
        match read("varve run app", &variables).unwrap().command {
            Command::Run(run) => assert_eq!(run.platform.as_deref(), Some("linux/arm64")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_value_without_sense_is_named_with_its_variable() {
        let error = read("varve build .", &[("BUILDKIT_PROGRESS", "loud")]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("'loud' for the variable BUILDKIT_PROGRESS"),
            "{text}"
        );
        // What does not heed it does not look at it.
        assert!(read("varve images", &[("BUILDKIT_PROGRESS", "loud")]).is_ok());
    }
}
