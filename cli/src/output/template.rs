//! Templates of `--format`: the part of Go's `text/template` that users of docker write.
//!
//! There is: text, `{{.A.B}}`, `$`, `$x := …`, `{{if}}`, `{{range}}`, `{{with}}` with `{{else}}`,
//! pipes, parentheses, literals, comments, the trimming `{{-` and `-}}`, and the functions of
//! [`functions`]. There is not: `define`, `template`, `block`, methods. Values are JSON.
//!
//! What a value holds may have been chosen by a stranger (a label, a name), so control characters
//! of values are printed as escapes, except tabs and line breaks; `json` gives the exact text.
//!
//! Reading order: [`parse`], [`evaluate`], [`functions`].

mod evaluate;
pub(crate) mod functions;
mod parse;
mod typed;

use std::str::FromStr;

use serde_json::Value;

use self::parse::Node;

/// Most bytes that one template may print for one value.
const OUTPUT_MAX_BYTES: usize = 64 << 20;

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match parse::parse(text) {
            Ok(nodes) => Ok(Template { nodes }),
            Err(reason) => Err(format!("template parsing error: {reason}")),
        }
    }
}

impl Template {
    /// The text for a value.
    ///
    /// # Errors
    /// What cannot be evaluated, in a sentence.
    pub(crate) fn render(&self, value: &Value) -> Result<String, String> {
        evaluate::render(&self.nodes, value)
    }

    /// For each column of a table its heading: the last field that the column prints, as docker
    /// has it (`{{.ID}}` gives `ID`), by `heading` if that knows better.
    pub(crate) fn headings(&self, heading: impl Fn(&str) -> Option<&'static str>) -> Vec<String> {
        let mut columns = vec![String::new()];
        for node in &self.nodes {
            match node {
                Node::Text(text) => {
                    let breaks = text.matches('\t').count();
                    columns.extend(std::iter::repeat_n(String::new(), breaks));
                }
                Node::Print(pipeline) => {
                    let Some(field) = pipeline.first_field() else {
                        continue;
                    };
                    let told = heading(field).map_or_else(|| spaced(field), str::to_owned);
                    let column = columns.last_mut().filter(|column| column.is_empty());
                    if let Some(column) = column {
                        *column = told;
                    }
                }
                _ => {}
            }
        }
        columns
    }
}

/// `CreatedSince` as `CREATED SINCE`.
fn spaced(field: &str) -> String {
    let mut out = String::new();
    let mut after_lower = false;
    for character in field.chars() {
        if character.is_uppercase() && after_lower {
            out.push(' ');
        }
        after_lower = character.is_lowercase();
        out.extend(character.to_uppercase());
    }
    out
}

/// The text with control characters as escapes (`\x1b`), tabs and line breaks too if `all`.
pub(crate) fn visible(text: &str, all: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' if !all => out.push(character),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            character if character.is_control() => {
                out.push_str(&format!("\\x{:02x}", u32::from(character)));
            }
            // They turn the order of what follows around (Unicode TR 9).
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
            }
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests;
