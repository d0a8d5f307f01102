mod ahead;
mod others;
mod owed;
mod silence;

use std::{net::Ipv4Addr, time::Duration};

use mesh_model::{
    Admin, AdminCommand, Command, Enrolment, NewPurpose, NewToken, Outcome, Record, RunnerCommand, TrustChange,
    UnixSeconds,
    declare::{Declaration, Declared, Deployment, File},
    record::Meta,
};
use mesh_proto::{InstanceId, Ports, PrivateKey, Secret, ServicePath, view::Network};

use super::*;

const PEER: Peer = Peer { process: None, from: std::net::IpAddr::V4(Ipv4Addr::LOCALHOST) };
const SECRET: Secret = Secret::from_bytes([1; 32]);

/// A coordinator without a store or streams: `api` may call `shop`, and each has its own runner.
struct World {
    state: State,
    sessions: Sessions,
    now: Instant,
    next_key: u8,
}

impl World {
    fn new() -> Self {
        let meta = Meta::new(Network { range: "100.112.0.0/12".parse().unwrap(), mtu: 1344 }).unwrap();
        let state = State::load(Revision(0), [Record::Meta(meta.into())]).unwrap();
        let now = Instant::now();
        Self { state, sessions: Sessions::new(Epoch([7; 16]), now), now, next_key: 0 }
    }

    fn run(&mut self, command: &Command) -> Outcome {
        let decision = self.state.decide(command, UnixSeconds(1_000_000)).unwrap();
        if !decision.changes.is_empty() {
            let revision = self.state.revision().next();
            self.sessions.absorb(&mut self.state, &decision.changes, revision, self.now);
        }
        decision.outcome
    }

    fn order(&mut self, what: AdminCommand) -> Outcome {
        self.run(&Command::Admin { by: Admin::socket(0), what })
    }

    fn deploy(&mut self, name: &str, services: &[&str]) {
        let services = services.iter().map(|service| (service.parse().unwrap(), Declared::default())).collect();
        let (expose, trust) = (None, None);
        let whole = Deployment { name: label(name), team: Some(label("acme")), expose, trust, services };
        let file = File { name: "mesh.toml".to_owned(), declaration: Declaration::Whole(whole) };
        self.order(AdminCommand::Apply { files: vec![file], dry_run: false, force: true, prune: None });
    }

    fn trust(&mut self, change: TrustChange) -> Revision {
        self.order(AdminCommand::Trust { deployment: label("shop"), change });
        self.state.revision()
    }

    fn enrol(&mut self, name: &str, ephemeral: bool) -> RunnerId {
        let token = NewToken { purpose: NewPurpose::JoinAny { uses: 1 }, ttl: 3600, ephemeral, name: None };
        let create = Command::CreateToken { by: Admin::socket(0), token, secret: SECRET.hash() };
        let Outcome::TokenCreated { token, .. } = self.run(&create) else { panic!() };
        self.next_key += 1;
        let enrol = Enrolment {
            token,
            secret: SECRET,
            name: label(name),
            provider: label("basement"),
            public_key: PrivateKey::from_bytes([self.next_key; 32]).public(),
            proved: true,
            replace: false,
            credential: SECRET.hash(),
        };
        let Outcome::Enrolled { runner, .. } = self.run(&Command::Enrol(enrol)) else { panic!() };
        runner
    }

    fn attach(&mut self, runner: RunnerId, service: &str) -> InstanceId {
        let service: ServicePath = service.parse().unwrap();
        let what = RunnerCommand::Attach { service, client: false, release: None };
        let Outcome::Attached { instance, .. } = self.run(&Command::Runner { by: runner, what }) else { panic!() };
        instance
    }

    fn open(&mut self, runner: RunnerId) -> StreamId {
        self.sessions.open(None, &self.state, runner, PEER, None, self.now).unwrap().stream
    }

    /// The stream sends the runner's view, and the agent confirms it.
    fn apply(&mut self, stream: StreamId) {
        let view = self.sessions.view(&self.state, stream).unwrap();
        self.sessions.confirm(stream, view.revision);
    }

    fn wait(&mut self, revision: Revision) -> WaitId {
        let deadline = self.now + Duration::from_secs(10);
        self.sessions.wait_for_deployment(&self.state, &label("shop"), revision, deadline, self.now)
    }

    /// The waits that are over, with their unconfirmed runners.
    fn over(&mut self) -> Vec<(WaitId, Vec<RunnerId>)> {
        let effects = std::iter::from_fn(|| self.sessions.poll_effect());
        let over = effects.filter_map(|effect| match effect {
            Effect::Waited(wait, unconfirmed) => Some((wait, unconfirmed)),
            _ => None,
        });
        over.collect()
    }
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn trusting() -> (World, [RunnerId; 2], [StreamId; 2]) {
    let mut world = World::new();
    world.deploy("shop", &["db"]);
    world.deploy("api", &["grpc"]);
    let callers = [label("api")].into();
    world.trust(TrustChange::Add { callers, services: None, ports: Ports::All });
    let runners = [world.enrol("callee", false), world.enrol("caller", false)];
    let streams = runners.map(|runner| world.open(runner));
    world.attach(runners[0], "shop/db");
    world.attach(runners[1], "api/grpc");
    streams.iter().for_each(|stream| world.apply(*stream));
    (world, runners, streams)
}

#[test]
fn a_wait_is_over_when_all_have_confirmed_those_who_lose_by_the_change_too() {
    let (mut world, _, streams) = trusting();
    let revision = world.trust(TrustChange::Clear);
    let wait = world.wait(revision);
    world.apply(streams[0]);
    assert_eq!(world.over(), []);
    world.apply(streams[1]);
    assert_eq!(world.over(), [(wait, vec![])]);
    assert_eq!(world.sessions.next_timeout(), None);
}

#[test]
fn a_wait_ends_at_its_deadline_and_names_who_has_not_confirmed() {
    let (mut world, runners, streams) = trusting();
    let revision = world.trust(TrustChange::Clear);
    let wait = world.wait(revision);
    world.apply(streams[0]);
    let deadline = world.sessions.next_timeout().unwrap();
    world.sessions.handle_timeout(deadline - Duration::from_millis(1));
    assert_eq!(world.over(), []);
    world.sessions.handle_timeout(deadline);
    assert_eq!(world.over(), [(wait, vec![runners[1]])]);
    // A repeated wait still includes the runner, although its view holds nothing of the shop any more.
    let again = world.wait(revision);
    assert_eq!(world.over(), []);
    world.apply(streams[1]);
    assert_eq!(world.over(), [(again, vec![])]);
}

#[test]
fn a_runner_that_lost_its_instance_before_the_change_is_waited_for_until_it_confirms_that() {
    let (mut world, [_, caller], streams) = trusting();
    // The service is removed, and with it the caller's instance, so its view holds nothing of the shop any more.
    world.deploy("api", &["rest"]);
    let revision = world.trust(TrustChange::Clear);
    world.apply(streams[0]);
    let wait = world.wait(revision);
    assert_eq!(world.over(), [], "{caller} may still act on its old view");
    world.apply(streams[1]);
    assert_eq!(world.over(), [(wait, vec![])]);
}

#[test]
fn a_runner_that_is_away_is_unconfirmed_until_it_comes_back_and_confirms_or_is_removed() {
    let (mut world, [_, caller], streams) = trusting();
    world.sessions.close(streams[1], None, world.now);
    let revision = world.trust(TrustChange::Clear);
    world.apply(streams[0]);
    let wait = world.wait(revision);
    let stream = world.open(caller);
    assert_eq!(world.over(), [], "it has been sent the view and has not confirmed it");
    world.apply(stream);
    assert_eq!(world.over(), [(wait, vec![])]);

    world.sessions.close(stream, None, world.now);
    let callers = [label("api")].into();
    let revision = world.trust(TrustChange::Add { callers, services: None, ports: Ports::All });
    world.apply(streams[0]);
    let wait = world.wait(revision);
    assert_eq!(world.over(), []);
    world.order(AdminCommand::RemoveNode { name: label("caller"), force: true });
    world.apply(streams[0]);
    assert_eq!(world.over(), [(wait, vec![])]);
}

#[test]
fn the_confirmation_of_a_stream_that_was_replaced_does_not_count() {
    let (mut world, [_, caller], streams) = trusting();
    let revision = world.trust(TrustChange::Clear);
    world.apply(streams[0]);
    let wait = world.wait(revision);
    let stream = world.open(caller);
    world.sessions.confirm(streams[1], revision);
    world.sessions.close(streams[1], None, world.now);
    assert_eq!(world.over(), []);
    assert!(world.sessions.is_connected(caller));
    world.apply(stream);
    assert_eq!(world.over(), [(wait, vec![])]);
}

#[test]
fn a_runner_is_behind_from_a_commit_until_it_has_confirmed_it() {
    let (mut world, [callee, _], streams) = trusting();
    let patience = Duration::from_secs(5);
    let behind = |world: &World| world.sessions.behind(patience, world.now).len();
    world.now += Duration::from_secs(60);
    assert_eq!(behind(&world), 0, "both have confirmed");
    let began = world.now;
    world.trust(TrustChange::Clear);
    world.now += patience;
    assert_eq!(behind(&world), 0, "not for long enough");
    world.now += Duration::from_secs(1);
    assert_eq!(behind(&world), 2);
    let view = world.sessions.view(&world.state, streams[0]).unwrap();
    assert_eq!(world.sessions.confirm(streams[0], view.revision), Some(began));
    assert_eq!(world.sessions.confirm(streams[0], view.revision), None, "once");
    assert_eq!(behind(&world), 1);
    // A stream that begins is behind until it has confirmed its first view.
    let stream = world.open(callee);
    world.now += Duration::from_secs(6);
    assert_eq!(behind(&world), 2);
    world.apply(stream);
    world.apply(streams[1]);
    assert_eq!(behind(&world), 0);
}

#[test]
fn a_commit_that_changes_nothing_for_a_runner_leaves_it_current() {
    let (mut world, [_, caller], streams) = trusting();
    world.order(AdminCommand::DrainNode { name: label("caller") });
    world.order(AdminCommand::UndrainNode { name: label("caller") });
    streams.iter().for_each(|stream| drop(world.sessions.view(&world.state, *stream)));
    world.now += Duration::from_secs(60);
    assert_eq!(world.sessions.behind(Duration::ZERO, world.now), [], "{caller}");
}

#[test]
fn a_cancelled_wait_has_no_effect() {
    let (mut world, _, streams) = trusting();
    let revision = world.trust(TrustChange::Clear);
    let wait = world.wait(revision);
    world.sessions.cancel(wait);
    streams.iter().for_each(|stream| world.apply(*stream));
    assert_eq!((world.over(), world.sessions.next_timeout()), (vec![], None));
}

#[test]
fn peers_that_are_not_connected_are_not_waited_for() {
    let (mut world, [callee, _], streams) = trusting();
    world.deploy("shop", &["db", "cache"]);
    let (now, deadline, revision) = (world.now, world.now + Duration::from_secs(2), world.state.revision());
    world.apply(streams[0]);
    let wait = world.sessions.wait_for_peers(&world.state, callee, revision, deadline, now);
    assert_eq!(world.over(), []);
    world.sessions.close(streams[1], None, now);
    assert_eq!(world.over(), [(wait, vec![])]);
}

#[test]
fn however_many_commits_there_were_a_slow_stream_has_one_view_worked_out() {
    let (mut world, [callee, _], streams) = trusting();
    let before = world.sessions.views_made();
    for _ in 0..50 {
        world.attach(callee, "shop/db");
    }
    assert!(!world.sessions.is_current(callee), "its view is outdated");
    world.sessions.view(&world.state, streams[0]).unwrap();
    world.sessions.view(&world.state, streams[0]).unwrap();
    assert_eq!(world.sessions.views_made() - before, 1);
    assert!(!world.sessions.is_current(callee), "it has not confirmed it");
    world.apply(streams[0]);
    assert!(world.sessions.is_current(callee));
}

#[test]
fn a_view_that_the_agent_has_is_continued_and_any_other_is_not() {
    let (mut world, [callee, _], streams) = trusting();
    let view = world.sessions.view(&world.state, streams[0]).unwrap();
    let have = Have { epoch: view.epoch, revision: view.revision };
    for (have, continued) in [
        (Some(have), true),
        (None, false),
        (Some(Have { revision: Revision(have.revision.0 - 1), ..have }), false),
        (Some(Have { epoch: Epoch([0; 16]), ..have }), false),
    ] {
        let stream = world.open(callee);
        world.sessions.close(stream, Some(Arc::clone(&view)), world.now);
        let opened = world.sessions.open(None, &world.state, callee, PEER, have, world.now).unwrap();
        assert_eq!(opened.continued.is_some(), continued, "{have:?}");
    }
}
