//! What kind of document a manifest is: by its own words first, for those are what was verified.

use std::fmt;

use crate::error::shortened;

/// The manifests and indexes that registries hold for image builders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// `application/vnd.oci.image.manifest.v1+json`
    OciManifest,
    /// `application/vnd.oci.image.index.v1+json`
    OciIndex,
    /// `application/vnd.docker.distribution.manifest.v2+json`
    DockerManifest,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    DockerList,
}

impl MediaType {
    const ALL: [Self; 4] = [
        MediaType::OciManifest,
        MediaType::OciIndex,
        MediaType::DockerManifest,
        MediaType::DockerList,
    ];

    /// What requests accept. Schema 1 is in it so that a registry that has nothing else shows it,
    /// instead of saying that there is nothing.
    pub(crate) const ACCEPTED: &'static str = "application/vnd.oci.image.index.v1+json, \
         application/vnd.oci.image.manifest.v1+json, \
         application/vnd.docker.distribution.manifest.list.v2+json, \
         application/vnd.docker.distribution.manifest.v2+json, \
         application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1, */*;q=0.1";

    /// As it stands in descriptors and headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MediaType::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            MediaType::OciIndex => "application/vnd.oci.image.index.v1+json",
            MediaType::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            MediaType::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    /// Whether it lists manifests instead of layers.
    #[must_use]
    pub fn is_index(self) -> bool {
        matches!(self, MediaType::OciIndex | MediaType::DockerList)
    }

    /// From a header or descriptor; parameters such as a charset are left out.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let name = essence(text);
        MediaType::ALL
            .into_iter()
            .find(|media_type| name.eq_ignore_ascii_case(media_type.as_str()))
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

/// Why a document is no manifest that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    SchemaOne,
    Other(String),
}

/// The fields that tell the kinds apart; their content is the caller's.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// What these bytes are, `header` being the `Content-Type` they came with.
pub(super) fn media_type(bytes: &[u8], header: Option<&str>) -> Result<MediaType, Problem> {
    let header = header.map(essence).unwrap_or_default();
    if header.contains("distribution.manifest.v1+") {
        return Err(Problem::SchemaOne);
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|error| {
        let kind = if header.is_empty() {
            "nothing known"
        } else {
            header
        };
        let reason = format!("it is {kind}, and no JSON object of the right form: {error}");
        Problem::Other(shortened(&reason))
    })?;
    if document.schema_version == Some(1) || document.fs_layers.is_some() {
        return Err(Problem::SchemaOne);
    }
    let has_layers = document.layers.is_some() || document.config.is_some();
    let has_manifests = document.manifests.is_some();
    if has_layers && has_manifests {
        // Two readers could see two images in it (CVE-2021-41190).
        let reason = "it has both layers and manifests, and is refused as ambiguous";
        return Err(Problem::Other(reason.to_owned()));
    }
    let named = document.media_type.as_deref().unwrap_or(header);
    let found = match MediaType::parse(named) {
        Some(found) => found,
        // The field is optional, and some servers know no types but JSON and octets.
        None if document.media_type.is_none() && has_manifests => MediaType::OciIndex,
        None if document.media_type.is_none() && has_layers => MediaType::OciManifest,
        None if named.is_empty() => {
            return Err(Problem::Other(
                "it has neither layers nor manifests".to_owned(),
            ));
        }
        None => {
            let reason = format!("its media type is {}", shortened(named));
            return Err(Problem::Other(reason));
        }
    };
    if found.is_index() && has_layers || !found.is_index() && has_manifests {
        let reason = format!("it says that it is {found}, and has the fields of another kind");
        return Err(Problem::Other(reason));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_what_it_says_or_what_it_looks_like() {
        let check = |body: &str, header: Option<&str>, expect: MediaType| {
            assert_eq!(media_type(body.as_bytes(), header), Ok(expect), "{body}");
        };
        let layers = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let manifests = r#"{"schemaVersion":2,"manifests":[]}"#;
        check(layers, None, MediaType::OciManifest);
        check(manifests, Some("application/json"), MediaType::OciIndex);
        for found in MediaType::ALL {
            let body = if found.is_index() { manifests } else { layers };
            check(body, Some(found.as_str()), found);
            let header = format!("{} ; charset=utf-8", found.as_str().to_uppercase());
            check(body, Some(&header), found);
            let field = format!(r#"{{"mediaType":"{found}",{}"#, &body[1..]);
            check(&field, Some("text/plain"), found);
            check(&field, None, found);
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_a_reason() {
        let check = |body: &str, header: Option<&str>, part: &str| match media_type(
            body.as_bytes(),
            header,
        )
        .unwrap_err()
        {
            Problem::Other(reason) => assert!(reason.contains(part), "{body}: {reason}"),
            Problem::SchemaOne => assert_eq!(part, "schema 1", "{body}"),
        };
        check(r#"{"schemaVersion":1,"fsLayers":[]}"#, None, "schema 1");
        check(
            "x",
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
            "schema 1",
        );
        check(
            "<html>",
            Some("text/html; x"),
            "it is text/html, and no JSON",
        );
        check("", None, "nothing known");
        check("{}", None, "neither layers nor manifests");
        check("[]", None, "no JSON object");
        check(r#"{"layers":[],"manifests":[]}"#, None, "ambiguous");
        check(
            r#"{"mediaType":"a/b","layers":[]}"#,
            None,
            "media type is a/b",
        );
        let odd = r#"{"mediaType":"application/vnd.oci.image.index.v1+json","layers":[]}"#;
        check(odd, None, "fields of another kind");
    }
}
