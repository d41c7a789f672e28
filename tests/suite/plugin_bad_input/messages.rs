//! Nonsense on the socket: refused, and the next caller does not notice.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use snapshotter::{Error, Labels, Snapshots};

use super::{Node, labels};

/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whoever is answered nothing is not kept waiting longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// As many connections as a careless caller leaves open.
const IDLE: usize = 300;

/// A frame of HTTP/2: its type, flags, stream and content.
fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags, 0, 0, 0, stream]);
    frame.extend_from_slice(content);
    frame
}

/// A call of `Prepare` with these bytes for a message.
fn call(message: &[u8]) -> Vec<u8> {
    let path = b"/containerd.services.snapshots.v1.Snapshots/Prepare";
    // `POST`, `http` and names by their numbers in HPACK's table; texts as they are.
    let mut head = vec![0x83, 0x86, 0x04, path.len() as u8];
    head.extend_from_slice(path);
    head.extend_from_slice(b"\x01\x01a\x0f\x10\x10application/grpc\x00\x02te\x08trailers");
    let parts = [
        PREFACE.to_vec(),
        frame(4, 0, 0, b""),
        frame(1, 4, 1, &head),
        frame(0, 1, 1, message),
    ];
    parts.concat()
}

/// A message of gRPC: compressed or not, a length that may be a lie, and bytes.
fn message(is_compressed: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[is_compressed], &length.to_be_bytes()[..], bytes].concat()
}

fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let noise: Vec<u8> = (0..60_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let begun = |rest: &[u8]| [PREFACE, rest].concat();
    // The name of a key is no UTF-8; a field runs over the end; groups without an end.
    let text = message(0, 5, b"\x12\x03\xff\xfe\xfd");
    let over = message(0, 4, b"\x12\xff\xff\x7f");
    let group = message(0, 200, &[0x0b; 200]);
    vec![
        ("nothing", Vec::new()),
        ("zeroes", vec![0; 10_000]),
        ("noise", noise.clone()),
        (
            "an older HTTP",
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        ),
        ("half a beginning", PREFACE[..9].to_vec()),
        ("a beginning", PREFACE.to_vec()),
        ("noise after it", begun(&noise)),
        (
            "a frame too large",
            begun(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"),
        ),
        (
            "a head without a meaning",
            begun(&frame(1, 4, 1, &noise[..9000])),
        ),
        ("no message", call(b"")),
        ("less than a message", call(b"\0\0")),
        ("a message of 4 GiB", call(&message(0, u32::MAX, b"x"))),
        ("a message of 17 MiB", call(&message(0, 17 << 20, b"x"))),
        ("compressed by nobody", call(&message(1, 3, b"abc"))),
        ("no text", call(&text)),
        ("a field too long", call(&over)),
        ("groups", call(&group)),
        (
            "noise for a message",
            call(&message(0, 9000, &noise[..9000])),
        ),
    ]
}

#[test]
fn nonsense_on_the_socket_harms_nobody_else() {
    let mut node = Node::start();
    let remote = node.connect("varve");
    let connect = || UnixStream::connect(node.daemon.address()).unwrap();
    let idle: Vec<_> = (0..IDLE).map(|_| connect()).collect();
    for (name, bytes) in nonsense() {
        let mut stream = connect();
        stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        stream.set_write_timeout(Some(ANSWER_LIMIT)).unwrap();
        // It may have hung up before it was told everything.
        stream.write_all(&bytes).ok();
        stream.shutdown(Shutdown::Write).ok();
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let is_slow = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!is_slow, "{name}: the connection is never ended");
        remote.prepare(name, "", Labels::new()).unwrap();
        remote.remove(name).unwrap();
    }
    drop(idle);
    assert_eq!(remote.list(&[]).unwrap(), []);
    assert!(node.daemon.runs());
    let log = node.daemon.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_message_of_more_than_16_mib_is_refused_and_makes_nothing() {
    let node = Node::start();
    let remote = node.connect("varve");
    let huge = labels(&[("l", &"v".repeat(17 << 20))]);
    let refused = remote.prepare("key", "", huge).unwrap_err().to_string();
    assert!(refused.contains("too large"), "{refused}");
    assert_eq!(remote.list(&[]).unwrap(), []);
    let many: Labels = (0..1000)
        .map(|n| (format!("label {n}"), "v".repeat(4000)))
        .collect();
    remote.prepare("key", "", many.clone()).unwrap();
    assert_eq!(remote.stat("key").unwrap().labels, many);
}

#[test]
fn a_filter_that_is_wrong_is_refused_with_what_is_wrong() {
    let node = Node::start();
    let remote = node.connect("varve");
    remote.prepare("key", "", labels(&[("l", "1")])).unwrap();
    for filter in [
        "kind=active",
        "kind==",
        "kind==active,",
        ",",
        "==x",
        "labels.\"l",
        "labels.\"l\"==\"1",
        "kind==active parent==",
        "name\u{0}==x",
    ] {
        for filters in [vec![filter], vec!["name==key", filter]] {
            let refused = remote.list(&filters);
            assert!(
                matches!(&refused, Err(Error::InvalidArgument { reason }) if reason.len() > 10),
                "{filter:?}: {refused:?}"
            );
        }
    }
    let long = format!("name=={}", "x".repeat(100_000));
    assert_eq!(remote.list(&[&long]).unwrap(), []);
}

#[test]
fn labels_that_are_too_long_are_refused_when_they_are_changed_too() {
    let node = Node::start();
    let remote = node.connect("varve");
    remote.prepare("key", "", labels(&[("l", "1")])).unwrap();
    let before = remote.stat("key").unwrap();
    for paths in [&[][..], &["labels"], &["labels.l"]] {
        let mut changed = before.clone();
        changed.labels = labels(&[("l", &"v".repeat(4096))]);
        let refused = remote.update(changed, paths);
        assert!(
            matches!(refused, Err(Error::InvalidArgument { .. })),
            "{paths:?}: {refused:?}"
        );
        assert_eq!(remote.stat("key").unwrap(), before);
    }
}

#[test]
fn a_plugin_whose_name_is_none_is_refused() {
    let node = Node::start();
    for name in ["a\0b", &"p".repeat(4097)] {
        let remote = node.connect(name);
        for refused in [
            remote.prepare("key", "", Labels::new()).map(drop),
            remote.stat("key").map(drop),
            remote.list(&[]).map(drop),
        ] {
            assert!(
                matches!(refused, Err(Error::InvalidArgument { .. })),
                "{refused:?}"
            );
        }
    }
    // What belongs to one plugin is not another's, however the names are put together.
    let (one, other) = (node.connect("a"), node.connect(""));
    one.prepare("b\0c", "", Labels::new()).unwrap();
    one.prepare("", "", Labels::new()).unwrap_err();
    assert_eq!(other.list(&[]).unwrap(), []);
    assert_eq!(one.stat("b\0c").unwrap().key, "b\0c");
    one.remove("b\0c").unwrap();
}
