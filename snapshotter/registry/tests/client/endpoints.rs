//! Mirrors and configured hosts.

use std::path::Path;

use registry::{Client, Digest, Hosts, Proxies, RegistrySettings, UploadOptions};

use crate::support::docker_registry::DockerRegistry;
use crate::support::fake_server::{Fake, Response};
use crate::support::image::{Image, noise};
use crate::support::{Notes, assert_says, builder, repository, tag};

fn with_hosts_file(
    directory: &Path,
    host: &str,
    text: &str,
    notes: &std::sync::Arc<Notes>,
) -> Client {
    let place = directory.join(host);
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("hosts.toml"), text).unwrap();
    let hosts = Hosts {
        certs_directories: vec![directory.to_owned()],
        ..Hosts::default()
    };
    builder().hosts(hosts).observer(notes.clone()).build()
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_the_registry_last() {
    let image = Image::new(30);
    let server = DockerRegistry::start();
    let own = repository(&server.address, "library/app");
    image
        .push(
            &builder().build(),
            &own,
            &tag("v"),
            &UploadOptions::default(),
        )
        .await
        .unwrap();
    let broken = Fake::start(|_| Response::new(503, "")).await;
    let empty = Fake::start(|_| Response::new(404, "")).await;
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
         [host.\"http://{}/hub\"]\ncapabilities = [\"pull\"]\n",
        server.address, broken.address, empty.address
    );
    let directory = tempfile::tempdir().unwrap();
    let notes = Notes::new();
    let client = with_hosts_file(directory.path(), "docker.io", &text, &notes);
    let place = repository("docker.io", "library/app");
    image.pull(&client, &place, &tag("v")).await.unwrap();
    let asked = &broken.seen()[0].path;
    assert_eq!(asked, "/v2/library/app/manifests/v?ns=docker.io");
    let asked = empty.seen();
    assert!(
        asked
            .iter()
            .all(|request| request.path.starts_with("/hub/v2/library/app/blobs/")),
        "a mirror that may not resolve is not asked for a tag"
    );
    assert_eq!(asked.len(), image.blobs.len());
    let lines = notes.lines();
    let moved = format!("then {}: ", empty.address);
    assert!(lines.iter().any(|line| line.contains(&moved)), "{lines:?}");
    let moved = format!("then {}: ", server.address);
    assert!(lines.iter().any(|line| line.contains(&moved)), "{lines:?}");
}

#[tokio::test]
async fn a_push_goes_to_the_registry_and_to_no_mirror() {
    let server = DockerRegistry::start();
    let mirror = Fake::start(|_| Response::new(500, "")).await;
    let host = "registry.example";
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        server.address, mirror.address
    );
    let directory = tempfile::tempdir().unwrap();
    let client = with_hosts_file(directory.path(), host, &text, &Notes::new());
    let place = repository(host, "a");
    Image::new(31)
        .push(&client, &place, &tag("v"), &UploadOptions::default())
        .await
        .unwrap();
    assert_eq!(mirror.seen().len(), 0);

    let text = "server = \"http://x.example\"\ncapabilities = [\"pull\"]\n";
    let client = with_hosts_file(directory.path(), "other.example", text, &Notes::new());
    let place = repository("other.example", "a");
    let pushed = client.has_blob(&place, &Digest::sha256(b"")).await;
    assert_says(
        pushed,
        &["no host is configured that may push for other.example"],
    );
}

#[tokio::test]
async fn a_mirror_that_lies_is_not_asked_for_that_again() {
    let bytes = noise(32, 1_000);
    let digest = Digest::sha256(&bytes);
    let mirror = Fake::start(|_| Response::new(200, vec![0; 1_000])).await;
    let server = Fake::start(move |_| Response::new(200, bytes.clone())).await;
    let settings = RegistrySettings {
        mirrors: vec![mirror.address.clone()],
        ..RegistrySettings::default()
    };
    let hosts = Hosts {
        registries: [(server.address.clone(), settings)].into(),
        ..Hosts::default()
    };
    let client = builder().hosts(hosts).build();
    let place = repository(&server.address, "a");
    let mut blob = client.blob(&place, &digest, None).await.unwrap();
    assert_says(blob.chunk().await, &["sent other bytes", &mirror.address]);
    let mut blob = client.blob(&place, &digest, None).await.unwrap();
    while blob.chunk().await.unwrap().is_some() {}
    assert_eq!((mirror.seen().len(), server.seen().len()), (1, 1));
    let whole = client.blob_bytes(&place, &digest, None, 1_000).await;
    assert_eq!(whole.unwrap().len(), 1_000);
}

#[tokio::test]
async fn the_answer_of_the_registry_counts_and_not_that_of_a_mirror() {
    let mirror = Fake::start(|_| Response::new(401, "")).await;
    let server = Fake::start(|_| Response::new(404, "")).await;
    let settings = RegistrySettings {
        mirrors: vec![mirror.address.clone()],
        ..RegistrySettings::default()
    };
    let hosts = Hosts {
        registries: [(server.address.clone(), settings)].into(),
        ..Hosts::default()
    };
    let client = builder().hosts(hosts).build();
    let place = repository(&server.address, "a");
    let missing = client.manifest(&place, &tag("v")).await;
    assert_says(missing, &["a:v does not exist", &server.address]);
}

#[tokio::test]
async fn a_proxy_that_is_named_is_used() {
    let manifest = r#"{"schemaVersion":2,"layers":[]}"#;
    let proxy = Fake::start(move |_| Response::new(200, manifest)).await;
    let settings = RegistrySettings {
        http: Some(true),
        ..RegistrySettings::default()
    };
    let hosts = Hosts {
        registries: [("registry.example".to_owned(), settings)].into(),
        ..Hosts::default()
    };
    let through = |proxy: &str| {
        let address = format!("http://me:secret@{proxy}");
        let named = |name: &str| (name == "http_proxy").then_some(address.as_str());
        let proxies = Proxies::of(named).unwrap();
        builder().hosts(hosts.clone()).proxies(proxies).build()
    };
    let client = through(&proxy.address);
    let place = repository("registry.example", "a");
    client.manifest(&place, &tag("v")).await.unwrap();
    let asked = proxy.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "http://registry.example/v2/a/manifests/v");
    let login = asked[0].header("proxy-authorization");
    assert_eq!(login, Some("Basic bWU6c2VjcmV0"));
    let result = through("127.0.0.1:1").manifest(&place, &tag("v")).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("(through the proxy 127.0.0.1:1)"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
