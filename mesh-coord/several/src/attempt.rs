//! A commit, until it is known whether it was made. Other coordinators commit meanwhile, and answers can be lost.

use mesh_proto::Revision;

use crate::store::{Nonce, StoreError};

/// How many times a command is decided on if other writers commit meanwhile. They give way to each other.
const ATTEMPTS: usize = 64;
/// How often it is tried to find out whether a commit was made.
const SETTLE_ATTEMPTS: usize = 8;

/// The attempt to commit some commands.
#[derive(Debug)]
pub struct Attempt {
    /// How many times they were decided on.
    decided: usize,
    /// The revision on which they were decided last,
    expected: Revision,
    /// and the nonce of the commit.
    nonce: Nonce,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The commit was sent.
    Sent,
    /// It was made, as this revision.
    Made(Revision),
    /// Others have committed.
    Lost,
    /// The outcome is unknown. Empty commits were tried so many times.
    Settling(usize),
    /// The store has got past the expected revision.
    Past(Revision),
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Decide on the commands anew, on the current state, and send the commit: [`Attempt::sent`].
    Decide,
    /// Send an empty commit on the expected revision, so that the one without an answer can't be made later:
    /// [`Attempt::answered`].
    Settle {
        /// After a pause.
        pause: bool,
    },
    /// Absorb all commits up to this revision: [`Attempt::caught_up`].
    CatchUp(Revision),
    /// The commit was made as this revision.
    Made(Revision),
    /// It was not made, or, by [`StoreError::Unknown`], that isn't known.
    Failed(StoreError),
}

impl Default for Attempt {
    fn default() -> Self {
        Self { decided: 0, expected: Revision(0), nonce: Nonce(0), stage: Stage::Lost }
    }
}

impl Attempt {
    /// How many times the commands were decided on.
    #[must_use]
    pub const fn decided(&self) -> usize {
        self.decided
    }

    /// A commit is sent that was decided on at this revision.
    pub const fn sent(&mut self, expected: Revision, nonce: Nonce) {
        self.decided += 1;
        (self.expected, self.nonce, self.stage) = (expected, nonce, Stage::Sent);
    }

    /// What came of the commit, or of the empty one.
    pub fn answered(&mut self, answer: Result<Revision, StoreError>) -> Next {
        let (stage, next) = match (self.stage, answer) {
            (Stage::Settling(_), Ok(actual) | Err(StoreError::Stale { actual, .. })) if actual > self.expected => {
                (Stage::Past(actual), Next::CatchUp(actual))
            }
            (Stage::Settling(tried), _) if tried + 1 < SETTLE_ATTEMPTS => {
                (Stage::Settling(tried + 1), Next::Settle { pause: true })
            }
            (Stage::Settling(_), _) => (Stage::Lost, Next::Failed(StoreError::Unknown)),
            (_, Ok(revision)) => (Stage::Made(revision), Next::CatchUp(revision)),
            (_, Err(StoreError::Unknown)) => (Stage::Settling(0), Next::Settle { pause: false }),
            (_, Err(StoreError::Stale { actual, .. })) if self.decided < ATTEMPTS => {
                (Stage::Lost, Next::CatchUp(actual))
            }
            (_, Err(error)) => (Stage::Lost, Next::Failed(error)),
        };
        self.stage = stage;
        next
    }

    /// The commits were absorbed: those after the expected revision have these nonces. `None`: all was read anew, and
    /// that isn't known.
    pub fn caught_up(&mut self, nonces: Option<&[Nonce]>) -> Next {
        match (self.stage, nonces) {
            (Stage::Made(revision), _) => Next::Made(revision),
            (Stage::Past(_), Some([first, ..])) if *first == self.nonce => Next::Made(self.expected.next()),
            (Stage::Past(_), None) => Next::Failed(StoreError::Unknown),
            (Stage::Past(actual), Some(_)) if self.decided >= ATTEMPTS => {
                Next::Failed(StoreError::Stale { expected: self.expected, actual })
            }
            _ => Next::Decide,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Revision = Revision(5);

    fn sent() -> Attempt {
        let mut attempt = Attempt::default();
        attempt.sent(FIVE, Nonce(7));
        attempt
    }

    fn stale(actual: u64) -> Result<Revision, StoreError> {
        Err(StoreError::Stale { expected: FIVE, actual: Revision(actual) })
    }

    #[test]
    fn a_commit_that_is_answered_is_made_and_one_that_others_overtake_is_decided_anew() {
        let mut attempt = sent();
        assert_eq!(attempt.answered(Ok(Revision(6))), Next::CatchUp(Revision(6)));
        assert_eq!(attempt.caught_up(None), Next::Made(Revision(6)), "however it was absorbed");
        let mut attempt = sent();
        for _ in 1..ATTEMPTS {
            assert_eq!(attempt.answered(stale(9)), Next::CatchUp(Revision(9)));
            assert_eq!(attempt.caught_up(Some(&[Nonce(1)])), Next::Decide);
            attempt.sent(FIVE, Nonce(7));
        }
        assert_eq!(attempt.answered(stale(9)), Next::Failed(stale(9).unwrap_err()));
        assert_eq!(sent().answered(Err(StoreError::Away)), Next::Failed(StoreError::Away));
    }

    #[test]
    fn the_nonce_tells_what_came_of_a_commit_without_an_answer() {
        let unknown = || {
            let mut attempt = sent();
            assert_eq!(attempt.answered(Err(StoreError::Unknown)), Next::Settle { pause: false });
            attempt
        };
        let mut attempt = unknown();
        assert_eq!(attempt.answered(Err(StoreError::Away)), Next::Settle { pause: true });
        assert_eq!(attempt.answered(Err(StoreError::Unknown)), Next::Settle { pause: true });
        assert_eq!(attempt.answered(stale(8)), Next::CatchUp(Revision(8)));
        assert_eq!(attempt.caught_up(Some(&[Nonce(7), Nonce(1)])), Next::Made(Revision(6)));
        for (nonces, next) in [(Some(&[Nonce(1)][..]), Next::Decide), (None, Next::Failed(StoreError::Unknown))] {
            let mut attempt = unknown();
            assert_eq!(attempt.answered(Ok(Revision(6))), Next::CatchUp(Revision(6)), "the empty one was made");
            assert_eq!(attempt.caught_up(nonces), next);
        }
        let mut attempt = unknown();
        for _ in 1..SETTLE_ATTEMPTS {
            assert_eq!(attempt.answered(Err(StoreError::Away)), Next::Settle { pause: true });
        }
        assert_eq!(attempt.answered(Err(StoreError::Away)), Next::Failed(StoreError::Unknown));
    }
}
