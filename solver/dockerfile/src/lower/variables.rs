//! `ENV` and `ARG`.

use super::Lowerer;
use super::history::Entry;
use super::stage::StageState;
use crate::ast::{ArgDefinition, KeyValue};
use crate::error::{Error, Span};
use crate::words::Variables;

/// Arguments that steer the build and are no variables of its steps.
const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Lowerer<'_> {
    /// Sets variables of the image. All values are expanded before the first one is set.
    pub(super) fn env(
        &mut self,
        stage: &mut StageState,
        pairs: &[KeyValue],
        span: Span,
    ) -> Result<(), Error> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let key = self.expand(stage, &pair.key, span)?;
            expanded.push((key, self.expand(stage, &pair.value, span)?));
        }
        let mut message = "ENV".to_owned();
        for (key, value) in expanded {
            message.push_str(&format!(" {key}={value}"));
            stage.set_variable(&key, &value, span)?;
            stage.image.set_env(&key, &value);
        }
        stage.commit(message, Entry::Empty);
        Ok(())
    }

    /// Declares variables of the steps to come. The value is the build argument, else the default,
    /// else that of the same `ARG` above the first `FROM`.
    pub(super) fn arg(
        &mut self,
        stage: &mut StageState,
        arguments: &[ArgDefinition],
        span: Span,
    ) -> Result<(), Error> {
        let mut message = "ARG".to_owned();
        for argument in arguments {
            let name = &argument.name;
            let value = match (self.globals.build_args.get(name), &argument.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(stage, default, span)?),
                (None, None) => self.globals.variables.get(name).map(str::to_owned),
            };
            message.push_str(&format!(" {name}"));
            if let Some(value) = &value {
                message.push_str(&format!("={value}"));
                self.spend(value.len(), span)?;
                if !NOT_IN_ENVIRONMENT.contains(&name.as_str()) {
                    stage.set_variable(name, value, span)?;
                }
            }
            stage.arguments.push((name.clone(), value));
        }
        stage.commit(message, Entry::Empty);
        Ok(())
    }
}
