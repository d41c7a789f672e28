//! `COPY` and `ADD`: files of the build context, of a stage, of an image or of the instruction
//! itself.

use std::borrow::Cow;

use llb::op::{Copy, CopyMode, Mkfile, Owner};
use llb::{FileChain, Metadata, Output, ProgressGroup};

use super::arguments::at;
use super::history::Entry;
use super::stage::StageState;
use super::{Lowerer, locations, paths, remote};
use crate::ast::{AddCommand, CopyCommand, InlineFile, SourcesAndDestination, Word};
use crate::chmod::SymbolicMode;
use crate::error::quote::quote;
use crate::error::{Error, Span};
use crate::glob;
use crate::stages::Command;
use crate::words::Lexer;

/// What both instructions ask for.
pub(super) struct Request<'a> {
    keyword: &'static str,
    files: &'a SourcesAndDestination,
    from: Option<&'a str>,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    exclude: &'a [String],
    link: bool,
    parents: bool,
    /// Whether archives are unpacked, where something is said of it.
    unpack: Option<bool>,
    checksum: Option<&'a Word>,
    keep_git_dir: Option<bool>,
}

impl<'a> Request<'a> {
    pub(super) fn copy(copy: &'a CopyCommand) -> Self {
        Self {
            keyword: "COPY",
            files: &copy.files,
            from: copy.from.as_deref(),
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            exclude: &copy.exclude,
            link: copy.link,
            parents: copy.parents,
            unpack: None,
            checksum: None,
            keep_git_dir: None,
        }
    }

    pub(super) fn add(add: &'a AddCommand) -> Self {
        Self {
            keyword: "ADD",
            files: &add.files,
            from: None,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            exclude: &add.exclude,
            link: add.link,
            parents: false,
            unpack: add.unpack,
            checksum: add.checksum.as_ref(),
            keep_git_dir: add.keep_git_dir,
        }
    }

    pub(super) fn is_add(&self) -> bool {
        self.keyword == "ADD"
    }

    /// Whether an archive of the context is unpacked.
    fn unpacks(&self) -> bool {
        self.is_add() && self.unpack.unwrap_or(true)
    }

    /// Whether an archive of the web is unpacked.
    pub(super) fn unpacks_downloads(&self) -> bool {
        self.unpack.unwrap_or_default()
    }

    /// `--keep-git-dir`.
    pub(super) fn keep_git_dir(&self) -> Option<bool> {
        self.keep_git_dir
    }
}

/// A request with all variables expanded.
struct Expanded {
    paths: Vec<String>,
    inline_files: Vec<(String, String)>,
    destination: String,
    chown: String,
    chmod: String,
    checksum: String,
}

impl Lowerer<'_> {
    /// Copies files.
    pub(super) fn copy(
        &mut self,
        stage: &mut StageState,
        command: &Command,
        request: &Request<'_>,
    ) -> Result<(), Error> {
        let origin = &command.instruction.origin;
        let span = origin.span;
        let source = self.copy_source(stage, command, request)?;
        let expanded = self.expand_copy(stage, request, span)?;
        let remotes = remote::classify(request, &expanded.paths, &expanded.checksum);
        let remotes = remotes.map_err(|message| at(span, message))?;
        let template = Copy {
            dest: paths::destination(&stage.directory, &expanded.destination),
            mode: mode(&expanded.chmod).map_err(|message| at(span, message))?,
            exclude_patterns: request.exclude.to_vec(),
            create_dest_path: true,
            ..Copy::default()
        };
        // BuildKit copies in place when permissions change: a merge could not see them.
        let link = request.link && self.options.link_as_merge && expanded.chmod.is_empty();
        let base = stage.root.filter(|_| !link);
        let mut chain = FileChain::on(base);
        let owner =
            (!expanded.chown.is_empty()).then(|| Owner::parse(&expanded.chown, chain.base()));
        let template = Copy { owner, ..template };
        let name = self.shown(stage, &origin.source);
        for (path, remote) in expanded.paths.iter().zip(remotes) {
            let (source, copy) = match remote {
                None => {
                    self.note_path(command, path);
                    (source, copy_of(path, request, &template))
                }
                Some(remote) => {
                    let platform = stage.platform.clone();
                    let title = stage.peek_step_name(&name, Some(&platform));
                    let asked = (remote, &*expanded.checksum);
                    let (source, copy) =
                        self.remote_copy(stage, asked, request, title, span, &template)?;
                    (Some(source), copy)
                }
            };
            chain = chain.copy(source, copy);
        }
        for (name, data) in &expanded.inline_files {
            let file = self.inline_file(name, data, span)?;
            let src = paths::clean(&format!("/{name}"));
            chain = chain.copy(
                Some(file),
                Copy {
                    src,
                    ..template.clone()
                },
            );
        }
        stage.root = self.add_copy(stage, chain, &name, link, span);
        stage.commit(history(request, &expanded), Entry::Built);
        Ok(())
    }

    /// Adds the operation, and for a linked copy the merge.
    fn add_copy(
        &mut self,
        stage: &mut StageState,
        chain: FileChain,
        name: &str,
        link: bool,
        span: Span,
    ) -> Option<Output> {
        let platform = stage.platform.clone();
        let title = stage.peek_step_name(name, Some(&platform));
        let merged_title = stage.step_name(&format!("LINK {name}"), Some(&platform));
        let mut metadata = stage.metadata(title.clone(), locations(span));
        if !link {
            return Some(self.graph.file(chain, metadata));
        }
        let group = |weak| {
            // One group for each step: its lines and its name tell it apart.
            let id = format!("link-{}-{}", span.start, title);
            Some(ProgressGroup {
                id,
                name: title.clone(),
                weak,
            })
        };
        metadata.progress_group = group(true);
        let copied = self.graph.file(chain, metadata);
        let merge = Metadata {
            progress_group: group(false),
            ..stage.metadata(merged_title, locations(span))
        };
        self.graph.merge(&[stage.root, Some(copied)], merge)
    }

    /// The file system that is copied from.
    fn copy_source(
        &mut self,
        stage: &StageState,
        command: &Command,
        request: &Request<'_>,
    ) -> Result<Option<Output>, Error> {
        let Some(from) = command.from else {
            return Ok(Some(self.context));
        };
        match self.states.get(&from) {
            Some(source) => Ok(source.root),
            None => {
                let name = quote(request.from.unwrap_or_default());
                let current = quote(&stage.naming.label);
                let message = format!(
                    "cannot copy from stage {name}, it needs to be defined before current stage \
                     {current}"
                );
                Err(at(command.instruction.origin.span, message))
            }
        }
    }

    /// Remembers that a path is read of the source.
    fn note_path(&mut self, command: &Command, read: &str) {
        let set = match command.from.and_then(|from| self.states.get(&from)) {
            Some(source) => &mut self.path_sets[source.path_set],
            None => &mut self.context_paths,
        };
        set.insert(paths::join("/", read));
    }

    fn expand_copy(
        &mut self,
        stage: &StageState,
        request: &Request<'_>,
        span: Span,
    ) -> Result<Expanded, Error> {
        let mut optional = |word: Option<&Word>| match word {
            Some(word) => self.expand(stage, word, span),
            None => Ok(String::new()),
        };
        let chown = optional(request.chown)?;
        let chmod = optional(request.chmod)?;
        let checksum = optional(request.checksum)?;
        let mut paths = Vec::with_capacity(request.files.paths.len());
        for path in &request.files.paths {
            paths.push(self.expand(stage, path, span)?);
        }
        let destination = self.expand(stage, &request.files.destination, span)?;
        let mut inline_files = Vec::with_capacity(request.files.inline_files.len());
        for file in &request.files.inline_files {
            inline_files.push((file.name.clone(), self.inline_data(stage, file, span)?));
        }
        Ok(Expanded {
            paths,
            inline_files,
            destination,
            chown,
            chmod,
            checksum,
        })
    }

    fn inline_data(
        &mut self,
        stage: &StageState,
        file: &InlineFile,
        span: Span,
    ) -> Result<String, Error> {
        if !file.expand {
            return Ok(file.content.clone());
        }
        let lexer = Lexer::new('\\').skip_process_quotes();
        let data = lexer.process_word(&file.content, &stage.environment);
        let data = data.map_err(|error| at(span, error))?;
        self.spend(data.len(), span)?;
        Ok(data)
    }

    /// A file system with one file.
    fn inline_file(&mut self, name: &str, data: &str, span: Span) -> Result<Output, Error> {
        self.spend(data.len(), span)?;
        let chain = FileChain::on(None).mkfile(Mkfile {
            path: paths::clean(&format!("/{name}")),
            mode: 0o644,
            data: data.as_bytes().to_vec(),
            ..Mkfile::default()
        });
        let metadata = Metadata::named("[internal] preparing inline document");
        Ok(self.graph.file(chain, metadata))
    }
}

/// The copy of one path of the source.
fn copy_of(path: &str, request: &Request<'_>, template: &Copy) -> Copy {
    let mut copy = Copy {
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: request.unpacks(),
        allow_wildcard: true,
        allow_empty_wildcard: true,
        ..template.clone()
    };
    let mut src = path;
    if request.parents {
        // What stands before `/./` is not made again at the destination.
        let (parent, pattern) = path.split_once("/./").unwrap_or(("/", path));
        src = parent;
        let pattern = paths::absolute("/", pattern);
        copy.include_patterns = vec![pattern.strip_prefix('/').unwrap_or(&pattern).to_owned()];
        if !glob::has_wildcards(src) && !glob::has_wildcards(&pattern) {
            copy.required_paths = vec![paths::absolute("/", &paths::join(src, &pattern))];
        }
    }
    copy.src = paths::clean(&paths::absolute("/", src));
    copy
}

/// Reads `--chmod`: octal digits or chmod's symbolic form.
fn mode(text: &str) -> Result<CopyMode, String> {
    if text.is_empty() {
        return Ok(CopyMode::Keep);
    }
    let octal = text.chars().all(|digit| digit.is_digit(8));
    match u32::from_str_radix(text, 8) {
        Ok(bits) if octal && bits <= 0o7777 => Ok(CopyMode::Bits(bits)),
        _ if SymbolicMode::parse(text).is_some() => Ok(CopyMode::Symbolic(text.to_owned())),
        _ => Err(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        )),
    }
}

/// `COPY --chown=app a b /dir/`.
fn history(request: &Request<'_>, expanded: &Expanded) -> String {
    let mut words: Vec<Cow<'_, str>> = vec![request.keyword.into()];
    if request.parents {
        words.push("--parents".into());
    }
    if !expanded.chown.is_empty() {
        words.push(format!("--chown={}", expanded.chown).into());
    }
    if !expanded.chmod.is_empty() {
        words.push(format!("--chmod={}", expanded.chmod).into());
    }
    words.extend(expanded.paths.iter().map(|path| path.as_str().into()));
    words.extend(
        expanded
            .inline_files
            .iter()
            .map(|(name, _)| format!("<<{name}").into()),
    );
    words.push(expanded.destination.as_str().into());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbolic() {
        assert_eq!(mode(""), Ok(CopyMode::Keep));
        assert_eq!(mode("0755"), Ok(CopyMode::Bits(0o755)));
        assert_eq!(mode("7777"), Ok(CopyMode::Bits(0o7777)));
        for symbolic in ["u=rwX,go=rX", "+x", "a-w", "g=u", "u+rw-x"] {
            assert_eq!(mode(symbolic), Ok(CopyMode::Symbolic(symbolic.into())));
        }
        for wrong in [
            "10000", "888", "0o755", "+755", "rwx", "u=", "u", "u=rwx,", "z+x", "é",
        ] {
            let found = mode(wrong);
            assert_eq!(found.is_err(), wrong != "u=", "{wrong}: {found:?}");
        }
    }
}
