//! Who takes which layers in, so that two who want the same one at the same time fetch it once.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use engine::CancelToken;

use crate::content::Digest;
use crate::error::{Error, Result};

/// How often who waits looks whether it is still wanted.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// The layers that somebody takes in at the moment.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claimed: Mutex<HashSet<Digest>>,
    released: Condvar,
}

impl Claims {
    /// Claims what `wanted` tells, all or nothing, and waits while somebody else has a part of it.
    /// `wanted` is asked again after each wait: what is in the store by then is not wanted any
    /// more. Nobody holds a claim while waiting, so nobody waits for ever.
    ///
    /// # Errors
    /// Those of `wanted`; [`Error::Cancelled`].
    pub(super) fn claim(
        self: &Arc<Self>,
        cancel: &CancelToken,
        wanted: impl Fn() -> Result<Vec<Digest>>,
    ) -> Result<Claim> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let own = wanted()?;
            if !own.iter().any(|digest| claimed.contains(digest)) {
                claimed.extend(&own);
                let claims = self.clone();
                return Ok(Claim { claims, own });
            }
            let waited = self.released.wait_timeout(claimed, CANCEL_INTERVAL);
            claimed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The right to take some layers in, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    own: Vec<Digest>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self
            .claims
            .claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for digest in &self.own {
            claimed.remove(digest);
        }
        self.claims.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    fn a_claim_waits_for_the_one_before_and_asks_again_what_is_wanted() {
        let claims = Arc::new(Claims::default());
        let cancel = CancelToken::new();
        let both = || Ok(vec![digest("a"), digest("b")]);
        let first = claims.claim(&cancel, both).unwrap();
        let other = claims.claim(&cancel, || Ok(vec![digest("c")])).unwrap();
        let is_there = Mutex::new(false);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let wanted = || match *is_there.lock().unwrap() {
                    true => Ok(Vec::new()),
                    false => Ok(vec![digest("b")]),
                };
                claims.claim(&cancel, wanted).unwrap()
            });
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            *is_there.lock().unwrap() = true;
            drop(first);
            assert!(waiting.join().unwrap().own.is_empty());
        });
        drop(other);
        assert!(claims.claimed.lock().unwrap().is_empty());
    }

    #[test]
    fn who_is_cancelled_does_not_wait() {
        let claims = Arc::new(Claims::default());
        let cancel = CancelToken::new();
        let _first = claims.claim(&cancel, || Ok(vec![digest("a")])).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| claims.claim(&cancel, || Ok(vec![digest("a")])));
            cancel.cancel();
            assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
        });
    }
}
