//! The text below a command as a value: read from how it is written, rendered for a terminal.

use unicode_width::UnicodeWidthStr;

/// Blanks before an item, and at least between its two parts.
const INDENT: usize = 2;

/// A line that is indented by so many blanks goes on with what the item before it does.
const CONTINUATION: usize = 12;

/// What is typed may take so much of a line; what is longer has its explanation below it.
const TYPED_PART: usize = 5;
const TYPED_OF: usize = 8;

/// Indentation of the rest of a command that is broken.
const BROKEN_INDENT: usize = 6;

/// A text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) blocks: Vec<Block>,
}

/// A part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// A paragraph.
    Prose(String),
    /// A line right below others that says what it is about: `Filters: …`.
    Topic(String),
    /// Things and what they are or do.
    Listing {
        /// Without the colon.
        title: String,
        items: Vec<Item>,
    },
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// What is typed.
    pub(super) typed: String,
    /// What it does; may be empty.
    pub(super) does: String,
}

/// Reads a text.
pub(super) fn parse(text: &str) -> Text {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_new = true;
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        let next_is_indented = lines.get(at + 1).is_some_and(|next| next.starts_with("  "));
        if words.is_empty() {
            is_new = true;
            continue;
        }
        match blocks.last_mut() {
            Some(Block::Listing { items, .. }) if indent >= INDENT && !is_new => {
                add_item(items, indent, words);
            }
            _ if words.ends_with(':') && next_is_indented => {
                let title = words.trim_end_matches(':').to_owned();
                blocks.push(Block::Listing {
                    title,
                    items: Vec::new(),
                });
            }
            Some(Block::Prose(_) | Block::Topic(_)) if !is_new && begins_a_topic(words) => {
                blocks.push(Block::Topic(words.to_owned()));
            }
            Some(Block::Prose(prose) | Block::Topic(prose)) if !is_new => {
                prose.push(' ');
                prose.push_str(words);
            }
            _ => blocks.push(Block::Prose(words.to_owned())),
        }
        is_new = false;
    }
    Text { blocks }
}

fn add_item(items: &mut Vec<Item>, indent: usize, words: &str) {
    match items.last_mut() {
        Some(item) if indent >= CONTINUATION => {
            if !item.does.is_empty() {
                item.does.push(' ');
            }
            item.does.push_str(words);
        }
        _ => {
            let (typed, does) = words.rsplit_once("  ").unwrap_or((words, ""));
            items.push(Item {
                typed: typed.trim_end().to_owned(),
                does: does.trim_start().to_owned(),
            });
        }
    }
}

/// Whether a line begins with a word that says what it is about: `Filters: …`.
fn begins_a_topic(words: &str) -> bool {
    let Some((topic, rest)) = words.split_once(':') else {
        return false;
    };
    rest.starts_with(' ')
        && topic.starts_with(|first: char| first.is_ascii_uppercase())
        && topic.split(' ').count() <= 3
}

impl Text {
    /// In lines of at most `width` columns, as far as what is typed has blanks to break it at.
    pub(super) fn render(&self, width: usize) -> String {
        let mut lines: Vec<String> = Vec::new();
        for block in &self.blocks {
            match block {
                Block::Topic(topic) => lines.extend(wrapped(topic, width)),
                Block::Prose(prose) => {
                    if !lines.is_empty() {
                        lines.push(String::new());
                    }
                    lines.extend(wrapped(prose, width));
                }
                Block::Listing { title, items } => {
                    if !lines.is_empty() {
                        lines.push(String::new());
                    }
                    lines.extend(wrapped(&format!("{title}:"), width));
                    render_items(items, width, &mut lines);
                }
            }
        }
        lines.join("\n")
    }
}

fn render_items(items: &[Item], width: usize, lines: &mut Vec<String>) {
    let widest = width * TYPED_PART / TYPED_OF;
    let explained = items.iter().filter(|item| !item.does.is_empty());
    let columns = explained.map(|item| item.typed.width());
    let column = columns.filter(|columns| *columns <= widest).max();
    let column = INDENT + column.unwrap_or(INDENT) + INDENT;
    for item in items {
        let typed = broken(&item.typed, width);
        let does = wrapped(&item.does, width - column);
        let mut does = does.into_iter();
        let fits = typed.len() == 1 && INDENT + typed[0].width() + INDENT <= column;
        let mut typed = typed.into_iter();
        if fits {
            let (typed, does) = (typed.next().unwrap_or_default(), does.next());
            let line = format!("{:INDENT$}{typed}", "");
            lines.push(match does {
                Some(does) => format!("{line}{:1$}{does}", "", column - line.width()),
                None => line,
            });
        }
        lines.extend(typed.map(|line| format!("{:INDENT$}{line}", "")));
        lines.extend(does.map(|line| format!("{:column$}{line}", "")));
    }
}

/// A command in lines that a shell still reads as one.
fn broken(typed: &str, width: usize) -> Vec<String> {
    let room = width - INDENT;
    if typed.width() <= room {
        return vec![typed.to_owned()];
    }
    let mut lines = wrapped(typed, room - BROKEN_INDENT - " \\".len());
    let last = lines.len() - 1;
    for line in &mut lines[..last] {
        line.push_str(" \\");
    }
    for line in &mut lines[1..] {
        line.insert_str(0, &" ".repeat(BROKEN_INDENT - INDENT));
    }
    lines
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "\
What nothing needs goes; what an image
needs stays.

Filters: until=24h, id=BEGINNING.
Amounts: 10GB.

Examples:
  varve a                short
  varve b --long-option-of-some-length   also
                                         explained
  varve c
Standard input is not connected.";

    #[test]
    fn paragraphs_are_joined_and_listings_are_not() {
        let text = parse(WRITTEN);
        let prose = |text: &str| Block::Prose(text.to_owned());
        let item = |typed: &str, does: &str| Item {
            typed: typed.to_owned(),
            does: does.to_owned(),
        };
        let items = vec![
            item("varve a", "short"),
            item("varve b --long-option-of-some-length", "also explained"),
            item("varve c", ""),
        ];
        assert_eq!(
            text.blocks,
            [
                prose("What nothing needs goes; what an image needs stays."),
                prose("Filters: until=24h, id=BEGINNING."),
                Block::Topic("Amounts: 10GB.".into()),
                Block::Listing {
                    title: "Examples".into(),
                    items,
                },
                prose("Standard input is not connected."),
            ]
        );
    }

    #[test]
    fn a_narrow_terminal_gets_narrow_lines_and_explanations_stay_in_their_column() {
        let rendered = parse(WRITTEN).render(48);
        let expected = "\
What nothing needs goes; what an image needs
stays.

Filters: until=24h, id=BEGINNING.
Amounts: 10GB.

Examples:
  varve a  short
  varve b --long-option-of-some-length
           also explained
  varve c

Standard input is not connected.";
        assert_eq!(rendered, expected);
    }

    #[test]
    fn a_long_command_is_broken_so_that_a_shell_reads_it_as_one() {
        let rendered =
            parse("Examples:\n  a bb ccc dddd eeeee ffffff ggggggg hhhhhhhh\n").render(40);
        let expected = "Examples:\n  a bb ccc dddd eeeee ffffff \\\n      ggggggg hhhhhhhh";
        assert_eq!(rendered, expected);
    }
}
