//! The workloads: what each builds, how its result is checked, and how fast it should be.

use std::fmt::Write;
use std::time::Duration;

use benches::Workload;
use benches::figure::Target;
use benches::side::Compression;
use benches::workload::{Content, Exported, Moment, edited_file};

/// Files of the large contexts.
const MANY: usize = 50_000;

/// What most workloads are: warm, without an edit, without an export.
const PLAIN: Workload = Workload {
    name: "",
    title: "",
    content: Content::Nothing,
    dockerfile: str::to_owned,
    check: str::to_owned,
    edit: false,
    cold: false,
    export: None,
    bulky: false,
    target: Target::Ratio(1.0),
    budget: Target::Ratio(1.0),
};

/// All of them, in the order they run: what leaves much behind comes last.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "no-op",
        title: "no-op rebuild, 12 steps, 2,000-file context",
        content: Content::Tree(2_000),
        dockerfile: twelve_steps,
        check: |_| has_files("/app", 2_000),
        target: Target::Time(Duration::from_millis(60)),
        budget: Target::Ratio(0.7),
        ..PLAIN
    },
    Workload {
        name: "run-30",
        title: "30 trivial RUN steps, cold",
        dockerfile: thirty_runs,
        check: |word| format!("test \"$(cat /log | grep -c {word})\" = 30"),
        target: Target::Ratio(0.8),
        budget: Target::Ratio(0.5),
        ..PLAIN
    },
    Workload {
        name: "parallel",
        title: "4 parallel stages of 2 x sleep 1",
        dockerfile: parallel_stages,
        check: |word| format!("test \"$(cat /a /b /c /d | grep -c {word})\" = 4"),
        target: Target::Time(Duration::from_millis(2_100)),
        budget: Target::Time(Duration::from_millis(2_100)),
        ..PLAIN
    },
    Workload {
        name: "edit-one",
        title: "one of 50,000 context files edited",
        content: Content::Tree(MANY),
        dockerfile: copy_context,
        check: |word| {
            format!(
                "grep -qx {word} /src/{} && {}",
                edited_file(),
                has_files("/src", MANY)
            )
        },
        edit: true,
        target: Target::Ratio(0.3),
        budget: Target::Ratio(0.3),
        ..PLAIN
    },
    Workload {
        name: "unchanged",
        title: "50,000-file context, nothing changed",
        content: Content::Tree(MANY),
        dockerfile: copy_context,
        check: |_| has_files("/src", MANY),
        target: Target::Ratio(0.5),
        budget: Target::Ratio(0.5),
        ..PLAIN
    },
    Workload {
        name: "copy-files",
        title: "COPY --from of 2 x 20,000 files",
        dockerfile: copy_trees,
        check: |word| has_files(&format!("/a-{word} /b-{word}"), 40_000),
        target: Target::Ratio(0.05),
        budget: Target::Ratio(0.05),
        ..PLAIN
    },
    Workload {
        name: "cold",
        title: "cold build, 10,000 files, 2 stages",
        content: Content::Tree(10_000),
        dockerfile: two_stages,
        check: |_| format!("test -s /app/all && {}", has_files("/app/src", 10_000)),
        cold: true,
        target: Target::Ratio(0.6),
        budget: Target::Ratio(0.6),
        ..PLAIN
    },
    Workload {
        name: "cold-app",
        title: "cold build and OCI tar, application of 60 MB, 2 stages, 9 steps",
        content: Content::Application(60),
        dockerfile: application,
        check: |_| {
            "test -s /app/bundle.tar && test -x /app/start && \
             test $(wc -l < /app/objects.list) = $(find /app/src -type f | wc -l)"
                .to_owned()
        },
        cold: true,
        export: Some(Exported {
            compression: Compression::Gzip,
            moment: Moment::Building,
        }),
        bulky: true,
        target: Target::Ratio(0.7),
        budget: Target::Ratio(0.7),
        ..PLAIN
    },
    Workload {
        name: "copy-big",
        title: "COPY --from of a 1 GB file",
        dockerfile: copy_big,
        check: |word| {
            format!(
                "cd /data-{word} && test $(stat -c %s big) = 1073741824 && \
                 tail -c 1048576 big | md5sum | cmp - sum"
            )
        },
        bulky: true,
        target: Target::Ratio(0.05),
        budget: Target::Ratio(0.02),
        ..PLAIN
    },
    Workload {
        name: "export-gzip",
        title: "export of a 200 MB layer as OCI tar, gzip",
        content: Content::Payload(200),
        dockerfile: copy_payload,
        check: check_payload,
        export: built(Compression::Gzip),
        bulky: true,
        target: Target::Ratio(0.4),
        budget: Target::Ratio(0.4),
        ..PLAIN
    },
    Workload {
        name: "export-app",
        title: "export of an application of 200 MB as OCI tar, gzip",
        content: Content::Application(200),
        dockerfile: copy_application,
        check: check_application,
        export: built(Compression::Gzip),
        bulky: true,
        target: Target::Ratio(0.4),
        budget: Target::Ratio(0.4),
        ..PLAIN
    },
    Workload {
        name: "export-zstd",
        title: "export of an application of 200 MB as OCI tar, zstd",
        content: Content::Application(200),
        dockerfile: copy_application,
        check: check_application,
        export: built(Compression::Zstd),
        bulky: true,
        target: Target::Ratio(0.4),
        budget: Target::Ratio(0.4),
        ..PLAIN
    },
    Workload {
        name: "export-again",
        title: "second export of an application of 200 MB as OCI tar, gzip",
        content: Content::Application(200),
        dockerfile: copy_application,
        check: check_application,
        export: Some(Exported {
            compression: Compression::Gzip,
            moment: Moment::Exported,
        }),
        bulky: true,
        target: Target::Ratio(0.4),
        budget: Target::Ratio(0.4),
        ..PLAIN
    },
    Workload {
        name: "export-plain",
        title: "export of a 200 MB layer as OCI tar, uncompressed",
        content: Content::Payload(200),
        dockerfile: copy_payload,
        check: check_payload,
        export: built(Compression::Uncompressed),
        bulky: true,
        target: Target::Ratio(0.4),
        budget: Target::Ratio(0.4),
        ..PLAIN
    },
];

/// An archive of what was built a moment ago.
const fn built(compression: Compression) -> Option<Exported> {
    Some(Exported {
        compression,
        moment: Moment::Built,
    })
}

/// A shell test of the number of files below directories.
fn has_files(directories: &str, count: usize) -> String {
    format!("test \"$(find {directories} -type f | wc -l)\" = {count}")
}

/// As an application has them: its manifest first, then what depends on it, then the sources.
fn twelve_steps(_: &str) -> String {
    let mut text =
        "FROM base AS result\nWORKDIR /app\nCOPY d00000/f00000.txt manifest\n".to_owned();
    for step in 0..4 {
        writeln!(text, "RUN echo dependency {step} > /dependency-{step}").ok();
    }
    text += "RUN rm manifest\nCOPY . .\n";
    for step in 0..4 {
        writeln!(text, "RUN echo object {step} > /object-{step}").ok();
    }
    text
}

fn thirty_runs(word: &str) -> String {
    let mut text = "FROM base AS result\n".to_owned();
    for step in 0..30 {
        writeln!(text, "RUN echo {word} {step} >> /log").ok();
    }
    text
}

fn parallel_stages(word: &str) -> String {
    let mut text = String::new();
    for stage in ["a", "b", "c", "d"] {
        writeln!(text, "FROM base AS {stage}\nRUN sleep 1; echo {word} > /1").ok();
        writeln!(text, "RUN sleep 1; cp /1 /out").ok();
    }
    text += "FROM base AS result\n";
    for stage in ["a", "b", "c", "d"] {
        writeln!(text, "COPY --from={stage} /out /{stage}").ok();
    }
    text
}

fn copy_context(_: &str) -> String {
    "FROM base AS result\nCOPY . /src\n".to_owned()
}

/// Two stages make 20,000 small files each, once; in each round they are copied to new places.
fn copy_trees(word: &str) -> String {
    let make = |stage: &str| {
        format!(
            "FROM base AS {stage}\nRUN i=0; while [ $i -lt 20000 ]; do \
             d=/tree/$((i / 100)); [ -d $d ] || mkdir -p $d; \
             printf '{stage} %0500d' $i > $d/$i; i=$((i + 1)); done\n"
        )
    };
    format!(
        "{}{}FROM base AS result\nCOPY --from=left /tree /a-{word}\nCOPY --from=right /tree /b-{word}\n",
        make("left"),
        make("right")
    )
}

/// One stage makes 1 GB that no compression makes smaller, once; it is copied to a new place in
/// each round.
fn copy_big(word: &str) -> String {
    format!(
        "FROM base AS big\n\
         RUN mkdir /data && cd /data && dd if=/dev/urandom of=big bs=1M count=1024 2>/dev/null && \
         tail -c 1048576 big | md5sum > sum\n\
         FROM base AS result\nCOPY --from=big /data /data-{word}\n"
    )
}

/// The name makes it another layer in each round; its content cannot be taken from an earlier one
/// as a whole.
fn copy_payload(word: &str) -> String {
    format!("FROM base AS result\nCOPY payload /payload-{word}\n")
}

fn check_payload(word: &str) -> String {
    format!("test $(stat -c %s /payload-{word}) = {}", 200 << 20)
}

/// The sources into one stage, something made of them, and both into the next.
fn two_stages(_: &str) -> String {
    "FROM base AS build\nCOPY . /src\nRUN find /src -type f | sort | xargs cat > /all\n\
     FROM base AS result\nCOPY --from=build /all /app/all\nCOPY --from=build /src /app/src\n"
        .to_owned()
}

/// Like [`copy_payload`], of many files.
fn copy_application(word: &str) -> String {
    format!("FROM base AS result\nCOPY . /application-{word}\n")
}

fn check_application(word: &str) -> String {
    format!(
        "test $(find /application-{word} -type f -exec cat {{}} + | wc -c) = {}",
        200 << 20
    )
}

/// As applications are built: dependencies first, then the sources, a step that makes something of
/// each of them, and a small second stage that takes what is needed of the first.
fn application(_: &str) -> String {
    "FROM base AS build\nWORKDIR /src\n\
     COPY d00000 vendor/\n\
     RUN mkdir /deps && for f in vendor/*; do gzip -1 < $f > /deps/$(basename $f).gz; done\n\
     COPY . .\n\
     RUN find . -name '*.txt' -type f | sort | xargs -n 50 md5sum > /objects.list\n\
     RUN tar cf /bundle.tar -C / deps\n\
     FROM base AS result\nENV MODE=production\nWORKDIR /app\n\
     RUN echo 'exec cat /app/objects.list' > start && chmod +x start\n\
     COPY --from=build /objects.list /bundle.tar ./\n\
     COPY --from=build /src ./src\n\
     CMD [\"/app/start\"]\n"
        .to_owned()
}
