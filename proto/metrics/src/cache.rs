//! What is made at most once a second, however many ask for it.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// How long a value is handed out.
const FRESH: Duration = Duration::from_secs(1);

/// A value that is made at most once a second. Who asks meanwhile waits for the one that is being made.
#[derive(Debug)]
pub struct EachSecond<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for EachSecond<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> EachSecond<T> {
    /// The value, made by `make` if the last one is older than a second.
    pub async fn get(&self, make: impl Future<Output = T>) -> T {
        let mut kept = self.0.lock().await;
        if let Some((made, value)) = &*kept
            && made.elapsed() < FRESH
        {
            return value.clone();
        }
        let value = make.await;
        *kept = Some((Instant::now(), value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_cost_one_each_second() {
        let (cache, made) = (EachSecond::default(), AtomicU32::new(0));
        let ask = || cache.get(async { made.fetch_add(1, Ordering::Relaxed) });
        for _ in 0..100 {
            assert_eq!(ask().await, 0);
        }
        tokio::time::advance(FRESH).await;
        assert_eq!((ask().await, ask().await), (1, 1));
    }
}
