//! `--mount` values and the errors for wrong ones.

use super::{Mount, MountFlag, MountKind, SharingMode, size_in_bytes};
use crate::error::Problem;
use crate::words::{Lexer, NoVariables};

fn resolve(raw: &str) -> Result<Mount, Problem> {
    let lexer = Lexer::new('\\');
    MountFlag::parse(raw)?.resolve(|word| lexer.process_word(word, &NoVariables))
}

#[test]
fn every_key_is_read() {
    let mount = resolve(
        "type=cache,id=a,target=/t,source=s,from=f,sharing=Locked,mode=0755,uid=1,gid=2,ro",
    )
    .expect("valid");
    let expected = Mount {
        kind: MountKind::Cache,
        from: Some("f".to_owned()),
        source: Some("s".to_owned()),
        target: Some("/t".to_owned()),
        read_only: true,
        id: Some("a".to_owned()),
        sharing: Some(SharingMode::Locked),
        mode: Some(0o755),
        uid: Some(1),
        gid: Some(2),
        ..Mount::default()
    };
    assert_eq!(mount, expected);

    let mount = resolve("TYPE=secret,id=a,dst=/t,env=TOKEN,required=true").expect("valid");
    assert_eq!(mount.kind, MountKind::Secret);
    assert_eq!(mount.env.as_deref(), Some("TOKEN"));
    assert!(mount.required);
    assert_eq!(
        resolve("type=secret,id=a,env=")
            .expect("valid")
            .env
            .as_deref(),
        Some("")
    );
    assert_eq!(
        resolve("type=tmpfs,destination=/t,size=1m")
            .expect("valid")
            .size_limit,
        1 << 20
    );
    assert!(resolve("type=ssh,required").expect("valid").required);
}

#[test]
fn the_default_access_depends_on_the_type() {
    let cases = [
        ("target=/t", true),
        ("target=/t,rw", false),
        ("target=/t,readonly=false", false),
        ("target=/t,readwrite=0", true),
        ("type=cache,target=/t", false),
        ("type=tmpfs,target=/t", false),
        ("type=tmpfs,target=/t,ro=1", true),
        ("type=ssh", true),
    ];
    for (raw, read_only) in cases {
        assert_eq!(resolve(raw).expect(raw).read_only, read_only, "{raw}");
    }
}

#[test]
fn variables_are_expanded_in_values() {
    let vars = [("A".to_owned(), "cache".to_owned())];
    let flag = MountFlag::parse("type=$A,target=/${B:-x}").expect("valid");
    let lexer = Lexer::new('\\');
    let mount = flag
        .resolve(|word| lexer.process_word(word, &vars[..]))
        .expect("valid");
    assert_eq!(mount.kind, MountKind::Cache);
    assert_eq!(mount.target.as_deref(), Some("/x"));
}

#[test]
fn from_is_known_before_expansion() {
    let flag = MountFlag::parse("type=bind,from=a,From=b").expect("valid");
    assert_eq!(flag.from(), Some("b"));
    assert_eq!(MountFlag::parse("type=$x").expect("valid").from(), None);
    let error = MountFlag::parse("from=${x}").expect_err("variable");
    let message = "'from' doesn't support variable expansion, define alias stage instead";
    assert_eq!(error.to_string(), message);
}

#[test]
fn wrong_mounts_are_refused_in_buildkits_words() {
    let cases = [
        (
            "type=bnd",
            "unsupported mount type \"bnd\" (did you mean bind?)",
        ),
        ("type=nothing", "unsupported mount type \"nothing\""),
        ("foo", "invalid field 'foo' must be a key=value pair"),
        (
            "typ=bind",
            "unexpected key 'typ' in 'typ=bind' (did you mean type?)",
        ),
        (
            "required",
            "unexpected key 'required' for mount type 'bind'",
        ),
        ("size=1m", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("ro=maybe", "invalid value for ro: maybe"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,uid=+1", "invalid value +1 for uid"),
        ("mode=7", "mode not allowed for \"bind\" type mounts"),
        (
            "type=tmpfs,gid=7",
            "gid not allowed for \"tmpfs\" type mounts",
        ),
        (
            "type=cache,sharing=lock",
            "unsupported sharing value \"lock\" (did you mean locked?)",
        ),
        ("sharing=shared", "invalid cache sharing set for bind mount"),
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
        ),
        (
            "type=secret,id=a,from=b",
            "secret mount should not have a from",
        ),
        (
            "type=secret,id=a,sharing=locked",
            "secret mount should not define sharing",
        ),
        (
            "type=secret,id=a,source=b",
            "both source and id can't be set",
        ),
        (
            "target=${a",
            "failed to process \"${a\": syntax error: missing '}'",
        ),
    ];
    for (raw, message) in cases {
        assert_eq!(resolve(raw).expect_err(raw).to_string(), message, "{raw}");
    }
}

#[test]
fn sizes_are_read_as_docker_reads_them() {
    let cases = [
        ("100", Some(100)),
        ("32kb", Some(32 << 10)),
        ("32 MiB", Some(32 << 20)),
        ("1.5g", Some(3 << 29)),
        ("7b", Some(7)),
        ("1p", Some(1 << 50)),
        ("", None),
        ("m", None),
        ("-1m", None),
        ("1x", None),
        ("1bb", None),
        ("1mbb", None),
        ("inf", None),
        ("1.2.3", None),
    ];
    for (text, bytes) in cases {
        assert_eq!(size_in_bytes(text), bytes, "{text:?}");
    }
}
