//! Fields that are more in docker's programs than in its JSON: durations, pointers and sets print
//! otherwise there than numbers, nulls and maps do.

use serde_json::{Map, Value};

use super::functions::printed;
use super::parse::{Operand, Pipeline};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// The parts of docker's `HealthcheckConfig`, in its order.
const HEALTHCHECK: [&str; 6] = [
    "Test",
    "Interval",
    "Timeout",
    "StartPeriod",
    "StartInterval",
    "Retries",
];

/// As docker prints the value of a field that stands alone between the braces; `None` where it
/// prints it as what it is.
pub(super) fn shown(pipeline: &Pipeline, value: &Value) -> Option<String> {
    let [command] = pipeline.0.as_slice() else {
        return None;
    };
    let [Operand::Path(_, fields)] = command.0.as_slice() else {
        return None;
    };
    let (field, above) = fields.split_last()?;
    let is_below = |name: &str| above.last().is_none_or(|last| last == name);
    match (field.as_str(), value) {
        ("Healthcheck" | "StopTimeout", Value::Null) if is_below("Config") => Some("<nil>".into()),
        ("Healthcheck", Value::Object(check)) if is_below("Config") => Some(healthcheck(check)),
        ("Interval" | "Timeout" | "StartPeriod" | "StartInterval", value)
            if is_below("Healthcheck") =>
        {
            value.as_u64().map(duration)
        }
        ("ExposedPorts" | "Volumes", Value::Object(set)) if is_below("Config") => {
            let names: Vec<_> = set.keys().map(|name| format!("{name}:{{}}")).collect();
            Some(format!("map[{}]", names.join(" ")))
        }
        _ => None,
    }
}

fn healthcheck(check: &Map<String, Value>) -> String {
    let part = |name: &&str| match (*name, check.get(*name)) {
        ("Test", test) => test.map_or_else(|| "[]".to_owned(), printed),
        ("Retries", retries) => retries.map_or_else(|| "0".to_owned(), printed),
        (_, time) => duration(time.and_then(Value::as_u64).unwrap_or_default()),
    };
    let parts: Vec<_> = HEALTHCHECK.iter().map(part).collect();
    format!("{{{}}}", parts.join(" "))
}

/// As Go prints one: `1h0m30s`, `1.5s`, `20ms`, `0s`.
fn duration(nanoseconds: u64) -> String {
    let fraction = |amount: u64, unit: u64, name: &str| {
        let part = format!("{:0width$}", amount % unit, width = unit.ilog10() as usize);
        match part.trim_end_matches('0') {
            "" => format!("{}{name}", amount / unit),
            part => format!("{}.{part}{name}", amount / unit),
        }
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => fraction(nanoseconds, 1_000, "µs"),
        1_000_000..SECOND => fraction(nanoseconds, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanoseconds / SECOND / 60, nanoseconds % (60 * SECOND));
            let seconds = fraction(rest, SECOND, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// What `%T` prints: the type that docker's program has, as far as the value tells it.
pub(super) fn name(value: &Value) -> &'static str {
    let are_texts =
        |mut values: Box<dyn Iterator<Item = &Value> + '_>| values.all(Value::is_string);
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(items) if are_texts(Box::new(items.iter())) => "[]string",
        Value::Array(_) => "[]interface {}",
        Value::Object(map) if are_texts(Box::new(map.values())) => "map[string]string",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Template;
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (15, "15ns"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (1_500_000_000, "1.5s"),
            (30 * SECOND, "30s"),
            (90 * SECOND, "1m30s"),
            (3_600 * SECOND, "1h0m0s"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn typed_fields_print_as_in_docker_and_json_stays_json() {
        let check = json!({"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64, "Retries": 3});
        let image = json!({"Size": 5, "Config": {
            "Healthcheck": check, "StopTimeout": null, "ExposedPorts": {"80/tcp": {}},
            "Volumes": {}, "Env": ["A=b"], "Labels": {"a": "b"},
        }});
        for (template, expected) in [
            ("{{.Config.Healthcheck}}", "{[CMD true] 30s 0s 0s 0s 3}"),
            ("{{.Config.Healthcheck.Interval}}", "30s"),
            (
                "{{with .Config.Healthcheck}}{{.Interval}} {{.Retries}}{{end}}",
                "30s 3",
            ),
            ("{{json .Config.Healthcheck.Interval}}", "30000000000"),
            ("{{.Config.StopTimeout}}", "<nil>"),
            ("{{with .Config}}{{.StopTimeout}}{{end}}", "<nil>"),
            (
                "{{.Config.ExposedPorts}} {{.Config.Volumes}}",
                "map[80/tcp:{}] map[]",
            ),
            ("{{if .Config.StopTimeout}}x{{else}}y{{end}}", "y"),
            ("{{printf \"%v\" .Config.StopTimeout}}", "<nil>"),
            (
                "{{printf \"%T %T %T %T %T\" .Size .Config.Env .Config.Labels .Config.StopTimeout \
                 \"x\"}}",
                "int64 []string map[string]string <nil> string",
            ),
        ] {
            let template: Template = template.parse().unwrap();
            assert_eq!(template.render(&image).unwrap(), expected, "{template:?}");
        }
    }
}
