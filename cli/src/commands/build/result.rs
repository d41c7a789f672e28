//! What a finished build leaves for programs: `-q`, `--iidfile`, `--metadata-file`.

use anyhow::Context;
use solver::request::Built;

use super::request::Asked;
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
        std::fs::write(path, id.to_string())
            .with_context(|| format!("cannot write the image id to {}", path.display()))?;
    }
    if let Some(path) = &asked.metadata_file {
        let text = serde_json::to_string_pretty(&metadata(built))? + "\n";
        std::fs::write(path, text)
            .with_context(|| format!("cannot write metadata to {}", path.display()))?;
    }
    match built.image_id() {
        Some(id) if asked.is_quiet => print(&format!("{id}\n")),
        _ => Ok(()),
    }
}

/// Under the keys of buildx, as far as they apply.
fn metadata(built: &Built) -> serde_json::Value {
    let mut metadata = serde_json::Map::new();
    let mut add = |key: &str, value: Option<String>| {
        metadata.extend(value.map(|value| (key.to_owned(), value.into())));
    };
    add(
        "containerimage.config.digest",
        built.config.map(|digest| digest.to_string()),
    );
    add(
        "containerimage.digest",
        built
            .target
            .as_ref()
            .map(|target| target.digest.to_string()),
    );
    add(
        "image.name",
        (!built.names.is_empty()).then(|| built.names.join(",")),
    );
    metadata.into()
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
            runtime: executor::RuntimeChoice::Auto,
            progress: Mode::Auto,
            is_quiet: false,
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
        let nothing = Built {
            config: None,
            target: None,
            ..built()
        };
        assert!(write(&nothing, &asked(Some(path))).is_err());
    }
}
