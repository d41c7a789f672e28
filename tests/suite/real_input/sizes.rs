//! Many layers, many files, large files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use support::workspace::Varve;

const LAYERS: usize = 60;
const FILES: usize = 50_000;
const FILES_PER_DIRECTORY: usize = 500;

/// What the store may grow by for things that are not content: log, tables, a metadata image.
const BOOKKEEPING_BYTES: u64 = 32 << 20;

#[test]
fn an_image_of_sixty_layers_is_built_run_exported_and_built_upon() {
    let varve = Varve::new();
    let mut dockerfile = "FROM busybox\n".to_owned();
    for layer in 0..LAYERS {
        dockerfile += &match layer % 6 {
            0 => format!(
                "RUN echo {layer} > /run-{layer} && echo {layer} >> /all && mkdir -p /dir/{layer}\n"
            ),
            _ => format!("COPY <<EOF /copy-{layer}\n{layer}\nEOF\n"),
        };
    }
    varve.dockerfile(&dockerfile);
    let image = varve.image(["-t", "layers"]);
    assert_eq!(image.layer_digests().len(), 1 + LAYERS);
    let script = "cat /all | tr '\\n' ' '; ls -d /copy-* | wc -l; cat /copy-59; ls /dir | wc -l";
    assert_eq!(
        varve.shell("layers", script),
        "0 6 12 18 24 30 36 42 48 54 50\n59\n10\n"
    );

    // Elsewhere all layers come in at once, as a base.
    let base = format!("many=oci-layout://{}", varve.path("image").display());
    varve.dockerfile("FROM many\nRUN cat /all /copy-* | wc -l > /lines && rm /copy-1\n");
    let arguments = ["--root", "other", "-t", "upon", "--build-context", &base];
    varve.build(arguments).succeeded();
    let script = "cat /lines; ls -d /copy-* | wc -l";
    let arguments = ["run", "--root", "other", "upon", "sh", "-c", script];
    assert_eq!(varve.varve(arguments).success().stdout, "60\n49\n");
}

#[test]
fn a_context_of_fifty_thousand_files_is_taken_in_and_only_a_change_is_read_again() {
    let varve = Varve::in_memory();
    let context = varve.context();
    for index in 0..FILES {
        let directory = context.join(format!("d{}", index / FILES_PER_DIRECTORY));
        if index % FILES_PER_DIRECTORY == 0 {
            fs::create_dir(&directory).unwrap();
        }
        fs::write(
            directory.join(format!("file-{index}")),
            format!("content {index}"),
        )
        .unwrap();
    }
    varve.write(
        "Dockerfile",
        "FROM busybox\nCOPY . /c\nRUN find /c -type f | wc -l && cat /c/d99/file-49999\n",
    );
    let build = || {
        varve
            .build(["-t", "app", "-f", "Dockerfile"])
            .success()
            .transcript()
    };
    let transferred = |transcript: &support::transcript::Transcript| {
        let step = transcript.step("load build context");
        step.parts.last().cloned().unwrap_or_default()
    };
    let first = build();
    assert_eq!(first.step("RUN find").output, ["50000", "content 49999"]);
    assert!(
        transferred(&first).contains("kB"),
        "{}",
        transferred(&first)
    );

    fs::write(context.join("d99/file-49999"), "changed").unwrap();
    let second = build();
    assert_eq!(second.step("RUN find").output, ["50000", "changed"]);
    assert!(
        transferred(&second).contains(" 7B"),
        "{}",
        transferred(&second)
    );

    let third = build();
    assert_eq!(third.executed(), [""; 0]);
}

#[test]
fn a_copy_of_a_gigabyte_from_a_stage_takes_no_more_space() {
    let varve = Varve::in_memory();
    varve.dockerfile(
        "FROM busybox AS big\nRUN dd if=/dev/zero of=/big bs=1M count=1024 2>/dev/null\n\
         FROM busybox\nCOPY --from=big /big /copied\n\
         COPY --from=big --chown=1:2 --chmod=600 /big /owned\n\
         RUN stat -c '%s %a %u' /copied /owned && tail -c 3 /owned | wc -c\n",
    );
    varve.build(["--target", "big", "-t", "big"]).succeeded();
    let before = bytes_on_disk(&varve.root());
    assert!(
        before > 1 << 30,
        "the file is stored, and not sparse: {before}"
    );
    let transcript = varve.build(["-t", "app"]).success().transcript();
    let grown = bytes_on_disk(&varve.root()).saturating_sub(before);
    assert!(grown < BOOKKEEPING_BYTES, "the store grew by {grown} bytes");
    let said = &transcript.step("RUN stat").output;
    assert_eq!(*said, ["1073741824 644 0", "1073741824 600 1", "3"]);
    let script =
        "stat -c %s /copied; head -c 5 /owned | wc -c; echo x >> /copied; stat -c %s /copied";
    assert_eq!(varve.shell("app", script), "1073741824\n5\n1073741826\n");
}

/// What the files below a directory take, each counted once.
fn bytes_on_disk(directory: &Path) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    let mut bytes = 0;
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            // Where a file vanishes meanwhile, it takes nothing.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                left.push(path);
            } else if seen.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.blocks() * 512;
            }
        }
    }
    bytes
}
