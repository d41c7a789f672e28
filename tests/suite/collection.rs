//! Space: what is listed is what is there, what is promised comes back, rules are kept.

mod beside;

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::registry::Registry;
use support::small_disk::SmallDisk;
use support::workspace::{Varve, run_with_input};

/// Bytes of a directory as `du` counts.
fn du(varve: &Varve, path: &str) -> u64 {
    let directory = varve.root().join(path);
    let output = Command::new("du")
        .arg("-sB1")
        .arg(directory)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// The build cache as it is listed.
fn entries(varve: &Varve, arguments: &[&str]) -> Vec<Value> {
    let words = ["du", "--format", "json"].iter().chain(arguments);
    let listed = varve.varve(words).success().stdout;
    listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn bytes(entries: &[Value]) -> u64 {
    entries
        .iter()
        .map(|entry| entry["Bytes"].as_u64().unwrap())
        .sum()
}

/// The bytes in a line of `varve du`.
fn line(varve: &Varve, name: &str) -> u64 {
    let told = varve.varve(["du"]).success().stdout;
    let found = told.lines().find(|line| line.starts_with(name));
    let found = found.unwrap_or_else(|| panic!("{name}: {told}"));
    let number = found
        .split("  ")
        .map(str::trim)
        .filter_map(|cell| cell.parse().ok());
    number.last().unwrap()
}

fn is_near(one: u64, other: u64, slack: u64) {
    let allowed = other / 100 + slack;
    assert!(
        one.abs_diff(other) <= allowed,
        "{one} and {other} are not the same"
    );
}

/// A file of so many MiB that nothing shares.
fn noise(megabytes: u64, seed: &str) -> String {
    format!(
        "yes {seed} | head -c {} | cat - /etc/passwd > /noise.{seed}",
        megabytes << 20
    )
}

fn built(varve: &Varve, tag: &[&str], seed: &str, megabytes: u64) {
    varve.dockerfile(&format!(
        "FROM busybox\nRUN {}\nRUN true # {seed}\n",
        noise(megabytes, seed)
    ));
    varve.build(tag).succeeded();
}

#[test]
fn du_tells_what_a_prune_of_all_then_frees_in_either_way_of_mounting() {
    for way in ["kernel", "dirs"] {
        let varve = Varve::new();
        let big = "head -c 3000000 /dev/urandom > /big";
        varve.dockerfile(&format!(
            "FROM busybox\nRUN {big}\nRUN rm /big\nRUN echo 1 > /f\n"
        ));
        varve.build(["--mounts", way, "-t", "app"]).succeeded();
        let told = varve.varve(["du", "--mounts", way]).success().stdout;
        let row = |name: &str| {
            let line = told.lines().find(|line| line.starts_with(name)).unwrap();
            let words: Vec<_> = line[name.len()..].split_whitespace().collect();
            words[1].parse::<u64>().unwrap()
        };
        let expected = row("reclaimable") + row("build cache");
        let before = row("total");
        varve
            .varve(["prune", "--all", "--force", "--mounts", way])
            .succeeded();
        let after = varve.varve(["du", "--mounts", way]).success().stdout;
        let total = after
            .lines()
            .find(|line| line.starts_with("total"))
            .unwrap();
        let words: Vec<_> = total.split_whitespace().collect();
        let freed = before - words[2].parse::<u64>().unwrap();
        // The database's own size changes too.
        assert!(freed.abs_diff(expected) < 300_000, "{way}: {freed}\n{told}");
        // Layers of the image stay; what was copied out for steps goes.
        assert!(way == "kernel" || expected > 2_900_000, "{way}: {told}");
    }
}

#[test]
fn what_is_listed_adds_up_to_what_the_disk_has() {
    let varve = Varve::new();
    varve.write("context/big", vec![7; 3 << 20]);
    varve.dockerfile("FROM busybox\nCOPY big /one\nCOPY big /two\nRUN cat /one /two > /both\n");
    varve.build(["-t", "kept"]).succeeded();
    built(&varve, &[], "loose", 5);
    is_near(line(&varve, "total"), du(&varve, ""), 0);
    let objects = du(&varve, "objects");
    let df = ["system", "df", "--format", "json"];
    let df = varve.varve(df).success().stdout;
    let df: Vec<Value> = df
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let listed = entries(&varve, &[]);
    // Directories of objects are nobody's.
    let mut find = Command::new("find");
    find.arg(varve.root().join("objects"))
        .args(["-type", "d", "-printf", "d"]);
    let directories = find.output().unwrap().stdout.len() as u64 * 4096;
    is_near(bytes(&df) + directories, objects, 0);
    let loose: Vec<_> = listed
        .iter()
        .filter(|e| e["Shared"] == false)
        .cloned()
        .collect();
    is_near(bytes(&loose), 5 << 20, 3 << 20);
    let types: Vec<_> = listed
        .iter()
        .map(|entry| entry["Type"].as_str().unwrap())
        .collect();
    assert!(
        types.contains(&"source.local") && types.contains(&"regular"),
        "{types:?}"
    );
    let described: Vec<_> = listed
        .iter()
        .map(|e| e["Description"].as_str().unwrap())
        .collect();
    assert!(
        described
            .iter()
            .any(|text| text.contains("RUN cat /one /two")),
        "{described:?}"
    );
    assert!(
        described.contains(&"local source for context"),
        "{described:?}"
    );
}

/// What is used of a file system, as `df` counts, once all that waits was written or removed.
fn df(disk: &SmallDisk) -> u64 {
    let path = fs::File::open(disk.path()).unwrap();
    rustix::fs::syncfs(path).unwrap();
    let status = rustix::fs::statvfs(disk.path()).unwrap();
    (status.f_blocks - status.f_bfree) * status.f_frsize
}

#[test]
fn what_is_told_is_what_the_file_system_has_given() {
    for kind in ["ext4", "xfs"] {
        let varve = Varve::new();
        let disk = SmallDisk::format(kind, &varve.path(kind), 1200);
        let empty = df(&disk);
        let varve = varve.with_root(&disk.path().join("root"));
        for file in 0..2_000 {
            let text = format!("{file} {}", "x".repeat(file * 7));
            varve.write(format!("context/many/{file}"), text);
        }
        varve.dockerfile(&format!(
            "FROM busybox\nCOPY many /many\nRUN {}\nRUN --mount=type=cache,target=/c cp -r /many /c\n",
            noise(160, "one")
        ));
        varve.build(["-t", "kept"]).succeeded();
        built(&varve, &[], "loose", 12);
        varve.varve(["save", "-o", "kept.tar", "kept"]).succeeded();
        // XFS makes inodes as it needs them, half a kilobyte each, which no file counts.
        is_near(line(&varve, "total"), df(&disk) - empty, 0);
        varve.varve(["rmi", "kept"]).succeeded();
        varve.varve(["prune", "--all", "--force"]).succeeded();
        // Of so little the file system's own tables are more than a hundredth.
        is_near(line(&varve, "total"), df(&disk) - empty, 1 << 20);
        drop(disk);
    }
}

#[test]
fn an_image_keeps_its_layers_though_another_has_equal_ones() {
    let varve = Varve::new();
    let build = |tag: &str| {
        let text = format!("FROM busybox\nRUN echo {tag} > /f\nRUN true # {tag}\n");
        varve.dockerfile(&text);
        varve.build(["-t", tag]).succeeded();
    };
    // The empty layer is the same in both, on other trees.
    build("kept");
    build("going");
    varve.varve(["rmi", "going"]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    varve.varve(["fsck"]).succeeded();
    varve.varve(["save", "-o", "kept.tar", "kept"]).succeeded();
    varve
        .varve(["load", "--root", "other", "-i", "kept.tar"])
        .succeeded();
    let ran = varve.varve(["run", "--root", "other", "kept", "cat", "/f"]);
    assert_eq!(ran.success().stdout, "kept\n");
}

#[test]
fn a_dry_run_promises_what_comes_back() {
    let varve = Varve::new();
    built(&varve, &["-t", "kept"], "kept", 2);
    built(&varve, &[], "loose", 4);
    for arguments in [
        &["--filter", "type=regular"][..],
        &["--filter", "description~=noise.(going|none)"],
        &["--max-used-space", "2MB"],
        &["--keep-duration", "0s"],
        &[],
        &["--all"],
    ] {
        built(&varve, &["-t", "going"], "going", 3);
        // Of a collection that did not come to its end, and of an ingest.
        fs::create_dir(varve.root().join("trash/1-1")).unwrap();
        fs::write(varve.root().join("trash/1-1/file"), vec![1; 70_000]).unwrap();
        fs::write(varve.root().join("objects/stray"), vec![1; 90_000]).unwrap();
        varve.varve(["rmi", "going"]).succeeded();
        let total = |words: &[&str]| {
            let told = varve
                .varve(["prune"].iter().chain(words).chain(arguments))
                .success();
            let last = told.stdout.lines().last().unwrap().to_owned();
            let (words, amount) = last.rsplit_once(' ').unwrap();
            assert!(words.starts_with("Total recl"), "{told}");
            amount.to_owned()
        };
        let before = du(&varve, "objects");
        let promised = total(&["--dry-run"]);
        assert_eq!(du(&varve, "objects"), before, "a dry run changes nothing");
        assert_eq!(promised, total(&["--force"]), "{arguments:?}");
    }
    assert_eq!(varve.shell("kept", "tail -c 5 /noise.kept | wc -c"), "5\n");
    assert!(
        varve
            .varve(["prune", "--all", "--force"])
            .success()
            .stdout
            .ends_with("Total reclaimed space: 0B\n")
    );
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn the_build_cache_goes_only_if_somebody_says_yes() {
    let varve = Varve::new();
    built(&varve, &[], "cached", 1);
    let answer = |text: &str| {
        let mut command = varve.command(["prune", "--all"]);
        run_with_input(&mut command, text.as_bytes()).success()
    };
    for no in ["", "n\n", "\n", "\u{1}\u{2}no", "yy\n"] {
        let told = answer(no);
        assert_eq!(told.stdout, "", "{no:?}: {told}");
        assert!(told.stderr.contains("continue? [y/N]"), "{told}");
        assert!(told.stderr.contains("--force"), "{told}");
        assert_ne!(entries(&varve, &[]).len(), 0);
    }
    let told = answer("y\n");
    assert!(told.stdout.contains("reclaimed space"), "{told}");
    assert_eq!(entries(&varve, &[]).len(), 0);
}

#[test]
fn filters_choose_what_goes_and_what_is_needed_stays() {
    let varve = Varve::new();
    varve.write("context/f", "x");
    varve.dockerfile("FROM busybox\nCOPY f /f\nRUN --mount=type=cache,target=/c echo kept >> /c/log && cat /c/log\n");
    varve.build([""; 0]).succeeded();
    assert_eq!(
        entries(&varve, &["--filter", "type=exec.cachemount"]).len(),
        1
    );
    let recent = varve
        .varve(["prune", "-f", "--filter", "until=1h"])
        .success();
    assert!(recent.stdout.contains("removed 0 snapshots"), "{recent}");
    varve
        .varve(["prune", "--force", "--filter", "type=exec.cachemount"])
        .succeeded();
    assert_eq!(
        entries(&varve, &["--filter", "type=exec.cachemount"]).len(),
        0
    );
    varve.dockerfile("FROM busybox\nCOPY f /f\nRUN --mount=type=cache,target=/c echo kept >> /c/log && cat /c/log # again\n");
    let again = varve.build([""; 0]).success().transcript();
    assert_eq!(
        again.step("# again").output,
        ["kept"],
        "the cache mount is new"
    );

    built(&varve, &["-t", "kept"], "kept", 1);
    std::thread::sleep(Duration::from_millis(2_100));
    varve
        .varve([
            "prune",
            "--force",
            "--filter",
            "until=1s",
            "--filter",
            "type!=source.local",
        ])
        .succeeded();
    let left = entries(&varve, &[]);
    assert!(
        left.iter()
            .all(|entry| entry["Shared"] == true || entry["Type"] == "source.local"),
        "{left:?}"
    );
    assert_eq!(varve.shell("kept", "echo there"), "there\n");
    varve.dockerfile("FROM busybox\nCOPY f /f\nRUN echo back\n");
    varve.build([""; 0]).succeeded();
    for (filter, told) in [
        ("colour=red", "unknown key"),
        ("type=odd", "no such type"),
        ("until=2999-01-01", "still to come"),
    ] {
        let refused = varve.varve(["prune", "--filter", filter]).code(1);
        assert!(refused.stderr.contains(told), "{refused}");
        varve.varve(["du", "--filter", filter]).code(1);
    }
}

#[test]
fn the_least_recently_used_goes_first_until_the_rest_fits() {
    let varve = Varve::new();
    for seed in ["first", "second", "third"] {
        built(&varve, &[], seed, 4);
        std::thread::sleep(Duration::from_millis(1_100));
    }
    // Used again: now the second one is the oldest.
    built(&varve, &[], "first", 4);
    let told = varve
        .varve(["prune", "--max-used-space", "11MB", "--dry-run"])
        .success();
    assert!(told.stdout.contains("would remove"), "{told}");
    varve
        .varve(["prune", "--force", "--max-used-space", "11MB"])
        .succeeded();
    let left = entries(&varve, &[]);
    let has = |seed: &str| {
        let words = format!("/noise.{seed}");
        left.iter()
            .any(|entry| entry["Description"].as_str().unwrap().contains(&words))
    };
    assert!(has("first") && has("third") && !has("second"), "{left:?}");
    assert!(bytes(&left) <= 11 << 20, "{left:?}");
    let listed: Vec<_> = left
        .iter()
        .map(|entry| entry["UsageCount"].as_u64().unwrap())
        .collect();
    assert!(listed.contains(&2), "{left:?}");
}

#[test]
fn a_build_keeps_to_the_rules_of_the_configuration() {
    let varve = Varve::new();
    let config = varve.write("varve.toml", "[[gcpolicy]]\nmaxUsedSpace = \"20MB\"\n");
    let build = |seed: &str, tag: &[&str]| {
        varve.dockerfile(&format!("FROM busybox\nRUN {}\n", noise(9, seed)));
        let mut command = varve.build_command(tag);
        support::workspace::run(command.env("VARVE_CONFIG", &config)).succeeded();
    };
    build("named", &["-t", "named"]);
    // The first look is at 64 MiB.
    for round in 0..9 {
        build(&format!("round{round}"), &[]);
    }
    let left = entries(&varve, &["--filter", "private"]);
    assert!(bytes(&left) < 40 << 20, "{}", bytes(&left));
    assert!(!left.is_empty(), "not all of it");
    assert_eq!(varve.shell("named", "head -c 5 /noise.named"), "named");
    varve.varve(["fsck"]).succeeded();

    fs::write(&config, "[[gcpolicy]]\nfilters = [\"odd\"]\n").unwrap();
    let mut command = varve.build_command([""; 0]);
    // Before anything is built: it says how registries are spoken to as well.
    support::workspace::run(command.env("VARVE_CONFIG", &config)).refused_with(
        1,
        &["cannot understand", "varve.toml", "invalid filter \"odd\""],
    );
}

#[test]
fn a_rule_about_ages_alone_is_carried_out_in_a_small_store_too() {
    let varve = Varve::new();
    let rule = "[[gcpolicy]]\nfilters = [\"type==exec.cachemount\"]\nkeepDuration = \"1s\"\n";
    let config = varve.write("varve.toml", rule);
    varve.dockerfile("FROM busybox\nRUN --mount=type=cache,target=/c echo x > /c/x\n");
    let build = || {
        let mut command = varve.build_command([""; 0]);
        support::workspace::run(command.env("VARVE_CONFIG", &config)).succeeded();
        entries(&varve, &["--filter", "type=exec.cachemount"]).len()
    };
    assert_eq!(build(), 1);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    // Nothing is run, and the cache mount has grown old.
    assert_eq!(build(), 0);
}

#[test]
fn what_is_pushed_and_saved_is_not_collected_beside_it() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let rule = "[[gcpolicy]]\nall = true\nmaxUsedSpace = \"1MB\"\n";
    let config = varve.write("varve.toml", rule);
    let with_rule = |mut command: Command| {
        let outcome = support::workspace::run(command.env("VARVE_CONFIG", &config));
        outcome.succeeded();
    };
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            for round in 0..8 {
                let text = format!(
                    "FROM busybox\nRUN {}\n",
                    noise(34, &format!("other{round}"))
                );
                varve.write("context/Other", text);
                with_rule(varve.build_command(["-f", "context/Other", "-t", "other"]));
            }
        });
        let mut round = 0;
        while !others.is_finished() {
            round += 1;
            let name = format!("{}/pushed:{round}", registry.address());
            varve.dockerfile(&format!(
                "FROM busybox\nRUN echo {round}; head -c 300000 /dev/urandom > /r\n"
            ));
            with_rule(varve.build_command(["-t", &name]));
            with_rule(varve.command(["push", "--quiet", &name]));
            with_rule(varve.command(["save", "-o", "saved.tar", &name]));
        }
        assert!(round > 2, "{round} rounds");
    });
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn system_df_tells_by_kind_and_lists() {
    let varve = Varve::new();
    built(&varve, &["-t", "one", "-t", "two"], "x", 2);
    built(&varve, &[], "y", 2);
    let told = varve.varve(["system", "df"]).success().stdout;
    let lines: Vec<Vec<_>> = told
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    assert_eq!(
        lines[1][..3],
        ["Images", "1", "0"],
        "one image of two names: {told}"
    );
    assert_eq!(lines[2][0], "Containers");
    assert_eq!(lines[4][..2], ["Build", "Cache"]);
    varve.varve(["mount", "one"]).succeeded();
    let told = varve
        .varve(["system", "df", "--format", "{{.Type}}={{.Active}}"])
        .success();
    varve.varve(["umount", "--all"]).succeeded();
    assert!(told.stdout.contains("Images=1\n"), "{told}");
    let all = varve.varve(["system", "df", "-v"]).success().stdout;
    assert!(
        all.contains("REPOSITORY") && all.contains("LAST ACCESSED"),
        "{all}"
    );
    let verbose = varve.varve(["du", "--verbose"]).success().stdout;
    assert!(
        verbose.contains("Usage count:") && verbose.contains("Type:          regular"),
        "{verbose}"
    );
}
