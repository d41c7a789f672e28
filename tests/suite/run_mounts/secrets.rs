//! type=secret: seen by the step that mounts it, found nowhere afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use support::workspace::Varve;

use super::said;

/// What is looked for. Nothing else in a store looks like it.
const SECRET: &str = "Vx81-zqK3-tw5R-Wj7p-9sLm-0dHc-uYb2";

/// A place with the secret in a file outside of the context, and in a variable.
fn with_secret() -> (Varve, PathBuf) {
    let varve = Varve::new();
    let file = varve.write("secrets/token", SECRET);
    (varve, file)
}

/// Files below `directory` that hold the secret.
fn found_below(directory: &Path) -> Vec<PathBuf> {
    let needle = SECRET.as_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(found_below(&path));
        } else if fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(needle.len()).any(|w| w == needle))
        {
            found.push(path);
        }
    }
    found
}

/// Digest of the secret, which a step may print.
fn digest(varve: &Varve) -> String {
    let sums = varve.tool("sha256sum", ["secrets/token"]).success().stdout;
    sums.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_secret_is_seen_as_a_file_and_a_variable_and_is_found_nowhere_afterwards() {
    let (varve, file) = with_secret();
    varve.dockerfile(
        "FROM busybox\n\
         RUN --mount=type=secret,id=token sha256sum < /run/secrets/token && \
           stat -c '%a %u %g' /run/secrets/token && ! echo x 2>/dev/null > /run/secrets/token && \
           ! cp /run/secrets/token /run/secrets/copy 2>/dev/null || rm -f /run/secrets/copy\n\
         RUN --mount=type=secret,id=token,env=TOKEN printf %s \"$TOKEN\" | sha256sum\n\
         RUN --mount=type=secret,id=var,target=/deep/new/name,mode=0440,uid=7,gid=8,required \
           sha256sum < /deep/new/name && stat -c '%a %u %g' /deep/new/name\n\
         RUN echo ${TOKEN:-unset} && ls /run /deep 2>&1 | grep -v : || true\n",
    );
    let secret = format!("id=token,src={}", file.display());
    let arguments = [
        "--secret",
        &secret,
        "--secret",
        "id=var,env=OTHER",
        "-t",
        "app",
        "-o",
        "type=oci,dest=image,tar=false,compression=uncompressed",
        "-o",
        "files",
        "--metadata-file",
        "metadata",
        "--iidfile",
        "id",
    ];
    let mut command = varve.build_command(arguments);
    let built = support::workspace::run(command.env("OTHER", SECRET)).success();
    let sum = format!("{}  -", digest(&varve));
    let transcript = built.transcript();
    let output = |part: &str| transcript.step(part).output.clone();
    assert_eq!(output("stat -c '%a %u %g' /run"), [sum.as_str(), "400 0 0"]);
    assert_eq!(output("printf"), [sum.as_str()]);
    assert_eq!(output("/deep/new/name"), [sum.as_str(), "440 7 8"]);
    assert_eq!(output("unset"), ["unset"]);
    assert!(!built.stderr.contains(SECRET) && !built.stdout.contains(SECRET));
    for place in ["root", "image", "files"] {
        assert_eq!(
            found_below(&varve.path(place)),
            Vec::<PathBuf>::new(),
            "{place}"
        );
    }
    assert!(!varve.read("metadata").contains(SECRET));
    let debug = varve.varve(["--debug", "images"]).success();
    assert!(!debug.stderr.contains(SECRET));
}

#[test]
fn another_value_is_no_reason_to_run_a_step_again() {
    let (varve, file) = with_secret();
    varve.dockerfile("FROM busybox\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token\n");
    let secret = format!("id=token,src={}", file.display());
    varve.build(["--secret", &secret]).succeeded();
    varve.write("secrets/token", "another");
    let again = varve.build(["--secret", &secret]).success().transcript();
    assert_eq!(again.executed(), [""; 0]);
    assert_eq!(
        varve.build([""; 0]).success().transcript().executed(),
        [""; 0]
    );
}

#[test]
fn a_failed_build_leaves_no_secret() {
    let (varve, file) = with_secret();
    let secret = format!("id=token,src={}", file.display());
    for line in [
        "RUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN \
           --mount=type=cache,target=/c cp /run/secrets/token /x; exit 5",
        "RUN --mount=type=secret,id=token,env=TOKEN /no/such/program",
        "RUN --mount=type=secret,id=token --mount=type=tmpfs,target=/proc/x true",
        "RUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=other,required true",
        "USER nobody-there\nRUN --mount=type=secret,id=token,env=TOKEN true",
    ] {
        varve.dockerfile(&format!("FROM busybox\n{line}\n"));
        let failed = varve
            .build(["--debug", "--secret", &secret, "-t", "app"])
            .code(1);
        assert!(!failed.stderr.contains(SECRET), "{failed}");
        // What the step itself wrote was in the layer that was thrown away.
        varve.varve(["prune"]).succeeded();
        assert_eq!(found_below(&varve.root()), Vec::<PathBuf>::new(), "{line}");
    }
}

#[test]
fn a_secret_that_is_required_and_missing_is_named_with_what_to_do() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN --mount=type=secret,id=token test ! -e /run/secrets/token\n\
         RUN --mount=type=secret,id=token,env=TOKEN test -z \"$TOKEN\"\n",
    );
    varve
        .build(["--secret", "id=other,env=NOT_SET"])
        .succeeded();
    for mount in ["id=token,required", "id=token,required=true,env=TOKEN"] {
        varve.dockerfile(&format!(
            "FROM busybox\nRUN --mount=type=secret,{mount} true\n"
        ));
        let failed = varve.build([""; 0]).code(1);
        let expect = "secret token: not found; pass it with --secret id=token,src=FILE or \
            --secret id=token,env=NAME";
        assert!(failed.stderr.contains(expect), "{failed}");
        assert!(failed.stderr.contains("   2 | >>> RUN --mount"), "{failed}");
    }
}

#[test]
fn options_that_name_no_secret_are_refused_before_anything_is_built() {
    let varve = Varve::new();
    varve.write("large", vec![b'x'; 600_000]);
    varve.dockerfile("FROM busybox\n");
    for (option, part) in [
        ("id=a,src=missing", "--secret id=a: failed to stat missing"),
        ("id=a", "--secret id=a: failed to stat a"),
        ("id=a,src=context", "--secret id=a: context is a directory"),
        ("id=a,src=large", "secret a too big. max size 500KB"),
    ] {
        let failed = varve.build(["--secret", option]).code(1);
        assert!(failed.stderr.contains(part), "{option}: {failed}");
    }
    let failed = varve.build(["--secret", "token=abc"]).code(2);
    assert!(failed.stderr.contains("unexpected key 'token'"), "{failed}");
}

#[test]
fn a_user_sees_the_secrets_that_are_theirs() {
    let (varve, file) = with_secret();
    let secret = format!("id=token,src={}", file.display());
    let lines = "USER 1234\n\
        RUN --mount=type=secret,id=token ! cat /run/secrets/token 2>/dev/null && id -u\n\
        RUN --mount=type=secret,id=token,uid=1234 wc -c < /run/secrets/token\n";
    let expect = SECRET.len().to_string();
    assert_eq!(said(&varve, lines, &["--secret", &secret]), [expect]);
}
