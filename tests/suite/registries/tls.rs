//! Registries with certificates of their own, and such as want to see one.

use std::fs;

use support::fixture;
use support::registry::Registry;
use support::workspace::{Outcome, Varve, run};

use super::write_app;

/// A registry over TLS, whose image `app` was put there by another program; its reference.
fn over_tls(varve: &Varve) -> (Registry, String) {
    let registry = Registry::with_tls(&varve.path("registry"), false);
    write_app(varve, "over TLS");
    let reference = registry.push(&varve.path("layout"), "app");
    (registry, reference)
}

/// Writes what `certs.d` has of a host, with copies of these fixtures beside.
fn configure(varve: &Varve, address: &str, hosts: &str, fixtures: &[&str]) {
    let directory = format!(".config/varve/certs.d/{address}");
    varve.write(format!("{directory}/hosts.toml"), hosts);
    for name in fixtures {
        let bytes = fs::read(fixture(name)).unwrap();
        varve.write(format!("{directory}/{name}"), bytes);
    }
}

/// The command with `text` as varve.toml.
fn configured(varve: &Varve, text: &str, arguments: &[&str]) -> Outcome {
    let file = varve.write("varve.toml", text);
    run(varve.command(arguments).env("VARVE_CONFIG", file))
}

/// Forgets the image, so that the next pull is one.
fn forget(varve: &Varve, reference: &str) {
    varve.varve(["rmi", reference]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
}

#[test]
fn a_certificate_that_nobody_knows_is_refused_until_its_ca_is_named() {
    let varve = Varve::new();
    let (registry, reference) = over_tls(&varve);
    let address = registry.address();
    let table = |line: &str| format!("[registry.\"{address}\"]\nhttp = false\n{line}\n");
    let refused = configured(&varve, &table(""), &["pull", &reference]);
    let hint = format!("`ca` in /etc/varve/certs.d/{address}/hosts.toml");
    refused.refused_with(
        1,
        &[&reference, "no TLS connection", "UnknownIssuer", &hint],
    );
    varve.dockerfile(&format!("FROM {reference}\nRUN cat /file > /copy\n"));
    let refused = configured(
        &varve,
        &table(""),
        &["build", "--progress=plain", "context"],
    );
    let line = format!(">>> FROM {reference}");
    refused.refused_with(1, &[&reference, "UnknownIssuer", &hint, &line]);

    let ca = format!("ca = [{:?}]", fixture("ca.pem"));
    for line in [&*ca, "insecure = true"] {
        configured(&varve, &table(line), &["pull", &reference]).succeeded();
        forget(&varve, &reference);
    }
    let server = format!("server = \"https://{address}\"\nca = \"ca.pem\"\n");
    configure(&varve, address, &server, &["ca.pem"]);
    varve.build(["-t", "child"]).succeeded();
    assert_eq!(varve.shell("child", "cat /copy"), "over TLS");
    let pushed = registry.reference("pushed");
    varve.varve(["tag", "child", &pushed]).succeeded();
    varve.varve(["push", &pushed]).succeeded();
}

#[test]
fn buildkitds_own_file_is_heeded() {
    let varve = Varve::new();
    let (registry, reference) = over_tls(&varve);
    let ca = fixture("ca.pem");
    let text = format!(
        "root = \"/x\"\n[worker.oci]\nenabled = true\n\
         [registry.\"{}\"]\nhttp = false\nca = [{ca:?}]\n",
        registry.address()
    );
    varve.write(".config/buildkit/buildkitd.toml", text);
    varve.varve(["pull", &reference]).succeeded();
    varve.write(
        ".config/buildkit/buildkitd.toml",
        "[registry.\"r\"]\nmirror = 1\n",
    );
    let refused = varve.varve(["pull", &reference]);
    refused.refused_with(1, &["buildkitd.toml", "mirror"]);
}

#[test]
fn a_registry_of_this_machine_need_not_be_configured() {
    let varve = Varve::new();
    let (registry, reference) = over_tls(&varve);
    let pulled = varve
        .varve(["pull", "--progress=plain", &reference])
        .success();
    assert!(!pulled.stderr.contains("trying again"), "{pulled}");
    let pushed = registry.reference("pushed");
    varve.varve(["tag", &reference, &pushed]).succeeded();
    varve.varve(["push", &pushed]).succeeded();
    // What is configured to be plain is told how not to be.
    let table = format!("[registry.\"{}\"]\nhttp = true\n", registry.address());
    let refused = configured(&varve, &table, &["push", &pushed]);
    let hint = format!("`server = \"https://{}\"`", registry.address());
    refused.refused_with(1, &["over plain HTTP, and speaks TLS", &hint]);
}

#[test]
fn a_registry_that_wants_a_certificate_gets_the_one_that_is_named() {
    let varve = Varve::new();
    let registry = Registry::with_tls(&varve.path("registry"), true);
    let (address, name) = (registry.address().to_owned(), registry.reference("app"));
    varve.dockerfile("FROM busybox\nRUN echo text > /file\n");
    varve.build(["-t", &name]).succeeded();
    let server = format!("server = \"https://{address}\"\nca = \"ca.pem\"\n");
    configure(&varve, &address, &server, &["ca.pem"]);
    for arguments in [["push", &name], ["pull", &name]] {
        let refused = varve.varve(arguments);
        refused.refused_with(
            1,
            &[&address, "client certificate", "`client` in", "hosts.toml"],
        );
    }
    let hosts = format!("{server}client = [[\"client.pem\", \"client.key\"]]\n");
    configure(
        &varve,
        &address,
        &hosts,
        &["ca.pem", "client.pem", "client.key"],
    );
    varve.varve(["push", &name]).succeeded();
    forget(&varve, &name);
    varve.dockerfile(&format!("FROM {name}\nRUN cat /file > /copy\n"));
    varve.build(["-t", "child"]).succeeded();
    assert_eq!(varve.shell("child", "cat /copy"), "text\n");
    let missing = hosts.replace("client.key", "other.key");
    configure(&varve, &address, &missing, &[]);
    let refused = varve.varve(["pull", &name]);
    refused.refused_with(1, &["other.key", "No such file"]);
}
