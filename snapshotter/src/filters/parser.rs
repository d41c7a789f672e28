//! Filter text → selectors: containerd's grammar (`pkg/filters`: parser, scanner, quoting). What
//! the fields mean is not known here.
//!
//! ```text
//! filter   = selector *("," selector)
//! selector = path [operator value]       no operator: is the field present?
//! path     = field *("." field)
//! field    = 1*(letter | digit | "_") | quoted, in double quotes only
//! operator = "==" | "!=" | "~="
//! value    = 1*(anything but comma, space and control characters) | quoted
//! quoted   = "…" | /…/ | |…|             the last two after "~=" only; Go's escapes, no line end
//! ```
//!
//! Blanks may stand before a field, an operator and a value, not before a comma, a dot or the end.
//! A value without quotes begins with none of `" / | . , = ! ~`. Single quotes quote nothing. Two
//! characters are refused everywhere: NUL and U+FFFD, which is what a broken text decodes to.
//!
//! Where this is not containerd to the letter, for want of a table: a value without quotes may
//! hold invisible format characters and unassigned ones, and may not begin with a control
//! character.
//!
//! Reading is one loop over the text, without recursion: time and memory are linear in its length.

/// `path [operator value]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector {
    /// At least one part; bytes, because escapes may write anything.
    pub(super) path: Vec<Vec<u8>>,
    /// None: the selector asks for presence.
    pub(super) comparison: Option<(Operator, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Matches,
}

/// Why a text is no filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Byte of the text, perhaps its end.
    pub(super) position: usize,
    /// What was expected there, or what is wrong with what begins there.
    pub(super) reason: &'static str,
}

type Result<T> = std::result::Result<T, Fault>;

/// Reads one filter, selector by selector.
#[derive(Debug)]
pub(super) struct Parser<'text> {
    text: &'text str,
    position: usize,
    /// Whether another selector must follow: at the start, and after a comma.
    more: bool,
}

impl<'text> Parser<'text> {
    /// An empty text has no selector at all.
    pub(super) fn new(text: &'text str) -> Self {
        Parser {
            text,
            position: 0,
            more: !text.is_empty(),
        }
    }

    /// The next selector, None after the last one.
    pub(super) fn next_selector(&mut self) -> Result<Option<Selector>> {
        if !self.more {
            return Ok(None);
        }
        let selector = self.selector()?;
        self.more = match self.peek() {
            None => false,
            Some(',') => {
                self.advance();
                true
            }
            Some(_) => return self.fault("expected a comma or the end"),
        };
        Ok(Some(selector))
    }

    fn selector(&mut self) -> Result<Selector> {
        let mut path = vec![self.field()?];
        while self.peek() == Some('.') {
            self.advance();
            path.push(self.field()?);
        }
        let comparison = match self.peek() {
            None | Some(',') => None,
            Some(_) => {
                let operator = self.operator()?;
                Some((operator, self.value(operator)?))
            }
        };
        Ok(Selector { path, comparison })
    }

    fn field(&mut self) -> Result<Vec<u8>> {
        self.skip_blanks();
        match self.peek() {
            Some('"') => self.quoted('"'),
            Some('/' | '|') => self.fault(
                "a field is quoted by double quotes only, which it needs for anything but A-Z, \
                 a-z, 0-9 and _",
            ),
            _ => match self.take_while(|c| c.is_ascii_alphanumeric() || c == '_') {
                "" => self.fault("expected a field: A-Z, a-z, 0-9 and _, or double quotes"),
                name => Ok(name.into()),
            },
        }
    }

    fn operator(&mut self) -> Result<Operator> {
        self.skip_blanks();
        let position = self.position;
        match self.take_while(is_operator) {
            "==" => Ok(Operator::Equal),
            "!=" => Ok(Operator::NotEqual),
            "~=" => Ok(Operator::Matches),
            _ => Err(Fault {
                position,
                reason: "expected one of the operators ==, != and ~=",
            }),
        }
    }

    fn value(&mut self, operator: Operator) -> Result<Vec<u8>> {
        self.skip_blanks();
        match self.peek() {
            Some('"') => self.quoted('"'),
            Some(quote @ ('/' | '|')) if operator == Operator::Matches => self.quoted(quote),
            Some('/' | '|') => self.fault(
                "a value that begins with / or | needs double quotes; only after ~= are these \
                 quotes too",
            ),
            Some('.') => self.fault("a value that begins with a dot needs double quotes"),
            Some(c) if is_operator(c) => {
                self.fault("a value that begins with =, ! or ~ needs double quotes")
            }
            _ => match self.take_while(is_value) {
                "" => self.fault("expected a value"),
                value => Ok(value.into()),
            },
        }
    }

    /// At the opening quote.
    fn quoted(&mut self, quote: char) -> Result<Vec<u8>> {
        let position = self.position;
        self.advance();
        let mut value = Vec::new();
        loop {
            match self.peek() {
                None | Some('\n') => {
                    return Err(Fault {
                        position,
                        reason: "the quoted text that begins here does not end on its line",
                    });
                }
                Some('\0' | char::REPLACEMENT_CHARACTER) => {
                    return self.fault("this character cannot be part of a filter");
                }
                Some('\\') => self.escape(quote, &mut value)?,
                Some(c) => {
                    self.advance();
                    if c == quote {
                        return Ok(value);
                    }
                    push(&mut value, c);
                }
            }
        }
    }

    /// At the backslash. Go's escapes; of the quotes only the one in use can be escaped.
    fn escape(&mut self, quote: char, value: &mut Vec<u8>) -> Result<()> {
        let position = self.position;
        self.advance();
        let fault = |reason| Err(Fault { position, reason });
        let Some(c) = self.peek() else {
            return fault("the text ends within an escape");
        };
        if !c.is_digit(8) {
            self.advance();
        }
        match c {
            'a' => value.push(0x07),
            'b' => value.push(0x08),
            'f' => value.push(0x0c),
            'n' => value.push(b'\n'),
            'r' => value.push(b'\r'),
            't' => value.push(b'\t'),
            'v' => value.push(0x0b),
            '\\' => value.push(b'\\'),
            c if c == quote => push(value, c),
            // A byte, also one that is no UTF-8.
            '0'..='7' | 'x' => {
                let code = match c {
                    'x' => self.number(2, 16),
                    _ => self.number(3, 8),
                };
                match code.map(u8::try_from) {
                    Some(Ok(byte)) => value.push(byte),
                    _ => return fault("expected \\x and 2 digits, or 3 digits up to \\377"),
                }
            }
            'u' | 'U' => match self.number(if c == 'u' { 4 } else { 8 }, 16) {
                // Half a surrogate pair is no character; Go writes this one for it.
                Some(0xd800..=0xdfff) => push(value, char::REPLACEMENT_CHARACTER),
                code => match code.and_then(char::from_u32) {
                    Some(c) => push(value, c),
                    None => {
                        return fault("expected \\u and 4 digits, or \\U and 8, of a character");
                    }
                },
            },
            _ => {
                return fault(
                    "not an escape; a backslash of a regular expression is doubled within quotes",
                );
            }
        }
        Ok(())
    }

    fn number(&mut self, digits: u32, radix: u32) -> Option<u32> {
        let mut number = 0;
        for _ in 0..digits {
            number = number * radix + self.peek()?.to_digit(radix)?;
            self.advance();
        }
        Some(number)
    }

    fn skip_blanks(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'text str {
        let rest = &self.text[self.position..];
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    fn peek(&self) -> Option<char> {
        self.text[self.position..].chars().next()
    }

    fn advance(&mut self) {
        self.position += self.peek().map_or(0, char::len_utf8);
    }

    fn fault<T>(&self, reason: &'static str) -> Result<T> {
        Err(Fault {
            position: self.position,
            reason,
        })
    }
}

fn is_operator(c: char) -> bool {
    matches!(c, '=' | '!' | '~')
}

fn is_value(c: char) -> bool {
    c != ',' && !c.is_whitespace() && !c.is_control() && c != char::REPLACEMENT_CHARACTER
}

fn push(value: &mut Vec<u8>, c: char) {
    value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
