//! ADD of archives that try to write outside.

use support::forged_image::{TarEntry, tar_archive};
use support::workspace::Varve;

use super::{Outside, no_secret_comes_out};

#[test]
fn no_archive_writes_or_reads_outside_of_the_image() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    let (name, dots) = (outside.name(), outside.by_dots());
    let inside = |base: &str, file: &str| format!("{base}/{file}");
    let (evil, secret) = (inside(&name, "evil"), inside(&name, "secret"));
    let (dotted_evil, dotted_secret) = (inside(&dots, "evil"), inside(&dots, "secret"));
    let archives: Vec<Vec<TarEntry<'_>>> = vec![
        vec![TarEntry::file(&evil, b"evil")],
        vec![TarEntry::file(&dotted_evil, b"evil")],
        vec![
            TarEntry::symlink("l", &name),
            TarEntry::file("l/evil", b"evil"),
        ],
        vec![
            TarEntry::symlink("l", &dots),
            TarEntry::file("l/evil", b"evil"),
        ],
        vec![
            TarEntry::symlink("l", &secret),
            TarEntry::file("l", b"evil"),
        ],
        vec![
            TarEntry::hard_link("h", &secret),
            TarEntry::file("h", b"evil"),
        ],
        vec![TarEntry::hard_link("h", &dotted_secret)],
        vec![
            TarEntry::symlink("l", &name),
            TarEntry::hard_link("h", "l/secret"),
        ],
        vec![
            TarEntry::symlink("l", &name),
            TarEntry::file("l/.wh.secret", b""),
        ],
        vec![TarEntry::file(".wh...", b"")],
        vec![
            TarEntry::symlink("a", "b"),
            TarEntry::symlink("b", "a"),
            TarEntry::file("a/x", b""),
        ],
    ];
    for (number, entries) in archives.iter().enumerate() {
        varve.write("context/evil.tar", tar_archive(entries));
        varve.dockerfile("FROM busybox\nADD evil.tar /added/\n");
        no_secret_comes_out(&varve, &format!("archive {number}"));
        outside.is_untouched();
    }
    varve.varve(["fsck"]).succeeded();
}
