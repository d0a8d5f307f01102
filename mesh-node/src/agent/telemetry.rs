//! Reports to the coordinator what passes, as often as it asks: connections, refusals, and paths to other runners.

mod changes;

use std::sync::Arc;

use mesh_proto::telemetry::Telemetry;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use self::changes::Changes;
use crate::{
    control::{TelemetryWish, random},
    dataplane::Dataplane,
};

/// Reports until the agent ends, and then once more.
pub(super) async fn keep(
    dataplane: Arc<Dataplane>,
    mut wishes: watch::Receiver<TelemetryWish>,
    mut ending: watch::Receiver<bool>,
    reports: mpsc::Sender<Telemetry>,
) {
    let (mut changes, mut told_on, mut due) = (Changes::new(random(), Instant::now().into_std()), 0, None);
    wishes.mark_changed();
    loop {
        tokio::select! {
            () = until(due) => {}
            Ok(()) = wishes.changed() => {
                // Agents that are asked at the same time don't all report at the same time.
                due = wishes.borrow_and_update().every.map(|every| Instant::now() + every.mul_f64(fraction() / 6.0));
                continue;
            }
            _ = ending.wait_for(|ending| *ending) => due = None,
        }
        let wish = *wishes.borrow();
        let Some(every) = wish.every else { return };
        if std::mem::replace(&mut told_on, wish.stream) != wish.stream {
            changes.forget();
        }
        let Some(report) = dataplane.report().await else { return };
        let sent = reports.send(changes.take(&report.engine, wish.refusals, Instant::now().into_std())).await;
        if sent.is_err() || due.take().is_none() {
            return;
        }
        due = Some(Instant::now() + every.mul_f64(0.5 + fraction()));
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// A random number from 0 to 1.
fn fraction() -> f64 {
    (random() % 1024) as f64 / 1024.0
}
