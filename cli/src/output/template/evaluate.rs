//! Nodes and a value to text.

use serde_json::Value;

use super::functions::{self, is_true, printed};
use super::parse::{Base, Command, Node, Operand, Pipeline, Range};
use super::{OUTPUT_MAX_BYTES, typed, visible};

/// What a template sees at some point.
struct Scope<'v> {
    root: &'v Value,
    /// The innermost last.
    variables: Vec<(String, Value)>,
    out: String,
}

/// The text of nodes for a value.
pub(super) fn render(nodes: &[Node], root: &Value) -> Result<String, String> {
    let mut scope = Scope {
        root,
        variables: Vec::new(),
        out: String::new(),
    };
    scope.nodes(nodes, root)?;
    Ok(scope.out)
}

impl Scope<'_> {
    /// A block: its variables end with it.
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        let known = self.variables.len();
        let done = self.nodes(nodes, dot);
        self.variables.truncate(known);
        done
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        nodes.iter().try_for_each(|node| self.node(node, dot))
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), String> {
        match node {
            Node::Text(text) => self.put(text),
            Node::Print(pipeline) => {
                let value = self.value(pipeline, dot)?;
                let text = typed::shown(pipeline, &value).unwrap_or_else(|| printed(&value));
                self.put(&visible(&text, false))
            }
            Node::Set(name, pipeline) => {
                let value = self.value(pipeline, dot)?;
                self.set(name, value);
                Ok(())
            }
            Node::If(cases, otherwise) => {
                for (condition, body) in cases {
                    if is_true(&self.value(condition, dot)?) {
                        return self.block(body, dot);
                    }
                }
                self.block(otherwise, dot)
            }
            Node::With(name, pipeline, body, otherwise) => {
                let value = self.value(pipeline, dot)?;
                if !is_true(&value) {
                    return self.block(otherwise, dot);
                }
                self.with(name.iter().map(|name| (name, value.clone())), body, &value)
            }
            Node::Range(range) => self.range(range, dot),
        }
    }

    fn range(&mut self, range: &Range, dot: &Value) -> Result<(), String> {
        let over = self.value(&range.over, dot)?;
        let items: Vec<(Value, Value)> = match over {
            Value::Array(items) => {
                let numbered = items.into_iter().enumerate();
                numbered.map(|(n, item)| (Value::from(n), item)).collect()
            }
            Value::Object(map) => {
                let mut items: Vec<_> = map.into_iter().collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                let item = |(name, item)| (Value::String(name), item);
                items.into_iter().map(item).collect()
            }
            Value::Null => Vec::new(),
            other => return Err(format!("range can't iterate over {}", printed(&other))),
        };
        if items.is_empty() {
            return self.block(&range.otherwise, dot);
        }
        for (key, item) in items {
            let key = range.key.iter().map(|name| (name, key.clone()));
            let value = range.value.iter().map(|name| (name, item.clone()));
            self.with(key.chain(value), &range.body, &item)?;
        }
        Ok(())
    }

    /// A block with variables of its own.
    fn with<'n>(
        &mut self,
        variables: impl Iterator<Item = (&'n String, Value)>,
        body: &[Node],
        dot: &Value,
    ) -> Result<(), String> {
        let known = self.variables.len();
        let added = variables.map(|(name, value)| (name.clone(), value));
        self.variables.extend(added);
        let done = self.nodes(body, dot);
        self.variables.truncate(known);
        done
    }

    fn set(&mut self, name: &str, value: Value) {
        match self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            Some((_, known)) => *known = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    fn put(&mut self, text: &str) -> Result<(), String> {
        if self.out.len() + text.len() > OUTPUT_MAX_BYTES {
            return Err("the template prints more than 64 MiB".into());
        }
        self.out.push_str(text);
        Ok(())
    }

    fn value(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for command in &pipeline.0 {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(
        &self,
        command: &Command,
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let arguments = |operands: &[Operand]| {
            let values = operands.iter().map(|operand| self.operand(operand, dot));
            values.collect::<Result<Vec<_>, _>>()
        };
        match command.0.as_slice() {
            [Operand::Function(name), operands @ ..] => {
                let mut arguments = arguments(operands)?;
                arguments.extend(piped);
                functions::call(name, &arguments)
            }
            [operand] if piped.is_none() => self.operand(operand, dot),
            _ => Err("only a function can take what comes through a pipe".into()),
        }
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Function(name) => functions::call(name, &[]),
            Operand::Path(base, fields) => {
                let inside;
                let (start, is_root) = match base {
                    Base::Dot => (dot, std::ptr::eq(dot, self.root)),
                    Base::Variable(name) if name.is_empty() => (self.root, true),
                    Base::Variable(name) => (self.variable(name)?, false),
                    Base::Parenthesis(pipeline) => {
                        inside = self.value(pipeline, dot)?;
                        (&inside, false)
                    }
                };
                follow(start, fields, is_root).cloned()
            }
        }
    }

    fn variable(&self, name: &str) -> Result<&Value, String> {
        let mut known = self.variables.iter().rev();
        let found = known.find(|(known, _)| known == name);
        found
            .map(|(_, value)| value)
            .ok_or_else(|| format!("undefined variable \"${name}\""))
    }
}

/// The value at the end of a path. A name that the root does not have is a mistake and told; below
/// it names are data (labels), which may be there or not.
fn follow<'v>(start: &'v Value, fields: &[String], is_root: bool) -> Result<&'v Value, String> {
    let mut value = start;
    for (index, field) in fields.iter().enumerate() {
        value = match value {
            Value::Object(map) => match map.get(field) {
                Some(value) => value,
                // docker's own type calls that `ID`, and templates may say either.
                None if is_root && index == 0 && field == "ID" && map.contains_key("Id") => {
                    &map["Id"]
                }
                None if is_root && index == 0 => {
                    let mut known: Vec<_> = map.keys().map(|key| format!(".{key}")).collect();
                    known.sort();
                    let known = known.join(", ");
                    return Err(format!("can't evaluate field {field}; there are {known}"));
                }
                None => &Value::Null,
            },
            Value::Null => &Value::Null,
            other => {
                let what = printed(other);
                return Err(format!("can't evaluate field {field} in {what:?}"));
            }
        };
    }
    Ok(value)
}
