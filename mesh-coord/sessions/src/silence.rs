//! Runners without a stream. Others are preferred to them, and ephemeral ones are removed in the end; nothing else
//! happens to them.

use std::time::{Duration, Instant};

use mesh_model::{Command, State, limits};

use crate::sessions::Sessions;

/// How long a runner has to be without a stream to count as silent.
const SILENT: Duration = Duration::from_secs(6);
/// For how long after the coordinator's start no runner counts as silent, because all of them reconnect then.
const GRACE: Duration = Duration::from_secs(30);

impl Sessions {
    /// The commands that mark or remove runners which are silent at `now`.
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
