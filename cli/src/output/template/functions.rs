//! What templates can call: Go's functions and those that docker adds.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

/// All functions. `json`, `split`, `join`, `title`, `lower`, `upper`, `pad` and `truncate` are
/// docker's.
const NAMES: [&str; 24] = [
    "and", "eq", "ge", "gt", "html", "index", "join", "json", "le", "len", "lower", "lt", "ne",
    "not", "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate",
    "upper",
];

/// Most blanks that `pad` and a width of `printf` add.
const WIDTH_MAX: usize = 1_000;

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether `if` takes it for true.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// As Go prints it: `[a b]`, `map[a:b]`, `<no value>`.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        other => inner(other),
    }
}

fn inner(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(inner).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut items: Vec<_> = map.iter().collect();
            items.sort_by_key(|(name, _)| *name);
            let item = |(name, value): (&String, &Value)| format!("{name}:{}", inner(value));
            let items: Vec<_> = items.into_iter().map(item).collect();
            format!("map[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

/// Calls a function.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let wrong = || {
        format!(
            "wrong number of arguments for {name}: got {}",
            arguments.len()
        )
    };
    let text = |index: usize| match arguments.get(index) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(format!("{name}: expected a string, found {}", inner(other))),
        None => Err(wrong()),
    };
    let one = || match arguments {
        [only] => Ok(only),
        _ => Err(wrong()),
    };
    Ok(match name {
        "and" => logical(arguments, false).ok_or_else(wrong)?,
        "or" => logical(arguments, true).ok_or_else(wrong)?,
        "not" => Value::Bool(!is_true(one()?)),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => Value::Bool(compare(name, arguments)?),
        "index" => index(arguments)?,
        "slice" => slice(arguments)?,
        "html" => Value::String(
            arguments
                .iter()
                .map(printed)
                .map(|text| html(&text))
                .collect(),
        ),
        "len" => Value::from(length(one()?)?),
        "json" => Value::String(json(one()?)),
        "lower" => Value::String(text(0)?.to_lowercase()),
        "upper" => Value::String(text(0)?.to_uppercase()),
        "title" => Value::String(title(text(0)?)),
        "split" => {
            let parts = match text(1)? {
                "" => text(0)?.chars().map(String::from).collect::<Vec<_>>(),
                by => text(0)?.split(by).map(str::to_owned).collect(),
            };
            Value::from(parts)
        }
        "join" => match arguments.first() {
            Some(Value::Array(items)) => {
                let items: Vec<_> = items.iter().map(inner).collect();
                Value::String(items.join(text(1)?))
            }
            Some(Value::Null) => Value::from(""),
            _ => return Err("join: expected a list and a string".into()),
        },
        "pad" => {
            let blanks =
                |index| number(name, arguments, index).map(|n| " ".repeat(n.min(WIDTH_MAX)));
            match text(0)? {
                "" => Value::from(""),
                text => Value::String(format!("{}{text}{}", blanks(1)?, blanks(2)?)),
            }
        }
        "truncate" => {
            let count = number(name, arguments, 1)?;
            Value::String(text(0)?.chars().take(count).collect())
        }
        "print" => Value::String(arguments.iter().map(inner).collect()),
        "println" => {
            let words: Vec<_> = arguments.iter().map(inner).collect();
            Value::String(words.join(" ") + "\n")
        }
        "printf" => Value::String(printf(text(0)?, &arguments[1..])?),
        other => return Err(format!("function {other:?} not defined")),
    })
}

/// JSON on one line, see [`harmless_json`].
pub(crate) fn json(value: &Value) -> String {
    harmless_json(&value.to_string())
}

/// JSON text with escapes for those characters that JSON allows and a terminal would obey.
pub(crate) fn harmless_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let shown = super::visible(character.encode_utf8(&mut [0; 4]), false);
        match shown.chars().count() {
            1 => out.push(character),
            _ => out.push_str(&format!("\\u{:04x}", u32::from(character))),
        }
    }
    out
}

/// The first argument that decides (`or`: a true one), or the last.
fn logical(arguments: &[Value], decides: bool) -> Option<Value> {
    let decisive = arguments.iter().find(|value| is_true(value) == decides);
    decisive.or(arguments.last()).cloned()
}

fn compare(name: &str, arguments: &[Value]) -> Result<bool, String> {
    let [first, rest @ ..] = arguments else {
        return Err(format!("{name}: missing argument for comparison"));
    };
    if rest.is_empty() || (rest.len() > 1 && name != "eq") {
        return Err(format!("{name}: wrong number of arguments"));
    }
    let order = |other: &Value| match (first, other) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        _ => None,
    };
    let incomparable = || format!("{name}: incompatible types for comparison");
    let ordered = || order(&rest[0]).ok_or_else(incomparable);
    Ok(match name {
        "eq" => rest
            .iter()
            .any(|other| first == other || order(other) == Some(Ordering::Equal)),
        "ne" => *first != rest[0] && order(&rest[0]) != Some(Ordering::Equal),
        "lt" => ordered()?.is_lt(),
        "le" => ordered()?.is_le(),
        "gt" => ordered()?.is_gt(),
        _ => ordered()?.is_ge(),
    })
}

/// A list by number, a map by name; a name that is not there gives nothing, as in Go.
fn index(arguments: &[Value]) -> Result<Value, String> {
    let [start, keys @ ..] = arguments else {
        return Err("index: missing argument".into());
    };
    let mut value = start;
    let nothing = Value::from("");
    for key in keys {
        value = match (value, key) {
            (Value::Array(items), Value::Number(number)) => {
                let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| items.get(at))
                    .ok_or_else(|| format!("index out of range: {number}"))?
            }
            (Value::Object(map), Value::String(name)) => map.get(name).unwrap_or(&nothing),
            (Value::Null, _) => &nothing,
            (value, key) => {
                return Err(format!("can't index {} by {}", inner(value), inner(key)));
            }
        };
    }
    Ok(value.clone())
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let size = length(arguments.first().unwrap_or(&Value::Null))?;
    let from = match arguments.len() {
        0 | 1 => 0,
        _ => number("slice", arguments, 1)?,
    };
    let to = match arguments.len() {
        0..=2 => size,
        _ => number("slice", arguments, 2)?,
    };
    let out_of_range = || format!("slice: index out of range: {from}:{to} of {size}");
    match &arguments[0] {
        Value::Array(items) => {
            let part = items.get(from..to).ok_or_else(out_of_range)?;
            Ok(Value::from(part.to_vec()))
        }
        Value::String(text) => {
            let part = text.get(from..to).ok_or_else(out_of_range)?;
            Ok(Value::from(part))
        }
        other => Err(format!("can't slice {}", inner(other))),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(map) => Ok(map.len()),
        Value::Null => Ok(0),
        other => Err(format!("len of {}", inner(other))),
    }
}

fn number(name: &str, arguments: &[Value], index: usize) -> Result<usize, String> {
    let found = arguments.get(index).and_then(Value::as_u64);
    found
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| format!("{name}: expected a number from 0 as argument {}", index + 1))
}

/// Text that means itself in HTML, with Go's escapes.
fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Each word with a capital.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for character in text.chars() {
        match starts {
            true => out.extend(character.to_uppercase()),
            false => out.push(character),
        }
        starts = !character.is_alphanumeric() && character != '\'';
    }
    out
}

/// The number that comes next, 0 if there is none.
fn count(characters: &mut Peekable<Chars<'_>>) -> usize {
    let mut number = 0_usize;
    while let Some(digit) = characters.peek().and_then(|c| c.to_digit(10)) {
        number = (number * 10 + digit as usize).min(WIDTH_MAX);
        characters.next();
    }
    number
}

/// Text by its bytes, whole numbers as they are.
fn hexadecimal(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.bytes().map(|byte| format!("{byte:02x}")).collect()),
        Value::Number(number) if number.is_u64() => {
            Ok(format!("{:x}", number.as_u64().unwrap_or_default()))
        }
        other => Err(format!("printf: %x of {}", inner(other))),
    }
}

/// `%s %v %d %q %t %x %T %%`, with `-`, a width and, for text, most characters (`%.12s`).
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut arguments = arguments.iter();
    let mut out = String::new();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let left = characters.next_if_eq(&'-').is_some();
        let width = count(&mut characters);
        let has_most = characters.next_if_eq(&'.').is_some();
        let most = has_most.then(|| count(&mut characters));
        let verb = characters.next().ok_or("printf: % at the end")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("printf: no argument for %{verb}"))?;
        let text = match verb {
            's' | 'v' | 'd' | 't' => inner(value),
            'T' => super::typed::name(value).to_owned(),
            'q' => Value::String(printed(value)).to_string(),
            'x' => hexadecimal(value)?,
            other => return Err(format!("printf: %{other} is not supported")),
        };
        let text = match (most, verb) {
            (Some(most), 's' | 'v') if value.is_string() => text.chars().take(most).collect(),
            (Some(_), _) => return Err(format!("printf: %{verb} takes no precision here")),
            (None, _) => text,
        };
        match left {
            true => out.push_str(&format!("{text:<width$}")),
            false => out.push_str(&format!("{text:>width$}")),
        }
    }
    match arguments.next() {
        None => Ok(out),
        Some(_) => Err("printf: more arguments than places for them".into()),
    }
}
