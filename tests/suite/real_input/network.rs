//! Builds on a Debian base, with packages from where this machine gets its own.
//!
//! The base is made by mmdebstrap once per machine and kept in `~/.cache/varve/test-bases`.

use std::fs;

use support::debian_base;
use support::workspace::Varve;

#[test]
fn a_compiler_is_installed_on_debian_and_what_it_made_runs_on_busybox() {
    let varve = Varve::new();
    debian(&varve);
    varve.write(
        "context/main.c",
        "#include <stdio.h>\n#include <unistd.h>\n\
         int main(void) { printf(\"compiled, user %d\\n\", (int)getuid()); return 3; }\n",
    );
    varve.dockerfile(
        "FROM debian AS compiler\n\
         ENV DEBIAN_FRONTEND=noninteractive\n\
         RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
           && rm -rf /var/lib/apt/lists/*\n\
         FROM compiler AS build\n\
         COPY main.c .\n\
         RUN gcc -O2 -static -o /program main.c\n\
         FROM busybox\n\
         COPY --from=build /program /bin/program\n\
         USER nobody\n\
         CMD [\"program\"]\n",
    );
    varve.build(["-t", "app"]).succeeded();
    let ran = varve.varve(["run", "app"]).code(3);
    assert_eq!(ran.stdout, "compiled, user 65534\n");

    // Another source text: the compiler is not installed again.
    varve.write(
        "context/main.c",
        "#include <stdio.h>\nint main(void) { return puts(\"again\") < 0; }\n",
    );
    let again = varve.build(["-t", "app"]).success().transcript();
    let executed = again.executed();
    assert!(
        !executed.iter().any(|step| step.contains("apt-get")),
        "{executed:?}"
    );
    assert!(
        executed.iter().any(|step| step.contains("gcc -O2")),
        "{executed:?}"
    );
    assert_eq!(varve.varve(["run", "app"]).success().stdout, "again\n");
}

#[test]
fn a_debian_base_keeps_its_users_modes_and_package_database() {
    let varve = Varve::new();
    debian(&varve);
    varve.dockerfile(
        "FROM debian\nRUN dpkg --verify && dpkg -l coreutils | grep -q ^ii\n\
         RUN stat -c '%n %a %U:%G' /tmp /etc/shadow /usr/bin/passwd\nUSER www-data\nRUN id -un\n",
    );
    let transcript = varve.build(["-t", "checked"]).success().transcript();
    let expect = [
        "/tmp 1777 root:root",
        "/etc/shadow 640 root:shadow",
        "/usr/bin/passwd 4755 root:root",
    ];
    assert_eq!(transcript.step("RUN stat").output, expect);
    assert_eq!(transcript.step("RUN id").output, ["www-data"]);
}

/// Puts the Debian base into the store of `varve`, as `debian`.
fn debian(varve: &Varve) {
    let archive = debian_base::archive(&[]).unwrap();
    fs::create_dir(varve.path("debian")).unwrap();
    // It is not copied: the context only needs it under some name.
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
}
