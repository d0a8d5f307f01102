//! What is refused while a container runs is tried again: most of what stands in the way doesn't for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use crate::containers::ContainerId;

/// How long until it is tried again; doubled each time, up to [`LATE`].
const SOON: Duration = Duration::from_secs(1);
/// The longest that this becomes.
const LATE: Duration = Duration::from_secs(60);
/// Of how many different errors it is known that they have been said; more than these are not said.
const REMEMBERED: usize = 16;

/// What has gone wrong since it last went well.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeSet<String>);

impl Troubles {
    /// Whether this is a new one.
    pub(super) fn is_new(&mut self, error: &str) -> bool {
        self.0.len() < REMEMBERED && self.0.insert(error.to_owned())
    }
}

/// The containers that have started during one run of Docker, as far as they are still looked after. That ends with it.
#[derive(Debug, Default)]
pub(super) struct Starts(BTreeMap<ContainerId, watch::Sender<()>>);

impl Starts {
    /// A container has started. Whoever looks after an earlier start of it need not any longer.
    pub(super) fn add(&mut self, id: ContainerId) -> Attempts {
        self.0.retain(|_, start| !start.is_closed());
        let (start, over) = watch::channel(());
        self.0.insert(id, start);
        Attempts { over, pause: SOON, troubles: Troubles::default() }
    }
}

/// The attempts at one start of a container.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Closed when they are over.
    over: watch::Receiver<()>,
    pause: Duration,
    troubles: Troubles,
}

impl Attempts {
    /// The last one has failed. Whether that is to be said: it wasn't yet, and there will be another one.
    pub(super) fn is_new(&mut self, error: &str) -> bool {
        self.over.has_changed().is_ok() && self.troubles.is_new(error)
    }

    /// Whether any of their failures was said.
    pub(super) fn have_failed(&self) -> bool {
        !self.troubles.0.is_empty()
    }

    /// Waits until it is time for the next one. Gives `false` when there is none.
    pub(super) async fn next(&mut self) -> bool {
        let pause = self.pause;
        self.pause = (pause * 2).min(LATE);
        timeout(pause, self.over.changed()).await.is_err()
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
    fn a_trouble_is_said_once_and_not_without_end() {
        let mut troubles = Troubles::default();
        assert!(troubles.is_new("denied") && !troubles.is_new("denied"));
        assert!(troubles.is_new("strange") && !troubles.is_new("denied"));
        assert_eq!((0..1000).filter(|user| troubles.is_new(&user.to_string())).count(), REMEMBERED - 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_less_and_less_often_and_never_given_up() {
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
    async fn the_next_start_or_the_end_of_docker_ends_it_at_once() {
        let mut starts = Starts::default();
        let before = Instant::now();
        let mut first = starts.add(id());
        assert!(first.is_new("away") && first.have_failed());
        let mut second = starts.add(id());
        assert!(!first.is_new("gone") && !first.next().await, "another one looks after it");
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
    async fn who_needs_no_looking_after_is_forgotten() {
        let mut starts = Starts::default();
        drop(starts.add(id()));
        let _one = starts.add("cafe".parse().unwrap());
        assert_eq!(starts.0.len(), 1);
    }
}
