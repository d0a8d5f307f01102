//! Marks silent runners and removes ephemeral ones: see [`mesh_sessions::Sessions::unheard`].

use std::time::Duration;

use mesh_model::Command;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

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
        if !coordinator.peers.has_duty() {
            continue;
        }
        let now = Instant::now().into_std();
        let due = move |core: &mut Core| core.sessions.unheard(&core.state, now);
        let Ok(unheard) = coordinator.visit(due).await else { return };
        if let Some(mass) = unheard.held_back {
            warn!(
                away = mass.away,
                of = mass.of,
                "so many runners have lost their streams at once that the network or this machine is the likely cause: \
                 they are not marked as silent for another {} s",
                mass.held_back.as_secs()
            );
        }
        for command in unheard.commands {
            match &command {
                Command::Expire(runner) => info!(%runner, "an ephemeral runner was silent for too long: removed"),
                Command::Silent { runners, held_back: Some(_) } => {
                    warn!(runners = runners.len(), "many runners are still without a stream: marked as silent");
                }
                _ => {}
            }
            match coordinator.submit(command).await {
                Ok(_) => {}
                Err(Failure::Ending) => return,
                // The runner was removed meanwhile.
                Err(Failure::Refused(refusal)) => debug!(%refusal, "not removed"),
                // The other commands would fail as well.
                Err(error) => {
                    debug!(%error, "silent runners could not be marked");
                    sleep(RETRY).await;
                    break;
                }
            }
        }
    }
}
