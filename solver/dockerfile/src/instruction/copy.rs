//! `COPY` and `ADD`.

use std::collections::{HashMap, VecDeque};

use super::flags::{Flag, Flags};
use super::node::Node;
use crate::ast::{AddCommand, CopyCommand, Heredoc, InlineFile, SourcesAndDestination, Word};
use crate::error::Problem;
use crate::heredoc;

const COPY_FLAGS: [Flag; 6] = [
    Flag::text("chown"),
    Flag::text("from"),
    Flag::text("chmod"),
    Flag::bool("link"),
    Flag::repeated("exclude"),
    Flag::bool("parents"),
];

const ADD_FLAGS: [Flag; 7] = [
    Flag::text("chown"),
    Flag::text("chmod"),
    Flag::bool("link"),
    Flag::bool("keep-git-dir"),
    Flag::text("checksum"),
    Flag::bool("unpack"),
    Flag::repeated("exclude"),
];

pub(super) fn copy(node: Node) -> Result<CopyCommand, Problem> {
    let keyword = "COPY";
    has_destination(&node, keyword)?;
    let flags = Flags::parse(&node.flags, &COPY_FLAGS)?;
    Ok(CopyCommand {
        files: files(&node, keyword)?,
        from: flags.word("from").map(|from| from.as_str().to_owned()),
        chown: flags.word("chown"),
        chmod: flags.word("chmod"),
        link: flags.bool("link").unwrap_or_default(),
        parents: flags.bool("parents").unwrap_or_default(),
        exclude: strings(&flags.all("exclude")),
    })
}

pub(super) fn add(node: Node) -> Result<AddCommand, Problem> {
    let keyword = "ADD";
    has_destination(&node, keyword)?;
    let flags = Flags::parse(&node.flags, &ADD_FLAGS)?;
    Ok(AddCommand {
        files: files(&node, keyword)?,
        chown: flags.word("chown"),
        chmod: flags.word("chmod"),
        link: flags.bool("link").unwrap_or_default(),
        exclude: strings(&flags.all("exclude")),
        keep_git_dir: flags.bool("keep-git-dir"),
        checksum: flags.word("checksum"),
        unpack: flags.bool("unpack"),
    })
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn has_destination(node: &Node, keyword: &'static str) -> Result<(), Problem> {
    if node.arguments.as_list().len() < 2 {
        return Err(Problem::NoDestination { keyword });
    }
    Ok(())
}

/// Tells here-documents from paths.
///
/// Those of the node were found by shell rules, the arguments are cut at white space; so a
/// delimiter with a space in it is not recognised as a source. BuildKit has it so too.
fn files(node: &Node, keyword: &'static str) -> Result<SourcesAndDestination, Problem> {
    let words = node.arguments.as_list();
    let Some((destination, sources)) = words.split_last() else {
        return Err(Problem::NoDestination { keyword });
    };
    let may_be_heredoc = !node.arguments.is_json();
    let heredoc_in = |word: &str| match heredoc::parse_word(word) {
        Ok(found) if may_be_heredoc => found,
        _ => None,
    };
    if heredoc_in(destination).is_some() {
        return Err(Problem::HeredocDestination { keyword });
    }
    let mut files = SourcesAndDestination {
        paths: Vec::new(),
        inline_files: Vec::new(),
        destination: destination.as_str().into(),
    };
    // By name, in the order of the line: two may have the same name.
    let mut bodies: HashMap<&str, VecDeque<&Heredoc>> = HashMap::new();
    for heredoc in &node.heredocs {
        bodies.entry(&heredoc.name).or_default().push_back(heredoc);
    }
    for source in sources {
        let name = heredoc_in(source).map(|heredoc| heredoc.name);
        let of_name = name.and_then(|name| bodies.get_mut(name.as_str()));
        match of_name.and_then(VecDeque::pop_front) {
            Some(heredoc) => files.inline_files.push(InlineFile {
                name: heredoc.name.clone(),
                content: heredoc.chomped(),
                expand: heredoc.expand,
            }),
            None => files.paths.push(Word::from(source.as_str())),
        }
    }
    Ok(files)
}
