//! Notes on images (OCI image-spec, annotations.md): which go where, and which go nowhere.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::request::{Annotation, AnnotationTarget, ImageAttributes};

/// The notes for a target; those for the manifest of one platform go over those for all.
pub(super) fn of(
    annotations: &[Annotation],
    target: AnnotationTarget,
    platform: Option<&llb::Platform>,
) -> BTreeMap<String, String> {
    let is_for_all = |note: &&Annotation| note.platform.is_none() || platform.is_none();
    let is_for_this = |note: &&Annotation| match (&note.platform, platform) {
        (Some(noted), Some(platform)) => noted.normalized() == platform.normalized(),
        _ => false,
    };
    let fitting = || annotations.iter().filter(|note| note.target == target);
    let general = fitting().filter(is_for_all);
    let particular = fitting().filter(is_for_this);
    let pair = |note: &Annotation| (note.key.clone(), note.value.clone());
    general.chain(particular).map(pair).collect()
}

/// Refuses notes that would be on nothing.
///
/// # Errors
/// [`Error::Output`] in BuildKit's words.
pub(super) fn check(
    attributes: &ImageAttributes,
    platforms: &[llb::Platform],
    is_multi_platform: bool,
) -> Result<()> {
    let refused = |output: String, reason: &str| {
        Err(Error::Output {
            output,
            reason: reason.into(),
        })
    };
    for note in &attributes.annotations {
        let on_manifest = note.target == AnnotationTarget::Manifest;
        let on_index = matches!(
            note.target,
            AnnotationTarget::Index | AnnotationTarget::IndexDescriptor
        );
        let built = |wanted: &llb::Platform| {
            let mut platforms = platforms.iter();
            platforms.any(|platform| platform.normalized() == wanted.normalized())
        };
        match &note.platform {
            Some(platform) if !built(platform) => {
                let output = format!("annotation[{platform}].{}", note.key);
                return refused(output, "invalid annotation: that platform is not built");
            }
            _ if on_index && !is_multi_platform => {
                let reason = "index annotations not supported for single platform export; \
                              annotate the manifest, or build for several platforms";
                return refused(format!("annotation-index.{}", note.key), reason);
            }
            _ if attributes.docker_media_types && !on_manifest => {
                let reason = "docker's media types have no place for it; leave \
                              oci-mediatypes=false out";
                return refused(format!("annotation {}", note.key), reason);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(target: AnnotationTarget, platform: Option<&str>, value: &str) -> Annotation {
        let host = llb::Platform::new("linux", "amd64");
        Annotation {
            target,
            platform: platform.map(|text| llb::Platform::parse(text, &host).unwrap()),
            key: "k".into(),
            value: value.into(),
        }
    }

    #[test]
    fn a_note_for_a_platform_goes_over_one_for_all() {
        let target = AnnotationTarget::Manifest;
        let notes = [
            note(target, Some("linux/arm64/v8"), "arm"),
            note(target, None, "all"),
            note(AnnotationTarget::Index, None, "index"),
        ];
        let value = |target, architecture: Option<&str>| {
            let platform = architecture.map(|name| llb::Platform::new("linux", name));
            of(&notes, target, platform.as_ref()).remove("k").unwrap()
        };
        assert_eq!(value(target, Some("arm64")), "arm");
        assert_eq!(value(target, Some("amd64")), "all");
        assert_eq!(value(AnnotationTarget::Index, None), "index");
    }

    #[test]
    fn notes_that_would_be_on_nothing_are_refused() {
        let one = [llb::Platform::new("linux", "amd64")];
        let two = [one[0].clone(), llb::Platform::new("linux", "arm64")];
        let index = AnnotationTarget::Index;
        let manifest = AnnotationTarget::Manifest;
        for (target, platform, is_docker, platforms, ok) in [
            (manifest, None, false, &one[..], true),
            (manifest, None, true, &one, true),
            (manifest, Some("linux/amd64"), false, &one, true),
            (manifest, Some("linux/arm64"), false, &one, false),
            (index, None, false, &one, false),
            (index, None, false, &two, true),
            (index, None, true, &two, false),
        ] {
            let attributes = ImageAttributes {
                docker_media_types: is_docker,
                annotations: vec![note(target, platform, "v")],
                ..ImageAttributes::default()
            };
            let checked = check(&attributes, platforms, platforms.len() > 1);
            assert_eq!(checked.is_ok(), ok, "{target:?} {platform:?} {checked:?}");
        }
    }
}
