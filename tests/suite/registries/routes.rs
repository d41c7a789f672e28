//! Mirrors and proxies on the way to a registry.

use support::forward_proxy::ForwardProxy;
use support::registry::Registry;
use support::workspace::{Outcome, Varve, run};

use super::write_app;

/// A host that no network has.
const FAR: &str = "registry.example:5000";

/// Builds from `FAR/app` with these variables, and nothing of the store.
fn build(varve: &Varve, variables: &[(&str, &str)]) -> Outcome {
    // The first time there is nothing.
    varve.varve(["rmi", &format!("{FAR}/app")]);
    varve.varve(["prune", "--all", "--force"]).succeeded();
    varve.dockerfile(&format!("FROM {FAR}/app\nRUN cat /file > /copy\n"));
    let mut command = varve.build_command(["-o", "files"]);
    run(command.envs(variables.iter().copied()))
}

#[test]
fn a_build_goes_through_the_proxy_of_its_environment() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    write_app(&varve, "through a proxy");
    registry.push(&varve.path("layout"), "app");
    let proxy = ForwardProxy::start(registry.address());
    varve.write(
        ".config/varve/certs.d/registry.example:5000/hosts.toml",
        format!("server = \"http://{FAR}\"\n"),
    );
    let address = format!("http://{}", proxy.address());
    build(&varve, &[("HTTP_PROXY", &address)]).succeeded();
    assert_eq!(varve.read("files/copy"), "through a proxy");
    let asked = proxy.requests();
    assert!(
        asked.contains(&format!("HEAD http://{FAR}/v2/app/manifests/latest")),
        "{asked:#?}"
    );
    // Nobody has this host, so without the proxy it is not found.
    let variables = [("http_proxy", &*address), ("NO_PROXY", "registry.example")];
    let refused = build(&varve, &variables);
    refused.refused_with(1, &[&format!("no answer from {FAR}"), "trying again"]);
    assert_eq!(proxy.requests(), asked);
    let refused = build(&varve, &[("HTTP_PROXY", "http://127.0.0.1:1")]);
    refused.refused_with(
        1,
        &[FAR, "(through the proxy 127.0.0.1:1)", "proxy settings"],
    );
    let refused = build(&varve, &[("HTTP_PROXY", "socks5://me:secret@127.0.0.1:1")]);
    let refused = refused.refused(1, &["HTTP_PROXY", "http://HOST:PORT"]);
    assert!(!refused.stderr.contains("secret"), "{refused}");
}

#[test]
fn tls_goes_through_a_proxy_too() {
    let varve = Varve::new();
    let registry = Registry::with_tls(&varve.path("registry"), false);
    write_app(&varve, "through a tunnel");
    registry.push(&varve.path("layout"), "app");
    let proxy = ForwardProxy::start(registry.address());
    // The certificate is of another name.
    let address = proxy.address();
    let refused = build(&varve, &[("HTTPS_PROXY", address)]);
    refused.refused_with(1, &[FAR, "no TLS connection"]);
    varve.write(
        ".config/varve/certs.d/registry.example:5000/hosts.toml",
        format!("server = \"https://{FAR}\"\nskip_verify = true\n"),
    );
    build(&varve, &[("HTTPS_PROXY", address)]).succeeded();
    assert_eq!(varve.read("files/copy"), "through a tunnel");
    let asked = proxy.requests();
    assert!(asked.contains(&format!("CONNECT {FAR}")), "{asked:#?}");
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_where_it_fails() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let mirror = Registry::start(&varve.path("mirror"));
    write_app(&varve, "of the mirror");
    mirror.push(&varve.path("layout"), "app");
    write_app(&varve, "of the registry");
    registry.push(&varve.path("layout"), "app");
    let hosts = |mirror: &str| {
        let text = format!(
            "server = \"http://{}\"\n[host.\"http://{mirror}\"]\n\
             capabilities = [\"pull\", \"resolve\"]\n",
            registry.address()
        );
        varve.write(
            ".config/varve/certs.d/registry.example:5000/hosts.toml",
            text,
        );
    };
    hosts(mirror.address());
    build(&varve, &[]).succeeded();
    assert_eq!(varve.read("files/copy"), "of the mirror");
    assert_eq!(registry.requests(), registry_pushes(&registry));
    // What the mirror has lost comes from the registry, and it is told.
    let address = mirror.address().to_owned();
    drop(mirror);
    let built = build(&varve, &[]).success();
    assert_eq!(varve.read("files/copy"), "of the registry");
    let next = format!("no answer from {address}");
    assert!(built.stderr.contains(&next), "{built}");
    let next = format!("asking {}", registry.address());
    assert!(built.stderr.contains(&next), "{built}");
}

/// What was asked of a registry by whoever put the image there.
fn registry_pushes(registry: &Registry) -> Vec<String> {
    let requests = registry.requests();
    let last = requests.iter().rposition(|line| line.starts_with("PUT "));
    requests[..=last.expect("an image was put there")].to_vec()
}
