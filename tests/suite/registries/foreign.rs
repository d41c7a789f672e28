//! Layers that their registry does not have, and that their image says are elsewhere in the web.

use std::fs;

use serde_json::json;
use support::fake_server::{Fake, Request, Response};
use support::forged_image::{ForgedImage, TarEntry, descriptor, tar_archive};
use support::workspace::{Varve, run};
use tokio::runtime::Runtime;

const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What the web has: the layer, and pages that are something else.
fn web(runtime: &Runtime, layer: Vec<u8>) -> Fake {
    let answer = move |request: &Request| match &*request.path {
        "/layer" => Response::new(200, layer.clone()),
        "/other" => Response::new(200, vec![b'x'; layer.len()]),
        "/locked" => {
            Response::new(401, "who?").header("www-authenticate", "Basic realm=\"the web\"")
        }
        _ => Response::new(404, "not here"),
    };
    runtime.block_on(Fake::start(answer))
}

/// A registry with the image, but not with its layer.
fn registry(runtime: &Runtime, varve: &Varve, urls: &[String]) -> Fake {
    let layer = layer();
    let mut image = ForgedImage::of(layer.clone());
    image.layer_descriptor = descriptor(FOREIGN, &layer);
    image.layer_descriptor["urls"] = json!(urls);
    let directory = varve.path("layout");
    fs::remove_dir_all(&directory).ok();
    let layout = image.write(&directory);
    fs::remove_file(&layout.layer).unwrap();
    let answer = move |request: &Request| {
        let path = &request.path;
        if path == "/v2/" {
            return Response::new(200, "{}");
        }
        let blob = path.rsplit_once("/sha256:").map(|(_, hex)| hex);
        let (file, media_type) = match blob {
            Some(hex) if path.contains("/blobs/") => {
                (directory.join("blobs/sha256").join(hex), "text/plain")
            }
            _ => (layout.manifest.clone(), MANIFEST),
        };
        let Ok(bytes) = fs::read(file) else {
            return Response::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#);
        };
        let digest = descriptor(media_type, &bytes)["digest"].clone();
        Response::new(200, bytes)
            .header("content-type", media_type)
            .header("docker-content-digest", digest.as_str().unwrap())
    };
    runtime.block_on(Fake::start(answer))
}

fn layer() -> Vec<u8> {
    tar_archive(&[TarEntry::file("file", b"from elsewhere")])
}

#[test]
fn a_layer_comes_from_where_its_image_says_that_it_is() {
    let (varve, runtime) = (Varve::new(), Runtime::new().unwrap());
    let web = web(&runtime, layer());
    let page = |path: &str| format!("http://{}/{path}", web.address);
    let urls = [
        "ftp://127.0.0.1/layer".to_owned(),
        page("absent"),
        page("locked"),
        page("layer"),
    ];
    let registry = registry(&runtime, &varve, &urls);
    // A login for that server is not for these pages.
    let login = json!({ "auths": { &web.address: { "auth": "bWU6c2VjcmV0" } } });
    varve.write("docker/config.json", login.to_string());
    let name = format!("{}/app:v1", registry.address);
    let mut pull = varve.command(["pull", &name]);
    run(pull.env("DOCKER_CONFIG", varve.path("docker"))).succeeded();
    varve.dockerfile(&format!("FROM {name}\n"));
    varve.build(["-o", "out"]).succeeded();
    assert_eq!(varve.read("out/file"), "from elsewhere");

    let asked = registry.seen();
    assert!(asked.iter().any(|one| one.line().contains("/blobs/")));
    let seen = web.seen();
    let lines: Vec<_> = seen.iter().map(Request::line).collect();
    assert_eq!(lines, ["GET /absent", "GET /locked", "GET /layer"]);
    assert!(seen.iter().all(|one| one.header("authorization").is_none()));
}

#[test]
fn a_layer_that_is_nowhere_is_refused_with_all_addresses() {
    let (varve, runtime) = (Varve::new(), Runtime::new().unwrap());
    let web = web(&runtime, layer());
    let page = |path: &str| format!("http://{}/{path}", web.address);
    let urls = [page("absent"), "file:///etc/passwd".to_owned()];
    let registry_without = registry(&runtime, &varve, &urls);
    let name = format!("{}/app:v1", registry_without.address);
    let refused = varve.varve(["pull", &name]);
    let words = [
        &*urls[0],
        "answers 404",
        "\"file:///etc/passwd\" is no http or https address",
    ];
    refused.refused_with(1, &words);
    // Other bytes than the digest is of are no layer, wherever they come from.
    let registry_of_other = registry(&runtime, &varve, &[page("other")]);
    let name = format!("{}/app:v1", registry_of_other.address);
    let refused = varve.varve(["pull", &name]);
    refused.refused_with(1, &["sent other bytes"]);
    varve.varve(["fsck"]).succeeded();
}
