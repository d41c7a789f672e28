//! A TCP port that hands on to another one, counts what passes, and holds it back where a test
//! wants.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::leftovers::eventually;

/// What is handed on at once.
const PIECE_BYTES: usize = 16 << 10;

/// What a test waits for has come by then, on however busy a machine.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    /// Bytes of all connections, there and back.
    there: u64,
    back: u64,
    /// How many may come back; no limit where there is none.
    back_max: Option<u64>,
    /// After how many the connection is closed.
    cut_at: Option<u64>,
    /// Which one is another on its way.
    wrong_at: Option<u64>,
}

/// The port. Connections through it end with the two that they connect.
#[derive(Clone)]
pub struct Relay {
    address: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Listens on a free port of this machine and hands everything on to `to`.
    ///
    /// # Panics
    /// It cannot listen.
    #[must_use]
    pub fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let relay = Relay {
            address: listener.local_addr().expect("an address").to_string(),
            shared: Arc::default(),
        };
        let (accepts, to) = (relay.clone(), to.to_owned());
        // It ends with the process: nobody connects any more when the test has ended.
        thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = TcpStream::connect(&to) {
                    accepts.connect(caller, server);
                }
            }
        });
        relay
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Bytes that were sent to the server.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.state().there
    }

    /// From now on only so many bytes more come back from the server.
    pub fn hold_after(&self, bytes: u64) {
        let mut state = self.state();
        state.back_max = Some(state.back + bytes);
    }

    /// The connection on which the next `bytes` bytes have come back is closed.
    pub fn cut_after(&self, bytes: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.back + bytes);
    }

    /// The byte that comes back after the next `bytes` ones is changed.
    pub fn corrupt_after(&self, bytes: u64) {
        let mut state = self.state();
        state.wrong_at = Some(state.back + bytes);
    }

    /// Waits until as much has come back as may.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_until_held(&self) {
        let is_held = || {
            let state = self.state();
            state.back_max.is_some_and(|most| state.back >= most)
        };
        assert!(eventually(LIMIT, is_held), "{:?}", self.state());
    }

    /// Lets everything through again.
    pub fn release(&self) {
        self.state().back_max = None;
        self.shared.1.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, caller: TcpStream, server: TcpStream) {
        let ends = caller
            .try_clone()
            .and_then(|c| Ok((c, server.try_clone()?)));
        let Ok((caller_too, server_too)) = ends else {
            return;
        };
        let (there, back) = (self.clone(), self.clone());
        thread::spawn(move || there.copy(caller, server, false));
        thread::spawn(move || back.copy(server_too, caller_too, true));
    }

    /// Hands on until one of the two has gone.
    fn copy(&self, mut from: TcpStream, mut to: TcpStream, is_back: bool) {
        let mut piece = [0; PIECE_BYTES];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let mut rest = &mut piece[..count];
            while !rest.is_empty() {
                let allowed = self.allowed(rest.len(), is_back);
                let (now, later) = rest.split_at_mut(allowed);
                if is_back && self.harm(now) {
                    drop(from.shutdown(Shutdown::Both));
                    drop(to.shutdown(Shutdown::Both));
                    return;
                }
                if to.write_all(now).is_err() {
                    break;
                }
                rest = later;
            }
        }
        // The other side may have been first.
        drop(to.shutdown(Shutdown::Write));
    }

    /// Does to what has just been counted what a test wants; tells whether the connection ends.
    fn harm(&self, piece: &mut [u8]) -> bool {
        let mut state = self.state();
        let begin = state.back - piece.len() as u64;
        if let Some(at) = state.wrong_at.filter(|at| *at < state.back) {
            let at = usize::try_from(at.saturating_sub(begin)).unwrap_or_default();
            piece[at] ^= 1;
            state.wrong_at = None;
        }
        let is_cut = state.cut_at.is_some_and(|at| at < state.back);
        if is_cut {
            state.cut_at = None;
        }
        is_cut
    }

    /// Waits until something may pass, and counts it.
    fn allowed(&self, wanted: usize, is_back: bool) -> usize {
        let mut state = self.state();
        if !is_back {
            state.there += wanted as u64;
            return wanted;
        }
        loop {
            let left = state.back_max.map(|most| most.saturating_sub(state.back));
            let allowed = left.map_or(wanted as u64, |left| left.min(wanted as u64));
            if allowed > 0 {
                state.back += allowed;
                return usize::try_from(allowed).unwrap_or(wanted);
            }
            let waited = self.shared.1.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
