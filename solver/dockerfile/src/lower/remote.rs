//! Sources of `ADD` that are somewhere else: files of the web, and git repositories.

use llb::Output;
use llb::op::{Copy, GitSource, HttpSource, Source};

use super::arguments::at;
use super::copy::Request;
use super::reference::check_digest;
use super::stage::StageState;
use super::{Lowerer, locations, paths};
use crate::error::{Error, Span};
use crate::repository::{GitReference, decoded};

/// What a file of the web is called whose address ends without a name. BuildKit's word.
const UNNAMED: &str = "__unnamed__";

/// Secrets that git may be given, where somebody has them. BuildKit's names.
const GIT_TOKEN: &str = "GIT_AUTH_TOKEN";
const GIT_HEADER: &str = "GIT_AUTH_HEADER";

/// The agent that is asked for keys where a repository is fetched by ssh. BuildKit's word.
const SSH_AGENT: &str = "default";

/// A source that does not lie in the context.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// An address of the web.
    File(String),
    /// A repository.
    Repository(GitReference),
}

impl Remote {
    /// What a source of `COPY` or `ADD` means; `None` for a path.
    ///
    /// # Errors
    /// The queries of a repository mean nothing.
    pub(super) fn read(source: &str) -> Result<Option<Self>, String> {
        if let Some(git) = GitReference::parse(source)?.filter(|git| !git.is_like_path) {
            return Ok(Some(Remote::Repository(git)));
        }
        let is_address = ["http://", "https://"]
            .iter()
            .any(|s| source.starts_with(s));
        Ok(is_address.then(|| Remote::File(source.to_owned())))
    }

    fn kind(&self) -> &'static str {
        match self {
            Remote::File(_) => "URL",
            Remote::Repository(_) => "git ref",
        }
    }
}

/// The sources of an instruction, each with what it is if it is no path.
///
/// # Errors
/// `COPY` of one; a checksum for something else, or for several.
pub(super) fn classify(
    request: &Request<'_>,
    sources: &[String],
    checksum: &str,
) -> Result<Vec<Option<Remote>>, String> {
    let mut remotes = Vec::with_capacity(sources.len());
    for source in sources {
        let remote = Remote::read(source)?;
        if let Some(remote) = remote.as_ref().filter(|_| !request.is_add()) {
            return Err(format!("source can't be a {} for COPY", remote.kind()));
        }
        remotes.push(remote);
    }
    if !checksum.is_empty() {
        match remotes.as_slice() {
            [None] => return Err("checksum requires HTTP(S) or Git sources".to_owned()),
            [Some(_)] => {}
            _ => return Err("checksum can't be specified for multiple sources".to_owned()),
        }
    }
    Ok(remotes)
}

impl Lowerer<'_> {
    /// Adds a source, and gives it with the copy that is made of it.
    pub(super) fn remote_copy(
        &mut self,
        stage: &mut StageState,
        (remote, checksum): (Remote, &str),
        request: &Request<'_>,
        title: String,
        span: Span,
        template: &Copy,
    ) -> Result<(Output, Copy), Error> {
        let template = template.clone();
        let (source, copy) = match remote {
            Remote::File(url) => {
                if !checksum.is_empty() {
                    check_digest(checksum).map_err(|error| at(span, error))?;
                }
                let name = file_name(&url);
                let copy = Copy {
                    src: paths::absolute("/", &name),
                    attempt_unpack: request.unpacks_downloads(),
                    ..template
                };
                let file = HttpSource {
                    checksum: checksum.to_owned(),
                    ..HttpSource::new(&url, &name)
                };
                (Source::from(file), copy)
            }
            Remote::Repository(reference) => {
                let git = repository(reference, request, checksum);
                let git = git.map_err(|error| at(span, error))?;
                let copy = Copy {
                    src: "/".to_owned(),
                    ..template
                };
                (Source::from(git), copy)
            }
        };
        // The cache of steps that are to run anew says nothing of what a server has.
        let mut metadata = stage.metadata(title, locations(span));
        metadata.ignore_cache = false;
        Ok((self.graph.source(source, None, metadata), copy))
    }
}

/// The last part of an address' path.
fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let path = decoded(path);
    let name = path.trim_end_matches('/').rsplit('/').next();
    match name.unwrap_or_default() {
        "" | "." | ".." => UNNAMED.to_owned(),
        name => name.to_owned(),
    }
}

fn repository(
    reference: GitReference,
    request: &Request<'_>,
    checksum: &str,
) -> Result<GitSource, String> {
    let keeps = match (request.keep_git_dir(), reference.keeps_git_directory) {
        (Some(said), Some(asked)) if said != asked => {
            return Err("inconsistent keep-git-dir configuration".to_owned());
        }
        (said, asked) => asked.or(said).unwrap_or_default(),
    };
    let checksum = match reference.checksum {
        Some(asked) if !checksum.is_empty() && asked != checksum => {
            return Err(format!("checksum mismatch {checksum:?} != {asked:?}"));
        }
        Some(asked) => asked,
        None => checksum.to_owned(),
    };
    let remote = reference.remote.to_ascii_lowercase();
    let others = ["http://", "https://", "git://"];
    let is_ssh = !others.iter().any(|scheme| remote.starts_with(scheme));
    Ok(GitSource {
        remote: reference.remote,
        revision: reference.revision.unwrap_or_default(),
        directory: reference.directory.unwrap_or_default(),
        checksum,
        keeps_git_directory: keeps,
        skips_submodules: reference.skips_submodules,
        auth_token_secret: GIT_TOKEN.to_owned(),
        auth_header_secret: GIT_HEADER.to_owned(),
        known_ssh_hosts: String::new(),
        ssh_agent: if is_ssh { SSH_AGENT } else { "" }.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_elsewhere_are_recognised() {
        for (path, expected) in [
            ("https://x.org/a.tar", Some("URL")),
            ("http://x.org", Some("URL")),
            ("https://x.org/a.git#main:dir", Some("git ref")),
            ("git@github.com:a/b.git", Some("git ref")),
            ("ssh://a/b", Some("git ref")),
            ("github.com/a/b", None),
            ("foo://bar", None),
            ("dir@2/x:y", None),
            ("a:b", None),
            ("./x", None),
        ] {
            let found = Remote::read(path).unwrap();
            assert_eq!(found.as_ref().map(Remote::kind), expected, "{path}");
        }
    }

    #[test]
    fn a_file_of_the_web_is_called_as_its_address_ends() {
        for (url, name) in [
            ("https://h/a/b.tar?x=/c#d", "b.tar"),
            ("https://h/a/b/", "b"),
            ("https://h/a%20b", "a b"),
            ("https://h/a%2Fb", "b"),
            ("https://h/..", UNNAMED),
            ("https://h/", UNNAMED),
            ("https://h", UNNAMED),
            ("https://h?a", UNNAMED),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
