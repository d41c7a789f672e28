//! A syntax tree as text for `ast.txt`: one line for each fact, all texts quoted.

use std::fmt::{Debug, Write};

use crate::ast::{
    ArgDefinition, CommandLine, Dockerfile, Healthcheck, Heredoc, InstructionKind, KeyValue,
    Origin, RunCommand, SourcesAndDestination,
};
use crate::directives::CheckOptions;

pub(super) fn dockerfile(dockerfile: &Dockerfile) -> String {
    let mut out = Text::default();
    let directives = &dockerfile.directives;
    out.line(0, "escape", directives.escape);
    if let Some(syntax) = &directives.syntax {
        out.line(
            0,
            "syntax",
            (&syntax.reference, &syntax.command_line, syntax.line),
        );
    }
    if directives.check != CheckOptions::default() {
        out.line(0, "check", &directives.check);
    }
    for warning in &dockerfile.warnings {
        out.line(
            0,
            &format!("warning {}", warning.span.start),
            &warning.message,
        );
    }
    for meta in &dockerfile.meta_args {
        out.origin(0, &meta.origin);
        out.args(1, &meta.args);
    }
    for stage in &dockerfile.stages {
        out.origin(0, &stage.origin);
        out.line(1, "image", stage.base.image.as_str());
        out.some(
            1,
            "platform",
            stage.base.platform.as_ref().map(|p| p.as_str()),
        );
        out.some(1, "name", stage.name.as_deref());
        for instruction in &stage.instructions {
            out.origin(1, &instruction.origin);
            out.kind(2, &instruction.kind);
        }
    }
    out.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, depth: usize, name: &str, value: impl Debug) {
        writeln!(self.0, "{}{name} {value:?}", "  ".repeat(depth)).expect("a String takes all");
    }

    fn some(&mut self, depth: usize, name: &str, value: Option<impl Debug>) {
        if let Some(value) = value {
            self.line(depth, name, value);
        }
    }

    fn all<T: Debug>(&mut self, depth: usize, name: &str, values: impl IntoIterator<Item = T>) {
        for value in values {
            self.line(depth, name, value);
        }
    }

    fn flag(&mut self, depth: usize, name: &str, is_set: bool) {
        self.some(depth, name, is_set.then_some(true));
    }

    fn origin(&mut self, depth: usize, origin: &Origin) {
        let lines = format!(
            "{}-{} {}",
            origin.span.start, origin.span.end, origin.keyword
        );
        self.line(depth, &lines, &origin.source);
        self.all(depth + 1, "comment", &origin.comments);
    }

    fn kind(&mut self, depth: usize, kind: &InstructionKind) {
        match kind {
            InstructionKind::Add(add) => {
                self.files(depth, &add.files);
                self.some(depth, "chown", add.chown.as_ref().map(|w| w.as_str()));
                self.some(depth, "chmod", add.chmod.as_ref().map(|w| w.as_str()));
                self.some(depth, "checksum", add.checksum.as_ref().map(|w| w.as_str()));
                self.flag(depth, "link", add.link);
                self.some(depth, "keep-git-dir", add.keep_git_dir);
                self.some(depth, "unpack", add.unpack);
                self.all(depth, "exclude", &add.exclude);
            }
            InstructionKind::Copy(copy) => {
                self.files(depth, &copy.files);
                self.some(depth, "from", copy.from.as_deref());
                self.some(depth, "chown", copy.chown.as_ref().map(|w| w.as_str()));
                self.some(depth, "chmod", copy.chmod.as_ref().map(|w| w.as_str()));
                self.flag(depth, "link", copy.link);
                self.flag(depth, "parents", copy.parents);
                self.all(depth, "exclude", &copy.exclude);
            }
            InstructionKind::Arg(args) => self.args(depth, args),
            InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => {
                self.command(depth, command);
            }
            InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => self.pairs(depth, pairs),
            InstructionKind::Expose(words) | InstructionKind::Volume(words) => {
                self.all(depth, "word", words.iter().map(|word| word.as_str()));
            }
            InstructionKind::Healthcheck(check) => self.health(depth, check),
            InstructionKind::Maintainer(text) => self.line(depth, "text", text),
            InstructionKind::Onbuild(onbuild) => {
                self.line(
                    depth,
                    &format!("trigger {}", onbuild.keyword),
                    &onbuild.trigger,
                );
            }
            InstructionKind::Run(run) => self.run(depth, run),
            InstructionKind::Shell(words) => self.all(depth, "word", words),
            InstructionKind::StopSignal(word)
            | InstructionKind::User(word)
            | InstructionKind::Workdir(word) => self.line(depth, "word", word.as_str()),
        }
    }

    fn args(&mut self, depth: usize, args: &[ArgDefinition]) {
        for arg in args {
            match &arg.default {
                Some(default) => self.line(depth, &format!("arg {}", arg.name), default.as_str()),
                None => self.line(depth, "arg without default", &arg.name),
            }
            self.some(depth + 1, "doc", arg.doc_comment.as_deref());
        }
    }

    fn pairs(&mut self, depth: usize, pairs: &[KeyValue]) {
        for pair in pairs {
            let name = if pair.legacy { "legacy pair" } else { "pair" };
            self.line(depth, name, (pair.key.as_str(), pair.value.as_str()));
        }
    }

    fn command(&mut self, depth: usize, command: &CommandLine) {
        match command {
            CommandLine::Shell(text) => self.line(depth, "shell", text),
            CommandLine::Exec(words) => self.line(depth, "exec", words),
        }
    }

    fn health(&mut self, depth: usize, check: &Healthcheck) {
        let Healthcheck::Check(check) = check else {
            return self.line(depth, "check", "none");
        };
        self.command(depth, &check.command);
        let durations = [
            ("interval", check.interval),
            ("timeout", check.timeout),
            ("start-period", check.start_period),
            ("start-interval", check.start_interval),
        ];
        for (name, duration) in durations {
            self.some(depth, name, (!duration.is_zero()).then_some(duration));
        }
        self.some(
            depth,
            "retries",
            (check.retries != 0).then_some(check.retries),
        );
    }

    fn run(&mut self, depth: usize, run: &RunCommand) {
        self.command(depth, &run.command);
        self.all(depth, "heredoc", run.heredocs.iter().map(heredoc));
        for mount in &run.mounts {
            self.line(depth, "mount", mount.as_str());
            self.some(depth + 1, "from", mount.from());
        }
        self.all(depth, "device", &run.devices);
        if !run.flags_used.is_empty() {
            self.line(depth, "flags", (run.network, run.security, &run.flags_used));
        }
    }

    fn files(&mut self, depth: usize, files: &SourcesAndDestination) {
        self.all(
            depth,
            "source",
            files.paths.iter().map(|word| word.as_str()),
        );
        for file in &files.inline_files {
            let name = if file.expand {
                "expanded file"
            } else {
                "literal file"
            };
            self.line(depth, name, (&file.name, &file.content));
        }
        self.line(depth, "destination", files.destination.as_str());
    }
}

fn heredoc(heredoc: &Heredoc) -> (&str, u32, &str, &str, &str) {
    (
        &heredoc.name,
        heredoc.file_descriptor,
        if heredoc.expand { "expand" } else { "literal" },
        if heredoc.chomp { "chomp" } else { "keep" },
        &heredoc.content,
    )
}
