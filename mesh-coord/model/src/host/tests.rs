mod held;

use std::net::{Ipv4Addr, SocketAddr};

use mesh_proto::{Abilities, InstanceId, RunnerId, message::Held, view::InstanceState};

use crate::{
    Admin, Command, NewPurpose, Outcome, Refusal, RunnerCommand, limits,
    testing::{World, declared, file, held, label, path, refused, whole},
    work,
};

fn hello_at(
    world: &mut World,
    runner: RunnerId,
    endpoints: &[&str],
    seen: Option<&str>,
    instances: Vec<Held>,
) -> Result<Outcome, Refusal> {
    let endpoints = endpoints.iter().map(|e| e.parse().unwrap()).collect();
    let seen = seen.map(|s| s.parse().unwrap());
    world.request(
        runner,
        RunnerCommand::Hello {
            version: "0.1.0".to_owned(),
            can: Abilities::NONE,
            endpoints,
            seen,
            outside: crate::record::Outside::default(),
            instances,
        },
    )
}

fn hello(world: &mut World, runner: RunnerId, instances: Vec<Held>) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    match hello_at(world, runner, &[], None, instances).unwrap() {
        Outcome::Welcomed { ended, adopted, rejected } => {
            let numbers = |ids: Vec<InstanceId>| ids.into_iter().map(|i| i.0).collect();
            (numbers(ended), numbers(adopted), numbers(rejected))
        }
        other => panic!("{other:?}"),
    }
}

fn world() -> (World, RunnerId) {
    let mut world = World::new();
    world.apply(vec![whole("shop: db app"), whole("bank: vault")]).unwrap();
    let runner = world.join("r1");
    (world, runner)
}

#[test]
fn a_stream_that_tells_nothing_new_changes_nothing() {
    let (mut world, runner) = world();
    let instance = world.attach(runner, "shop/db");
    let reported = || vec![held(instance, "shop/db")];
    hello_at(&mut world, runner, &["192.0.2.1:51820"], Some("198.51.100.1:51820"), reported()).unwrap();
    let revision = world.state.revision();
    hello_at(&mut world, runner, &["192.0.2.1:51820"], Some("198.51.100.1:51820"), reported()).unwrap();
    world
        .request(
            runner,
            RunnerCommand::Endpoints {
                endpoints: vec!["192.0.2.1:51820".parse().unwrap()],
                outside: crate::record::Outside::default(),
            },
        )
        .unwrap();
    assert_eq!(world.state.revision(), revision);
    hello_at(&mut world, runner, &["192.0.2.1:51820"], Some("198.51.100.2:51820"), reported()).unwrap();
    assert_eq!(world.state.revision(), revision.next(), "it has moved");
}

#[test]
fn peers_are_shown_the_told_endpoints_and_the_seen_one_each_once() {
    let (mut world, runner) = world();
    let endpoints = ["192.0.2.1:51820", "[::ffff:192.0.2.1]:51820", "[2001:db8::1]:4000"];
    let shown = |world: &World| -> Vec<String> {
        world.view(runner).runner(runner).unwrap().endpoints.iter().map(SocketAddr::to_string).collect()
    };
    hello_at(&mut world, runner, &endpoints, Some("[::ffff:198.51.100.1]:51820"), vec![]).unwrap();
    assert_eq!(shown(&world), ["192.0.2.1:51820", "[2001:db8::1]:4000", "198.51.100.1:51820"]);
    hello_at(&mut world, runner, &endpoints, Some("[::ffff:192.0.2.1]:51820"), vec![]).unwrap();
    assert_eq!(shown(&world), ["192.0.2.1:51820", "[2001:db8::1]:4000"]);
    hello_at(&mut world, runner, &endpoints, Some("192.0.2.7:0"), vec![]).unwrap();
    assert_eq!(shown(&world).len(), 2, "a port that is none is not shown");
}

#[test]
fn peers_are_shown_what_an_agent_can_do_as_its_latest_stream_told() {
    let (mut world, runner) = world();
    let mut hello = |can| {
        let hello = RunnerCommand::Hello {
            version: "1".to_owned(),
            can,
            endpoints: vec![],
            seen: None,
            outside: crate::record::Outside::default(),
            instances: vec![],
        };
        world.request(runner, hello).unwrap();
        world.view(runner).runner(runner).unwrap().can
    };
    assert_eq!(hello(Abilities::ALL), Abilities::ALL);
    assert_eq!(hello(Abilities::NONE), Abilities::NONE, "an older agent took its place");
}

/// Such endpoints lead to the peer itself, or to a stranger on its network such as a cloud's metadata service.
#[test]
fn addresses_that_mean_another_machine_to_each_peer_are_left_out() {
    let (mut world, runner) = world();
    let shown = |world: &World| -> Vec<String> {
        world.view(runner).runner(runner).unwrap().endpoints.iter().map(SocketAddr::to_string).collect()
    };
    let local = [
        "127.0.0.1:9999",
        "127.1.2.3:9999",
        "[::1]:9999",
        "[::ffff:127.0.0.1]:9999",
        "169.254.169.254:80",
        "[fe80::1]:51820",
        "0.1.2.3:51820",
        "192.0.2.1:51820",
    ];
    hello_at(&mut world, runner, &local, Some("198.51.100.1:51820"), vec![]).unwrap();
    assert_eq!(shown(&world), ["192.0.2.1:51820", "198.51.100.1:51820"]);
    let reported = local.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
    world
        .request(runner, RunnerCommand::Endpoints { endpoints: reported, outside: crate::record::Outside::default() })
        .unwrap();
    assert_eq!(shown(&world), ["192.0.2.1:51820", "198.51.100.1:51820"]);
    hello_at(&mut world, runner, &[], Some("[fe80::1]:51820"), vec![]).unwrap();
    assert_eq!(shown(&world), [""; 0]);
    // The whole mesh on one machine.
    hello_at(&mut world, runner, &["127.0.0.1:4000"], Some("127.0.0.1:51820"), vec![]).unwrap();
    assert_eq!(shown(&world), ["127.0.0.1:4000", "127.0.0.1:51820"]);
}

#[test]
fn endpoints_that_no_peer_could_use_are_refused() {
    let (mut world, runner) = world();
    for (endpoint, why) in [
        ("192.0.2.1:0", "has no port"),
        ("0.0.0.0:1", "has no address"),
        ("[::]:1", "has no address"),
        ("224.0.0.1:1", "is a multicast address"),
        ("255.255.255.255:1", "is the broadcast address"),
        ("100.112.0.9:51820", "lies in the mesh's own range"),
    ] {
        assert_eq!(
            refused(hello_at(&mut world, runner, &[endpoint], None, vec![])),
            format!(
                "Invalid: the endpoint {endpoint} {why} | give addresses of this machine that its peers can reach (--endpoint)"
            )
        );
    }
    let many: Vec<String> = (0..17).map(|n| format!("192.0.2.{n}:1")).collect();
    let many: Vec<&str> = many.iter().map(|e| &**e).collect();
    assert_eq!(
        refused(hello_at(&mut world, runner, &many, None, vec![])),
        "Conflict: the runner `r1` would have 17 endpoints, and 16 is the most | the limit is fixed: have fewer, or divide them up"
    );
    let version = RunnerCommand::Hello {
        version: "1\n".to_owned(),
        can: Abilities::NONE,
        endpoints: vec![],
        seen: None,
        outside: crate::record::Outside::default(),
        instances: vec![],
    };
    assert_eq!(
        refused(world.request(runner, version)),
        "Invalid: the agent's version is longer than 64 bytes, or holds control characters | run a released mesh-node"
    );
}

#[test]
fn attaching_to_what_isn_t_there_is_refused_with_the_nearest_name() {
    let (mut world, runner) = world();
    let attach = |world: &mut World, runner, service: &str| {
        refused(world.request(runner, RunnerCommand::Attach { service: path(service), client: false, release: None }))
    };
    assert_eq!(attach(&mut world, runner, "shp/db"), "NotFound: there is no deployment `shp` | did you mean `shop`?");
    assert_eq!(
        attach(&mut world, runner, "shop/ap"),
        "NotFound: the deployment `shop` has no service `ap` | did you mean `app`?"
    );
    assert_eq!(
        attach(&mut world, runner, "shop/warehouse"),
        "NotFound: the deployment `shop` has no service `warehouse` | `mesh-coord services` lists them"
    );
    world.apply(vec![file(declared("depot", Some("acme"), ["db"]))]).unwrap();
    let token = world.token(NewPurpose::JoinTeams { teams: [label("acme")].into(), uses: 1 });
    let narrow = world.join_with(token, "r2");
    let text = |name: &str, hint: &str| {
        format!(
            "Forbidden: there is no deployment `{name}` that `r2` may host: its token's scope is team acme | {hint}"
        )
    };
    // An unknown deployment and one out of scope get the same answer.
    for name in ["shop", "nowhere"] {
        let hint = format!(
            "if it exists, make a token for it (`mesh-coord token create --deployment {name}`) and join with that as a new runner"
        );
        assert_eq!(attach(&mut world, narrow, &format!("{name}/db")), text(name, &hint));
    }
    assert_eq!(attach(&mut world, narrow, "depto/db"), text("depto", "did you mean `depot`?"));
    world.attach(narrow, "depot/db");
}

/// However many runners take all that they may, one that asks for little gets it.
#[test]
fn no_runner_takes_the_last_places_of_a_service() {
    let (mut world, runner) = world();
    let attach = RunnerCommand::Attach { service: path("shop/db"), client: false, release: None };
    for _ in 0..limits::INSTANCES_OF_SERVICE_ON_RUNNER {
        world.attach(runner, "shop/db");
    }
    assert_eq!(
        refused(world.request(runner, attach.clone())),
        "Conflict: `r1` has 64 instances of the service `shop/db`, and the places left are for other runners | a \
         service can have 64 instances on one runner, and no more than are left for others: attach it on another"
    );
    world.attach(runner, "shop/app");
    for n in 2..8 {
        let greedy = world.join(&format!("r{n}"));
        while world.request(greedy, attach.clone()).is_ok() {}
    }
    let honest = world.join("honest");
    world.attach(honest, "shop/db");
    // Bringing instances back is no way around the limit.
    let reported: Vec<Held> = (0..300)
        .map(|n: u16| {
            let address = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(100, 120, 0, 1)) + u32::from(n));
            held((InstanceId(10_000 + u64::from(n)), address), "bank/vault")
        })
        .collect();
    let (_, adopted, rejected) = hello(&mut world, honest, reported);
    assert_eq!((adopted.len(), rejected.len()), (64, 236));
}

/// The work of a hello is a few look-ups per reported instance, however large the mesh is.
#[test]
fn a_hello_costs_the_writer_the_same_in_a_small_mesh_and_in_a_large_one() {
    let steps = |services: usize, deployments: usize| {
        let mut world = World::new();
        let long = "x".repeat(240);
        let names: Vec<String> = (0..services).map(|n| format!("{long}{n}")).collect();
        let mut shop = declared("shop", None, names.iter().map(|n| &**n));
        shop.services.values_mut().for_each(|service| service.manual_names = true);
        world.apply(vec![file(shop)]).unwrap();
        let others: Vec<_> = (0..deployments).map(|n| whole(&format!("other{n}: db"))).collect();
        for some in others.chunks(1000) {
            world.apply(some.to_vec()).unwrap();
        }
        let token = world.token(NewPurpose::JoinDeployments { deployments: [label("shop")].into(), uses: 1 });
        let runner = world.join_with(token, "r1");
        let reported: Vec<Held> = (0..4096u32)
            .map(|n| {
                let service = match n % 4 {
                    0 => format!("shop/{long}{}y", n % 200),
                    1 => format!("shop/{long}{}", n % 40),
                    2 => format!("other{}/db", n % 200),
                    _ => format!("nowhere{n}/{long}"),
                };
                held((InstanceId(u64::from(n) + 1), Ipv4Addr::from_bits(0x647f_0000 + n)), &service)
            })
            .collect();
        let command = Command::Runner {
            by: runner,
            what: RunnerCommand::Hello {
                version: "1".to_owned(),
                can: Abilities::NONE,
                endpoints: vec![],
                seen: None,
                outside: crate::record::Outside::default(),
                instances: reported,
            },
        };
        let before = work::steps();
        world.decide(&command).unwrap();
        work::steps() - before
    };
    let (small, large) = (steps(40, 10), steps(4000, 4000));
    assert!(small > 4096 && large < 3 * 4096, "{small} and {large}: a few for each that it tells");
}

#[test]
fn detaching_is_for_the_own_instances_and_a_second_time_harmless() {
    let (mut world, runner) = world();
    let other = world.join("r2");
    let (instance, address) = world.attach(runner, "shop/db");
    world.detach(other, instance);
    assert_eq!(world.state.instances_on(runner).count(), 1);
    world.detach(runner, instance);
    assert_eq!(world.state.instances_on(runner).count(), 0);
    let revision = world.state.revision();
    world.detach(runner, instance);
    assert_eq!(world.state.revision(), revision);
    assert_ne!(world.attach(runner, "shop/db").1, address, "it rests");
}

#[test]
fn two_agents_that_fight_over_one_identity_are_noted_and_do_not_fill_the_audit() {
    let (mut world, runner) = world();
    let before = world.state.audit(&Admin::socket(0), 100).len();
    for _ in 0..50 {
        world.request(runner, RunnerCommand::TakenOver { from: [192, 0, 2, 1].into() }).unwrap();
        world.now = world.now.plus(1);
    }
    let entries = world.state.audit(&Admin::socket(0), 100);
    assert_eq!(entries.len(), before + 1);
    let entry = (&*entries[0].action, &*entries[0].detail, entries[0].by.to_string());
    let detail = "a second agent with the identity of r-1 `r1` came from 192.0.2.1";
    assert_eq!(entry, ("stream-taken-over", detail, "runner r-1".to_owned()));
    // New addresses are no way around the limit. An hour later it is noted again.
    for n in 0..50 {
        world.request(runner, RunnerCommand::TakenOver { from: [192, 0, 2, n].into() }).unwrap();
    }
    assert_eq!(world.state.audit(&Admin::socket(0), 100).len(), before + limits::TAKEOVERS_NOTED);
    world.now = world.now.plus(3600);
    world.request(runner, RunnerCommand::TakenOver { from: [192, 0, 2, 1].into() }).unwrap();
    assert_eq!(world.state.audit(&Admin::socket(0), 100).len(), before + limits::TAKEOVERS_NOTED + 1);
}

fn state_of(world: &World, instance: InstanceId) -> InstanceState {
    world.state.instances[&instance].state
}

#[test]
fn a_drained_instance_stays_drained_whichever_side_remembers_it() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db app")]).unwrap();
    let (a, b) = (world.join("a"), world.join("b"));
    let db = world.attach(a, "shop/db");
    let drain = |instance| RunnerCommand::Drain { instance };
    assert_eq!(world.request(a, drain(db.0)), Ok(Outcome::Drained));
    assert_eq!(state_of(&world, db.0), InstanceState::Draining);
    let revision = world.state.revision();
    assert_eq!(world.request(a, drain(db.0)), Ok(Outcome::Drained));
    assert_eq!(world.state.revision(), revision, "again changes nothing");
    // An agent that has forgotten the instance, and one that brings it back after a restore.
    hello(&mut world, a, vec![held(db, "shop/db")]);
    assert_eq!(state_of(&world, db.0), InstanceState::Draining);
    let other = world.attach(a, "shop/app");
    hello(&mut world, a, vec![held(db, "shop/db"), Held { draining: true, ..held(other, "shop/app") }]);
    assert_eq!(state_of(&world, other.0), InstanceState::Draining);

    assert!(refused(world.request(b, drain(db.0))).contains("no instance"), "another runner's");
    assert!(refused(world.request(a, drain(InstanceId(99)))).contains("mesh-node status"));
    let client = RunnerCommand::Attach { service: path("shop/db"), client: true, release: None };
    let Ok(Outcome::Attached { instance, .. }) = world.request(a, client) else { panic!("attached") };
    assert!(refused(world.request(a, drain(instance))).contains("client"));
}

#[test]
fn a_silent_runner_is_marked_for_its_peers_until_it_is_heard() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db app")]).unwrap();
    let (a, b) = (world.join("a"), world.join("b"));
    let db = world.attach(a, "shop/db");
    world.attach(b, "shop/app");
    let silent = |world: &World| world.view(b).runners().find(|runner| runner.id == a).unwrap().silent;
    assert!(!silent(&world));
    let mark = |runner| Command::Silent { runners: [runner].into(), held_back: None };
    world.run(&mark(a)).unwrap();
    assert!(silent(&world) && state_of(&world, db.0) == InstanceState::Live, "it loses nothing else");
    let revision = world.state.revision();
    world.run(&mark(a)).unwrap();
    world.run(&mark(RunnerId(9))).unwrap();
    assert_eq!(world.state.revision(), revision, "a second time, and one that doesn't exist, change nothing");
    hello(&mut world, a, vec![held(db, "shop/db")]);
    assert!(!silent(&world));
}

#[test]
fn many_runners_are_marked_as_silent_in_one_commit_which_the_audit_notes_if_it_was_held_back() {
    let mut world = World::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| world.join(name));
    let before = world.state.revision();
    world.run(&Command::Silent { runners: [a, b].into(), held_back: Some(60) }).unwrap();
    assert_eq!(world.state.revision(), before.next());
    let silent = [a, b, c].map(|id| world.state.runner(id).unwrap().silent);
    assert_eq!(silent, [true, true, false]);
    let noted = |world: &World| world.state.audit(&Admin::socket(0), 1).remove(0);
    assert_eq!(
        (noted(&world).action.as_str(), noted(&world).detail.as_str()),
        ("runners-silent", "2 of 3 runners have had no stream at once, also not 60 s later")
    );
    let number = noted(&world).number;
    world.run(&Command::Silent { runners: [c].into(), held_back: None }).unwrap();
    assert_eq!(noted(&world).number, number, "one runner is no news for operators");
}
