//! Marks silent runners and removes ephemeral ones: see [`mesh_sessions::Sessions::unheard`].

use std::time::Duration;

use mesh_model::Command;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info};

use crate::coordinator::{Coordinator, Core, Failure};

/// How often silent runners are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait after a failure of the store.
const RETRY: Duration = Duration::from_secs(5);

/// Looks for silent runners until the coordinator ends.
pub(crate) async fn watch(coordinator: Coordinator) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let now = Instant::now().into_std();
        let due = move |core: &mut Core| core.sessions.unheard(&core.state, now);
        let Ok(commands) = coordinator.visit(due).await else { return };
        for command in commands {
            if let Command::Expire(runner) = &command {
                info!(%runner, "an ephemeral runner was silent for too long: removed");
            }
            match coordinator.submit(command).await {
                Ok(_) => {}
                Err(Failure::Ending) => return,
                // The runner was removed meanwhile.
                Err(Failure::Refused(refusal)) => debug!(%refusal, "not marked as silent"),
                // The other commands would fail as well.
                Err(error) => {
                    debug!(%error, "a silent runner could not be marked");
                    sleep(RETRY).await;
                    break;
                }
            }
        }
    }
}
