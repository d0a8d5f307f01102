//! Notices when the way to the database is lost: see [`Coordinator::is_stale`].

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::coordinator::{Coordinator, Failure};

/// How often the database is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at the database until the coordinator ends.
pub(crate) async fn watch(coordinator: Coordinator) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_stale = false;
    loop {
        look.tick().await;
        let error = match coordinator.refresh().await {
            Ok(()) => None,
            Err(Failure::Ending) => return,
            Err(error) => Some(error),
        };
        match (coordinator.is_stale(), is_stale) {
            (false, true) => {
                info!("the database is back: runners and commands are served again");
                let now = Instant::now().into_std();
                if coordinator.visit(move |core| core.sessions.unsettle(now)).await.is_err() {
                    return;
                }
            }
            (true, false) => {
                let error = error.map(|error| error.to_string()).unwrap_or_default();
                warn!(error, "the way to the database is lost: new streams and commands are refused until it is back");
            }
            _ => {}
        }
        is_stale = coordinator.is_stale();
    }
}
