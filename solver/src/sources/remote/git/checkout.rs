//! What a revision is, and its files in a directory.

use std::fs;

use super::super::Address;
use super::program::Git;
use crate::error::{Error, Result};

/// Hexadecimal digits of a whole name of an object: SHA-1 or SHA-256.
const OBJECT_NAME_LENGTHS: [usize; 2] = [40, 64];

/// Most tags of one commit that are kept with it.
const TAGS_MAX: usize = 100;

/// What a revision is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// What is asked for: the full name of a reference, a commit, or, where the server knows
    /// neither, the revision as it was given.
    name: String,
    /// The commit, if that is known before it is fetched.
    pub(crate) commit: Option<String>,
    /// The annotated tag that names it.
    tag: Option<String>,
}

impl Git<'_> {
    /// Asks the server what the revision is. Of a branch and a tag of one name the branch is meant,
    /// as in BuildKit.
    pub(super) fn resolve(&self) -> Result<Resolved> {
        let reference = &self.source.reference;
        let revision = reference.revision.as_deref().unwrap_or("HEAD");
        if revision.starts_with('-') {
            return Err(self.source.failed(format!("{revision:?} is no revision")));
        }
        let is_whole = OBJECT_NAME_LENGTHS.contains(&revision.len());
        if is_whole && revision.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let commit = revision.to_ascii_lowercase();
            return Ok(Resolved {
                name: commit.clone(),
                commit: Some(commit),
                tag: None,
            });
        }
        let peeled = format!("{revision}^{{}}");
        let listed = self.run(&["ls-remote", "--", &reference.remote, revision, &peeled])?;
        let known: Vec<_> = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        let find = |name: &str| {
            let found = known.iter().find(|(_, known)| *known == name);
            found.map(|(object, _)| (*object).to_owned())
        };
        for prefix in ["", "refs/heads/", "refs/tags/", "refs/"] {
            let name = format!("{prefix}{revision}");
            if let Some(object) = find(&name) {
                let commit = find(&format!("{name}^{{}}"));
                let tag = commit.is_some().then(|| object.clone());
                let commit = Some(commit.unwrap_or(object));
                return Ok(Resolved { name, commit, tag });
            }
        }
        Ok(Resolved {
            name: revision.to_owned(),
            commit: None,
            tag: None,
        })
    }

    pub(super) fn check_out(&self, resolved: &Resolved) -> Result<()> {
        let (source, reference) = (self.source, &self.source.reference);
        let revision = resolved.name.as_str();
        let is_sha256 = resolved
            .commit
            .as_ref()
            .is_some_and(|name| name.len() == 64);
        let format = is_sha256.then_some("--object-format=sha256");
        let init = ["init", "--quiet", "--template="].into_iter();
        self.run(&init.chain(format).collect::<Vec<_>>())?;
        // Addresses of submodules may be relative to it.
        self.run(&["remote", "add", "origin", &reference.remote])?;
        let wanted = own_name(revision);
        let shallow = [
            "fetch",
            "--progress",
            "--no-tags",
            "--update-head-ok",
            "--depth=1",
        ];
        let shallow = [&shallow[..], &["--", &reference.remote, &wanted]].concat();
        let target = match self.run(&shallow) {
            Ok(_) => "FETCH_HEAD",
            Err(error) if needs_everything(revision, &error) => {
                let all = [
                    "fetch",
                    "--progress",
                    "--tags",
                    "--update-head-ok",
                    "--",
                    &reference.remote,
                ];
                let refs = ["+refs/heads/*:refs/heads/*", "+HEAD:refs/varve/HEAD"];
                self.run(&[&all[..], &refs].concat())?;
                match revision {
                    "HEAD" => "refs/varve/HEAD",
                    other => other,
                }
            }
            Err(error) => return Err(error),
        };
        let commit = format!("{target}^{{commit}}");
        self.run(&["checkout", "--quiet", "--force", "--detach", &commit])?;
        let commit = self.run(&["rev-parse", "HEAD"])?;
        let commit = commit.trim();
        self.check(commit, resolved)?;
        let shown = reference.revision.as_deref().unwrap_or("HEAD");
        self.call.reporter.log(format!("{commit}\t{shown}\n"));
        let has_submodules = self.directory.join(".gitmodules").exists();
        if has_submodules && !source.reference.skips_submodules {
            let update = ["submodule", "update", "--progress", "--init"];
            self.run(&[&update[..], &["--recursive", "--depth=1"]].concat())?;
        }
        match reference.keeps_git_directory {
            Some(true) => self.tidy(commit),
            _ => Ok(()),
        }
    }

    /// Makes `.git` what people expect there: the tags of the commit, the address without a login,
    /// nothing of how it came.
    fn tidy(&self, commit: &str) -> Result<()> {
        let remote = &self.source.reference.remote;
        let listed = self.run(&["ls-remote", "--tags", "--", remote])?;
        let lines = listed.lines().filter_map(|line| line.split_once('\t'));
        let tags = lines.filter(|(object, _)| *object == commit);
        let tags = tags.map(|(_, name)| own_name(name.trim_end_matches("^{}")));
        let tags: Vec<_> = tags.take(TAGS_MAX).collect();
        if !tags.is_empty() {
            let fetch = ["fetch", "--quiet", "--no-tags", "--depth=1", "--", remote];
            let tags = tags.iter().map(String::as_str);
            self.run(&fetch.into_iter().chain(tags).collect::<Vec<_>>())?;
        }
        self.run(&["remote", "set-url", "origin", &without_login(remote)])?;
        let directory = self.directory.join(".git");
        // What is not there need not go.
        fs::remove_file(directory.join("FETCH_HEAD")).ok();
        fs::remove_dir_all(directory.join("logs")).ok();
        Ok(())
    }

    /// Whether this is the commit that was asked for.
    fn check(&self, commit: &str, resolved: &Resolved) -> Result<()> {
        if let Some(expected) = &self.source.reference.checksum {
            let mut names = [Some(commit), resolved.tag.as_deref()]
                .into_iter()
                .flatten();
            if !names.any(|name| name.starts_with(expected.as_str())) {
                let reason = format!("expected checksum to match {expected}, got {commit}");
                return Err(self.source.failed(reason));
            }
        }
        match &resolved.commit {
            // An annotated tag may be named by its own object.
            Some(known) if known != commit && *known != resolved.name => {
                let reason = "the revision has moved meanwhile; build again";
                Err(self.source.failed(reason))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the revision can be had from a copy of everything only: a server need not give single
/// commits, and cannot tell what an abbreviated one is; some cannot give a part of the history.
fn needs_everything(revision: &str, error: &Error) -> bool {
    let is_commit = revision.len() >= 7 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit || error.to_string().contains("shallow")
}

/// A reference that is fetched under its own name; a commit, or a name that nobody knows, as it is.
fn own_name(name: &str) -> String {
    match name.starts_with("refs/") {
        true => format!("+{name}:{name}"),
        false => name.to_owned(),
    }
}

/// The address without what stands before an `@` for a server of the web.
fn without_login(remote: &str) -> String {
    match Address::read(remote).filter(Address::is_web) {
        Some(parts) => format!("{}://{}{}", parts.scheme, parts.host, parts.path),
        None => remote.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_kept_has_no_login() {
        for (address, kept) in [
            ("https://me:secret@h:1/a.git", "https://h:1/a.git"),
            ("http://token@h/a.git", "http://h/a.git"),
            ("https://h/a@b.git", "https://h/a@b.git"),
            ("ssh://git@h/a", "ssh://git@h/a"),
            ("git@h:a", "git@h:a"),
        ] {
            assert_eq!(without_login(address), kept);
        }
    }
}
