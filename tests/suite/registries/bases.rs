//! Base images that are at a registry.

use std::thread;

use support::registry::Registry;
use support::workspace::Varve;

use super::{registry, write_app};

#[test]
fn a_base_is_pulled_once_and_the_next_build_asks_nobody() {
    let varve = Varve::new();
    let (registry, reference) = registry(&varve);
    varve.dockerfile(&format!(
        "FROM {reference} AS one\n\
         RUN cat /file > /one\n\
         FROM {reference} AS two\n\
         RUN cat /file > /two\n\
         FROM {reference}\n\
         COPY --from=one /one /\n\
         COPY --from=two /two /\n\
         COPY --from={reference} /file /three\n"
    ));
    let before = registry.blob_requests("GET");
    let built = varve.build(["-t", "child"]).success();
    let title = format!("[internal] load metadata for {reference}");
    let transcript = built.transcript();
    assert!(transcript.has(&title), "{built}");
    assert!(
        built.stderr.contains(" sha256:") && built.stderr.contains("MB / "),
        "{built}"
    );
    assert_eq!(
        registry.blob_requests("GET") - before,
        3,
        "the config and two layers, each once"
    );
    let files = varve.shell("child", "cat /one /two /three");
    assert_eq!(files, "from the registry".repeat(3));
    let listed = varve.varve(["images"]).success();
    let short = reference.replace(":latest", "");
    assert!(listed.stdout.contains(&short), "{listed}");
    // The registry goes away, and nobody misses it.
    drop(registry);
    varve.dockerfile(&format!("FROM {reference}\nRUN echo more > /more\n"));
    varve.build(["-t", "other"]).succeeded();
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn a_cached_build_fetches_no_layer() {
    let varve = Varve::new();
    let (registry, reference) = registry(&varve);
    varve.dockerfile(&format!("FROM {reference}\nRUN cat /file > /copy\n"));
    varve.build(["-t", "child"]).succeeded();
    // The name is forgotten, so the registry is asked what it means; not for what is known.
    varve.varve(["rmi", &reference]).succeeded();
    let before = registry.requests().len();
    let again = varve.build(["-t", "child"]).success();
    assert_eq!(again.transcript().executed(), [""; 0], "{again}");
    let requests = registry.requests().split_off(before);
    assert_eq!(requests, ["HEAD /v2/app/manifests/latest"]);
    // Also when its documents are not here any more: they are fetched once.
    varve.varve(["rmi", "child"]).succeeded();
    varve.varve(["prune"]).succeeded();
    let asked = |arguments: &[&str]| {
        let before = registry.requests().len();
        let built = varve.build(arguments).success();
        assert_eq!(built.transcript().executed(), [""; 0], "{built}");
        registry.requests().split_off(before)
    };
    let requests = asked(&["-o", "files"]);
    assert!(
        requests.iter().all(|line| !line.contains("/blobs/uploads")),
        "{requests:#?}"
    );
    let documents = requests
        .iter()
        .filter(|line| line.starts_with("GET "))
        .count();
    assert!(documents <= 2, "a manifest and a config: {requests:#?}");
    assert_eq!(asked(&["-o", "files"]), ["HEAD /v2/app/manifests/latest"]);
    varve.varve(["prune"]).succeeded();
    assert_eq!(asked(&["-o", "files"]), ["HEAD /v2/app/manifests/latest"]);
    // A digest means itself.
    let digest = varve.varve(["pull", &reference]).success();
    let digest = digest.stdout.trim().split_once("  ").unwrap().1.to_owned();
    varve.varve(["rmi", &reference]).succeeded();
    let pinned = format!("{}@{digest}", reference.replace(":latest", ""));
    varve.dockerfile(&format!("FROM {pinned}\nRUN cat /file > /copy\n"));
    assert_eq!(asked(&["-o", "files"]), [""; 0]);
    drop(registry);
    varve.build(["-o", "files"]).succeeded();
}

#[test]
fn the_bytes_of_a_base_that_were_thrown_away_come_again_for_an_image() {
    let varve = Varve::new();
    let (registry, reference) = registry(&varve);
    varve.dockerfile(&format!("FROM {reference}\nRUN cat /file > /copy\n"));
    // Nothing has a name, so that only the cache holds anything.
    varve.build(["-o", "files"]).succeeded();
    varve.varve(["rmi", &reference]).succeeded();
    // What a build holds while it runs is given up when the next one begins.
    varve.dockerfile("FROM busybox\n");
    varve.build(["-o", "other"]).succeeded();
    varve.varve(["prune"]).succeeded();
    varve.dockerfile(&format!("FROM {reference}\nRUN cat /file > /copy\n"));
    let before = registry.blob_requests("GET");
    let again = varve
        .build(["-o", "type=oci,dest=image,tar=false"])
        .success();
    assert_eq!(again.transcript().executed(), [""; 0], "{again}");
    assert_eq!(
        registry.blob_requests("GET") - before,
        3,
        "config and two layers"
    );
    let image = support::layout::Layout::open(&varve.path("image"));
    assert_eq!(image.layer_digests().len(), 3);
    assert!(image.layer(1).iter().any(|entry| entry.path == "file"));
}

#[test]
fn pull_takes_what_is_newer_and_fails_where_nobody_answers() {
    let varve = Varve::new();
    let (registry, reference) = registry(&varve);
    varve.dockerfile(&format!("FROM {reference}\nRUN cat /file > /copy\n"));
    let copy = |arguments: &[&str]| {
        varve
            .build(["-t", "child"].iter().chain(arguments))
            .succeeded();
        varve.shell("child", "cat /copy")
    };
    assert_eq!(copy(&[]), "from the registry");
    write_app(&varve, "newer");
    registry.push(&varve.path("layout"), "app");
    assert_eq!(copy(&[]), "from the registry", "the store decides");
    assert_eq!(copy(&["--pull"]), "newer");
    assert_eq!(copy(&[]), "newer", "the name stands for what was pulled");
    let before = registry.blob_requests("GET");
    assert_eq!(copy(&["--pull"]), "newer");
    assert_eq!(registry.blob_requests("GET"), before, "nothing is new");
    let address = registry.address().to_owned();
    drop(registry);
    assert_eq!(copy(&[]), "newer");
    let words = [&*address, "no answer", "trying again"];
    varve.build(["--pull"]).refused_with(1, &words);
}

#[test]
fn a_base_can_be_named_by_its_digest_or_by_a_context() {
    let varve = Varve::new();
    let (_registry, reference) = registry(&varve);
    let pulled = varve.varve(["pull", &reference]).success();
    let (_, digest) = pulled.stdout.trim().split_once("  ").unwrap();
    varve.varve(["rmi", &reference]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    let repository = reference.replace(":latest", "");
    for base in [
        format!("{repository}@{digest}"),
        format!("{reference}@{digest}"),
    ] {
        varve.dockerfile(&format!("FROM {base}\nRUN cat /file > /copy\n"));
        varve.build(["-t", "child"]).succeeded();
        assert_eq!(varve.shell("child", "cat /copy"), "from the registry");
    }
    let other = digest.replace(&digest[7..11], "0000");
    varve.dockerfile(&format!("FROM {repository}@{other}\n"));
    let refused = varve.build(["-t", "child"]);
    refused.refused_with(1, &[&repository, &other, "does not exist"]);
    varve.varve(["prune", "--all", "--force"]).succeeded();
    varve.dockerfile("FROM base\nRUN cat /file > /copy\n");
    let context = format!("base=docker-image://{reference}");
    varve
        .build(["-t", "child", "--build-context", &context])
        .succeeded();
    assert_eq!(varve.shell("child", "cat /copy"), "from the registry");
}

#[test]
fn what_a_registry_refuses_is_told_with_the_line() {
    let varve = Varve::new();
    let (registry, reference) = registry(&varve);
    let host = registry.address().to_owned();
    let other_tag = reference.replace(":latest", ":other");
    varve.dockerfile(&format!("FROM busybox\nCOPY --from={other_tag} /file /\n"));
    let refused = varve.build(["-t", "child"]);
    let line = format!(">>> COPY --from={other_tag} /file /");
    let refused = refused.refused(1, &[&host, &other_tag, "does not exist", "tag", &line]);
    assert!(
        refused.stderr.contains("not found in this store"),
        "{refused}"
    );
    let listed = varve.varve(["images", "--format", "json"]).success();
    assert!(!listed.stdout.contains(&host), "{listed}");
}

#[test]
fn many_builds_at_once_fetch_a_base_once() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    write_app(&varve, "shared");
    let reference = registry.push(&varve.path("layout"), "app");
    varve.dockerfile(&format!(
        "FROM {reference}\nARG N\nRUN echo $N $(cat /file)\n"
    ));
    thread::scope(|scope| {
        for number in 0..20 {
            let varve = &varve;
            scope.spawn(move || {
                let argument = format!("N={number}");
                let built = varve.build(["--build-arg", &argument]).success();
                let line = format!("{number} shared");
                assert!(built.stderr.contains(&line), "{built}");
            });
        }
    });
    assert_eq!(registry.blob_requests("GET"), 3, "config and two layers");
    varve.varve(["fsck"]).succeeded();
}
