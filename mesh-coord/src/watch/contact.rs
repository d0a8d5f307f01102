//! Notices when the way to the database is lost: see [`Coordinator::is_stale`]. Whether this coordinator alone has lost
//! it, the others tell: only then do its streams end, since their agents find another one that serves.

use std::time::Duration;

use futures_util::future::join_all;
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
/// How long another one has to have the database while this one doesn't. When it comes back, it comes back to all, but
/// not in the same moment.
const ALONE: Duration = Duration::from_secs(1);
/// After how long without the database the streams end if another coordinator can't be asked.
const UNSURE: Duration = Duration::from_secs(6);

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
        let is_cut_off = doubt.judge(lost_for, &heard, Instant::now());
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

/// What another coordinator says of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    HasIt,
    HasLostIt,
    Nothing,
}

/// Whether the streams have to end.
#[derive(Debug, Default)]
struct Doubt {
    /// Since when another one has it.
    other_has_it: Option<Instant>,
    is_cut_off: bool,
}

impl Doubt {
    /// `lost_for`: how long this coordinator has been without the database; `None`: it has it.
    fn judge(&mut self, lost_for: Option<Duration>, heard: &[Heard], now: Instant) -> bool {
        let Some(lost_for) = lost_for else {
            *self = Self::default();
            return false;
        };
        if heard.contains(&Heard::HasIt) {
            let since = *self.other_has_it.get_or_insert(now);
            self.is_cut_off |= now.saturating_duration_since(since) >= ALONE;
        } else {
            self.other_has_it = None;
            self.is_cut_off |= heard.contains(&Heard::Nothing) && lost_for >= UNSURE;
        }
        self.is_cut_off
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard::*, *};

    /// What is judged at each second after the loss, of what is heard.
    fn judged(heard: &[&[Heard]]) -> Vec<bool> {
        let (begun, mut doubt) = (Instant::now(), Doubt::default());
        let after = |second: usize| Duration::from_secs(second as u64 + 3);
        heard
            .iter()
            .enumerate()
            .map(|(second, heard)| doubt.judge(Some(after(second)), heard, begun + after(second)))
            .collect()
    }

    #[test]
    fn nothing_ends_while_no_other_has_the_database_either() {
        let (lost, alone): (&[Heard], &[Heard]) = (&[HasLostIt, HasLostIt], &[]);
        assert_eq!(judged(&[lost; 60]), [false; 60]);
        assert_eq!(judged(&[alone; 60]), [false; 60], "it is the only one");
    }

    #[test]
    fn streams_end_if_another_one_has_the_database_and_goes_on_to() {
        assert_eq!(judged(&[&[HasLostIt, HasIt], &[Nothing, HasIt], &[HasLostIt; 2]]), [false, true, true]);
        // It comes back, to the other one a moment earlier.
        assert_eq!(judged(&[&[HasLostIt], &[HasIt], &[HasLostIt]]), [false; 3]);
        let mut doubt = Doubt::default();
        let now = Instant::now();
        doubt.judge(Some(UNSURE), &[HasIt], now);
        assert!(!doubt.judge(None, &[], now + ALONE));
        assert!(!doubt.judge(Some(UNSURE), &[HasIt], now + 9 * ALONE), "it was back meanwhile");
    }

    #[test]
    fn streams_end_after_a_while_if_another_one_cannot_be_asked() {
        let heard: &[Heard] = &[HasLostIt, Nothing];
        assert_eq!(judged(&[heard; 5]), [false, false, false, true, true]);
    }
}
