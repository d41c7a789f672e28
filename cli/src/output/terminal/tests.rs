//! Pictures at several sizes, as text.

use solver::progress::EventKind::{self, Cached, Cancelled, Done, Started, Warning};

use super::emulator::Emulator;
use super::screen::Screen;
use super::{Look, Paint, Size, render, render_all};
use crate::output::script::{QUEUED, Script, failed, log, status};
use crate::output::steps::Steps;
use crate::output::style::{Colours, LOG_LINES};
use crate::output::text::columns;

fn look(columns: usize, rows: usize) -> Look {
    Look {
        size: Size { columns, rows },
        log_lines: LOG_LINES,
        is_cancelling: false,
    }
}

struct Build {
    script: Script,
    steps: Steps,
}

impl Build {
    fn new(events: &[(u64, &str, EventKind)]) -> Self {
        let (mut script, mut steps) = (Script::new(), Steps::default());
        for (millis, name, kind) in events {
            steps.apply(script.event(*millis, name, kind.clone()));
        }
        Build { script, steps }
    }

    fn at(&self, millis: u64, columns: usize, rows: usize) -> Vec<String> {
        let picture = render(&self.steps, self.script.at(millis), &look(columns, rows));
        picture.into_iter().map(|line| line.text).collect()
    }

    fn over(&self, millis: u64, columns: usize) -> Vec<String> {
        let picture = render_all(&self.steps, self.script.at(millis), &look(columns, 4));
        picture.into_iter().map(|line| line.text).collect()
    }
}

fn some_build() -> Build {
    Build::new(&[
        (0, "[internal] load build context", QUEUED),
        (0, "[internal] load build context", Started),
        (
            0,
            "[internal] load build context",
            status("transferring context:", 0, None, false),
        ),
        (0, "[build 1/2] FROM busybox", QUEUED),
        (0, "[build 2/2] RUN make", QUEUED),
        (0, "[stage-1 2/2] COPY --from=build a b", QUEUED),
        (
            1_000,
            "[internal] load build context",
            status("transferring context:", 5_000_000, None, false),
        ),
        (1_000, "[build 1/2] FROM busybox", Cached),
        (1_000, "[build 2/2] RUN make", Started),
        (
            1_500,
            "[build 2/2] RUN make",
            log("cc -c a.c\n\x1b[31mcc\x1b[0m -c b.c\n\ncc -c"),
        ),
    ])
}

#[test]
fn a_running_build_shows_steps_parts_and_the_end_of_the_log() {
    let expect = [
        "[+] Building 2.1s (1/4)",
        " => [internal] load build context                       2.1s",
        " => => transferring context: 5.00MB 5.00MB/s            2.1s",
        " => CACHED [build 1/2] FROM busybox                     0.0s",
        " => [build 2/2] RUN make                                1.1s",
        " => => # cc -c a.c",
        " => => # cc -c b.c",
        " => => # cc -c",
    ];
    assert_eq!(some_build().at(2_100, 60, 24), expect);
}

#[test]
fn a_narrow_terminal_cuts_names_and_wraps_logs() {
    let expect = [
        "[+] Building 2.1s (1/4)",
        " => [internal] load … 2.1s",
        " => => transferring … 2.1s",
        " => CACHED [build 1/… 0.0s",
        " => [build 2/2] RUN … 1.1s",
        " => => # cc -c a.c",
        " => => # cc -c b.c",
        " => => # cc -c",
    ];
    assert_eq!(some_build().at(2_100, 26, 24), expect);
}

#[test]
fn no_line_is_wider_than_the_terminal_and_no_picture_higher() {
    let long = "[build 3/9] RUN 漢字 ".to_owned() + &"and so on ".repeat(40);
    let mut events = vec![(0, long.as_str(), Started), (1, &long, log(&long))];
    let names: Vec<String> = (0..40).map(|n| format!("[s{n} 1/1] RUN {n}")).collect();
    for (n, name) in names.iter().enumerate() {
        events.push((2, name, Started));
        events.push((
            3,
            name,
            log("some output that goes on and on and on and on\n"),
        ));
        if n % 3 == 0 {
            events.push((4, name, Done));
        }
    }
    let build = Build::new(&events);
    for width in 1..130 {
        for height in [1, 2, 3, 5, 10, 24, 100] {
            let picture = build.at(9_000, width, height);
            let widest = picture.iter().map(|line| columns(line)).max().unwrap_or(0);
            assert!(widest <= width, "{widest} columns of {width}: {picture:#?}");
            assert!(
                picture.len() < height.max(2),
                "{} lines of {height}",
                picture.len()
            );
        }
    }
}

#[test]
fn in_a_low_terminal_running_steps_stay_and_old_ones_go() {
    let build = Build::new(&[
        (0, "old", Done),
        (0, "running one", Started),
        (0, "done", Done),
        (0, "running two", Started),
        (0, "newest", Done),
    ]);
    let names = |rows| -> Vec<String> {
        let picture = build.at(0, 40, rows);
        picture[1..]
            .iter()
            .map(|line| line[4..].split("  ").next().unwrap().into())
            .collect()
    };
    assert_eq!(
        names(24),
        ["old", "running one", "done", "running two", "newest"]
    );
    assert_eq!(names(5), ["running one", "running two", "newest"]);
    assert_eq!(names(3), ["running two"]);
    assert_eq!(names(2), Vec::<String>::new());
}

#[test]
fn a_long_line_of_a_log_is_wrapped_and_only_the_last_lines_stay() {
    let digits = "0123456789".repeat(12);
    let build = Build::new(&[(0, "a", Started), (0, "a", log(&digits))]);
    let picture = build.at(0, 29, 24);
    let log: Vec<_> = picture[2..]
        .iter()
        .map(|line| &line[" => => # ".len()..])
        .collect();
    assert_eq!(log, ["01234567890123456789"; 6]);
}

#[test]
fn the_end_shows_everything_and_how_each_step_ended() {
    let build = Build::new(&[
        (0, "a", Done),
        (0, "b", Cached),
        (0, "c", Started),
        (0, "c", log("oh no\n")),
        (0, "d", Started),
        (2_000, "c", failed("exit code: 1")),
        (2_000, "d", Cancelled),
        (2_000, "e", QUEUED),
        (2_000, "e", Cancelled),
    ]);
    let expect = [
        "[+] Building 2.0s (4/5)",
        " => a                      0.0s",
        " => CACHED b               0.0s",
        " => ERROR c                2.0s",
        " => CANCELED d             2.0s",
    ];
    assert_eq!(build.over(2_000, 31), expect);
    let picture = render_all(&build.steps, build.script.at(2_000), &look(31, 4));
    let paints: Vec<_> = picture.iter().map(|line| line.paint).collect();
    use Paint::{Ended, Failed, Normal};
    assert_eq!(paints, [Normal, Ended, Ended, Failed, Paint::Cancelled]);
}

#[test]
fn a_build_that_went_well_says_so() {
    let build = Build::new(&[(0, "a", Started), (700, "a", Done)]);
    assert_eq!(build.over(700, 40)[0], "[+] Building 0.7s (1/1) FINISHED");
    assert_eq!(build.at(700, 40, 24)[0], "[+] Building 0.7s (1/1)");
}

#[test]
fn warnings_stand_below_their_step() {
    let warning = Warning {
        message: "JSON arguments\nrecommended".into(),
    };
    let build = Build::new(&[(0, "a", Started), (0, "a", warning)]);
    assert_eq!(
        build.at(0, 50, 24)[2],
        " => WARN: JSON arguments recommended          0.0s"
    );
}

#[test]
fn bars_stand_where_there_is_room_and_the_total_is_known() {
    let name = "FROM app";
    let layer = |current| status("sha256:0123456789", current, Some(40_000_000), false);
    let unknown = status("transferring context:", 1_000_000, None, false);
    let build = Build::new(&[
        (0, name, Started),
        (0, name, layer(0)),
        (0, name, unknown),
        (2_000, name, layer(10_000_000)),
    ]);
    let line = |width| build.at(2_000, width, 24)[2].clone();
    assert_eq!(
        line(80),
        " => => sha256:0123456789 [==>       ] 10.00MB / 40.00MB 5.00MB/s            2.0s"
    );
    assert!(
        line(130).contains("[=====>              ] 10.00MB"),
        "{}",
        line(130)
    );
    assert!(!line(60).contains('['), "{}", line(60));
    assert!(!build.at(2_000, 80, 24)[3].contains('['), "no total");
    let done = Build::new(&[(0, name, Started), (0, name, layer(u64::MAX))]);
    assert!(done.at(1_000, 80, 24)[2].contains("[==========]"));
}

#[test]
fn running_steps_that_do_not_fit_are_counted() {
    let names: Vec<String> = (0..30).map(|n| format!("RUN {n}")).collect();
    let events: Vec<_> = names
        .iter()
        .map(|name| (0, name.as_str(), Started))
        .collect();
    let build = Build::new(&events);
    assert_eq!(
        build.at(1_000, 80, 20)[0],
        "[+] Building 1.0s (0/30) 12 more running"
    );
    assert_eq!(build.at(1_000, 80, 20).len(), 19);
    assert_eq!(build.at(1_000, 80, 40)[0], "[+] Building 1.0s (0/30)");
}

#[test]
fn a_build_that_is_being_cancelled_says_how_to_end_it_at_once() {
    let build = Build::new(&[(0, "a", Started)]);
    let look = Look {
        is_cancelling: true,
        ..look(80, 24)
    };
    let now = build.script.at(1_000);
    let header = |picture: Vec<super::Line>| picture[0].text.clone();
    assert_eq!(
        header(render(&build.steps, now, &look)),
        "[+] Building 1.0s (0/1) cancelling; Ctrl-C again ends it at once"
    );
    assert_eq!(
        header(render_all(&build.steps, now, &look)),
        "[+] Building 1.0s (0/1) CANCELED"
    );
}

/// Plays a build with many steps on an emulated terminal, frame by frame.
struct Player {
    script: Script,
    steps: Steps,
    screen: Screen,
    terminal: Emulator,
    millis: u64,
}

impl Player {
    fn new(size: Size) -> Self {
        let mut terminal = Emulator::new(size);
        terminal.write(b"$ varve build .\n");
        Player {
            script: Script::new(),
            steps: Steps::default(),
            screen: Screen::new(Some(Colours::default())),
            terminal,
            millis: 0,
        }
    }

    /// Shows one more frame; the terminal must show it and nothing of those before.
    fn frame(&mut self, size: Size) {
        self.millis += 100;
        for step in 0..30 {
            let name = format!("[stage{step} 2/2] RUN make 漢字 {}", "target ".repeat(step));
            let number = self.millis / 100 + step as u64;
            let text = format!("line {number} \u{1b}[2J {}\n", "x".repeat(step * 7));
            let kind = match number % 37 {
                36 => Done,
                _ => log(&text),
            };
            self.steps
                .apply(self.script.event(self.millis, &name, kind));
        }
        let picture = render(
            &self.steps,
            self.script.at(self.millis),
            &look(size.columns, size.rows),
        );
        self.terminal.write(&self.screen.frame(&picture, size));
        let mut expect: Vec<_> = picture.into_iter().map(|line| line.text).collect();
        expect.push(String::new());
        let text = self.terminal.text();
        assert!(text.ends_with(&expect), "{size:?}\n{text:#?}\n{expect:#?}");
        assert!(self.terminal.is_cursor_shown);
    }
}

#[test]
fn a_terminal_of_the_same_size_shows_the_last_frame_and_nothing_else() {
    for (columns, rows) in [(80, 24), (160, 50), (80, 20), (20, 5)] {
        let size = Size { columns, rows };
        let mut player = Player::new(size);
        let mut most = 0;
        for _ in 0..50 {
            player.frame(size);
            most = most.max(player.terminal.text().len());
        }
        assert!(
            most <= rows + 1,
            "{most} lines on {rows} rows: frames pile up"
        );
        assert_eq!(player.terminal.text()[0], "$ varve build .");
    }
}

#[test]
fn after_a_resize_the_last_frame_is_whole() {
    let mut player = Player::new(Size {
        columns: 80,
        rows: 24,
    });
    let sizes = [
        (80, 24),
        (160, 50),
        (60, 50),
        (60, 15),
        (61, 15),
        (33, 10),
        (120, 40),
        (80, 24),
    ];
    for (columns, rows) in sizes {
        let size = Size { columns, rows };
        player.terminal.resize(size);
        for _ in 0..3 {
            player.frame(size);
        }
    }
}

#[test]
fn a_retry_says_at_80_columns_what_is_done_about_what() {
    let digest = "7578ab12cd34".to_owned() + &"0".repeat(52);
    let name = "[build 1/2] FROM localhost:5914/app";
    let message = format!(
        "trying again in 2.0s (2/5): blob sha256:{digest} of localhost:5914/app is cut off"
    );
    let build = Build::new(&[(0, name, Started), (1_000, name, Warning { message })]);
    let row = &build.at(1_200, 80, 24)[2];
    let expect = " => WARN: trying again in 2.0s (2/5): blob 7578ab12cd34 of localhost:5914";
    assert!(row.starts_with(expect), "{row}");
    assert_eq!(columns(row), 80);
}
