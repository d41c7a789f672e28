//! `ADD` of what is somewhere else: files of the web, git repositories.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::{Arc, Mutex};

use support::fake_server::{End, Fake, Request, Response};
use support::git_server::{GitServer, git};
use support::workspace::{Outcome, Varve};
use tokio::runtime::Runtime;

use super::text;

/// When the file of the [`Web`] was changed last: in a header, and in seconds.
const CHANGED: (&str, i64) = ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777);

/// A server with one file, whatever it is asked for.
struct Web {
    fake: Fake,
    file: Arc<Mutex<Vec<u8>>>,
    _runtime: Runtime,
}

impl Web {
    fn start(file: &[u8], cut_after: Option<usize>) -> Self {
        let file = Arc::new(Mutex::new(file.to_vec()));
        let shown = file.clone();
        let answer = move |request: &Request| serve(request, &shown.lock().unwrap(), cut_after);
        let runtime = Runtime::new().unwrap();
        let fake = runtime.block_on(Fake::start(answer));
        Web {
            fake,
            file,
            _runtime: runtime,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.fake.address)
    }

    fn file(&self) -> Vec<u8> {
        self.file.lock().unwrap().clone()
    }

    fn change(&self, file: &[u8]) {
        *self.file.lock().unwrap() = file.to_vec();
    }
}

/// A version for each length.
fn serve(request: &Request, file: &[u8], cut_after: Option<usize>) -> Response {
    if request.path == "/away" {
        return Response::new(302, "").header("Location", "/file");
    }
    if request.path == "/private" && request.header("authorization") != Some("Bearer hunter2") {
        return Response::new(401, "");
    }
    if request.path == "/missing" {
        return Response::new(404, "");
    }
    if request.path == "/untagged" {
        let end = cut_after.map_or(End::Whole, End::CutAfter);
        return Response::new(200, file).end(end);
    }
    if request.path == "/gzip" {
        return Response::new(200, file).header("Content-Encoding", "gzip");
    }
    let tag = format!("\"{}\"", file.len());
    if request.header("if-none-match") == Some(&tag) {
        return Response::new(304, "").header("ETag", tag);
    }
    let range = request.header("range");
    let range = range.filter(|_| request.header("if-range") == Some(&tag));
    let start = range.and_then(|range| range["bytes=".len()..].strip_suffix('-'));
    let start = start.map(|start| start.parse::<usize>().unwrap());
    let status = if start.is_some() { 206 } else { 200 };
    let rest = &file[start.unwrap_or_default()..];
    let end = match cut_after {
        Some(length) if length < rest.len() => End::CutAfter(length),
        _ => End::Whole,
    };
    let response = Response::new(status, rest).end(end);
    let response = response
        .header("ETag", tag)
        .header("Last-Modified", CHANGED.0);
    match start {
        None => response,
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", file.len() - 1, file.len());
            response.header("Content-Range", range)
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn build(varve: &Varve, instruction: &str, arguments: &[&str]) -> Outcome {
    varve.dockerfile(&format!("FROM scratch\n{instruction}\n"));
    let usual = ["-o", "files"];
    varve.build(usual.iter().chain(arguments))
}

#[test]
fn a_file_of_the_web_is_for_its_owner_and_as_old_as_the_server_says() {
    let (varve, web) = (Varve::new(), Web::start(b"of the web", None));
    let (away, file) = (web.url("away"), web.url("a%20b?c"));
    let flags = "--chmod=755 --chown=7:8";
    build(
        &varve,
        &format!("ADD {away} {file} /d/\nADD {flags} {file} /other"),
        &[],
    )
    .succeeded();
    let plain = fs::metadata(varve.path("files/d/a b")).unwrap();
    assert_eq!(plain.permissions().mode() & 0o7777, 0o600);
    assert_eq!(plain.mtime(), CHANGED.1);
    assert_eq!(
        varve.read("files/d/away"),
        "of the web",
        "called as asked for"
    );
    let other = fs::metadata(varve.path("files/other")).unwrap();
    assert_eq!(other.permissions().mode() & 0o7777, 0o755);
}

#[test]
fn an_unchanged_file_is_not_sent_again_and_a_changed_one_is_added() {
    let (varve, web) = (Varve::new(), Web::start(b"first", None));
    let add = format!("ADD {} /file", web.url("file"));
    build(&varve, &add, &[]).succeeded();
    let again = build(&varve, &add, &[]).success();
    assert_eq!(again.transcript().executed(), [""; 0], "{again:?}");
    let asked = web.fake.seen();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].header("if-none-match"), Some("\"5\""));
    web.change(b"second");
    build(&varve, &add, &[]).succeeded();
    assert_eq!(varve.read("files/file"), "second");
    // What is known of it goes with a collection, and it is asked for as a whole.
    varve.varve(["prune", "--all", "--force"]).succeeded();
    build(&varve, &add, &[]).succeeded();
    assert_eq!(varve.read("files/file"), "second");
    assert_eq!(web.fake.seen()[3].header("if-none-match"), None);
}

#[test]
fn a_checksum_is_kept_and_saves_the_request() {
    let (varve, web) = (Varve::new(), Web::start(b"right", None));
    let (url, digest) = (web.url("file"), sha256(b"right"));
    let add = format!("ADD --checksum=sha256:{digest} {url} /file");
    build(&varve, &add, &[]).succeeded();
    build(&varve, &add, &[]).succeeded();
    assert_eq!(web.fake.seen().len(), 1);
    let wrong = sha256(b"wrong");
    let add = format!("ADD --checksum=sha256:{wrong} {url} /file");
    let found = format!("digest mismatch for {url}: sha256:{digest} (expected: sha256:{wrong})");
    build(&varve, &add, &[]).refused_with(1, &[&found]);
    build(&varve, &add, &[]).refused_with(1, &[&found]);
}

#[test]
fn a_download_that_is_cut_off_goes_on_where_it_was() {
    let file: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let (varve, web) = (Varve::new(), Web::start(&file, Some(150_000)));
    build(&varve, &format!("ADD {} /file", web.url("file")), &[]).succeeded();
    assert_eq!(fs::read(varve.path("files/file")).unwrap(), file);
    let asked = web.fake.seen();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.header("range")).collect();
    assert_eq!(ranges[0], None);
    assert!(
        ranges.len() > 1 && ranges[1..].iter().all(Option::is_some),
        "{ranges:?}"
    );
}

#[test]
fn one_that_cannot_go_on_is_begun_again_and_then_given_up() {
    let (varve, web) = (Varve::new(), Web::start(b"never whole", Some(3)));
    let add = format!("ADD {} /file", web.url("untagged"));
    let cut = ["is cut off at", "3 of 11 bytes arrived", "try again"];
    let refused = build(&varve, &add, &[]).refused(1, &cut);
    assert!(
        refused.stderr.contains("WARN: beginning again: "),
        "{refused}"
    );
    assert_eq!(web.fake.seen().len(), 3);
}

#[test]
fn what_is_compressed_for_the_way_only_is_added_as_it_was() {
    let varve = Varve::new();
    varve.write("file", "as it was");
    varve.tool("gzip", ["-k", "file"]).succeeded();
    let web = Web::start(&fs::read(varve.path("file.gz")).unwrap(), None);
    let digest = sha256(b"as it was");
    let add = format!("ADD --checksum=sha256:{digest} {} /file", web.url("gzip"));
    build(&varve, &add, &[]).succeeded();
    assert_eq!(varve.read("files/file"), "as it was");
    for damaged in [&b"no gzip"[..], &web.file()[..15]] {
        web.change(damaged);
        let add = format!("ADD {} /file", web.url("gzip"));
        build(&varve, &add, &[]).refused_with(1, &["is said to be compressed by gzip"]);
    }
}

#[test]
fn a_login_in_an_address_is_shown_nowhere() {
    let (varve, web) = (
        Varve::new(),
        Web::start(b"FROM scratch\nCOPY context /\n", None),
    );
    for login in ["me:hunter2", "hunter2"] {
        let url = format!("http://{login}@{}/file", web.fake.address);
        let words = ["build", "--progress=plain", "-o", "files", &url];
        let built = varve.varve(words).success();
        assert!(!built.stderr.contains("hunter2"), "{built}");
        let missing = format!("http://{login}@{}/missing", web.fake.address);
        let words = ["build", "--progress=plain", "-o", "files", &missing];
        let refused = varve.varve(words).refused(1, &["answers 404"]);
        assert!(!refused.stderr.contains("hunter2"), "{refused}");
    }
    let found = varve.tool("grep", ["-r", "hunter2", varve.root().to_str().unwrap()]);
    found.code(1);
}

#[test]
fn a_token_for_a_host_is_a_secret_of_the_build() {
    let (varve, web) = (Varve::new(), Web::start(b"private", None));
    let add = format!("ADD {} /file", web.url("private"));
    let hint = "--secret id=HTTP_AUTH_TOKEN_127.0.0.1";
    build(&varve, &add, &[]).refused_with(1, &["needs a login", hint]);
    varve.write("token", "hunter2\n");
    let secret = "id=HTTP_AUTH_TOKEN_127.0.0.1,src=token";
    build(&varve, &add, &["--secret", secret]).succeeded();
    assert_eq!(varve.read("files/file"), "private");
    let found = varve.tool("grep", ["-r", "hunter2", varve.root().to_str().unwrap()]);
    found.code(1);
}

#[test]
fn what_is_not_there_is_named_with_its_address() {
    let (varve, web) = (Varve::new(), Web::start(b"", None));
    let missing = web.url("missing");
    let part = format!(
        "{missing}: {} answers 404; check the address",
        web.fake.address
    );
    let add = format!("ADD {missing} /");
    build(&varve, &add, &[]).refused_with(1, &[&part, ">>> ADD"]);
    let refused = ["no answer from 127.0.0.1:1", "name of the server"];
    build(&varve, "ADD http://127.0.0.1:1/a /", &[]).refused_with(1, &refused);
}

#[test]
fn an_archive_of_the_web_is_unpacked_where_that_is_asked_for() {
    let varve = Varve::new();
    varve.write("tree/f", "in the archive");
    varve
        .tool("tar", ["-czf", "tree.tar.gz", "-C", "tree", "."])
        .succeeded();
    let web = Web::start(&fs::read(varve.path("tree.tar.gz")).unwrap(), None);
    let url = web.url("tree.tar.gz");
    let added = format!("ADD {url} /plain/\nADD --unpack {url} /unpacked/");
    build(&varve, &added, &[]).succeeded();
    assert!(varve.path("files/plain/tree.tar.gz").exists());
    assert_eq!(varve.read("files/unpacked/f"), "in the archive");
}

/// A repository with a commit for each version: `v1`, an annotated tag, and `main`.
fn repository(server: &GitServer) -> [String; 2] {
    let path = server.repository("app");
    fs::create_dir(path.join("below")).unwrap();
    fs::write(path.join("below/deep"), "deep").unwrap();
    let commit = |version: &str| {
        fs::write(path.join("version"), version).unwrap();
        server.commit("app")
    };
    let first = commit("1");
    git(&path, &["tag", "--annotate", "--message=one", "v1"]);
    [first, commit("2")]
}

#[test]
fn a_repository_is_added_by_branch_tag_commit_and_directory() {
    let (varve, server) = (Varve::new(), GitServer::start());
    let [first, _] = repository(&server);
    let url = server.address("app");
    let short = &first[..12];
    let instructions = format!(
        "ADD {url} /main\nADD {url}#v1 /tag\nADD {url}?branch=main /branch\n\
         ADD --checksum={short} {url}#{first}:below /directory\n\
         ADD --keep-git-dir {url}#v1 /kept/"
    );
    build(&varve, &instructions, &[]).succeeded();
    let files = varve.path("files");
    for (file, expected) in [
        ("main/version", "2"),
        ("tag/version", "1"),
        ("branch/version", "2"),
        ("directory/deep", "deep"),
        ("kept/version", "1"),
    ] {
        assert_eq!(text(&files, file), expected, "{file}");
    }
    assert!(files.join("kept/.git/HEAD").exists() && !files.join("main/.git").exists());
    let kept = files.join("kept");
    assert_eq!(git(&kept, &["describe"]), "v1\n");
    assert_eq!(
        git(&kept, &["remote", "get-url", "origin"]),
        format!("{url}\n")
    );
    let again = build(&varve, &instructions, &[]).success();
    assert_eq!(again.transcript().executed(), [""; 0], "{again:?}");
}

#[test]
fn a_branch_that_moves_is_added_anew_and_a_commit_is_not_asked_for() {
    let (varve, server) = (Varve::new(), GitServer::start());
    let [first, _] = repository(&server);
    let url = server.address("app");
    let add = format!("ADD {url} /app");
    build(&varve, &add, &[]).succeeded();
    fs::write(server.repository("app").join("version"), "3").unwrap();
    server.commit("app");
    build(&varve, &add, &[]).succeeded();
    assert_eq!(varve.read("files/app/version"), "3");
    let by_commit = format!("ADD {url}#{first} /app");
    build(&varve, &by_commit, &[]).succeeded();
    drop(server);
    build(&varve, &by_commit, &[]).succeeded();
    assert_eq!(varve.read("files/app/version"), "1");
    build(&varve, &add, &[]).refused_with(1, &["failed to fetch", "git ls-remote"]);
}

#[test]
fn a_repository_of_the_wrong_commit_or_by_ssh_without_an_agent_is_refused() {
    let (varve, server) = (Varve::new(), GitServer::start());
    repository(&server);
    let url = server.address("app");
    let wrong = format!("ADD --checksum=abcdef {url} /");
    build(&varve, &wrong, &[]).refused_with(1, &["expected checksum to match abcdef, got "]);
    let nowhere = format!("ADD {url}#v1:nowhere /");
    build(&varve, &nowhere, &[]).refused_with(1, &["it has no directory nowhere"]);
    let by_ssh = "ADD git@127.0.0.1:app.git /";
    build(&varve, by_ssh, &[]).refused_with(1, &["no SSH key \"default\"", "--ssh default"]);
}

#[test]
fn a_submodule_may_be_beside_its_repository_and_names_may_be_of_sha256() {
    let (varve, server) = (Varve::new(), GitServer::start());
    fs::write(
        server.repository("library").join("shared"),
        "of the submodule",
    )
    .unwrap();
    server.commit("library");
    let path = server.repository("app");
    let library = server.address("library");
    git(&path, &["submodule", "--quiet", "add", &library, "library"]);
    git(
        &path,
        &[
            "config",
            "--file=.gitmodules",
            "submodule.library.url",
            "../library",
        ],
    );
    server.commit("app");
    let app = server.address("app");
    build(&varve, &format!("ADD {app} /app"), &[]).succeeded();
    assert_eq!(varve.read("files/app/library/shared"), "of the submodule");
    let without = format!("ADD {app}?submodules=0 /without");
    build(&varve, &without, &[]).succeeded();
    assert!(!varve.path("files/without/library/shared").exists());

    let path = server.repository("long");
    fs::remove_dir_all(path.join(".git")).unwrap();
    git(&path, &["init", "--quiet", "--object-format=sha256"]);
    fs::write(path.join("file"), "of a long name").unwrap();
    server.commit("long");
    let long = format!("ADD {} /long", server.address("long"));
    build(&varve, &long, &[]).succeeded();
    assert_eq!(varve.read("files/long/file"), "of a long name");
}
