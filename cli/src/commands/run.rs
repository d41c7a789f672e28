//! `varve run`: a process in an image.

use std::io::Write;

use executor::{Cancel, Network, OutputLine, Stream};
use solver::RunOptions;
use tokio::sync::mpsc;

use crate::args::{self, NetworkChoice};
use crate::caller::Caller;
use crate::daemon::{Service, Site};
use crate::environment::Environment;
use crate::error::say;
use crate::interrupt::Interrupts;

/// Lines on their way to our own output; then the process waits.
const LINES_WAITING_MAX: usize = 256;

/// Runs the process; gives its exit code.
///
/// # Errors
/// There is no such image; no container can be made.
pub(super) fn run(site: &Site, options: args::Run) -> anyhow::Result<u8> {
    tracing::debug!(rm = options.rm, "the container is removed in any case");
    let runtime = options.runtime.runtime.clone();
    let (image, request) = request(options, &site.environment)?;
    let service = Service::open(site, &runtime)?;
    let cancel = Cancel::new();
    let exit = service.block_on(async {
        let switch = cancel.clone();
        let interrupts = Interrupts::watch(move || switch.cancel());
        let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
        let caller = Caller::current();
        let forward = tokio::task::spawn_blocking(move || forward(receiver, &caller));
        let exit = service.solver().run(&image, request, sender, cancel).await;
        forward.await?;
        match interrupts.came() {
            Some(interrupted) => Err(interrupted.into()),
            None => anyhow::Ok(exit?),
        }
    });
    let code = match exit {
        Ok(exit) => exit.code(),
        Err(error) => shell_code(&error).ok_or(error)?,
    };
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// A program that is missing or cannot be executed: said, with the exit code that a shell gives.
fn shell_code(error: &anyhow::Error) -> Option<i32> {
    let Some(solver::Error::Executor(executor)) = error.downcast_ref() else {
        return None;
    };
    let code = executor.exit_code()?;
    say(&format!("ERROR: {executor}"));
    Some(code)
}

fn request(options: args::Run, environment: &Environment) -> anyhow::Result<(String, RunOptions)> {
    let mut words = options.image_and_command.into_iter();
    let Some(image) = words.next() else {
        anyhow::bail!("no image is named")
    };
    let env = options
        .env
        .into_iter()
        .filter_map(|entry| match entry.contains('=') {
            true => Some(entry),
            false => environment
                .get(&entry)
                .map(|value| format!("{entry}={value}")),
        });
    let request = RunOptions {
        args: words.collect(),
        entrypoint: options.entrypoint.map(|program| match program.is_empty() {
            true => Vec::new(),
            false => vec![program],
        }),
        env: env.collect(),
        user: options.user,
        cwd: options.workdir,
        network: match options.network {
            NetworkChoice::Default | NetworkChoice::Host => Network::Host,
            NetworkChoice::None => Network::None,
        },
    };
    Ok((image, request))
}

/// Writes what the process writes, each stream to our own, until it ends. When our reader is gone
/// the rest is thrown away.
fn forward(mut lines: mpsc::Receiver<OutputLine>, caller: &Caller) {
    let (mut stdout, mut stderr) = (Some(caller.stdout()), Some(caller.stderr()));
    while let Some(OutputLine {
        stream,
        mut text,
        ends,
    }) = lines.blocking_recv()
    {
        if ends {
            text.push(b'\n');
        }
        match stream {
            Stream::Stdout => write(&mut stdout, &text),
            Stream::Stderr => write(&mut stderr, &text),
        }
    }
}

fn write<W: Write>(sink: &mut Option<W>, text: &[u8]) {
    let Some(open) = sink else { return };
    if let Err(error) = open.write_all(text).and_then(|()| open.flush()) {
        tracing::debug!(%error, "cannot pass on what the process writes");
        *sink = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> args::Run {
        args::Run {
            rm: true,
            env: vec!["A=1".into(), "SET".into(), "UNSET".into()],
            user: None,
            workdir: None,
            network: NetworkChoice::Default,
            entrypoint: None,
            runtime: args::Runtime {
                runtime: executor::RuntimeChoice::Auto,
            },
            image_and_command: words.iter().map(|word| (*word).into()).collect(),
        }
    }

    #[test]
    fn variables_without_a_value_come_from_the_environment() {
        let environment = Environment::of(&[("SET", "here")], false);
        let (image, request) = request(options(&["demo", "ls", "-l"]), &environment).unwrap();
        assert_eq!(image, "demo");
        assert_eq!(request.args, ["ls", "-l"]);
        assert_eq!(request.env, ["A=1", "SET=here"]);
        assert_eq!(request.network, Network::Host);
    }

    #[test]
    fn an_empty_entrypoint_removes_the_images_own() {
        let environment = Environment::of(&[], false);
        for (given, expect) in [
            (None, None),
            (Some(""), Some(vec![])),
            (Some("/x"), Some(vec!["/x".to_owned()])),
        ] {
            let options = args::Run {
                entrypoint: given.map(str::to_owned),
                ..options(&["demo"])
            };
            let (_, request) = request(options, &environment).unwrap();
            assert_eq!(request.entrypoint, expect);
        }
    }
}
