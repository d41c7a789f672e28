//! `RUN`: a process on the file system so far.

use llb::op::{Exec, Mkfile, Mount};
use llb::{ExecMount, FileChain, Metadata};

use super::arguments::at;
use super::history::Entry;
use super::stage::{StageState, network};
use super::workdir::upper_keyword;
use super::{COMMAND, Lowerer, locations};
use crate::ast::{CommandLine, Heredoc, RunCommand, SecurityMode};
use crate::error::{Error, Span};
use crate::heredoc;
use crate::stages::Command;
use crate::words::Variables;

/// Where scripts of here-documents are mounted.
const SCRIPT_DIRECTORY: &str = "/dev/pipes/";

/// Build argument: how a machine is called that steps run on.
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// A command, ready to be run.
struct Script {
    /// What is passed to the shell, or the arguments of an exec form.
    args: Vec<String>,
    /// What is appended to the name of the step.
    summary: String,
    /// A file that has to be there.
    file: Option<(String, String)>,
}

impl Lowerer<'_> {
    /// Runs a command.
    pub(super) fn run(
        &mut self,
        stage: &mut StageState,
        run: &RunCommand,
        command: &Command,
    ) -> Result<(), Error> {
        let origin = &command.instruction.origin;
        let span = origin.span;
        refuse_unsupported(run, span)?;
        // A command may read any file.
        self.path_sets[stage.path_set].insert("/".to_owned());
        let Script {
            args,
            summary,
            file,
        } = script(run, span)?;
        let mut mounts = self.mounts(stage, run, command)?;
        mounts
            .mounts
            .extend(file.map(|file| self.script_mount(file)));
        let args = match &run.command {
            CommandLine::Shell(_) => stage.with_shell(args.join(" ")),
            CommandLine::Exec(_) => args,
        };
        if args.is_empty() {
            return Err(at(span, "arguments are required"));
        }
        let env = stage.environment.to_strings();
        let text: usize = args.iter().map(String::len).sum();
        self.spend(2 * text + stage.environment.size(), span)?;

        let shown = format!("{}{summary}", origin.source);
        let lexer = self.globals.lexer.raw_quotes().skip_unset();
        let expanded = lexer
            .process_word(&shown, &mounts.masked(&stage.environment))
            .unwrap_or(shown);
        let platform = stage.run_platform.clone();
        // The programs may be those of another platform than the result is for.
        let shown = platform.as_ref().map(|_| stage.platform.clone());
        let name = stage.step_name(&upper_keyword(&expanded), shown.as_ref());
        let mut metadata = stage.metadata(name, locations(span));
        metadata
            .description
            .insert(COMMAND.to_owned(), origin.source.clone());

        let created_by = history(&args, stage);
        let mut exec = Exec {
            args,
            env,
            cwd: stage.directory.clone(),
            user: stage.user.clone(),
            hostname: self
                .options
                .build_args
                .get(HOSTNAME)
                .cloned()
                .unwrap_or_default(),
            proxy: self.globals.proxy.clone(),
            extra_hosts: self.options.extra_hosts.clone(),
            ulimits: self.options.ulimits.clone(),
            network: network(run.network, self.options.network),
            remove_mount_stubs_recursive: true,
            ..Exec::default()
        };
        mounts.complete(&mut exec);
        let platform = platform.unwrap_or_else(|| self.globals.target_platform.clone());
        let outputs = self
            .graph
            .exec(stage.root, exec, mounts.mounts, Some(platform), metadata);
        stage.root = Some(outputs.root);
        stage.commit(created_by, Entry::Built);
        Ok(())
    }

    /// A directory with one executable file.
    fn script_mount(&mut self, (name, data): (String, String)) -> ExecMount {
        let chain = FileChain::on(None).mkfile(Mkfile {
            path: format!("/{name}"),
            mode: 0o755,
            data: data.into_bytes(),
            ..Mkfile::default()
        });
        let metadata = Metadata::named("[internal] preparing inline document");
        let file = self.graph.file(chain, metadata);
        let mount = Mount {
            selector: "/".to_owned(),
            dest: SCRIPT_DIRECTORY.to_owned(),
            readonly: true,
            ..Mount::default()
        };
        mount.with_source(Some(file))
    }
}

/// What is parsed and not run yet is an error, not a step that does something else.
fn refuse_unsupported(run: &RunCommand, span: Span) -> Result<(), Error> {
    let what = if run.security == SecurityMode::Insecure {
        "RUN --security=insecure"
    } else if !run.devices.is_empty() {
        "RUN --device"
    } else {
        return Ok(());
    };
    Err(at(span, format!("{what} is not supported yet")))
}

/// Turns here-documents into what a shell without them can run.
fn script(run: &RunCommand, span: Span) -> Result<Script, Error> {
    let plain = |args| Script {
        args,
        summary: String::new(),
        file: None,
    };
    let text = match &run.command {
        CommandLine::Exec(args) => return Ok(plain(args.clone())),
        CommandLine::Shell(text) => text,
    };
    let Some(first) = run.heredocs.first() else {
        return Ok(plain(vec![text.clone()]));
    };
    let alone = heredoc::parse_word(text).map_err(|error| at(span, error))?;
    if alone.is_none() {
        // A command with here-documents: the shell reads them itself.
        let mut text = text.clone();
        for heredoc in &run.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        return Ok(plain(vec![text]));
    }
    let summary = format!(" ({})", summarize(first));
    let data = first.chomped();
    if data.starts_with("#!") {
        // A script that names its interpreter is run as a file.
        let args = vec![format!("{SCRIPT_DIRECTORY}{}", first.name)];
        return Ok(Script {
            args,
            summary,
            file: Some((first.name.clone(), data)),
        });
    }
    Ok(Script {
        args: vec![data],
        summary,
        file: None,
    })
}

/// The first line of a here-document.
fn summarize(heredoc: &Heredoc) -> String {
    let text = heredoc.content.trim().replace("\r\n", "\n");
    match text.split_once('\n') {
        Some((first, _)) => format!("{first}..."),
        None => text,
    }
}

/// `RUN |1 A=x /bin/sh -c make`: the arguments in force, each once, then the command.
fn history(args: &[String], stage: &StageState) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut values: Vec<String> = Vec::new();
    for (name, value) in &stage.arguments {
        let value = stage
            .environment
            .get(name)
            .or(value.as_deref())
            .unwrap_or_default();
        let text = format!("{name}={value}");
        match names.iter().position(|known| known == name) {
            Some(at) => values[at] = text,
            None => {
                names.push(name);
                values.push(text);
            }
        }
    }
    let mut words = vec!["RUN".to_owned()];
    if !values.is_empty() {
        words.push(format!("|{}", values.len()));
        words.append(&mut values);
    }
    words.extend(args.iter().cloned());
    words.join(" ")
}
