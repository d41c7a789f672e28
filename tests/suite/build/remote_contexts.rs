//! Contexts that are no directory: archives on standard input, git repositories, files of the web.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use support::fake_server::{Fake, Request, Response};
use support::git_server::{GitServer, git};
use support::workspace::{Outcome, Varve, run, run_with_input};

/// The context of the workspace as an archive.
fn archive(varve: &Varve, compression: &[&str]) -> Vec<u8> {
    let file = varve.path("archive");
    let mut command = Command::new("tar");
    command.args(compression).arg("-cf").arg(&file).arg(".");
    run(command.current_dir(varve.context())).succeeded();
    fs::read(file).unwrap()
}

fn build(varve: &Varve, arguments: &[&str], input: &[u8]) -> Outcome {
    let mut command = varve.command(["build", "--progress=plain", "-ofiles"]);
    run_with_input(command.args(arguments), input)
}

#[test]
fn an_archive_on_standard_input_is_the_context_whatever_its_compression() {
    let varve = Varve::new();
    varve.write("context/d/file", "of the archive");
    varve.dockerfile("FROM scratch\nCOPY d /usual\n");
    varve.write("context/d/Other", "FROM scratch\nCOPY d/file /other\n");
    for compression in [&[][..], &["-z"], &["-j"], &["-J"], &["--zstd"]] {
        let archive = archive(&varve, compression);
        build(&varve, &["-"], &archive).succeeded();
        assert_eq!(varve.read("files/usual/file"), "of the archive");
        build(&varve, &["-f", "d/Other", "-"], &archive).succeeded();
        assert_eq!(varve.read("files/other"), "of the archive");
        fs::remove_dir_all(varve.path("files")).unwrap();
    }
}

#[test]
fn an_archive_that_cannot_be_a_context_is_refused() {
    let varve = Varve::new();
    let random: Vec<u8> = (0..100_000u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    varve.write("context/file", random);
    varve.dockerfile("FROM scratch\nCOPY file /\n");
    symlink("/etc/passwd", varve.context().join("Outside")).unwrap();
    let archive = archive(&varve, &["-z"]);
    for (arguments, input, part) in [
        (
            &["-"][..],
            &archive[..archive.len() / 2],
            "standard input: the archive is damaged",
        ),
        (
            &["-f", "absent", "-"],
            &archive,
            "open absent: No such file",
        ),
        (
            &["-f", "Outside", "-"],
            &archive,
            "open Outside: No such file",
        ),
        (&["-f", "../../etc/passwd", "-"], &archive, "No such file"),
        (
            &["-f", "Dockerfile", "-"],
            b"FROM scratch\n",
            "leave -f out",
        ),
    ] {
        build(&varve, arguments, input).refused_with(1, &[part]);
    }
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn a_repository_is_a_context_by_branch_tag_commit_and_directory() {
    let varve = Varve::new();
    let server = GitServer::start();
    let library = server.repository("library");
    fs::write(library.join("shared"), "of the submodule").unwrap();
    server.commit("library");
    let path = server.repository("app");
    fs::create_dir(path.join("below")).unwrap();
    let everything = "FROM scratch\nCOPY . /\n";
    fs::write(path.join("Dockerfile"), everything).unwrap();
    fs::write(path.join("below/Dockerfile"), everything).unwrap();
    fs::write(path.join("version"), "1").unwrap();
    let library = server.address("library");
    git(&path, &["submodule", "--quiet", "add", &library, "library"]);
    let first = server.commit("app");
    git(&path, &["tag", "v1"]);
    fs::write(path.join("version"), "2").unwrap();
    server.commit("app");

    let address = server.address("app");
    let short = &first[..10];
    for (fragment, version) in [
        ("", "2"),
        ("#main", "2"),
        ("#v1", "1"),
        (&format!("#{first}"), "1"),
        (&format!("#{short}"), "1"),
    ] {
        build(&varve, &[&format!("{address}{fragment}")], b"").succeeded();
        assert_eq!(varve.read("files/version"), version, "{fragment}");
        assert_eq!(varve.read("files/library/shared"), "of the submodule");
        assert!(!varve.path("files/.git").exists());
        fs::remove_dir_all(varve.path("files")).unwrap();
    }
    build(&varve, &[&format!("{address}#v1:below")], b"").succeeded();
    assert!(!varve.path("files/version").exists());
    let keep = "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1";
    build(&varve, &["--build-arg", keep, &address], b"").succeeded();
    assert!(varve.path("files/.git/HEAD").exists());

    varve.write("named", "FROM scratch\nCOPY --from=app /version /named\n");
    let named = format!("app={address}#v1");
    build(
        &varve,
        &["--build-context", &named, "-f", "named", "context"],
        b"",
    )
    .succeeded();
    assert_eq!(varve.read("files/named"), "1");
    let left = fs::read_dir(varve.root().join("ingest")).unwrap().count();
    assert_eq!(left, 0, "working trees are removed");
    // A commit that was fetched is not fetched again, until a collection forgets it.
    drop(server);
    let by_commit = format!("{address}#{first}");
    build(&varve, &[&by_commit], b"").succeeded();
    assert_eq!(varve.read("files/version"), "1");
    varve.varve(["prune", "--all", "--force"]).succeeded();
    build(&varve, &[&by_commit], b"").refused_with(1, &["failed to fetch", "Connection refused"]);
}

#[test]
fn a_repository_leads_nowhere_outside_of_it_and_errors_name_no_password() {
    let varve = Varve::new();
    let server = GitServer::start();
    let path = server.repository("app");
    fs::write(path.join("file"), "").unwrap();
    symlink("/usr", path.join("out")).unwrap();
    symlink("/etc/passwd", path.join("Dockerfile")).unwrap();
    server.commit("app");
    let address = server.address("app");
    for (address, part) in [
        (address.clone(), "open Dockerfile: No such file"),
        (format!("{address}#:out"), "it has no directory out"),
        (format!("{address}#absent"), "remote ref absent"),
        (format!("{address}#--upload-pack=x"), "is no revision"),
        (server.address("none"), "git ls-remote: fatal:"),
    ] {
        build(&varve, &[&address], b"").refused_with(1, &[part]);
    }
    let secret = "http://me:secret@127.0.0.1:1/app.git";
    let failed = build(&varve, &[secret], b"").refused(1, &["127.0.0.1:1/app.git"]);
    assert!(!failed.stderr.contains("secret"), "{failed}");
}

#[test]
fn a_file_of_the_web_is_a_context_if_it_is_an_archive_and_else_a_dockerfile() {
    let varve = Varve::new();
    varve.write("context/d/file", "of the archive");
    varve.dockerfile("FROM scratch\nCOPY d /usual\n");
    let archive = archive(&varve, &["-z"]);
    let alone = "FROM scratch\nCOPY context /alone\nCOPY --from=named / /named/\n";
    let answer = move |request: &Request| match &*request.path {
        "/archive" => Response::new(200, archive.clone()),
        "/alone" => Response::new(200, alone),
        _ => Response::new(404, ""),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = runtime.block_on(Fake::start(answer));
    let url = |path: &str| format!("http://{}/{path}", fake.address);
    build(&varve, &[&url("archive")], b"").succeeded();
    assert_eq!(varve.read("files/usual/file"), "of the archive");
    let named = format!("named={}", url("alone"));
    build(&varve, &["--build-context", &named, &url("alone")], b"").succeeded();
    assert_eq!(varve.read("files/alone"), alone);
    assert_eq!(varve.read("files/named/context"), alone);
    let parts = ["/missing: ", "answers 404; check the address"];
    build(&varve, &[&url("missing")], b"").refused_with(1, &parts);
}
