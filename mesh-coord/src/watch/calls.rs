//! Notes in the records, once an hour and at the end, what runners have reported of calls.

use std::time::Duration;

use mesh_model::{Command, UnixSeconds, hour_of};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use crate::coordinator::{Coordinator, Failure};

/// How often it is looked whether another hour has begun.
const LOOK: Duration = Duration::from_secs(20);

/// Notes it once an hour until the coordinator ends.
pub(crate) async fn watch(coordinator: Coordinator) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut began = coordinator.now();
    loop {
        look.tick().await;
        let now = coordinator.now();
        if hour_of(now) == hour_of(began) {
            continue;
        }
        match note(&coordinator, began).await {
            Ok(()) => {}
            Err(Failure::Ending) => return,
            Err(error) => warn!(%error, "what services call could not be noted: tried again in an hour"),
        }
        began = now;
    }
}

/// Notes what has passed since the last time, for the hour of `began`.
///
/// # Errors
/// If it can't be committed. It is kept for the next time.
pub(crate) async fn note(coordinator: &Coordinator, began: UnixSeconds) -> Result<(), Failure> {
    let now = (Instant::now().into_std(), coordinator.now());
    let Some(unnoted) = coordinator.telemetry.book().map(|mut book| book.take_unnoted(began, now)) else {
        return Ok(());
    };
    if unnoted.is_empty() {
        return Ok(());
    }
    let noted = coordinator.submit(Command::NoteCalls(unnoted.clone())).await;
    if let Err(failure) = noted {
        if let Some(mut book) = coordinator.telemetry.book() {
            book.owe(unnoted);
        }
        return Err(failure);
    }
    Ok(())
}
