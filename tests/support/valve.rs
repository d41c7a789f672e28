//! A socket that hands on what comes to another one, as far as a test lets it: connections that
//! stand still or break at a byte of the test's choice.

use std::fmt;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::leftovers::eventually;

/// What is handed on at once.
const PIECE_BYTES: usize = 16 << 10;

/// What comes through soon has come by then, on however busy a machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From whoever connected.
    There,
    /// To whoever connected.
    Back,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that have gone each way, of all connections.
    gone: [u64; 2],
    /// How many may; no limit where there is none.
    limits: [Option<u64>; 2],
    connections: Vec<[UnixStream; 2]>,
}

/// The socket. With the value goes every connection through it.
#[derive(Clone)]
pub struct Valve {
    path: PathBuf,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl fmt::Debug for Valve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Valve").field("path", &self.path).finish()
    }
}

impl Valve {
    /// Listens on the new socket `path` and hands everything on to `to`, which may come later.
    ///
    /// # Panics
    /// It cannot listen there.
    #[must_use]
    pub fn open(path: &Path, to: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a new socket");
        let valve = Valve {
            path: path.to_owned(),
            shared: Arc::default(),
        };
        let (accepts, to) = (valve.clone(), to.to_owned());
        // It ends with the process: nobody connects any more when the test has ended.
        thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                // Like a server that refuses: the caller sees the end of the connection.
                if let Ok(server) = UnixStream::connect(&to) {
                    accepts.connect(caller, server);
                }
            }
        });
        valve
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().expect("no test has panicked here")
    }

    fn connect(&self, caller: UnixStream, server: UnixStream) {
        let copy = |stream: &UnixStream| stream.try_clone().expect("a stream can be shared");
        let both = [copy(&caller), copy(&server)];
        self.state().connections.push(both);
        for (way, mut from, mut to) in [
            (Way::There, copy(&caller), copy(&server)),
            (Way::Back, server, caller),
        ] {
            let valve = self.clone();
            thread::spawn(move || {
                valve.hand_on(way, &mut from, &mut to);
                to.shutdown(Shutdown::Write).ok();
            });
        }
    }

    fn hand_on(&self, way: Way, from: &mut UnixStream, to: &mut UnixStream) {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            let mut rest = &piece[..length];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(self.wait_for_leave(way, rest.len()));
                if to.write_all(now).is_err() {
                    return;
                }
                self.state().gone[way as usize] += now.len() as u64;
                self.shared.1.notify_all();
                rest = later;
            }
        }
    }

    /// How much may go, at least a byte.
    fn wait_for_leave(&self, way: Way, wanted: usize) -> usize {
        let mut state = self.state();
        loop {
            let limit = state.limits[way as usize].unwrap_or(u64::MAX);
            let left = limit.saturating_sub(state.gone[way as usize]);
            if left > 0 {
                return wanted.min(usize::try_from(left).unwrap_or(wanted));
            }
            state = self
                .shared
                .1
                .wait(state)
                .expect("no test has panicked here");
        }
    }

    /// How many bytes have gone this way.
    #[must_use]
    pub fn gone(&self, way: Way) -> u64 {
        self.state().gone[way as usize]
    }

    /// Lets no more than so many further bytes go this way; `None` lets everything through.
    pub fn limit(&self, way: Way, further: Option<u64>) {
        let mut state = self.state();
        state.limits[way as usize] = further.map(|further| state.gone[way as usize] + further);
        self.shared.1.notify_all();
    }

    /// Whether a limit is reached.
    #[must_use]
    pub fn is_full(&self, way: Way) -> bool {
        let state = self.state();
        state.limits[way as usize] == Some(state.gone[way as usize])
    }

    /// Waits until a limit is reached.
    ///
    /// # Panics
    /// It never is.
    #[track_caller]
    pub fn wait_until_full(&self, way: Way) {
        let is_full = eventually(LIMIT, || self.is_full(way));
        assert!(is_full, "{:?}", self.state());
    }

    /// Breaks every connection there is, and lets new ones through.
    pub fn cut(&self) {
        let mut state = self.state();
        for connection in state.connections.drain(..) {
            for stream in connection {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
        state.limits = [None; 2];
        self.shared.1.notify_all();
    }
}
