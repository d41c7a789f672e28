//! `varve login`, `varve logout`: logins at registries, kept where docker keeps them.

mod prompt;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use registry::{Client, LoginFile, LoneLogin, registry_of};
use solver::request::Registries;
use tokio::runtime::Runtime;

use crate::args::login::{Login, Logout};
use crate::caller::Caller;
use crate::daemon::Site;
use crate::error::{print, say};
use crate::registries;

/// Tokens are some kilobytes.
const PASSWORD_BYTES_MAX: u64 = 1 << 20;

/// A login holds a secret.
const FILE_MODE: u32 = 0o600;

/// The same for the directory, where it has to be made.
const DIRECTORY_MODE: u32 = 0o700;

/// Shows a login to a registry and stores it.
///
/// # Errors
/// The registry does not accept it or cannot be asked; it cannot be stored. Nothing is changed.
pub(super) fn log_in(site: &Site, options: &Login) -> anyhow::Result<()> {
    let registry = registry_of(&options.server);
    let registries = registries::configured(&site.environment)?;
    let runtime = runtime()?;
    let is_asked = options.username.is_none() && options.password.is_none();
    if is_asked && runtime.block_on(is_logged_in(&registries, registry))? {
        return print("Login Succeeded\n");
    }
    let (username, password) = name_and_password(options)?;
    let path = registries::login_file(&site.environment).context(
        "there is no place for logins: neither HOME nor DOCKER_CONFIG is set in the environment",
    )?;
    // Before anything is sent: what cannot be stored need not be shown.
    let mut file = read(&path)?;
    let kept_by_helper = runtime.block_on(async {
        let login = LoneLogin::new(registry, &username, &password);
        client(&registries, Arc::new(login))
            .check_login(registry)
            .await?;
        file.store(registry, &username, &password).await
    })?;
    write(&path, &file)?;
    if !kept_by_helper {
        say(&format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper (credsStore) there to remove this warning.",
            path.display()
        ));
    }
    print("Login Succeeded\n")
}

/// Takes a login out of where it is stored.
///
/// # Errors
/// It cannot be taken out.
pub(super) fn log_out(site: &Site, options: &Logout) -> anyhow::Result<()> {
    let registry = registry_of(&options.server);
    let mut was_there = false;
    if let Some(path) = registries::login_file(&site.environment) {
        let mut file = read(&path)?;
        was_there = runtime()?.block_on(file.erase(registry))?;
        if was_there {
            write(&path, &file)?;
        }
    }
    print(&match was_there {
        true => format!("Removing login credentials for {registry}\n"),
        false => format!("Not logged in to {registry}\n"),
    })
}

fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build();
    runtime.context("cannot start what speaks to registries")
}

fn client(registries: &Registries, login: Arc<dyn registry::Credentials>) -> Client {
    Client::builder()
        .hosts(registries.hosts.clone())
        .proxies(registries.proxies.clone())
        .limits(registries.limits.clone())
        .credentials(login)
        .build()
}

/// Whether there is a login for the registry which it accepts.
async fn is_logged_in(registries: &Registries, registry: &str) -> anyhow::Result<bool> {
    let stored = registries.credentials.credential(registry).await?;
    if stored.is_none() {
        return Ok(false);
    }
    say("Authenticating with existing credentials...");
    let client = client(registries, registries.credentials.clone());
    match client.check_login(registry).await {
        Ok(()) => Ok(true),
        Err(error @ (registry::Error::Unauthorized { .. } | registry::Error::Denied { .. })) => {
            say(&format!("{error}"));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// From the command line, standard input, or the person at the terminal.
fn name_and_password(options: &Login) -> anyhow::Result<(String, String)> {
    let caller = Caller::current();
    if options.password.is_some() {
        say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let is_asked = options.username.is_none() || !has_password(options);
    ensure!(
        !is_asked || caller.terminal_of_stdin().is_terminal(),
        "cannot ask for a login: standard input is no terminal; give --username, and the password \
         with --password-stdin"
    );
    let username = match &options.username {
        Some(name) => name.clone(),
        None => prompt::line("Username: ")?,
    };
    ensure!(!username.is_empty(), "the name is empty");
    ensure!(
        !username.contains(':'),
        "the name {username:?} has a colon, which ends a name where logins are sent"
    );
    let password = match (&options.password, options.password_stdin) {
        (Some(password), _) => password.clone(),
        (None, true) => read_password(caller.stdin())?,
        (None, false) => prompt::secret("Password: ")?,
    };
    ensure!(!password.is_empty(), "the password is empty");
    Ok((username, password))
}

fn has_password(options: &Login) -> bool {
    options.password.is_some() || options.password_stdin
}

/// All that comes, without the line end that `echo` adds.
fn read_password(input: impl Read) -> anyhow::Result<String> {
    let mut password = String::new();
    let read = input.take(PASSWORD_BYTES_MAX).read_to_string(&mut password);
    read.context("cannot read the password from standard input")?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

fn read(path: &Path) -> anyhow::Result<LoginFile> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        text => text.with_context(|| format!("cannot read the logins in {}", path.display()))?,
    };
    Ok(LoginFile::parse(&text, path)?)
}

/// Replaces the file, or what a link there leads to, in one step.
fn write(path: &Path, file: &LoginFile) -> anyhow::Result<()> {
    let replaced = || -> io::Result<()> {
        if let Some(directory) = path.parent() {
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(directory)?;
        }
        let target = match fs::canonicalize(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
            target => target?,
        };
        let beside = beside(&target);
        let written = write_new(&beside, &file.text()).and_then(|()| fs::rename(&beside, &target));
        if written.is_err() {
            // It may not be there at all.
            drop(fs::remove_file(&beside));
        }
        written
    };
    replaced().with_context(|| format!("cannot write the logins to {}", path.display()))
}

fn beside(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".varve-{}", std::process::id()));
    target.with_file_name(name)
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}
