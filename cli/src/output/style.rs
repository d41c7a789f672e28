//! How the live view looks: colours, and how much of a log it shows. The variables are BuildKit's.

use crate::environment::Environment;

/// Lines of log below a running step, unless the environment says otherwise.
pub(crate) const LOG_LINES: usize = 6;

/// Most that the environment may ask for.
const LOG_LINES_MAX: usize = 100;

/// Looks of the live view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// Without them, no control sequence that paints is written.
    pub(crate) colours: Option<Colours>,
    /// Lines of log below a running step.
    pub(crate) log_lines: usize,
}

/// Parameters of control sequences (ECMA-48, SGR), by what they paint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Colours {
    /// Steps that ended well.
    pub(crate) run: String,
    /// Steps that were cancelled.
    pub(crate) cancel: String,
    /// Steps that failed.
    pub(crate) error: String,
    /// Warnings.
    pub(crate) warning: String,
}

impl Default for Colours {
    fn default() -> Self {
        Colours {
            run: "34".into(),
            cancel: "33".into(),
            error: "31".into(),
            warning: "33".into(),
        }
    }
}

impl Style {
    /// What the environment asks for: `NO_COLOR` (<https://no-color.org>), `TERM=dumb`,
    /// `BUILDKIT_COLORS=run=green:error=255,0,0` (which wins over `NO_COLOR`), and
    /// `BUILDKIT_TTY_LOG_LINES`. What makes no sense there is told in the log and left out.
    pub(crate) fn of(environment: &Environment) -> Self {
        let asked = environment
            .get("BUILDKIT_COLORS")
            .filter(|asked| !asked.is_empty());
        let is_dumb = environment.get("TERM") == Some("dumb");
        let colours = match asked {
            _ if is_dumb => None,
            Some(asked) => Some(Colours::parse(asked)),
            None => environment.wants_colour().then(Colours::default),
        };
        let lines = environment.get("BUILDKIT_TTY_LOG_LINES");
        let log_lines = lines.and_then(|lines| {
            let number = lines.parse().ok().filter(|lines| *lines <= LOG_LINES_MAX);
            if number.is_none() {
                tracing::warn!("BUILDKIT_TTY_LOG_LINES={lines}: no number up to {LOG_LINES_MAX}");
            }
            number
        });
        Style {
            colours,
            log_lines: log_lines.unwrap_or(LOG_LINES),
        }
    }
}

impl Colours {
    fn parse(asked: &str) -> Self {
        let mut colours = Colours::default();
        for field in asked.split(':') {
            let colour = field.split_once('=').and_then(|(name, value)| {
                let place = match name.trim().to_lowercase().as_str() {
                    "run" => &mut colours.run,
                    "cancel" => &mut colours.cancel,
                    "error" => &mut colours.error,
                    "warning" => &mut colours.warning,
                    _ => return None,
                };
                *place = colour(&value.trim().to_lowercase())?;
                Some(())
            });
            if colour.is_none() {
                tracing::warn!(
                    "BUILDKIT_COLORS: {field:?} is left out: write run, cancel, error or warning, \
                     =, and a colour such as green, light-blue or 255,127,0"
                );
            }
        }
        colours
    }
}

fn colour(text: &str) -> Option<String> {
    const NAMES: [&str; 8] = [
        "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white",
    ];
    if text == "default" {
        return Some("39".into());
    }
    let (base, name) = match text.strip_prefix("light-") {
        Some(name) => (90, name),
        None => (30, text),
    };
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return Some((base + index).to_string());
    }
    let parts = text.split(',').map(|part| part.trim().parse::<u8>());
    let parts = parts.collect::<Result<Vec<_>, _>>().ok()?;
    let [red, green, blue] = parts[..] else {
        return None;
    };
    Some(format!("38;2;{red};{green};{blue}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(variables: &[(&str, &str)]) -> Style {
        Style::of(&Environment::of(variables, false))
    }

    fn run(variables: &[(&str, &str)]) -> Option<String> {
        style(variables).colours.map(|colours| colours.run)
    }

    #[test]
    fn colours_are_those_that_the_environment_asks_for() {
        for (variables, expect) in [
            (&[][..], Some("34")),
            (&[("NO_COLOR", "1")], None),
            (&[("TERM", "dumb")], None),
            (&[("BUILDKIT_COLORS", "run=green")], Some("32")),
            (
                &[("BUILDKIT_COLORS", "run=light-red:error=blue")],
                Some("91"),
            ),
            (&[("BUILDKIT_COLORS", "RUN=1,2,3")], Some("38;2;1;2;3")),
            (
                &[("BUILDKIT_COLORS", "run=green"), ("NO_COLOR", "1")],
                Some("32"),
            ),
            (&[("BUILDKIT_COLORS", "run=green"), ("TERM", "dumb")], None),
            (&[("BUILDKIT_COLORS", "")], Some("34")),
            // Nothing of these makes sense.
            (
                &[("BUILDKIT_COLORS", "run=orange:x:=:run=1,2,300:error=;31m")],
                Some("34"),
            ),
        ] {
            assert_eq!(run(variables).as_deref(), expect, "{variables:?}");
        }
    }

    #[test]
    fn the_lines_of_logs_are_bounded() {
        for (lines, expect) in [("12", 12), ("0", 0), ("101", LOG_LINES), ("x", LOG_LINES)] {
            let style = style(&[("BUILDKIT_TTY_LOG_LINES", lines)]);
            assert_eq!(style.log_lines, expect, "{lines}");
        }
    }
}
