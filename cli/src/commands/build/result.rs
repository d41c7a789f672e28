//! What a finished build leaves for programs: `-q`, `--iidfile`, `--metadata-file`.

use anyhow::Context;
use serde_json::json;
use solver::exporters::write_whole;
use solver::request::Built;

use super::request::Asked;
use crate::environment::Environment;
use crate::error::print;

/// Writes what was asked for.
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(built: &Built, asked: &Asked) -> anyhow::Result<()> {
    if let Some(path) = &asked.iidfile {
        let Some(id) = built.image_id() else {
            anyhow::bail!(
                "there is no image id to write to {}: no image was asked for (-t, -o type=oci)",
                path.display()
            );
        };
        write_whole(&Environment::absolute(path)?, id.to_string().as_bytes())
            .with_context(|| format!("cannot write the image id to {}", path.display()))?;
    }
    if let Some(path) = &asked.metadata_file {
        let text = serde_json::to_string_pretty(&metadata(built))? + "\n";
        write_whole(&Environment::absolute(path)?, text.as_bytes())
            .with_context(|| format!("cannot write metadata to {}", path.display()))?;
    }
    match built.image_id() {
        Some(id) if asked.is_quiet => print(&format!("{id}\n")),
        _ => Ok(()),
    }
}

/// Takes away the image id of an earlier build: if this one fails, nobody must read that.
///
/// # Errors
/// The file cannot be removed.
pub(super) fn forget(asked: &Asked) -> anyhow::Result<()> {
    let Some(path) = &asked.iidfile else {
        return Ok(());
    };
    // A pipe or device has nothing of an earlier build.
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    std::fs::remove_file(path)
        .with_context(|| format!("cannot remove the old image id in {}", path.display()))
}

/// Under the keys of buildx, as far as they apply.
fn metadata(built: &Built) -> serde_json::Value {
    let text = |digest: &solver::content::Digest| serde_json::Value::from(digest.to_string());
    let target = built.target.as_ref();
    let names = (!built.names.is_empty()).then(|| built.names.join(","));
    let entries = [
        (
            "containerimage.config.digest",
            built.config.as_ref().map(text),
        ),
        (
            "containerimage.descriptor",
            target.map(|target| json!(target)),
        ),
        (
            "containerimage.digest",
            target.map(|target| text(&target.digest)),
        ),
        ("image.name", names.map(Into::into)),
    ];
    let given = entries
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    serde_json::Value::Object(given.collect())
}

#[cfg(test)]
mod tests {
    use solver::content::Digest;
    use solver::images::document::{Descriptor, MANIFEST};

    use super::*;
    use crate::output::Mode;

    fn built() -> Built {
        Built {
            config: Some(Digest::of(b"config")),
            target: Some(Descriptor::new(MANIFEST, Digest::of(b"manifest"), 8)),
            names: vec![
                "docker.io/library/a:latest".into(),
                "docker.io/library/b:1".into(),
            ],
            warnings: Vec::new(),
            layers: Vec::new(),
        }
    }

    fn asked(iidfile: Option<std::path::PathBuf>) -> Asked {
        Asked {
            agents: Vec::new(),
            configuration: crate::configuration::Configuration::default(),
            runtime: executor::RuntimeChoice::Auto,
            progress: Mode::Auto,
            is_quiet: false,
            goes_nowhere: false,
            iidfile,
            metadata_file: None,
        }
    }

    #[test]
    fn metadata_has_the_keys_of_buildx() {
        let metadata = metadata(&built());
        assert_eq!(
            metadata["containerimage.config.digest"],
            Digest::of(b"config").to_string()
        );
        assert_eq!(
            metadata["containerimage.digest"],
            Digest::of(b"manifest").to_string()
        );
        let descriptor = &metadata["containerimage.descriptor"];
        assert_eq!(descriptor["digest"], metadata["containerimage.digest"]);
        assert_eq!(descriptor["mediaType"], MANIFEST);
        assert_eq!(descriptor["size"], 8);
        assert_eq!(
            metadata["image.name"],
            "docker.io/library/a:latest,docker.io/library/b:1"
        );
    }

    #[test]
    fn the_file_with_the_image_id_holds_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("iid");
        write(&built(), &asked(Some(path.clone()))).unwrap();
        let id = Digest::of(b"config").to_string();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), id);
        forget(&asked(Some(path.clone()))).unwrap();
        assert!(!path.exists());
        forget(&asked(Some(path.clone()))).unwrap();
        let nothing = Built {
            config: None,
            target: None,
            ..built()
        };
        assert!(write(&nothing, &asked(Some(path))).is_err());
    }
}
