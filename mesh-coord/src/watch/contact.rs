//! Notices when the way to the database is lost: see [`Coordinator::is_stale`]. Whether this coordinator alone has lost
//! it, the others tell: only then do its streams end, since their agents find another one that serves.

use std::time::Duration;

use futures_util::future::join_all;
use mesh_several::contact::{Doubt, Heard};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use crate::{
    coordinator::{Coordinator, Failure},
    peers::{Contact, InContact},
};

/// How often the database is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often the others are asked while it is away.
const ASK: Duration = Duration::from_millis(500);
/// How long another coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at the database until the coordinator ends.
pub(crate) async fn watch(coordinator: Coordinator) {
    tokio::select! {
        () = look(&coordinator) => {}
        () = judge(&coordinator) => {}
    }
}

async fn look(coordinator: &Coordinator) {
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

/// Finds out whether the streams have to end.
async fn judge(coordinator: &Coordinator) {
    let mut doubt = Doubt::default();
    loop {
        sleep(ASK).await;
        let heard = if coordinator.is_stale() { ask(coordinator).await } else { Vec::new() };
        let lost_for = coordinator.lost_for();
        let is_cut_off = doubt.judge(lost_for, &heard, Instant::now().into_std());
        if coordinator.cut_off(is_cut_off) {
            warn!("another coordinator has the database, or cannot be asked: the streams end, so that agents find it");
        }
    }
}

/// What those that lived last have to say.
async fn ask(coordinator: &Coordinator) -> Vec<Heard> {
    let peers = &coordinator.peers;
    let others = peers.living().into_iter().filter(|member| *member != peers.me);
    let asked =
        others.map(async |member| match peers.ask::<InContact>(member, "contact", Contact {}, PATIENCE).await {
            Some(InContact { in_contact: true }) => Heard::HasIt,
            Some(InContact { in_contact: false }) => Heard::HasLostIt,
            None => Heard::Nothing,
        });
    join_all(asked).await
}
