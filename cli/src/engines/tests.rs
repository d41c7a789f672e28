//! A docker of a few lines at a socket, and programs that are shell scripts.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use super::*;

/// Answers one ping and then one load; gives the request line and body of that.
fn docker(path: &Path, status: &'static str, body: &'static str) -> JoinHandle<(String, Vec<u8>)> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (ping, _) = listener.accept().unwrap();
        let (line, _) = request(&ping);
        assert_eq!(line, "GET /_ping HTTP/1.1\r\n");
        answer(ping, "200 OK", "OK");
        let (load, _) = listener.accept().unwrap();
        let read = request(&load);
        answer(load, status, body);
        read
    })
}

fn request(stream: &UnixStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut body = Vec::new();
    if lines.iter().any(|line| line.contains("chunked")) {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let size = u64::from_str_radix(size.trim(), 16).unwrap();
            reader.by_ref().take(size).read_to_end(&mut body).unwrap();
            reader.read_line(&mut String::new()).unwrap();
            if size == 0 {
                break;
            }
        }
    }
    (lines.swap_remove(0), body)
}

fn answer(mut stream: UnixStream, status: &str, body: &str) {
    let (head, tail) = body.split_at(body.len() / 2);
    let head = format!(
        "{:x}\r\n{head}\r\n{:x}\r\n{tail}\r\n",
        head.len(),
        tail.len()
    );
    let framing = "Transfer-Encoding: chunked";
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{framing}\r\n\r\n{head}0\r\n\r\n"
    )
    .unwrap();
}

fn engine(variables: &[(&str, &str)]) -> anyhow::Result<Arc<dyn Receiver>> {
    find(&Environment::of(variables, true), None)
}

fn load(engine: &dyn Receiver, archive: &[u8]) -> std::io::Result<String> {
    let mut handover = engine.begin()?;
    for piece in archive.chunks(1_000) {
        handover.write_all(piece)?;
    }
    handover.finish()
}

#[test]
fn an_archive_goes_to_the_docker_that_answers_at_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let loaded = "{\"stream\":\"Loaded image: app:latest\\n\"}\n";
    let server = docker(&path, "200 OK", loaded);
    let host = format!("unix://{}", path.display());
    let engine = engine(&[("DOCKER_HOST", &host)]).unwrap();
    let archive: Vec<u8> = (0..2_500u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(
        load(&*engine, &archive).unwrap(),
        "Loaded image: app:latest"
    );
    let (line, body) = server.join().unwrap();
    assert_eq!(line, "POST /images/load?quiet=1 HTTP/1.1\r\n");
    assert!(body == archive);
}

#[test]
fn what_docker_has_against_an_archive_is_the_error() {
    for (status, body, part) in [
        (
            "200 OK",
            "{\"stream\":\"x\"}{\"error\":\"no space left\"}",
            "no space left",
        ),
        (
            "500 Internal",
            "{\"message\":\"invalid archive\"}",
            "invalid archive",
        ),
        ("503 Busy", "{}", "503"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let server = docker(&path, status, body);
        let host = format!("unix://{}", path.display());
        let engine = engine(&[("DOCKER_HOST", &host)]).unwrap();
        let error = load(&*engine, b"archive").unwrap_err().to_string();
        assert!(error.contains(part), "{status}: {error}");
        server.join().unwrap();
    }
}

/// A directory with a program of that name.
fn with_program(name: &str, script: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

#[test]
fn a_docker_elsewhere_is_reached_by_its_program() {
    let script =
        "case $1 in version) exit 0;; load) cat > \"$(dirname $0)/got\"; echo Loaded;; esac";
    let directory = with_program("docker", script);
    let path = directory.path().display().to_string();
    let engine = engine(&[("DOCKER_HOST", "ssh://build@host"), ("PATH", &path)]).unwrap();
    let archive = vec![7; 300_000];
    assert_eq!(load(&*engine, &archive).unwrap(), "Loaded");
    assert!(fs::read(directory.path().join("got")).unwrap() == archive);
}

#[test]
fn what_a_program_says_against_an_archive_is_the_error() {
    let script = "case $1 in version) exit 0;; load) echo 'it is broken' >&2; exit 3;; esac";
    let directory = with_program("docker", script);
    let path = directory.path().display().to_string();
    let engine = engine(&[("DOCKER_HOST", "tcp://host:1"), ("PATH", &path)]).unwrap();
    let mut handover = engine.begin().unwrap();
    let big = vec![0; 1 << 20];
    // Whether the pipe breaks first or the end is reached depends on who is quicker.
    let error = match handover
        .write_all(&big)
        .and_then(|()| handover.write_all(&big))
    {
        Ok(()) => handover.finish().unwrap_err(),
        Err(_) => {
            let told = (0..100).find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                handover.failure()
            });
            told.unwrap()
        }
    };
    assert_eq!(error.to_string(), "it is broken");
}

#[test]
fn without_an_engine_the_message_says_who_was_asked_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/absent", directory.path().display());
    let error = engine(&[("DOCKER_HOST", &host)]).unwrap_err().to_string();
    for part in [
        "/absent: No such file",
        "type=docker,dest=image.tar",
        "docker load -i",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let script = "echo 'Cannot connect to the Docker daemon' >&2; exit 1";
    let program = with_program("docker", script);
    let path = program.path().display().to_string();
    let error = engine(&[("DOCKER_HOST", "ssh://host"), ("PATH", &path)]).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("Cannot connect to the Docker daemon"),
        "{error}"
    );
}
