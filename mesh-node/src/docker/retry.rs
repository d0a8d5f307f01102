//! Retries attaching running containers: most errors are temporary.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mesh_process::Backoff;
use tokio::{sync::watch, time::timeout};

use crate::local::ContainerId;

/// The pause before the first retry; doubled each time, up to [`LATE`].
const SOON: Duration = Duration::from_secs(1);
/// The longest pause.
const LATE: Duration = Duration::from_secs(60);
/// The number of different errors that are logged; further ones are not.
const REMEMBERED: usize = 16;

/// The errors that were logged since the last success.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeSet<String>);

impl Troubles {
    /// Whether an error is new and should be logged.
    pub(super) fn is_new(&mut self, error: &str) -> bool {
        self.0.len() < REMEMBERED && self.0.insert(error.to_owned())
    }
}

/// The containers that started during one run of Docker and are still being attached. Dropped, it ends their attempts.
#[derive(Debug, Default)]
pub(super) struct Starts(BTreeMap<ContainerId, watch::Sender<()>>);

impl Starts {
    /// A container has started. Ends the attempts at an earlier start of it.
    pub(super) fn add(&mut self, id: ContainerId) -> Attempts {
        self.0.retain(|_, start| !start.is_closed());
        let (start, over) = watch::channel(());
        self.0.insert(id, start);
        Attempts { over, pauses: Backoff::new(SOON, LATE), troubles: Troubles::default() }
    }
}

/// The attempts at one start of a container.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Closed when they are over.
    over: watch::Receiver<()>,
    pauses: Backoff,
    troubles: Troubles,
}

impl Attempts {
    /// Whether the error of the last attempt should be logged: it is new, and another attempt follows.
    pub(super) fn is_new(&mut self, error: &str) -> bool {
        self.over.has_changed().is_ok() && self.troubles.is_new(error)
    }

    /// Whether an error was logged.
    pub(super) fn have_failed(&self) -> bool {
        !self.troubles.0.is_empty()
    }

    /// Waits until the next attempt is due. Returns `false` if there is none.
    pub(super) async fn next(&mut self) -> bool {
        timeout(self.pauses.next_pause(), self.over.changed()).await.is_err()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn id() -> ContainerId {
        "f00d".parse().unwrap()
    }

    #[test]
    fn an_error_is_logged_once_and_their_number_is_limited() {
        let mut troubles = Troubles::default();
        assert!(troubles.is_new("denied") && !troubles.is_new("denied"));
        assert!(troubles.is_new("strange") && !troubles.is_new("denied"));
        assert_eq!((0..1000).filter(|user| troubles.is_new(&user.to_string())).count(), REMEMBERED - 2);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_become_rarer_and_never_end() {
        let mut starts = Starts::default();
        let mut attempts = starts.add(id());
        let mut pauses = vec![];
        for _ in 0..100 {
            let before = Instant::now();
            assert!(attempts.next().await);
            pauses.push(before.elapsed().as_secs());
        }
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pauses[99], 60);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_start_or_the_end_of_docker_ends_them_at_once() {
        let mut starts = Starts::default();
        let before = Instant::now();
        let mut first = starts.add(id());
        assert!(first.is_new("away") && first.have_failed());
        let mut second = starts.add(id());
        assert!(!first.is_new("gone") && !first.next().await, "a later start replaces it");
        let other = starts.add("cafe".parse().unwrap());
        assert_eq!(starts.0.len(), 2);
        drop(other);
        let waiting = tokio::spawn(async move { second.next().await });
        tokio::task::yield_now().await;
        drop(starts);
        assert!(!waiting.await.unwrap());
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn ended_attempts_are_forgotten() {
        let mut starts = Starts::default();
        drop(starts.add(id()));
        let _one = starts.add("cafe".parse().unwrap());
        assert_eq!(starts.0.len(), 1);
    }
}
