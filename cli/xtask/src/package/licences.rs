//! What others have written and the program contains: their names, and the texts of their licences
//! as they ask for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::output_of;
use super::tree::{Layout, Tree};
use crate::error::{Context, Error, Result};
use crate::workspace::{Package, Workspace};

/// The document.
const NAME: &str = "third-party-licences.txt";

/// How files that hold a licence are called, in capitals.
const FILES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// Where crates keep the C and C++ sources that they compile.
const SOURCES_WITHIN: [&str; 4] = ["", "rocksdb", "zstd", "liblz4"];

/// What is linked in besides crates.
const LIBRARIES: &str = "\
libseccomp (LGPL-2.1), libstdc++ and libgcc (GPL-3 with the GCC Runtime Library Exception) are
linked in too, unchanged, as the distribution has them that this was built on. The program can be
linked again with others: its sources and `cargo xtask package` are all that it takes.
";

/// Writes the document.
///
/// # Errors
/// Where cargo fails, or a crate has no sources.
pub(super) fn write(workspace: &Workspace, layout: &Layout, tree: &mut Tree) -> Result<()> {
    let text = collect(&crates(workspace)?)?;
    tree.compressed(&layout.document(NAME), &text)
}

/// Crates of others that are linked into the program: name and version, licence, sources.
fn crates(workspace: &Workspace) -> Result<Vec<(String, String, Package)>> {
    let mut cargo = workspace.plain_cargo();
    cargo.args([
        "tree",
        "--locked",
        "--package",
        "varve",
        "--edges",
        "normal",
    ]);
    let listed = output_of(cargo.args(["--prefix", "none", "--format", "{p}|{l}"]))?;
    let mut named = BTreeMap::new();
    for line in listed.lines() {
        // `name v1.2.3 (proc-macro)|MIT`; ours have a path instead.
        let Some((package, licence)) = line.split_once('|') else {
            continue;
        };
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        if !package.contains("(/") {
            let version = version.trim_start_matches('v').to_owned();
            let licence = licence.trim_end_matches(" (*)").to_owned();
            named.insert((name.to_owned(), version), licence);
        }
    }
    let all = workspace.all_packages()?;
    let mut crates = Vec::new();
    for ((name, version), licence) in named {
        let found = all.iter().find(|(known, package)| {
            // cargo tree leaves build metadata in, metadata too.
            *known == name && package.version == version
        });
        let (_, package) = found.ok_or_else(|| {
            Error::new(format!(
                "`cargo metadata` names no package {name} {version}"
            ))
        })?;
        crates.push((format!("{name} {version}"), licence, package.clone()));
    }
    Ok(crates)
}

/// Equal texts stand once.
fn collect(crates: &[(String, String, Package)]) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut list = String::new();
    for (name, licence, package) in crates {
        list.push_str(&format!("{name}: {licence}\n"));
        for within in SOURCES_WITHIN {
            for text in licence_texts(&package.sources.join(within))? {
                let users = texts.entry(text).or_default();
                if users.last() != Some(&name.as_str()) {
                    users.push(name);
                }
            }
        }
    }
    let mut document = format!(
        "varve is under the Apache License 2.0. It contains these works of others:\n\n{list}\n\
         {LIBRARIES}"
    );
    for (text, users) in texts {
        let rule = "-".repeat(80);
        let users = users.join(", ");
        document.push_str(&format!(
            "\n{rule}\n{users}\n{rule}\n\n{}\n",
            text.trim_end()
        ));
    }
    Ok(document)
}

fn licence_texts(directory: &Path) -> Result<Vec<String>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).at("read", directory)? {
        let path = entry.at("read", directory)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_uppercase();
        if path.is_file() && FILES.iter().any(|known| name.starts_with(known)) {
            let text = fs::read(&path).at("read", &path)?;
            found.push(String::from_utf8_lossy(&text).into_owned());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_stand_once_with_all_their_users() {
        let home = Path::new("/var/tmp").join(format!("xtask-licences-{}", std::process::id()));
        let mut crates = Vec::new();
        for (name, licence) in [
            ("a 1.0.0", "MIT\n"),
            ("b 2.0.0", "MIT\n"),
            ("c 3.0.0", "ISC\n"),
        ] {
            let sources = home.join(name);
            fs::create_dir_all(&sources).unwrap();
            fs::write(sources.join("License-x.txt"), licence).unwrap();
            let version = name[2..].to_owned();
            let package = Package { version, sources };
            crates.push((name.to_owned(), licence.trim().to_owned(), package));
        }
        let text = collect(&crates).unwrap();
        fs::remove_dir_all(&home).unwrap();
        assert_eq!(text.matches("\n\nMIT\n").count(), 1, "{text}");
        assert!(
            text.contains("\na 1.0.0, b 2.0.0\n") && text.contains("\nc 3.0.0\n"),
            "{text}"
        );
    }
}
