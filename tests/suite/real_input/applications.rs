//! Applications from Dockerfiles in the usual style, with cache mounts: first with empty caches,
//! then again after a change, with what the caches hold and no network where the program can do
//! without.
//!
//! Bases are made by mmdebstrap once per machine; packages come from where this machine gets its
//! own.

use std::fs;

use support::debian_base;
use support::package_sources::PackageSources;
use support::workspace::{Outcome, Varve};

/// Where Debian's packages are kept, as docker's documentation mounts it.
const APT: &str = "--mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked";

/// A module that needs two others, and their digests.
const GO_MODULES: &str = include_str!("../../fixtures/go-application/go.mod");
const GO_SUMS: &str = include_str!("../../fixtures/go-application/go.sum");

/// A Debian with these packages in the store, and the way to more.
fn machine(packages: &[&str]) -> (Varve, PackageSources) {
    let varve = Varve::new();
    let archive = debian_base::archive(packages).unwrap();
    fs::create_dir(varve.path("debian")).unwrap();
    let there = varve.path("debian/base.tar");
    if fs::hard_link(&archive, &there).is_err() {
        fs::copy(&archive, &there).unwrap();
    }
    varve.write(
        "debian/Dockerfile",
        "FROM scratch\nADD base.tar /\nENV PATH=/usr/sbin:/usr/bin:/sbin:/bin\n",
    );
    varve
        .varve(["build", "-q", "-t", "debian", "debian"])
        .succeeded();
    (varve, PackageSources::of_this_machine())
}

#[track_caller]
fn build(varve: &Varve, sources: &PackageSources, arguments: &[&str]) -> Outcome {
    let named = sources.arguments.iter().map(String::as_str);
    let arguments = ["-t", "app"].into_iter().chain(arguments.iter().copied());
    let mut command = varve.build_command(arguments.chain(named));
    command.envs(sources.variables.iter().map(|(name, value)| (name, value)));
    support::workspace::run(&mut command).success()
}

#[test]
fn a_c_program_with_packages_of_apt() {
    let (varve, sources) = machine(&[]);
    varve.write(
        "context/main.c",
        "#include <stdio.h>\nint main(void) { puts(\"one\"); }\n",
    );
    varve.write(
        "context/Makefile",
        "app: main.c\n\tcc -O2 -static -o $@ $<\n",
    );
    let dockerfile = |install: &str| {
        format!(
            "FROM debian AS build\nENV DEBIAN_FRONTEND=noninteractive\n\
             RUN {APT} {install} gcc libc6-dev make\n\
             WORKDIR /src\nCOPY . .\nRUN make\n\
             FROM busybox\nCOPY --from=build /src/app /bin/app\nCMD [\"app\"]\n"
        )
    };
    let install = "apt-get update && apt-get install -y --no-install-recommends";
    varve.dockerfile(&dockerfile(install));
    build(&varve, &sources, &[]);
    assert_eq!(varve.varve(["run", "app"]).success().stdout, "one\n");

    // All from the cache: no list is asked for, no package is downloaded.
    varve.write(
        "context/main.c",
        "#include <stdio.h>\nint main(void) { puts(\"two\"); }\n",
    );
    varve.dockerfile(&dockerfile(
        "apt-get install -y --no-download --no-install-recommends",
    ));
    let again = build(&varve, &sources, &["--network", "none"]);
    assert!(
        again
            .transcript()
            .executed()
            .iter()
            .any(|step| step.contains("--no-download"))
    );
    assert_eq!(varve.varve(["run", "app"]).success().stdout, "two\n");
    let left = varve.varve(["run", "app", "ls", "/var"]);
    assert_ne!(left.code, 0, "caches are in no image: {left}");
}

#[test]
fn a_python_application_with_packages_of_pip() {
    let (varve, sources) = machine(&["python3-venv"]);
    varve.write(
        "context/app.py",
        "import docopt\nprint('docopt', docopt.__version__)\n",
    );
    varve.dockerfile(&format!(
        "FROM debian\n{}WORKDIR /app\nCOPY requirements.txt .\n\
         RUN --mount=type=cache,target=/root/.cache/pip {}\
           python3 -m venv /venv && /venv/bin/pip install --use-pep517 -r requirements.txt\n\
         COPY app.py .\nCMD [\"/venv/bin/python\", \"app.py\"]\n",
        sources.environment(),
        sources.mounts()
    ));
    // One that is built from its source: pip keeps the wheel. What it downloads it keeps only where
    // the registry's answers allow it.
    varve.write("context/requirements.txt", "docopt==0.6.2\n");
    build(&varve, &sources, &[]);
    assert_eq!(
        varve.varve(["run", "app"]).success().stdout,
        "docopt 0.6.2\n"
    );
    let absent = varve.varve(["run", "app", "ls", "/root/.cache", "/etc/pip.conf"]);
    assert_ne!(absent.code, 0, "{absent}");

    varve.write("context/requirements.txt", "docopt==0.6.2\nidna==3.7\n");
    let again = build(&varve, &sources, &[]).transcript();
    let said = again.step("pip install").output.join("\n");
    assert!(said.contains("Using cached docopt-0.6.2"), "{said}");
    assert!(said.contains("Downloading idna-3.7"), "{said}");
}

#[test]
fn a_node_application_with_packages_of_npm() {
    let (varve, sources) = machine(&["nodejs", "npm"]);
    let package = |version: &str| {
        format!(
            "{{\"name\": \"app\", \"version\": \"{version}\", \
             \"dependencies\": {{\"ms\": \"2.1.3\", \"debug\": \"4.3.4\"}}}}\n"
        )
    };
    let dockerfile = |flags: &str| {
        format!(
            "FROM debian\n{}WORKDIR /app\nCOPY package.json .\n\
             RUN --mount=type=cache,target=/root/.npm {}npm install --no-audit --no-fund {flags}\n\
             COPY app.js .\nCMD [\"node\", \"app.js\"]\n",
            sources.environment(),
            sources.mounts()
        )
    };
    varve.write("context/app.js", "console.log(require('ms')('2 days'));\n");
    varve.write("context/package.json", package("1.0.0"));
    varve.dockerfile(&dockerfile(""));
    build(&varve, &sources, &[]);
    assert_eq!(varve.varve(["run", "app"]).success().stdout, "172800000\n");

    varve.write("context/package.json", package("1.0.1"));
    varve.dockerfile(&dockerfile("--offline"));
    build(&varve, &sources, &["--network", "none"]);
    assert_eq!(varve.varve(["run", "app"]).success().stdout, "172800000\n");
}

#[test]
fn a_go_program_with_modules_and_a_build_cache() {
    let (varve, sources) = machine(&["golang-go"]);
    let program = |mark: &str| {
        format!(
            "package main\n\nimport (\n\t\"fmt\"\n\n\t\"rsc.io/quote\"\n)\n\n\
             func main() {{ fmt.Println(\"{mark}\", quote.Go()) }}\n"
        )
    };
    for (name, text) in [("go.mod", GO_MODULES), ("go.sum", GO_SUMS)] {
        varve.write(format!("context/{name}"), text);
    }
    varve.dockerfile(&format!(
        "FROM debian AS build\n{}ENV CGO_ENABLED=0\nWORKDIR /src\n\
         RUN --mount=type=cache,target=/root/go/pkg/mod \
           --mount=type=cache,target=/root/.cache/go-build --mount=target=. {}\
           go build -o /app .\n\
         FROM scratch\nCOPY --from=build /app /app\nENTRYPOINT [\"/app\"]\n",
        sources.environment(),
        sources.mounts()
    ));
    varve.write("context/main.go", program("one"));
    build(&varve, &sources, &[]);
    let quote = "Don't communicate by sharing memory, share memory by communicating.\n";
    let said = varve.varve(["run", "app"]).success().stdout;
    assert_eq!(said, format!("one {quote}"));

    varve.write("context/main.go", program("two"));
    build(&varve, &sources, &["--network", "none"]);
    let said = varve.varve(["run", "app"]).success().stdout;
    assert_eq!(said, format!("two {quote}"));
}
