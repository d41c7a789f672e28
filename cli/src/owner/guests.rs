//! The owner's side of the socket: who comes, who is there, when nobody is left.

use std::fs::File;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::sockopt::socket_peercred;

use super::protocol::{Answer, Hello, Surroundings, socket_path};
use super::shared::Shared;
use super::{pass_signals, run, spawn};
use crate::args::Arguments;
use crate::caller::Caller;
use crate::daemon::Site;
use crate::error::EXIT_FAILED;

/// What the owner's first thread has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The first guest is there.
    GuestCame,
    /// The last one has gone, and the own command goes on.
    GuestsGone,
    /// The own command has ended, and guests go on.
    OwnCommandEnded {
        /// With this exit code.
        code: u8,
    },
    /// Nobody is left.
    End {
        /// Exit code of the last command.
        code: u8,
    },
}

/// Everybody whose commands are carried out here.
#[derive(Debug)]
pub(crate) struct Company {
    /// For whom it is opened.
    site: Site,
    /// Taken before there were threads.
    surroundings: Option<Surroundings>,
    state: Mutex<State>,
    events: Sender<Event>,
}

#[derive(Debug)]
struct State {
    own_command_runs: bool,
    guests: usize,
    has_ended: bool,
    /// Where the socket is, if it is.
    socket: Option<PathBuf>,
}

/// A guest, for as long as it is there.
struct Guest(Arc<Company>);

impl Drop for Guest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.guests -= 1;
        match (state.guests, state.own_command_runs) {
            (0, true) => self.0.tell(Event::GuestsGone),
            (0, false) => self.0.end(&mut state, 0),
            _ => {}
        }
    }
}

impl Company {
    /// The own command alone. `surroundings` are those in which it was started.
    pub(super) fn new(
        site: &Site,
        surroundings: io::Result<Surroundings>,
    ) -> (Arc<Self>, Receiver<Event>) {
        let (events, receiver) = channel();
        let surroundings =
            surroundings.inspect_err(|error| tracing::warn!(%error, "nobody can be a guest here"));
        let company = Company {
            site: site.clone(),
            surroundings: surroundings.ok(),
            state: Mutex::new(State {
                own_command_runs: true,
                guests: 0,
                has_ended: false,
                socket: None,
            }),
            events,
        };
        (Arc::new(company), receiver)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        if self.events.send(event).is_err() {
            tracing::debug!(?event, "nobody listens any more");
        }
    }

    fn end(&self, state: &mut State, code: u8) {
        state.has_ended = true;
        if let Some(socket) = state.socket.take()
            && let Err(error) = std::fs::remove_file(&socket)
        {
            tracing::debug!(%error, "cannot remove the socket for guests");
        }
        self.tell(Event::End { code });
    }

    /// Whether there are no guests.
    pub(super) fn is_alone(&self) -> bool {
        self.state().guests == 0
    }

    /// Whether its own command runs, and no guest does.
    pub(super) fn is_its_own(&self) -> bool {
        let state = self.state();
        state.own_command_runs && state.guests == 0
    }

    pub(super) fn own_command_ended(&self, code: u8) {
        let mut state = self.state();
        state.own_command_runs = false;
        match state.guests {
            0 => self.end(&mut state, code),
            _ => self.tell(Event::OwnCommandEnded { code }),
        }
    }

    fn come_in(self: &Arc<Self>) -> Option<Guest> {
        let mut state = self.state();
        if state.has_ended {
            return None;
        }
        state.guests += 1;
        if state.guests == 1 {
            self.tell(Event::GuestCame);
        }
        Some(Guest(self.clone()))
    }

    /// Lets guests in. The root is locked by this process. That this fails is no reason to do
    /// nothing: others wait then.
    pub(super) fn open(self: &Arc<Self>, shared: &Arc<Shared>) {
        if self.surroundings.is_none() {
            return;
        }
        let opened = self.listen().and_then(|listener| {
            let (company, shared) = (self.clone(), shared.clone());
            let accept = move || company.accept(&listener, &shared);
            spawn("varve-guests", accept).map_err(io::Error::other)
        });
        if let Err(error) = opened {
            tracing::debug!(%error, "nobody can be a guest here");
        }
    }

    fn listen(&self) -> io::Result<UnixListener> {
        let root = File::open(&self.site.root)?;
        let path = socket_path(&root);
        match std::fs::remove_file(&path) {
            // Of a process that was killed.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let name = path.file_name().unwrap_or_default();
        self.state().socket = Some(self.site.root.join(name));
        Ok(listener)
    }

    fn accept(self: &Arc<Self>, listener: &UnixListener, shared: &Arc<Shared>) {
        for stream in listener.incoming() {
            let (company, shared) = (self.clone(), shared.clone());
            let served = stream.and_then(|stream| {
                let serve = move || {
                    if let Err(error) = company.serve(&stream, shared) {
                        tracing::debug!(%error, "a guest did not come in");
                    }
                };
                spawn("varve-guest", serve).map_err(io::Error::other)
            });
            if let Err(error) = served {
                tracing::debug!(%error, "a guest did not come in");
            }
        }
    }

    /// Carries out a guest's command.
    fn serve(self: &Arc<Self>, stream: &UnixStream, shared: Arc<Shared>) -> io::Result<()> {
        if socket_peercred(stream)?.uid != rustix::process::geteuid() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let (hello, streams) = Hello::receive(stream)?;
        let environment = self.site.environment.with_variables(hello.variables());
        let arguments = Arguments::read(hello.words(), &environment);
        let arguments = arguments.map_err(io::Error::other)?;
        let fits = self.surroundings.as_ref() == Some(&hello.surroundings)
            && arguments.global.mounts == self.site.global.mounts
            && arguments.command.is_shared()
            && shared.fits(arguments.command.runtime());
        if !fits {
            return Answer::Refused.send(stream);
        }
        let Some(guest) = self.come_in() else {
            return Answer::Again.send(stream);
        };
        Answer::Accepted.send(stream)?;
        let caller = Caller::elsewhere(streams, hello.directory());
        caller.set_front(stream.try_clone()?);
        {
            let (stream, caller) = (stream.try_clone()?, caller.clone());
            // What does not look at signals is soon done, whoever waits for it.
            spawn("varve-signals", move || {
                pass_signals(stream, &caller, |_| {});
            })
            .map_err(io::Error::other)?;
        }
        let site = Site {
            global: arguments.global,
            environment,
            root: self.site.root.clone(),
            standing: self.site.standing.clone(),
            shared: Some(shared),
        };
        let code = caller.serve(|| run(&site, arguments.command));
        let code = code.unwrap_or(EXIT_FAILED);
        drop(site);
        let told = Answer::Ended(code).send(stream);
        // Wakes the thread that waits for signals.
        let shut = stream.shutdown(std::net::Shutdown::Both);
        drop(guest);
        told.and(shut)
    }
}
