//! Whoever watches a daemon sees what it does: metrics, health, its snapshots, its log.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use snapshotter::{Labels, Snapshots};
use support::containerd::Version;
use support::leftovers::eventually;
use support::varve_binary;
use support::workspace::{Outcome, run};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::plugin_contract::{Node, upper};

/// What happens in the background has happened within this.
const LIMIT: Duration = Duration::from_secs(60);

/// An answer over HTTP.
struct Answer {
    head: String,
    body: String,
}

fn ask(mut stream: impl Read + Write, path: &str, accept: &str) -> Answer {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: varve\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// The metrics as lines.
fn metrics(socket: &Path) -> String {
    let answer = ask(UnixStream::connect(socket).unwrap(), "/metrics", "*/*");
    assert!(answer.head.starts_with("http/1.1 200"), "{}", answer.head);
    answer.body
}

fn value(metrics: &str, name: &str) -> f64 {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    let found = metrics.lines().find_map(value);
    found.unwrap_or_else(|| panic!("no {name} in:\n{metrics}"))
}

/// A daemon with metrics on a socket, and the socket.
fn watched() -> (Node, std::path::PathBuf) {
    let node = Node::start_with(&["--metrics-address", "unix://{}/m"]);
    let socket = node.path("m");
    (node, socket)
}

#[test]
fn metrics_tell_of_calls_snapshots_and_what_was_ingested() {
    let (node, socket) = watched();
    let remote = node.connect("varve");
    for number in 0..2 {
        let key = format!("extract-{number}");
        let mounts = remote.prepare(&key, "", Labels::new()).unwrap();
        fs::write(upper(&mounts).join("file"), vec![7; 5_000]).unwrap();
        let name = format!("layer-{number}");
        remote.commit(&name, &key, Labels::new()).unwrap();
    }
    remote.prepare("active", "layer-0", Labels::new()).unwrap();
    remote.view("view", "layer-0", Labels::new()).unwrap();
    remote.stat("missing").unwrap_err();
    let mut text = String::new();
    let ingested = eventually(LIMIT, || {
        text = metrics(&socket);
        value(&text, "varve_ingestions_total") == 2.0
    });
    assert!(ingested, "{text}");
    for (name, expected) in [
        ("varve_snapshots{kind=\"view\"}", 1.0),
        ("varve_snapshots{kind=\"active\"}", 1.0),
        ("varve_snapshots{kind=\"committed\"}", 2.0),
        ("varve_snapshots{kind=\"committed_not_ingested\"}", 0.0),
        ("varve_store_files_written_total", 1.0),
        ("varve_store_written_bytes_total", 5_000.0),
        ("varve_store_files_deduplicated_total", 1.0),
        ("varve_store_deduplicated_bytes_total", 5_000.0),
        ("varve_store_poisoned", 0.0),
        ("varve_ingestions_failed_total", 0.0),
        ("varve_layers_applied_total", 0.0),
        (
            "varve_rpc_duration_seconds_count{method=\"Prepare\",code=\"OK\"}",
            3.0,
        ),
        (
            "varve_rpc_duration_seconds_count{method=\"Stat\",code=\"NotFound\"}",
            1.0,
        ),
        (
            "varve_rpc_duration_seconds_bucket{le=\"+Inf\",method=\"Commit\",code=\"OK\"}",
            2.0,
        ),
    ] {
        assert_eq!(value(&text, name), expected, "{name} in:\n{text}");
    }
    for name in ["varve_root_free_bytes", "process_resident_memory_bytes"] {
        assert!(value(&text, name) > 1e6, "{name} in:\n{text}");
    }
    for key in ["layer-0", "extract-0", "missing"] {
        assert!(!text.contains(key), "a key is no label:\n{text}");
    }
}

#[test]
fn metrics_count_what_a_collection_frees() {
    let (node, socket) = watched();
    let remote = node.connect("varve");
    let mounts = remote.prepare("key", "", Labels::new()).unwrap();
    fs::write(upper(&mounts).join("file"), vec![7; 500_000]).unwrap();
    remote.remove("key").unwrap();
    remote.clean_up().unwrap();
    let text = metrics(&socket);
    assert!(value(&text, "varve_gc_runs_total") >= 1.0, "{text}");
    assert!(value(&text, "varve_gc_seconds_total") > 0.0, "{text}");
    assert!(
        value(&text, "varve_gc_freed_bytes_total") >= 500_000.0,
        "{text}"
    );
    assert_eq!(value(&text, "varve_gc_runs_failed_total"), 0.0);
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let (_node, socket) = watched();
    let connect = || UnixStream::connect(&socket).unwrap();
    let older = ask(connect(), "/metrics", "text/plain");
    assert!(
        older.head.contains("text/plain; version=0.0.4"),
        "{}",
        older.head
    );
    let counter = "# TYPE varve_gc_runs_total counter\nvarve_gc_runs_total ";
    assert!(older.body.contains(counter), "{}", older.body);
    assert!(!older.body.contains("# EOF"), "{}", older.body);
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let open = ask(connect(), "/metrics", accept);
    let kind = "application/openmetrics-text; version=1.0.0";
    assert!(open.head.contains(kind), "{}", open.head);
    assert!(
        open.body.contains("# TYPE varve_gc_runs counter\n"),
        "{}",
        open.body
    );
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
}

#[test]
fn a_healthy_daemon_says_so_over_http_and_grpc() {
    let node = Node::start_with(&["--metrics-address", "127.0.0.1:0"]);
    let mut address = String::new();
    let told = eventually(LIMIT, || {
        let log = node.daemon.log();
        let line = log
            .lines()
            .find_map(|line| line.split_once("metrics on http://"));
        address = line
            .map(|(_, address)| address.to_owned())
            .unwrap_or_default();
        !address.is_empty()
    });
    assert!(told, "no address in {}", node.daemon.log());
    let answer = ask(TcpStream::connect(&address).unwrap(), "/healthz", "*/*");
    assert!(answer.head.starts_with("http/1.1 200"), "{}", answer.head);
    assert_eq!(answer.body, "ok\n");
    // Not `exe`, though it has started itself again.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", node.daemon.id()));
    assert_eq!(name.unwrap(), "varve\n");
    let nothing = ask(TcpStream::connect(&address).unwrap(), "/", "*/*");
    assert!(nothing.head.starts_with("http/1.1 404"), "{}", nothing.head);
    let endpoint = Endpoint::try_from(format!("unix://{}", node.daemon.address().display()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let channel = endpoint.unwrap().connect().await.unwrap();
        let mut client = HealthClient::new(channel);
        for service in ["", "containerd.services.snapshots.v1.Snapshots"] {
            let request = HealthCheckRequest {
                service: service.into(),
            };
            let answer = client.check(request).await.unwrap().into_inner();
            assert_eq!(answer.status().as_str_name(), "SERVING", "{service:?}");
        }
    });
}

#[test]
fn an_address_for_metrics_that_is_taken_is_refused_with_the_option_to_change() {
    let (node, socket) = watched();
    let refused = run(Command::new(varve_binary())
        .args(["daemon", "--root"])
        .arg(node.path("other"))
        .arg("--snapshotter-address")
        .arg(node.path("other-s"))
        .arg("--metrics-address")
        .arg(format!("unix://{}", socket.display())));
    refused.refused_with(1, &["is in use", "--metrics-address"]);
    assert!(metrics(&socket).contains("varve_build_info"));
}

/// `varve`, asking the daemon of the node.
fn varve(node: &Node, words: &[&str]) -> Outcome {
    let mut command = Command::new(varve_binary());
    run(command
        .args(words)
        .arg("--address")
        .arg(node.daemon.address()))
}

/// `ctr snapshots`, asking the same daemon: it offers the service that containerd does.
fn ctr(node: &Node, word: &str) -> String {
    let mut command = Command::new(Version::System.programs().join("ctr"));
    command.arg("--address").arg(node.daemon.address());
    let words = ["snapshots", "--snapshotter", "varve", word];
    run(command.args(words)).success().stdout
}

/// Two layers, an active snapshot on the upper and a view on the lower.
fn fill(node: &Node) {
    let remote = node.connect("varve");
    for (number, name, parent) in [(1, "layer-1", ""), (2, "layer-2", "layer-1")] {
        let mounts = remote.prepare("extract", parent, Labels::new()).unwrap();
        fs::write(upper(&mounts).join(name), vec![number; 5_000]).unwrap();
        let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
        remote.commit(name, "extract", labels).unwrap();
    }
    remote
        .prepare("container", "layer-2", Labels::new())
        .unwrap();
    remote.view("view", "layer-1", Labels::new()).unwrap();
}

#[test]
fn snapshots_are_listed_in_the_words_of_ctr() {
    let node = Node::start();
    fill(&node);
    assert_eq!(
        varve(&node, &["snapshots", "tree"]).success().stdout,
        ctr(&node, "tree")
    );
    let listed = varve(&node, &["snapshots", "ls"]).success().stdout;
    assert_eq!(columns(&listed), columns(&ctr(&node, "ls")));
    let layer = listed.lines().find(|line| line.starts_with("layer-2"));
    let (_, rest) = layer.unwrap().split_once("Committed").unwrap();
    assert_eq!(rest.split_whitespace().next(), Some("5.00kB"), "{listed}");
}

/// Key, parent and kind of each row. A parent may be missing, so a word is known by its place.
fn columns(text: &str) -> Vec<[&str; 3]> {
    let header = text.lines().next().unwrap();
    let at = |name: &str| header.find(name).unwrap();
    let (parent, kind) = (at("PARENT"), at("KIND"));
    let row = |line| {
        let line: &str = line;
        let word = line[kind..].split_whitespace().next().unwrap();
        [line[..parent].trim(), line[parent..kind].trim(), word]
    };
    text.lines().skip(1).map(row).collect()
}

#[test]
fn the_list_for_programs_has_everything() {
    let node = Node::start();
    fill(&node);
    let listed = varve(&node, &["snapshots", "ls", "--format", "json"]).success();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let keys: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["key"])
        .collect();
    assert_eq!(keys, ["container", "layer-1", "layer-2", "view"]);
    let layer = &listed[2];
    assert_eq!(
        (&layer["parent"], &layer["kind"]),
        (&"layer-1".into(), &"Committed".into())
    );
    assert_eq!(
        (&layer["size"], &layer["labels"]["a"]),
        (&5_000.into(), &"b".into())
    );
    assert!(layer["created"].as_str().unwrap().ends_with('Z'), "{layer}");
    let other = [
        "snapshots",
        "ls",
        "--format",
        "json",
        "--snapshotter",
        "other",
    ];
    assert_eq!(varve(&node, &other).success().stdout, "[]\n");
}

#[test]
fn usage_is_told_for_all_snapshots_or_for_one() {
    let node = Node::start();
    fill(&node);
    let all = varve(&node, &["snapshots", "usage", "--bytes"])
        .success()
        .stdout;
    assert_eq!(all.lines().count(), 5, "{all}");
    let one = varve(&node, &["snapshots", "usage", "-b", "layer-2"])
        .success()
        .stdout;
    let words: Vec<_> = one.split_whitespace().collect();
    assert_eq!(
        words[..5],
        ["KEY", "SIZE", "INODES", "layer-2", "5000"],
        "{one}"
    );
    let missing = varve(&node, &["snapshots", "usage", "missing"]);
    missing.refused_with(1, &["missing", "varve snapshots ls"]);
}

#[test]
fn where_no_daemon_is_a_person_is_told_what_to_start() {
    let mut node = Node::start();
    node.daemon.kill();
    for words in [vec!["snapshots", "ls"], vec!["snapshots", "tree"]] {
        let refused = varve(&node, &words);
        refused.refused_with(1, &["no daemon serves on", "varve daemon", "--address"]);
    }
    fs::remove_file(node.daemon.address()).unwrap();
    varve(&node, &["snapshots", "ls"]).refused_with(1, &["no daemon serves on"]);
    node.daemon.restart();
    varve(&node, &["snapshots", "ls"]).succeeded();
}

fn dump(node: &Node) -> serde_json::Value {
    let dumped = varve(node, &["debug", "dump"]).success().stdout;
    serde_json::from_str(&dumped).unwrap()
}

#[test]
fn a_dump_tells_what_the_daemon_is_and_has() {
    let node = Node::start();
    fill(&node);
    let mut dumped = dump(&node);
    let ingested = eventually(LIMIT, || {
        dumped = dump(&node);
        dumped["snapshots"]["committed"] == 2
    });
    assert!(ingested, "{dumped:#}");
    assert_eq!(dumped["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(dumped["root"], node.path("root").to_str().unwrap());
    assert!(
        dumped["mount_method"].is_string() && dumped["unhealthy"].is_null(),
        "{dumped:#}"
    );
    for (kind, count) in [("active", 1), ("view", 1), ("committed_not_ingested", 0)] {
        assert_eq!(dumped["snapshots"][kind], count, "{kind}: {dumped:#}");
    }
    assert_eq!(dumped["waiting"], serde_json::json!([]));
    let calls = "varve_rpc_duration_seconds_count{method=\"Prepare\",code=\"OK\"}";
    assert_eq!(dumped["metrics"][calls], 3, "{dumped:#}");
}

#[test]
fn a_dump_tells_what_cannot_be_ingested_and_why() {
    let node = Node::start();
    fill(&node);
    let remote = node.connect("varve");
    let mounts = remote.prepare("damaged", "layer-2", Labels::new()).unwrap();
    let file = upper(&mounts).join("without-body");
    fs::write(&file, "").unwrap();
    // As an overlay marks a file whose body lies below, where there is none.
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "trusted.overlay.metacopy", b"", flags).unwrap();
    remote.commit("layer-3", "damaged", Labels::new()).unwrap();
    let mut dumped = dump(&node);
    let tried = eventually(LIMIT, || {
        dumped = dump(&node);
        dumped["waiting"][0]["error"].is_string()
    });
    assert!(tried, "{dumped:#}");
    let waiting = &dumped["waiting"][0];
    assert_eq!(
        (&waiting["snapshotter"], &waiting["key"]),
        (&"varve".into(), &"layer-3".into())
    );
    assert!(
        waiting["error"].as_str().unwrap().contains("without-body"),
        "{waiting}"
    );
    remote.remove("layer-3").unwrap();
    assert_eq!(dump(&node)["waiting"], serde_json::json!([]));
}

/// Every line that a daemon has logged, as objects.
fn objects(log: &str) -> Vec<serde_json::Value> {
    let object = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    log.lines().map(object).collect()
}

#[test]
fn every_line_of_a_structured_log_is_an_object() {
    let mut node = Node::start_with(&["--log-format", "json", "--debug"]);
    fill(&node);
    node.daemon.terminate();
    let lines = objects(&node.daemon.log());
    for line in &lines {
        let (time, level) = (line["timestamp"].as_str(), line["level"].as_str());
        assert!(
            time.is_some_and(|time| time.ends_with('Z')) && level.is_some(),
            "{line}"
        );
    }
    let serving = lines.iter().find(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("serving containerd on ")
    });
    assert_eq!(serving.unwrap()["level"], "INFO");
    let commit = lines.iter().find(|line| line["method"] == "Commit");
    assert_eq!(commit.unwrap()["code"], "OK", "a call has fields");
    // Why a daemon does not start is in the log too.
    let mut second = Command::new(varve_binary());
    second.args(["daemon", "--log-format", "json", "--root"]);
    second
        .arg(node.path("other"))
        .arg("--snapshotter-address")
        .arg("/proc/none/s");
    let refused = run(&mut second);
    let lines = objects(&refused.code(1).stderr);
    assert_eq!(lines.last().unwrap()["level"], "ERROR", "{lines:?}");
}
