//! How many blocking steps of a kind are under way at a time.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
    time::timeout,
};

/// A step that takes longer hangs, and holds up no other one.
const QUICK: Duration = Duration::from_secs(1);

/// The turns of one kind of steps. A thread is only started for a step that has its turn.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// So many at a time, but for those that hang.
    pub(crate) fn of(many: usize) -> Self {
        Self(Arc::new(Semaphore::new(many)))
    }

    /// Runs what blocks, in its turn: the first that is polled is the first. Within a tokio runtime.
    ///
    /// # Errors
    /// If it panics.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // It is never closed.
        let turn = self.0.acquire_owned().await.ok();
        let mut work = pin!(spawn_blocking(work));
        if let Ok(result) = timeout(QUICK, &mut work).await {
            return result;
        }
        drop(turn);
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_step_that_hangs_holds_up_no_other_one() {
        let (turns, (release, hangs)) = (Turns::of(1), mpsc::channel::<()>());
        let hanging = tokio::spawn(turns.clone().run(move || hangs.recv().is_ok()));
        tokio::task::yield_now().await;
        assert_eq!(turns.run(|| 7).await.unwrap(), 7);
        assert!(!hanging.is_finished());
        release.send(()).unwrap();
        assert!(hanging.await.unwrap().unwrap());
    }
}
