//! Stores what an agent reports about its runner.

use mesh_proto::message::{Ask, Refusal};
use mesh_sessions::Report;
use tokio::time::{Instant, sleep_until};

use crate::{
    coordinator::{Coordinator, Failure},
    rate::RateLimiter,
};

/// Returns when there is something to store.
pub(super) async fn due(report: &Report) {
    match report.due() {
        Some(at) => sleep_until(Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}

/// Stores the whole report. If the store fails, the rest is due again later.
///
/// # Errors
/// If it is refused, or the coordinator is shutting down.
pub(super) async fn store(report: &mut Report, coordinator: &Coordinator) -> Result<(), Failure> {
    while let Some(command) = report.next() {
        match coordinator.submit(command).await {
            Ok(_) => report.stored(Instant::now().into_std()),
            Err(Failure::Store(_)) => {
                report.failed(Instant::now().into_std());
                return Ok(());
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Stores the hello, if it has to come before `ask`.
///
/// # Errors
/// If it can't be stored, or the runner is over its rate limit.
pub(super) async fn precede(
    report: &mut Report,
    ask: &Ask,
    coordinator: &Coordinator,
    limiter: &RateLimiter,
) -> Result<(), Refusal> {
    if !report.precedes(ask) {
        return Ok(());
    }
    limiter.turn(report.weight()).await?;
    if let Some(hello) = report.next() {
        coordinator.submit(hello).await.map_err(|failure| failure.refusal())?;
        report.stored(Instant::now().into_std());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use mesh_model::{Command, RunnerCommand, record::Outside};

    use super::*;
    use crate::{coordinator::Choice, store::MemoryStore, testing::enrolled};

    #[tokio::test]
    async fn what_could_not_be_stored_is_due_again_later() {
        let memory = MemoryStore::new();
        let full = memory.full();
        let (coordinator, _) = Coordinator::start(memory, Choice::default()).await.unwrap();
        let runner = enrolled(&coordinator).await;
        coordinator.submit(Command::Silent { runners: [runner].into(), held_back: None }).await.unwrap();
        let silent = async || coordinator.visit(move |core| core.state.runner(runner).unwrap().silent).await.unwrap();
        let hello = RunnerCommand::Hello {
            version: "1".to_owned(),
            can: mesh_proto::Abilities::NONE,
            endpoints: vec![],
            seen: None,
            outside: Outside::default(),
            instances: vec![],
        };
        let now = || Instant::now().into_std();
        let mut report = Report::new(runner, hello, now());

        full.store(true, Ordering::Relaxed);
        due(&report).await;
        store(&mut report, &coordinator).await.unwrap();
        assert!(silent().await && report.is_behind());
        assert!(report.due().unwrap() > now(), "it is tried again, and not at once");

        full.store(false, Ordering::Relaxed);
        report.endpoints(vec![([198, 51, 100, 1], 1).into()], Outside::default(), now(), || Some(now()));
        report.endpoints(vec![([198, 51, 100, 1], 2).into()], Outside::default(), now(), || Some(now()));
        store(&mut report, &coordinator).await.unwrap();
        assert!(!silent().await && report.due().is_none());
        let endpoints = coordinator.visit(move |core| core.state.runner(runner).unwrap().endpoints.clone());
        assert_eq!(endpoints.await.unwrap(), [([198, 51, 100, 1], 2).into()], "the last ones reported");
    }
}
