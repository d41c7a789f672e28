//! A flag that says "nobody wants this any more", shared between the one who says so and those
//! who must stop.

use tokio::sync::watch;

/// A cancellation flag. Clones share it; once set it stays set.
///
/// Cancellation is a request: whoever holds the token ends its work in its own time, and the
/// engine waits for that. Nothing is killed from outside.
#[derive(Clone, Debug)]
pub struct CancelToken {
    flag: watch::Sender<bool>,
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self {
            flag: watch::Sender::new(false),
        }
    }

    /// Asks for the end. Calling it again changes nothing.
    pub fn cancel(&self) {
        self.flag.send_replace(true);
    }

    /// Whether the end was asked for; for loops in blocking code.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.flag.borrow()
    }

    /// Resolves when the end is asked for, at once if it was already.
    pub async fn cancelled(&self) {
        let mut receiver = self.flag.subscribe();
        // The sender lives in `self`, so the only error (no sender left) cannot happen here.
        if receiver.wait_for(|cancelled| *cancelled).await.is_err() {
            futures::future::pending::<()>().await;
        }
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_the_cancellation_early_or_late() {
        let token = CancelToken::new();
        let waiter = tokio::spawn({
            let token = token.clone();
            async move { token.cancelled().await }
        });
        tokio::task::yield_now().await;
        assert!(!token.is_cancelled());
        token.cancel();
        waiter.await.unwrap();
        token.clone().cancelled().await;
        assert!(token.is_cancelled());
    }
}
