//! Runners without a stream: others are preferred to them, and ephemeral ones are removed in the end. Silence removes
//! nothing else.

use std::time::{Duration, Instant};

use mesh_model::{Command, State, limits};

use crate::sessions::Sessions;

/// How long a runner has to be without a stream before others are preferred to it.
const SILENT: Duration = Duration::from_secs(6);
/// How long after the coordinator's start no runner counts as silent: all come back at about the same time.
const GRACE: Duration = Duration::from_secs(30);

impl Sessions {
    /// The commands that mark runners as silent at `now`, or remove them.
    #[must_use]
    pub fn unheard(&self, state: &State, now: Instant) -> Vec<Command> {
        let ephemeral = Duration::from_secs(limits::EPHEMERAL);
        let start = self.started();
        let unheard = state.active_runners().filter_map(|runner| {
            let since = self.away_since(runner.id)?.map_or(start, |since| since.max(start));
            let unheard = now.saturating_duration_since(since);
            if runner.ephemeral && unheard >= ephemeral {
                Some(Command::Expire(runner.id))
            } else if !runner.silent && unheard >= SILENT && now.saturating_duration_since(start) >= GRACE {
                Some(Command::Silent(runner.id))
            } else {
                None
            }
        });
        unheard.collect()
    }
}
