//! TLS: certificates of one's own, and what is said when they do not fit.

use registry::{Client, DockerConfig, Hosts, KeyPair, RegistrySettings, UploadOptions};

use crate::support::docker_registry::DockerRegistry;
use crate::support::image::Image;
use crate::support::token_server::TokenServer;
use crate::support::{assert_says, builder, fixture, repository, tag};

fn client_for(host: &str, settings: RegistrySettings) -> Client {
    let hosts = Hosts {
        registries: [(host.to_owned(), settings)].into(),
        ..Hosts::default()
    };
    builder().hosts(hosts).build()
}

fn over_tls() -> RegistrySettings {
    RegistrySettings {
        http: Some(false),
        ca: vec![fixture("ca.pem")],
        ..RegistrySettings::default()
    }
}

#[tokio::test]
async fn a_ca_that_is_named_is_trusted() {
    let server = DockerRegistry::with_tls(false);
    let place = repository(&server.address, "a");
    let image = Image::new(40);
    let client = client_for(&server.address, over_tls());
    image
        .push(&client, &place, &tag("v"), &UploadOptions::default())
        .await
        .unwrap();
    image.pull(&client, &place, &tag("v")).await.unwrap();

    let careless = RegistrySettings {
        http: Some(false),
        insecure: Some(true),
        ..RegistrySettings::default()
    };
    let client = client_for(&server.address, careless);
    image.pull(&client, &place, &tag("v")).await.unwrap();

    let stranger = RegistrySettings {
        http: Some(false),
        ..RegistrySettings::default()
    };
    let client = client_for(&server.address, stranger);
    let hint = format!("`ca` in /etc/varve/certs.d/{}/hosts.toml", server.address);
    let subject = format!("{}/a:v", server.address);
    let result = client.manifest(&place, &tag("v")).await;
    assert_says(
        result,
        &[&subject, "no TLS connection", "UnknownIssuer", &hint],
    );
}

#[tokio::test]
async fn hosts_toml_names_certificates_too() {
    let server = DockerRegistry::with_tls(true);
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join(&server.address);
    std::fs::create_dir(&inside).unwrap();
    for name in ["ca.pem", "client.pem", "client.key"] {
        std::fs::copy(fixture(name), inside.join(name)).unwrap();
    }
    let text = format!(
        "server = \"https://{}\"\nca = \"ca.pem\"\nclient = [[\"client.pem\", \"client.key\"]]\n",
        server.address
    );
    std::fs::write(inside.join("hosts.toml"), text).unwrap();
    let hosts = Hosts {
        certs_directories: vec![directory.path().to_owned()],
        ..Hosts::default()
    };
    let client = builder().hosts(hosts).build();
    let place = repository(&server.address, "a");
    let image = Image::new(41);
    image
        .push(&client, &place, &tag("v"), &UploadOptions::default())
        .await
        .unwrap();
    image.pull(&client, &place, &tag("v")).await.unwrap();

    let without = client_for(&server.address, over_tls());
    let result = without.manifest(&place, &tag("v")).await;
    assert_says(
        result,
        &[
            "wants a client certificate",
            "`client` in /etc/varve/certs.d",
        ],
    );
}

#[tokio::test]
async fn plain_http_where_tls_is_expected_says_how_to_allow_it() {
    let server = DockerRegistry::start();
    let place = repository(&server.address, "a");
    let strict = client_for(&server.address, over_tls());
    let result = strict.manifest(&place, &tag("v")).await;
    let hint = format!("server = \"http://{}\"", server.address);
    assert_says(result, &["plain HTTP", &hint, "http = true"]);

    // BuildKit's `http` with `insecure`: TLS first, then without.
    let either = RegistrySettings {
        http: Some(true),
        insecure: Some(true),
        ..RegistrySettings::default()
    };
    let client = client_for(&server.address, either);
    let image = Image::new(42);
    image
        .push(&client, &place, &tag("v"), &UploadOptions::default())
        .await
        .unwrap();
    image.pull(&client, &place, &tag("v")).await.unwrap();
}

#[tokio::test]
async fn a_password_does_not_go_to_a_token_server_without_tls() {
    let tokens = TokenServer::start().await;
    let server = DockerRegistry::with_tls_and_tokens(&tokens.realm());
    let place = repository(&server.address, "a");
    let hosts = Hosts {
        registries: [(server.address.clone(), over_tls())].into(),
        ..Hosts::default()
    };
    let config = format!(
        r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#,
        server.address
    );
    let credentials = DockerConfig::parse(config.as_bytes(), "config.json").unwrap();
    let client = builder()
        .hosts(hosts)
        .credentials(std::sync::Arc::new(credentials))
        .build();
    let result = client.manifest(&place, &tag("v")).await;
    assert_says(
        result,
        &["wants the login over plain HTTP", &tokens.fake.address],
    );
    assert_eq!(tokens.fake.seen().len(), 0);
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named() {
    let check = async |settings: RegistrySettings, parts: &[&str]| {
        let client = client_for("r.example", settings);
        let result = client
            .manifest(&repository("r.example", "a"), &tag("v"))
            .await;
        assert_says(result, parts);
    };
    let with_ca = |path| RegistrySettings {
        ca: vec![path],
        ..RegistrySettings::default()
    };
    check(
        with_ca("/absent/ca.pem".into()),
        &["/absent/ca.pem: cannot read it"],
    )
    .await;
    check(
        with_ca(fixture("server.key")),
        &["server.key", "no PEM certificate"],
    )
    .await;
    let with_pair = |cert, key| RegistrySettings {
        keypair: vec![KeyPair { key, cert }],
        ..RegistrySettings::default()
    };
    let pair = with_pair(fixture("client.pem"), fixture("client.pem"));
    check(pair, &["client.pem", "not a PEM certificate with its key"]).await;
}
