//! Text to nodes: first actions and what is between them, then the words of an action.

use serde_json::Value;

/// Deepest nesting of blocks and parentheses.
const DEPTH_MAX: usize = 50;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Printed as it is.
    Text(String),
    /// `{{pipeline}}`.
    Print(Pipeline),
    /// `{{$x := pipeline}}` and `{{$x = pipeline}}`.
    Set(String, Pipeline),
    /// `{{if}}`, `{{else if}}` …, and what is behind `{{else}}`.
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    /// `{{range}}`.
    Range(Range),
    /// `{{with}}`, and what is behind `{{else}}`.
    With(Option<String>, Pipeline, Vec<Node>, Vec<Node>),
}

/// `{{range $key, $value := pipeline}}`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) over: Pipeline,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// Commands; the result of each is the last argument of the next.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipeline(pub(super) Vec<Command>);

impl Pipeline {
    /// The last name of the first path, for the heading of a column.
    pub(super) fn first_field(&self) -> Option<&str> {
        let operands = self.0.iter().flat_map(|command| &command.0);
        let mut fields = operands.filter_map(|operand| match operand {
            Operand::Path(_, fields) => fields.last().map(String::as_str),
            _ => None,
        });
        fields.next()
    }
}

/// A value, or a function with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Command(pub(super) Vec<Operand>);

/// A part of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Literal(Value),
    Function(String),
    Path(Base, Vec<String>),
}

/// Where a path begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    Dot,
    /// Without a name: `$`, what the template was given.
    Variable(String),
    Parenthesis(Pipeline),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Variable(String),
    /// `.` and `.Name`; whether a blank was before it.
    Field(String, bool),
    Text(String),
    Number(serde_json::Number),
    Open,
    Close,
    Pipe,
    Comma,
    Declare,
    Assign,
}

/// Text or an action.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut pieces = pieces(text)?.into_iter();
    let (nodes, end) = block(&mut pieces, 0)?;
    match end {
        None => Ok(nodes),
        Some(tokens) => Err(format!("unexpected {{{{{}}}}}", keyword(&tokens))),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, action) = (&rest[..start], &rest[start + 2..]);
        let trims = action.starts_with("- ") || action.starts_with("-\n");
        let before = if trims { before.trim_end() } else { before };
        push_text(&mut pieces, before);
        let action = if trims { &action[1..] } else { action };
        let length = action_length(action)?;
        let (inside, after) = (&action[..length], &action[length + 2..]);
        let (inside, after) = match inside.strip_suffix('-') {
            Some(inside) if inside.ends_with([' ', '\n']) => (inside, after.trim_start()),
            _ => (inside, after),
        };
        rest = after;
        let inside = inside.trim();
        if inside.starts_with("/*") && inside.ends_with("*/") {
            continue;
        }
        pieces.push(Piece::Action(tokens(inside)?));
    }
    push_text(&mut pieces, rest);
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// Where the `}}` of an action is; one in a string does not count.
fn action_length(action: &str) -> Result<usize, String> {
    let mut quote = None;
    let mut escaped = false;
    for (index, character) in action.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if character == '\\' => escaped = true,
            Some(open) if open == character => quote = None,
            Some(_) => {}
            None if matches!(character, '"' | '`') => quote = Some(character),
            None if action[index..].starts_with("}}") => return Ok(index),
            None => {}
        }
    }
    Err("unclosed action: a }} is missing".into())
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn tokens(action: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = action;
    let mut after_blank = true;
    while let Some(first) = rest.chars().next() {
        let length = |text: &str| text.find(|c| !is_name(c)).unwrap_or(text.len());
        let (token, taken) = match first {
            c if c.is_whitespace() => {
                rest = rest.trim_start();
                after_blank = true;
                continue;
            }
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '.' => {
                let taken = 1 + length(&rest[1..]);
                (Token::Field(rest[1..taken].to_owned(), after_blank), taken)
            }
            '$' => {
                let taken = 1 + length(&rest[1..]);
                (Token::Variable(rest[1..taken].to_owned()), taken)
            }
            '"' | '`' => string(rest)?,
            c if c.is_ascii_digit() || c == '-' || c == '+' => number(rest)?,
            c if is_name(c) => {
                let taken = length(rest);
                (Token::Word(rest[..taken].to_owned()), taken)
            }
            c => return Err(format!("unexpected {c:?} in {{{{{action}}}}}")),
        };
        tokens.push(token);
        rest = &rest[taken..];
        after_blank = false;
    }
    Ok(tokens)
}

fn string(text: &str) -> Result<(Token, usize), String> {
    let unterminated = || format!("unterminated string {text}");
    if let Some(raw) = text.strip_prefix('`') {
        let end = raw.find('`').ok_or_else(unterminated)?;
        return Ok((Token::Text(raw[..end].to_owned()), end + 2));
    }
    let mut out = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((Token::Text(out), index + 1)),
            '\\' => match characters.next().map(|(_, escaped)| escaped) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(same @ ('"' | '\\' | '\'')) => out.push(same),
                Some(other) => return Err(format!("unknown escape \\{other} in {text}")),
                None => return Err(unterminated()),
            },
            other => out.push(other),
        }
    }
    Err(unterminated())
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let end = text
        .char_indices()
        .find(|(index, c)| !(is_name(*c) || *c == '.' || (*index == 0 && matches!(c, '-' | '+'))))
        .map_or(text.len(), |(index, _)| index);
    let digits = text[..end].trim_start_matches('+');
    let number = serde_json::from_str(digits).map_err(|_| format!("bad number {digits:?}"))?;
    Ok((Token::Number(number), end))
}

fn keyword(tokens: &[Token]) -> &str {
    match tokens.first() {
        Some(Token::Word(word)) => word,
        _ => "",
    }
}

/// Nodes up to an `{{end}}` or `{{else}}`, whose tokens are given too, or to the end of the text.
fn block(
    pieces: &mut std::vec::IntoIter<Piece>,
    depth: usize,
) -> Result<(Vec<Node>, Option<Vec<Token>>), String> {
    if depth > DEPTH_MAX {
        return Err(format!("it is nested deeper than {DEPTH_MAX}"));
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        match keyword(&tokens) {
            "end" | "else" => return Ok((nodes, Some(tokens))),
            "if" => nodes.push(if_block(pieces, &tokens[1..], depth)?),
            "range" => nodes.push(range_block(pieces, &tokens[1..], depth)?),
            "with" => {
                let (name, pipe) = assigned(&tokens[1..])?;
                let (body, otherwise) = branches(pieces, depth)?;
                nodes.push(Node::With(name, pipe, body, otherwise));
            }
            word @ ("define" | "template" | "block" | "break" | "continue") => {
                return Err(format!("{{{{{word}}}}} is not supported"));
            }
            _ => nodes.push(match assigned(&tokens)? {
                (Some(name), pipe) => Node::Set(name, pipe),
                (None, pipe) => Node::Print(pipe),
            }),
        }
    }
    Ok((nodes, None))
}

/// The body of a block and what is behind its `{{else}}`.
fn branches(
    pieces: &mut std::vec::IntoIter<Piece>,
    depth: usize,
) -> Result<(Vec<Node>, Vec<Node>), String> {
    let (body, end) = block(pieces, depth + 1)?;
    let end = end.ok_or("an {{end}} is missing")?;
    match (keyword(&end), end.len()) {
        ("end", 1) => Ok((body, Vec::new())),
        ("else", 1) => {
            let (otherwise, end) = block(pieces, depth + 1)?;
            match end.as_deref().map(keyword) {
                Some("end") => Ok((body, otherwise)),
                _ => Err("an {{end}} is missing".into()),
            }
        }
        (word, _) => Err(format!("unexpected words behind {word:?}")),
    }
}

fn if_block(
    pieces: &mut std::vec::IntoIter<Piece>,
    condition: &[Token],
    depth: usize,
) -> Result<Node, String> {
    let mut cases = Vec::new();
    let mut condition = pipeline(condition)?;
    loop {
        let (body, end) = block(pieces, depth + 1)?;
        cases.push((condition, body));
        let end = end.ok_or("an {{end}} is missing")?;
        match (keyword(&end), end.as_slice()) {
            ("else", [_]) => {
                let (otherwise, end) = block(pieces, depth + 1)?;
                return match end.as_deref().map(keyword) {
                    Some("end") => Ok(Node::If(cases, otherwise)),
                    _ => Err("an {{end}} is missing".into()),
                };
            }
            ("else", [_, Token::Word(word), rest @ ..]) if word == "if" => {
                condition = pipeline(rest)?;
            }
            ("end", [_]) => return Ok(Node::If(cases, Vec::new())),
            (word, _) => return Err(format!("unexpected words behind {word:?}")),
        }
    }
}

fn range_block(
    pieces: &mut std::vec::IntoIter<Piece>,
    tokens: &[Token],
    depth: usize,
) -> Result<Node, String> {
    let (key, value, over) = match tokens {
        [
            Token::Variable(key),
            Token::Comma,
            Token::Variable(value),
            Token::Declare,
            rest @ ..,
        ] => (Some(key.clone()), Some(value.clone()), rest),
        [Token::Variable(value), Token::Declare, rest @ ..] => (None, Some(value.clone()), rest),
        rest => (None, None, rest),
    };
    let over = pipeline(over)?;
    let (body, otherwise) = branches(pieces, depth)?;
    Ok(Node::Range(Range {
        key,
        value,
        over,
        body,
        otherwise,
    }))
}

/// `$x := pipeline`, or just a pipeline.
fn assigned(tokens: &[Token]) -> Result<(Option<String>, Pipeline), String> {
    match tokens {
        [
            Token::Variable(name),
            Token::Declare | Token::Assign,
            rest @ ..,
        ] if !name.is_empty() => Ok((Some(name.clone()), pipeline(rest)?)),
        tokens => Ok((None, pipeline(tokens)?)),
    }
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let mut tokens = tokens.iter().peekable();
    let found = read_pipeline(&mut tokens, 0)?;
    match tokens.next() {
        None => Ok(found),
        Some(token) => Err(format!("unexpected {}", told(token))),
    }
}

fn told(token: &Token) -> String {
    match token {
        Token::Word(text) => format!("{text:?}"),
        Token::Variable(name) => format!("\"${name}\""),
        Token::Field(name, _) => format!("\".{name}\""),
        Token::Text(text) => format!("string {text:?}"),
        Token::Number(number) => format!("number {number}"),
        Token::Open => "\"(\"".into(),
        Token::Close => "\")\"".into(),
        Token::Pipe => "\"|\"".into(),
        Token::Comma => "\",\"".into(),
        Token::Declare => "\":=\"".into(),
        Token::Assign => "\"=\"".into(),
    }
}

type Tokens<'t> = std::iter::Peekable<std::slice::Iter<'t, Token>>;

fn read_pipeline(tokens: &mut Tokens<'_>, depth: usize) -> Result<Pipeline, String> {
    if depth > DEPTH_MAX {
        return Err(format!("it is nested deeper than {DEPTH_MAX}"));
    }
    let mut commands = Vec::new();
    loop {
        let mut operands = Vec::new();
        while let Some(operand) = read_operand(tokens, depth)? {
            operands.push(operand);
        }
        if operands.is_empty() {
            return Err("a value is missing".into());
        }
        if operands.len() > 1 && !matches!(operands[0], Operand::Function(_)) {
            return Err("only a function can have arguments".into());
        }
        commands.push(Command(operands));
        if !matches!(tokens.peek(), Some(Token::Pipe)) {
            return Ok(Pipeline(commands));
        }
        tokens.next();
    }
}

fn read_operand(tokens: &mut Tokens<'_>, depth: usize) -> Result<Option<Operand>, String> {
    let base = match tokens.peek() {
        Some(Token::Text(text)) => {
            tokens.next();
            return Ok(Some(Operand::Literal(Value::from(text.as_str()))));
        }
        Some(Token::Number(number)) => {
            tokens.next();
            return Ok(Some(Operand::Literal(Value::Number(number.clone()))));
        }
        Some(Token::Word(word)) => {
            tokens.next();
            return Ok(Some(match word.as_str() {
                "true" => Operand::Literal(Value::Bool(true)),
                "false" => Operand::Literal(Value::Bool(false)),
                "nil" => Operand::Literal(Value::Null),
                name if super::functions::is_known(name) => Operand::Function(name.to_owned()),
                name => return Err(format!("function {name:?} not defined")),
            }));
        }
        Some(Token::Variable(name)) => {
            tokens.next();
            Base::Variable(name.clone())
        }
        Some(Token::Open) => {
            tokens.next();
            let inside = read_pipeline(tokens, depth + 1)?;
            match tokens.next() {
                Some(Token::Close) => Base::Parenthesis(inside),
                _ => return Err("a ) is missing".into()),
            }
        }
        Some(Token::Field(name, _)) => {
            tokens.next();
            if name.is_empty() {
                return Ok(Some(Operand::Path(Base::Dot, Vec::new())));
            }
            return Ok(Some(Operand::Path(Base::Dot, fields(name, tokens))));
        }
        _ => return Ok(None),
    };
    let mut names = Vec::new();
    if let Some(Token::Field(name, false)) = tokens.peek()
        && !name.is_empty()
    {
        tokens.next();
        names = fields(name, tokens);
    }
    Ok(Some(Operand::Path(base, names)))
}

/// The names of a path: those that follow without a blank belong to it.
fn fields(first: &str, tokens: &mut Tokens<'_>) -> Vec<String> {
    let mut names = vec![first.to_owned()];
    while let Some(Token::Field(name, false)) = tokens.peek()
        && !name.is_empty()
    {
        names.push(name.clone());
        tokens.next();
    }
    names
}
