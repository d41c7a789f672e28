//! Notes on images: `annotation-index.KEY=VALUE` of `-o`, and `--annotation index:KEY=VALUE`.

use solver::request::{Annotation, AnnotationTarget};

/// Names of targets.
const TARGETS: [(&str, AnnotationTarget); 4] = [
    ("manifest", AnnotationTarget::Manifest),
    ("manifest-descriptor", AnnotationTarget::ManifestDescriptor),
    ("index", AnnotationTarget::Index),
    ("index-descriptor", AnnotationTarget::IndexDescriptor),
];

/// One value of `--annotation`: a note for each of the targets that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotations(pub(crate) Vec<Annotation>);

/// Parses a field of `-o`: `annotation[-TARGET][[PLATFORM]].KEY`.
///
/// # Errors
/// A sentence that names what is wrong.
pub(super) fn of_field(field: &str, value: String) -> Result<Annotation, String> {
    let rest = field.strip_prefix("annotation").unwrap_or(field);
    // A platform has no dots; a key may have anything.
    let (target, key) = match rest.split_once("].") {
        Some((target, key)) if target.contains('[') => (format!("{target}]"), key),
        _ => match rest.split_once('.') {
            Some((target, key)) => (target.to_owned(), key),
            None => {
                return Err(format!(
                    "{field:?} has no key; write annotation.KEY, annotation-index.KEY or \
                     annotation[linux/amd64].KEY"
                ));
            }
        },
    };
    let target = match target.strip_prefix('-') {
        Some(target) => target,
        None if target.is_empty() || target.starts_with('[') => &target,
        None => {
            return Err(format!(
                "unknown key {field:?} (did you mean annotation.{key}?)"
            ));
        }
    };
    note(target, key, value)
}

/// Parses a value of `--annotation`: `[TARGET[[PLATFORM]],…:]KEY=VALUE`.
///
/// # Errors
/// A sentence that names what is wrong.
pub(crate) fn parse(text: &str) -> Result<Annotations, String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(format!("invalid annotation {text:?}, expected key=value"));
    };
    let Some((targets, key)) = key.split_once(':') else {
        return Ok(Annotations(vec![note("", key, value.to_owned())?]));
    };
    let targets = targets.split(',');
    let notes = targets.map(|target| note(target.trim(), key, value.to_owned()));
    notes.collect::<Result<_, _>>().map(Annotations)
}

fn note(target: &str, key: &str, value: String) -> Result<Annotation, String> {
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(format!(
            "an annotation needs a key without spaces, not {key:?}"
        ));
    }
    let (name, platform) = match target.split_once('[') {
        None => (target, None),
        Some((name, rest)) => match rest.strip_suffix(']') {
            Some(platform) => (name, Some(platform)),
            None => return Err(format!("the bracket in {target:?} is not closed")),
        },
    };
    let name = if name.is_empty() { "manifest" } else { name };
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        let known = TARGETS.map(|(known, _)| known);
        let meant = super::fields::nearest(name, &known);
        return Err(format!(
            "unknown annotation type {name:?}{meant}; it is one of {}",
            known.join(", ")
        ));
    };
    let is_of_index = matches!(
        target,
        AnnotationTarget::Index | AnnotationTarget::IndexDescriptor
    );
    if is_of_index && platform.is_some() {
        return Err(format!(
            "an index is for all platforms: {name} takes no [PLATFORM]"
        ));
    }
    let note = Annotation::new(*target, platform, key.to_owned(), value);
    note.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Target, platform and key, as text.
    fn shown(note: &Annotation) -> String {
        let platform = note.platform.as_ref().map(ToString::to_string);
        let (target, platform) = (note.target, platform.unwrap_or_default());
        format!("{target:?} {platform} {}={}", note.key, note.value)
    }

    #[test]
    fn fields_and_flags_name_what_the_note_is_on() {
        for (field, expect) in [
            ("annotation.k", "Manifest  k=v"),
            ("annotation.org.example.K", "Manifest  org.example.K=v"),
            ("annotation[linux/arm64].k", "Manifest linux/arm64 k=v"),
            ("annotation-manifest.k", "Manifest  k=v"),
            ("annotation-index.k].x", "Index  k].x=v"),
            (
                "annotation-manifest-descriptor[linux/386].a.b",
                "ManifestDescriptor linux/386 a.b=v",
            ),
            ("annotation-index-descriptor.k", "IndexDescriptor  k=v"),
        ] {
            assert_eq!(
                shown(&of_field(field, "v".into()).unwrap()),
                expect,
                "{field}"
            );
        }
        for (flag, expect) in [
            ("k=v", vec!["Manifest  k=v"]),
            ("k=a=b", vec!["Manifest  k=a=b"]),
            ("index:k=v:w", vec!["Index  k=v:w"]),
            (
                "manifest[linux/arm64],manifest-descriptor:k=v",
                vec!["Manifest linux/arm64 k=v", "ManifestDescriptor  k=v"],
            ),
        ] {
            let notes = parse(flag).unwrap().0;
            assert_eq!(
                notes.iter().map(shown).collect::<Vec<_>>(),
                expect,
                "{flag}"
            );
        }
    }

    #[test]
    fn what_is_no_annotation_is_named() {
        for (flag, part) in [
            ("k", "expected key=value"),
            ("=v", "needs a key"),
            ("a b=v", "without spaces"),
            (
                "indx:k=v",
                "unknown annotation type \"indx\" (did you mean index?)",
            ),
            ("index[linux/amd64]:k=v", "an index is for all platforms"),
            ("manifest[linux/amd64:k=v", "not closed"),
            ("manifest[a/b/c/d]:k=v", "invalid platform"),
        ] {
            let error = parse(flag).unwrap_err();
            assert!(error.contains(part), "{flag}: {error}");
        }
        for (field, part) in [
            ("annotation", "has no key"),
            ("annotation-index", "has no key"),
            ("annotations.k", "did you mean annotation.k?"),
            ("annotation-layer.k", "unknown annotation type \"layer\""),
            ("annotation.", "needs a key"),
        ] {
            let error = of_field(field, String::new()).unwrap_err();
            assert!(error.contains(part), "{field}: {error}");
        }
    }
}
