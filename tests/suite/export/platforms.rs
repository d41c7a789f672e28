//! One build for several platforms: one index, directories of their own for files.

use std::ffi::{OsStr, OsString};

use serde_json::json;
use support::layout::Layout;
use support::workspace::{Outcome, Varve, run};

const BOTH: &str = "--platform=linux/amd64,linux/arm64";

/// Built on the machine's own platform, for each target platform. Nothing foreign is run.
const CROSS: &str = "FROM --platform=$BUILDPLATFORM busybox AS build\n\
    RUN echo once >> /shared\nARG TARGETARCH\nRUN echo for $TARGETARCH > /made\n\
    FROM scratch\nARG TARGETPLATFORM\nCOPY --from=build /shared /made /\nENV P=$TARGETPLATFORM\n";

#[test]
fn a_platform_without_a_variant_has_the_usual_one_in_arguments() {
    let varve = Varve::new();
    varve.write("context/f", "text");
    varve.dockerfile("FROM scratch\nARG TARGETPLATFORM\nCOPY f /\nENV P=$TARGETPLATFORM\n");
    for (asked, told) in [
        ("linux/arm", "P=linux/arm/v7"),
        ("linux/arm64/v8", "P=linux/arm64"),
    ] {
        let image = varve.image(["--platform", asked]);
        assert_eq!(image.config()["config"]["Env"][1], told);
    }
}

#[test]
fn several_platforms_make_one_index_and_share_equal_steps() {
    let varve = Varve::new();
    varve.dockerfile(CROSS);
    let built = varve
        .build([
            BOTH,
            "--platform=linux/arm64/v8",
            "-otype=oci,dest=image,tar=false",
            "-t",
            "app",
            "--metadata-file=md",
        ])
        .success();
    let (index, images) = Layout::open_index(&varve.path("image"));
    assert_eq!(index["schemaVersion"], 2);
    let platforms: Vec<_> = images
        .iter()
        .map(|(of, _)| of["platform"].clone())
        .collect();
    let platform = |architecture: &str| json!({ "os": "linux", "architecture": architecture });
    assert_eq!(platforms, [platform("amd64"), platform("arm64")]);
    for (descriptor, image) in &images {
        let architecture = descriptor["platform"]["architecture"].as_str().unwrap();
        assert_eq!(image.config()["architecture"], architecture);
        let env = image.config()["config"]["Env"].to_string();
        assert!(env.contains(&format!("P=linux/{architecture}")), "{env}");
        let layer = image.last_layer();
        let body = |name: &str| {
            let found = layer.iter().find(|entry| entry.path == name);
            String::from_utf8(found.expect(name).body.clone()).unwrap()
        };
        assert_eq!(body("made"), format!("for {architecture}\n"));
        assert_eq!(body("shared"), "once\n");
    }
    let log = &built.stderr;
    // One vertex for both platforms, and one for each where the platform matters.
    assert_eq!(log.matches("RUN echo once").count(), 1, "{log}");
    assert!(
        log.contains("[linux/amd64 build 2/3] RUN echo for amd64"),
        "{log}"
    );
    let crossed = "[linux/amd64->arm64 build 2/3] RUN echo for arm64";
    assert!(log.contains(crossed), "{log}");
    assert!(log.contains("[linux/arm64 stage-1 1/1] COPY"), "{log}");
    let metadata: serde_json::Value = serde_json::from_str(&varve.read("md")).unwrap();
    assert!(metadata["containerimage.digest"].is_string(), "{metadata}");
    assert!(metadata["containerimage.config.digest"].is_null());
}

#[test]
fn other_tools_choose_a_platform_of_an_exported_index() {
    let varve = Varve::new();
    varve.dockerfile(CROSS);
    let build = [
        BOTH,
        "-otype=oci,dest=image,tar=false",
        "-otype=oci,dest=image.tar",
    ];
    varve.build(build).succeeded();
    for image in ["oci:image", "oci-archive:image.tar"] {
        for architecture in ["amd64", "arm64"] {
            let chosen = ["--override-arch", architecture, "inspect", image];
            let text = varve.tool("skopeo", chosen).success().stdout;
            let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(seen["Architecture"], architecture, "{image}");
        }
    }
    // And varve itself takes it in again, as it was.
    varve
        .varve(["import", "--root", "other", "image.tar", "back"])
        .succeeded();
    let listed = ["images", "--root", "other", "--format", "json"];
    let listed = varve.varve(listed).success().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let outer: serde_json::Value = serde_json::from_str(&varve.read("image/index.json")).unwrap();
    assert_eq!(listed["Digest"], outer["manifests"][0]["digest"]);
}

#[test]
fn files_of_several_platforms_lie_in_directories_of_their_own() {
    let varve = Varve::new();
    varve.dockerfile(CROSS);
    varve
        .build([BOTH, "-o", "out", "-otype=tar,dest=out.tar"])
        .succeeded();
    std::fs::create_dir(varve.path("unpacked")).unwrap();
    let unpack = ["-xf", "out.tar", "-C", "unpacked"];
    varve.tool("tar", unpack).succeeded();
    for place in ["out", "unpacked"] {
        for architecture in ["amd64", "arm64"] {
            let made = varve.read(format!("{place}/linux_{architecture}/made"));
            assert_eq!(made, format!("for {architecture}\n"));
        }
    }
    let one = [
        "--platform=linux/arm64",
        "-otype=local,dest=one,platform-split=true",
    ];
    varve.build(one).succeeded();
    assert_eq!(varve.read("one/linux_arm64/made"), "for arm64\n");
}

#[test]
fn one_platform_is_treated_as_several_on_request() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo x > /made\n");
    let outputs = ["-otype=oci,dest=image,tar=false", "-otype=local,dest=out"];
    let multi = |value| format!("--build-arg=BUILDKIT_MULTI_PLATFORM={value}");
    let platform = "--platform=linux/amd64";
    let built = varve.build([platform, &multi("1"), outputs[0], outputs[1]]);
    let built = built.success();
    assert!(built.stderr.contains("[linux/amd64 1/2] RUN"), "{built}");
    let (index, images) = Layout::open_index(&varve.path("image"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(images.len(), 1);
    assert_eq!(varve.read("out/linux_amd64/made"), "x\n");
    for (value, platform, words) in [
        (
            "maybe",
            platform,
            "invalid boolean value for multi-platform: maybe",
        ),
        (
            "false",
            BOTH,
            "returning multiple target platforms is not allowed",
        ),
    ] {
        let refused = varve.build([platform, &multi(value), outputs[0]]);
        refused.refused_with(1, &[words, "BUILDKIT_MULTI_PLATFORM"]);
    }
    let archive = "-otype=docker,dest=image.tar";
    varve
        .build([&multi("t"), archive])
        .refused_with(1, &["manifest lists"]);
}

#[test]
fn files_go_together_unless_two_platforms_have_the_same_name() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\n\
         RUN mkdir -p /d && echo $TARGETARCH > /d/$TARGETARCH && \
           ln /d/$TARGETARCH /d/$TARGETARCH-2\n\
         FROM scratch\nCOPY --from=build /d /d\n",
    );
    let outputs = [
        BOTH,
        "-otype=local,dest=out,platform-split=false",
        "-otype=tar,dest=out.tar,platform-split=false",
    ];
    varve.build(outputs).succeeded();
    std::fs::create_dir(varve.path("unpacked")).unwrap();
    let unpack = ["-xf", "out.tar", "-C", "unpacked"];
    varve.tool("tar", unpack).succeeded();
    for place in ["out", "unpacked"] {
        for name in ["amd64", "arm64"] {
            assert_eq!(varve.read(format!("{place}/d/{name}")), format!("{name}\n"));
            assert_eq!(
                varve.read(format!("{place}/d/{name}-2")),
                format!("{name}\n")
            );
        }
    }
    varve.dockerfile(CROSS);
    for output in ["type=local,dest=no", "type=tar,dest=no"] {
        let output = format!("-o{output},platform-split=false");
        let words = ["platform-split=false", "/made of linux/arm64"];
        varve.build([BOTH, &output]).refused_with(1, &words);
        assert!(!varve.path("no").exists());
    }
}

#[test]
fn a_docker_archive_is_for_one_platform() {
    let varve = Varve::new();
    varve.dockerfile(CROSS);
    let refused = varve.build([BOTH, "-otype=docker,dest=image.tar"]);
    let words = [
        "docker exporter does not currently support exporting manifest lists",
        "type=oci",
    ];
    let refused = refused.refused(1, &words);
    assert!(
        !refused.stderr.contains("RUN"),
        "before anything is built: {refused}"
    );
    assert!(!varve.path("image.tar").exists());
    let twice = "--platform=linux/amd64,linux/x86_64";
    varve
        .build([twice, "-otype=docker,dest=image.tar"])
        .succeeded();
}

#[test]
fn an_index_is_the_same_wherever_and_whenever_it_is_built() {
    let varve = Varve::new();
    varve.write("context/f", "f");
    varve.dockerfile(&format!("{CROSS}COPY f /\nWORKDIR /w\n"));
    let digests = ["one", "two"].map(|name| {
        let output = format!("type=oci,dest={name}.tar,name=app");
        let root = format!("root-{name}");
        let mut build = varve.build_command(["--root", &root, BOTH, "-o", &output]);
        run(build.env("SOURCE_DATE_EPOCH", "1700000000")).succeeded();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        varve.write("context/f", "f");
        std::fs::read(varve.path(format!("{name}.tar"))).unwrap()
    });
    assert!(digests[0] == digests[1]);
}

/// Mounts binfmt_misc out of the sight of others, registers an emulator for mips64le, builds, and
/// takes the emulator away again. Arguments: its flags, then the build.
const WITH_EMULATOR: &str = r#"
    flags=$1; shift
    cp /bin/busybox "$PWD/true" || exit 90
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 91
    cd /proc/sys/fs/binfmt_misc || exit 92
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x08\x00'
    name=varve-test-$$
    printf ':%s:M::%s::%s:%s' "$name" "$magic" "$OLDPWD/true" "$flags" > register || exit 93
    cd "$OLDPWD" || exit 94
    "$@"; code=$?
    echo -1 > "/proc/sys/fs/binfmt_misc/$name"
    exit $code
"#;

/// What a build says on standard error, and its exit code, with an emulator that ends well
/// whatever it is given.
fn build_with_emulator(varve: &Varve, flags: &str) -> Outcome {
    let build = varve.build_command(["--platform=linux/mips64le", "--no-cache", "-o", "out"]);
    let script = ["-m", "sh", "-c", WITH_EMULATOR, "sh", flags].map(OsString::from);
    let build = std::iter::once(build.get_program()).chain(build.get_args());
    let build = build.map(OsStr::to_owned);
    varve.tool("unshare", script.into_iter().chain(build))
}

#[test]
fn programs_of_another_platform_run_in_an_emulator_that_is_registered() {
    let varve = Varve::new();
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(16, 0);
    program.extend([2, 0, 8, 0]);
    program.resize(200, 0);
    let path = varve.write("context/program", program);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    varve.dockerfile("FROM scratch\nCOPY program /\nRUN [\"/program\", \"x\"]\n");
    build_with_emulator(&varve, "F").succeeded();
    assert!(varve.path("out/program").is_file());
    // Without F the kernel looks for the emulator in the step's own root.
    let words = [
        "cannot run programs for linux/mips64le",
        "without the flag F",
        ">>> RUN",
    ];
    build_with_emulator(&varve, "").refused_with(1, &words);
}

#[test]
fn a_base_without_the_platform_is_told_with_what_it_has() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\n");
    let refused = varve.build(["--platform=linux/amd64,nonsense"]);
    refused.refused_with(1, &["platform \"nonsense\""]);
}

#[test]
fn files_are_made_for_other_systems_where_nothing_of_theirs_is_run() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETOS TARGETARCH\n\
         RUN mkdir /made && echo $TARGETOS/$TARGETARCH > /made/app\n\
         FROM scratch\nCOPY --from=build /made /\n",
    );
    let wanted = "--platform=linux/riscv64,darwin/amd64,windows/amd64";
    varve.build([wanted, "-o", "out"]).succeeded();
    for (system, architecture) in [
        ("linux", "riscv64"),
        ("darwin", "amd64"),
        ("windows", "amd64"),
    ] {
        let made = varve.read(format!("out/{system}_{architecture}/app"));
        assert_eq!(made, format!("{system}/{architecture}\n"));
    }
    let refused = varve.build([wanted, "-t", "app"]).code(1);
    let message = "an image for windows/amd64, rather than its files (-o DIR, -o type=tar), is not \
                   supported yet";
    assert!(refused.stderr.contains(message), "{refused}");
    assert!(!refused.stderr.contains("RUN mkdir"), "{refused}");
}

#[test]
fn a_step_is_tried_on_a_base_that_says_it_is_of_another_platform_than_its_programs() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM --platform=$BUILDPLATFORM busybox AS own\nFROM scratch\nCOPY --from=own / /\n",
    );
    let other = match std::env::consts::ARCH {
        "aarch64" => "--platform=linux/amd64",
        _ => "--platform=linux/arm64",
    };
    varve.build([other, "-t", "mislabelled"]).succeeded();
    varve.dockerfile("FROM mislabelled\nRUN echo said > /said\n");
    varve.build([other, "-o", "out"]).succeeded();
    assert_eq!(varve.read("out/said"), "said\n");
}
