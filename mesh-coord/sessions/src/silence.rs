//! Runners without a stream. Others are preferred to them, and ephemeral ones are removed in the end; nothing else
//! happens to them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mesh_model::{Command, State, limits};
use mesh_proto::RunnerId;

use crate::sessions::Sessions;

/// How long a runner has to be without a stream to count as silent.
const SILENT: Duration = Duration::from_secs(6);
/// For how long after the coordinator's start no runner counts as silent, because all of them reconnect then.
const GRACE: Duration = Duration::from_secs(30);
/// How long none of them may have come back before that ends, and how long that puts the end off at most.
const ARRIVALS_OVER: Duration = Duration::from_secs(10);
const LONGEST_GRACE: Duration = Duration::from_secs(600);
/// As many runners without a stream at once, in per cent, have lost the coordinator rather than broken down.
const MASS_PERCENT: usize = 15;
/// In a small mesh, a few machines are a large part of it.
const MASS: usize = 20;
/// How long marking so many is held back.
const HELD_BACK: Duration = Duration::from_secs(60);

/// What there is to do about runners without a stream.
#[derive(Debug, Default)]
pub struct Unheard {
    /// The commands that mark or remove them.
    pub commands: Vec<Command>,
    /// So many are without a stream that marking them is held back from now on.
    pub held_back: Option<Mass>,
}

/// Runners that are without a stream at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mass {
    /// How many.
    pub away: usize,
    /// Of how many that were not marked as silent before.
    pub of: usize,
    /// How long marking them is held back.
    pub held_back: Duration,
}

impl Sessions {
    /// What there is to do about the runners that are silent at `now`. To be asked about once a second.
    pub fn unheard(&mut self, state: &State, now: Instant) -> Unheard {
        let start = self.started();
        let ephemeral = Duration::from_secs(limits::EPHEMERAL);
        let (mut expired, mut silent) = (Vec::new(), BTreeSet::new());
        let (mut away, mut of) = (0, 0);
        for runner in state.active_runners() {
            of += usize::from(!runner.silent);
            let Some(since) = self.away_since(runner.id) else { continue };
            away += usize::from(!runner.silent);
            let unheard = now.saturating_duration_since(since.map_or(start, |since| since.max(start)));
            if runner.ephemeral && unheard >= ephemeral {
                expired.push(Command::Expire(runner.id));
            } else if !runner.silent && unheard >= SILENT {
                silent.insert(runner.id);
            }
        }
        let mut unheard = Unheard { commands: expired, held_back: None };
        if self.is_in_grace(now) {
            return unheard;
        }
        // Those that have just lost their streams count too: the first of many are not marked before the others.
        let is_mass = away >= MASS && away * 100 > of * MASS_PERCENT;
        match (is_mass, self.held_back) {
            (false, _) => {
                self.held_back = None;
                unheard.commands.extend(mark(silent, None));
            }
            (true, None) => {
                self.held_back = Some(now);
                unheard.held_back = Some(Mass { away, of, held_back: HELD_BACK });
            }
            (true, Some(since)) if now.saturating_duration_since(since) < HELD_BACK => {}
            (true, Some(_)) => unheard.commands.extend(mark(silent, Some(HELD_BACK.as_secs()))),
        }
        unheard
    }

    /// Whether runners are still coming back after the coordinator's start, or another one's start or end.
    pub(crate) fn is_in_grace(&self, now: Instant) -> bool {
        let since_start = now.saturating_duration_since(self.unsettled_since());
        let arriving = self.last_arrival().is_some_and(|last| now.saturating_duration_since(last) < ARRIVALS_OVER);
        since_start < GRACE || (arriving && since_start < LONGEST_GRACE)
    }
}

fn mark(runners: BTreeSet<RunnerId>, held_back: Option<u64>) -> Option<Command> {
    (!runners.is_empty()).then_some(Command::Silent { runners, held_back })
}
