//! `--format` of lists: `table`, `json`, `table TEMPLATE`, `TEMPLATE`, as docker has them.

use std::str::FromStr;

use serde_json::Value;

use super::template::functions::json;
use super::template::{Template, visible};
use super::text::columns;

/// Blanks between two columns.
const GAP: &str = "   ";

/// How a list is printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Format {
    /// The columns that the command has.
    #[default]
    Table,
    /// An object on each line.
    Json,
    /// Columns of a template, separated by tabs, with headings.
    TableOf(Template),
    /// What a template gives for each, on a line of its own.
    Template(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" | "table" => Ok(Format::Table),
            "json" => Ok(Format::Json),
            text => match text.strip_prefix("table ") {
                Some(template) => Ok(Format::TableOf(parsed(template)?)),
                None => Ok(Format::Template(parsed(text)?)),
            },
        }
    }
}

/// A template in which `\t` and `\n` may be written out, as shells make necessary.
pub(crate) fn parsed(text: &str) -> Result<Template, String> {
    text.replace("\\t", "\t").replace("\\n", "\n").parse()
}

/// What a list has by default: headings, rows, and which columns are numbers.
#[derive(Debug)]
pub(crate) struct Columns<'c> {
    /// A heading and the field that is below it.
    pub(crate) fields: &'c [(&'static str, &'static str)],
    /// Headings of columns (by index) that are aligned to the right.
    pub(crate) right: &'c [usize],
}

impl Columns<'_> {
    fn heading(&self, field: &str) -> Option<&'static str> {
        let mut known = self.fields.iter();
        known
            .find(|(_, name)| *name == field)
            .map(|(told, _)| *told)
    }
}

impl Format {
    /// The list of `rows`.
    ///
    /// # Errors
    /// The template does not fit the rows.
    pub(crate) fn list(&self, rows: &[Value], default: &Columns<'_>) -> anyhow::Result<String> {
        let rendered = |template: &Template| {
            let lines = rows.iter().map(|row| template.render(row));
            let lines = lines.collect::<Result<Vec<_>, _>>();
            lines.map_err(|reason| anyhow::anyhow!("template error: {reason}"))
        };
        Ok(match self {
            Format::Json => rows.iter().map(|row| json(row) + "\n").collect(),
            Format::Template(template) => {
                let lines = rendered(template)?.into_iter();
                lines.map(|line| line + "\n").collect()
            }
            Format::TableOf(template) => {
                let header = template.headings(|field| default.heading(field));
                let cells = |line: String| line.split('\t').map(str::to_owned).collect();
                let rows: Vec<Vec<String>> = rendered(template)?.into_iter().map(cells).collect();
                table(&header, &rows, &[])
            }
            Format::Table => {
                let header: Vec<_> = default
                    .fields
                    .iter()
                    .map(|(told, _)| (*told).into())
                    .collect();
                let cell = |row: &Value, field: &str| match &row[field] {
                    Value::String(text) => text.clone(),
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                let cells = |row| {
                    default
                        .fields
                        .iter()
                        .map(|(_, name)| cell(row, name))
                        .collect()
                };
                let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
                table(&header, &rows, default.right)
            }
        })
    }
}

/// Lines of `rows` under a header, each column as wide as its widest cell; the columns of
/// `right` (by index) are aligned to the right. No blanks at the ends of lines, and nothing in a
/// cell that a terminal would obey.
pub(crate) fn table(header: &[String], rows: &[Vec<String>], right: &[usize]) -> String {
    let lines: Vec<Vec<String>> = std::iter::once(header)
        .chain(rows.iter().map(Vec::as_slice))
        .map(|row| row.iter().map(|cell| visible(cell, true)).collect())
        .collect();
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| columns(cell)).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut told = String::new();
        for (column, cell) in line.iter().enumerate() {
            let blanks = " ".repeat(widths[column].saturating_sub(columns(cell)));
            match right.contains(&column) {
                true => told.extend([&blanks, cell, GAP]),
                false => told.extend([cell, &blanks, GAP]),
            }
        }
        text.push_str(told.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: Columns<'_> = Columns {
        fields: &[("IMAGE ID", "ID"), ("SIZE", "Size")],
        right: &[1],
    };

    fn list(format: &str) -> String {
        let rows = [
            json!({"ID": "a", "Size": "1B"}),
            json!({"ID": "long\u{1b}[0m\n", "Size": "10kB"}),
        ];
        let format: Format = format.parse().unwrap();
        format.list(&rows, &COLUMNS).unwrap()
    }

    #[test]
    fn a_list_has_the_form_that_was_asked_for() {
        assert_eq!(
            list("table"),
            "IMAGE ID        SIZE\na                 1B\nlong\\x1b[0m\\n   10kB\n"
        );
        assert_eq!(
            list("json"),
            "{\"ID\":\"a\",\"Size\":\"1B\"}\n{\"ID\":\"long\\u001b[0m\\n\",\"Size\":\"10kB\"}\n"
        );
        assert_eq!(list("{{.Size}}"), "1B\n10kB\n");
        assert_eq!(
            list("table {{.Size}}\\t{{.ID}}"),
            "SIZE   IMAGE ID\n1B     a\n10kB   long\\x1b[0m\\n\n"
        );
    }

    #[test]
    fn a_field_that_is_not_there_is_an_error() {
        let format: Format = "{{.Nope}}".parse().unwrap();
        let error = format.list(&[json!({"ID": 1})], &COLUMNS).unwrap_err();
        assert!(error.to_string().contains("field Nope"), "{error}");
        assert!("{{.ID".parse::<Format>().is_err());
    }
}
