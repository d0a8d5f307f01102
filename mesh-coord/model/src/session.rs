//! Streams of runners, where several coordinators serve: which is the newest one of each runner.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    Decision, Now, Outcome, Record, Refusal, State, host,
    record::{MemberId, Runner, Session, StreamKey},
    refusal::HostRefusal,
};

/// Whether the stream is the runner's newest one.
pub(crate) fn check(state: &State, runner: &Runner, stream: StreamKey) -> Result<(), Refusal> {
    let newest = state.session(runner.id).is_some_and(|session| session.stream == stream);
    if newest { Ok(()) } else { Err(HostRefusal::Replaced { runner: runner.name.clone() }.into()) }
}

/// A stream begins. Another process of the agent's that may still have one is noted.
pub(crate) fn begin(
    state: &State,
    runner: &Arc<Runner>,
    session: Session,
    living: &BTreeSet<MemberId>,
    now: Now,
) -> Decision {
    let before = state.session(runner.id).filter(|before| living.contains(&before.stream.member));
    let is_other = |before: &Arc<Session>| before.process.is_none() || before.process != session.process;
    let mut changes = match before.filter(|before| is_other(before)) {
        Some(_) => host::taken_over(state, runner, session.from, now).changes,
        None => Vec::new(),
    };
    changes.push(crate::Change::Put(Record::Session(Arc::new(session))));
    Decision { changes, outcome: Outcome::Noted }
}

#[cfg(test)]
mod tests {
    use mesh_proto::RunnerId;

    use super::*;
    use crate::{
        Command, Owing, RunnerCommand,
        record::{Outside, Owes},
        testing::World,
    };

    const ONE: MemberId = MemberId(1);
    const OTHER: MemberId = MemberId(2);

    fn stream(member: MemberId, number: u64) -> StreamKey {
        StreamKey { member, number }
    }

    fn begin(world: &mut World, runner: RunnerId, stream: StreamKey, process: u64) {
        let from = "192.0.2.1".parse().unwrap();
        let session = Session { runner, stream, process: Some(process), from };
        world.run(&Command::Begin { session, living: [ONE, OTHER].into() }).unwrap();
    }

    fn end(world: &mut World, runner: RunnerId, stream: StreamKey) {
        let owing = Owing { runner, stream, owes: Owes::new(), ended: true };
        world.run(&Command::Owing(vec![owing])).unwrap();
    }

    fn report(world: &mut World, by: RunnerId, stream: StreamKey) -> Result<Outcome, Refusal> {
        let what = RunnerCommand::Endpoints { endpoints: vec![], outside: Outside::default() };
        world.run(&Command::Streamed { by, stream, what })
    }

    fn takeovers(world: &World) -> usize {
        world.state.audit.values().filter(|entry| entry.action == "stream-taken-over").count()
    }

    #[test]
    fn what_an_earlier_stream_asks_for_is_refused_wherever_it_is() {
        let mut world = World::new();
        let runner = world.join("r1");
        let (first, second) = (stream(ONE, 1), stream(OTHER, 2));
        assert!(report(&mut world, runner, first).is_err(), "it has not begun");
        begin(&mut world, runner, first, 7);
        report(&mut world, runner, first).unwrap();
        begin(&mut world, runner, second, 7);
        let refusal = report(&mut world, runner, first).unwrap_err();
        assert_eq!(refusal.to_string(), "a newer stream of `r1` has begun");
        report(&mut world, runner, second).unwrap();
        assert_eq!(takeovers(&world), 0, "it is the same process");
    }

    #[test]
    fn another_process_takes_a_stream_over_only_where_it_may_still_stand() {
        let mut world = World::new();
        let runner = world.join("r1");
        begin(&mut world, runner, stream(ONE, 1), 7);
        begin(&mut world, runner, stream(OTHER, 2), 8);
        assert_eq!(takeovers(&world), 1);
        end(&mut world, runner, stream(OTHER, 2));
        begin(&mut world, runner, stream(MemberId(3), 3), 9);
        begin(&mut world, runner, stream(ONE, 4), 10);
        assert_eq!(takeovers(&world), 1, "the first has ended, and the coordinator of the other one is dead");
    }

    #[test]
    fn the_end_of_an_earlier_stream_changes_nothing() {
        let mut world = World::new();
        let runner = world.join("r1");
        let (first, second) = (stream(ONE, 1), stream(ONE, 2));
        begin(&mut world, runner, first, 7);
        begin(&mut world, runner, second, 7);
        end(&mut world, runner, first);
        assert!(world.state.session(runner).is_some_and(|session| session.stream == second));
        end(&mut world, runner, second);
        assert_eq!(world.state.session(runner), None);
        begin(&mut world, runner, first, 7);
        world.order(crate::AdminCommand::RemoveNode { name: "r1".parse().unwrap(), force: true }).unwrap();
        assert_eq!(world.state.session(runner), None);
    }
}
