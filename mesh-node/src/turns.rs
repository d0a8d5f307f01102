//! A keyed async mutex: one change per key at a time; different keys run concurrently.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

/// The locks that are held or waited for, by key.
#[derive(Debug)]
pub(crate) struct Turns<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

/// A held lock; dropping it releases it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not used")] OwnedMutexGuard<()>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Turns<K> {
    /// Waits until every earlier caller has released the lock of `what`.
    pub(crate) async fn of(&self, what: K) -> Turn {
        Turn(self.lock(what).lock_owned().await)
    }

    fn lock(&self, what: K) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A caller that holds or waits for a lock keeps its count above zero.
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&what).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(what, Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use super::*;

    /// The output of a future that is polled once.
    fn at_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_caller_waits_for_earlier_ones_of_the_same_key() {
        let turns = Turns::default();
        let first = at_once(pin!(turns.of(1))).unwrap();
        let mut second = pin!(turns.of(1));
        assert!(at_once(second.as_mut()).is_none());
        let other = at_once(pin!(turns.of(2))).unwrap();
        let mut third = pin!(turns.of(1));
        assert!(at_once(third.as_mut()).is_none());
        drop(first);
        assert!(at_once(third.as_mut()).is_none(), "the second is before");
        let second = at_once(second.as_mut()).unwrap();
        drop(second);
        drop(at_once(third.as_mut()).unwrap());
        drop(other);
        assert!(turns.0.lock().unwrap().values().all(|lock| lock.strong_count() == 0), "no lock is held any more");
        drop(at_once(pin!(turns.of(3))).unwrap());
        assert_eq!(turns.0.lock().unwrap().len(), 1, "and forgotten");
    }
}
