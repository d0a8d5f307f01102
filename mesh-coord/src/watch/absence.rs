//! Runners that nobody hears: others are preferred to them, and ephemeral ones are removed in the end. Silence removes
//! nothing else.

use std::time::Duration;

use mesh_model::{Command, limits};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info};

use crate::coordinator::{Coordinator, Core, Failure};

/// For how long a runner has to be without a stream, before others are preferred.
const SILENT: Duration = Duration::from_secs(6);

/// How long after the coordinator's start nobody is taken for silent: all come back at about the same time.
const GRACE: Duration = Duration::from_secs(30);

/// How often we look.
const LOOK: Duration = Duration::from_secs(1);

/// How long we wait where the store fails.
const RETRY: Duration = Duration::from_secs(5);

/// Looks for them until the coordinator ends. It started at `start`.
pub(crate) async fn watch(coordinator: Coordinator, start: Instant) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Ok(commands) = coordinator.visit(move |core| due(core, start, Instant::now())).await else { return };
        for command in commands {
            match coordinator.submit(command).await {
                Ok(_) => {}
                Err(Failure::Ending) => return,
                // It was removed in this moment.
                Err(Failure::Refused(refusal)) => debug!(%refusal, "not marked as silent"),
                // All the others would fail as well.
                Err(error) => {
                    debug!(%error, "a silent runner could not be marked");
                    sleep(RETRY).await;
                    break;
                }
            }
        }
    }
}

/// What has to be said at `now` of those who are not heard.
fn due(core: &Core, start: Instant, now: Instant) -> Vec<Command> {
    let ephemeral = Duration::from_secs(limits::EPHEMERAL);
    let unheard = core.state.standing_runners().filter_map(|runner| {
        let since = core.sessions.unheard_since(runner.id)?.map_or(start, |since| since.max(start));
        let unheard = now.saturating_duration_since(since);
        if runner.ephemeral && unheard >= ephemeral {
            info!(runner = %runner.id, name = %runner.name, "ephemeral, and not heard for long: removed");
            Some(Command::Expire(runner.id))
        } else if !runner.silent && unheard >= SILENT && now.saturating_duration_since(start) >= GRACE {
            Some(Command::Silent(runner.id))
        } else {
            None
        }
    });
    unheard.collect()
}

#[cfg(test)]
mod tests {
    use mesh_model::NewPurpose;
    use mesh_proto::RunnerId;

    use super::*;
    use crate::testing::World;

    /// What is due so many seconds after now, where the coordinator has started so many seconds before.
    async fn due_after(world: &World, seconds: u64, started: u64) -> Vec<String> {
        let commands = world.coordinator.visit(move |core| {
            let now = Instant::now() + Duration::from_secs(seconds);
            due(core, now - Duration::from_secs(started), now)
        });
        commands.await.unwrap().into_iter().map(|command| format!("{command:?}")).collect()
    }

    #[tokio::test]
    async fn who_is_not_heard_loses_preference_and_only_the_ephemeral_ones_are_removed() {
        let world = World::new().await;
        world.deploy("shop", "acme", &["db"]).await;
        let online = world.agent("online").await;
        let left = world.agent("left").await;
        let (stays, left_id) = (online.view.as_ref().unwrap().runner, left.view.as_ref().unwrap().runner);
        let token = world.token_that_is(NewPurpose::JoinAny { uses: 1 }, true).await;
        let wish = world.wish(&token, "brief", &mesh_proto::PrivateKey::from_bytes([9; 32])).await;
        world.enrol(&wish).await.unwrap();
        let brief = RunnerId(3);
        super::super::tests::end(&world, left).await;

        let silent = |id: RunnerId| format!("Silent({id:?})");
        assert_eq!(due_after(&world, 7, 20).await, Vec::<String>::new(), "all are still coming back");
        assert_eq!(due_after(&world, 5, 3000).await, Vec::<String>::new(), "neither for so short");
        assert_eq!(due_after(&world, 7, 3000).await, [silent(left_id), silent(brief)]);
        let late = due_after(&world, 601, 3000).await;
        assert_eq!(late, [silent(left_id), format!("Expire({brief:?})")], "and {stays} is heard");
        world.coordinator.submit(Command::Silent(left_id)).await.unwrap();
        assert_eq!(due_after(&world, 7, 3000).await, [silent(brief)], "once is enough");
        assert_eq!(
            due_after(&world, 601, 599).await,
            [silent(brief)],
            "nor before the coordinator has been there as long"
        );
    }
}
