use mesh_proto::{Abilities, InstanceId, message::Held, view::InstanceState};

use crate::{
    Admin, AdminCommand, NewPurpose, Outcome, RunnerCommand,
    testing::{World, declared, file, held, label, path, refused},
};

fn state_of(world: &World, instance: InstanceId) -> InstanceState {
    world.state.instances[&instance].state
}

fn hello(world: &mut World, runner: mesh_proto::RunnerId, instances: Vec<Held>) {
    let hello = RunnerCommand::Hello {
        version: "1".to_owned(),
        can: Abilities::NONE,
        endpoints: vec![],
        seen: None,
        outside: crate::record::Outside::default(),
        instances,
    };
    world.request(runner, hello).unwrap();
}

fn world() -> World {
    let mut world = World::new();
    world
        .apply(vec![file(declared("shop", Some("acme"), ["db"])), file(declared("bank", Some("evil"), ["v"]))])
        .unwrap();
    world
}

#[test]
fn a_drained_instance_takes_connections_again_whatever_its_agent_remembers() {
    let mut world = world();
    let runner = world.join("r1");
    let instance = world.attach(runner, "shop/db");
    let (drain, undrain) =
        (AdminCommand::Drain { instance: instance.0 }, AdminCommand::Undrain { instance: instance.0 });
    let outcome = world.order(drain.clone()).unwrap();
    let expected = Outcome::InstanceDrained {
        instance: instance.0,
        service: "shop/db".to_owned(),
        node: Some(label("r1")),
        draining: true,
    };
    assert_eq!((outcome, state_of(&world, instance.0)), (expected, InstanceState::Draining));
    let revision = world.state.revision();
    world.order(drain).unwrap();
    assert_eq!(world.state.revision(), revision, "again changes nothing");
    // A restarted agent keeps it drained, whether or not it knows.
    hello(&mut world, runner, vec![held(instance, "shop/db")]);
    assert_eq!(state_of(&world, instance.0), InstanceState::Draining);

    world.order(undrain).unwrap();
    let remembers = || vec![Held { draining: true, ..held(instance, "shop/db") }];
    for _ in 0..2 {
        hello(&mut world, runner, remembers());
        assert_eq!(state_of(&world, instance.0), InstanceState::Live);
    }
    // Once the agent has reported it as live, its reports count again.
    hello(&mut world, runner, vec![held(instance, "shop/db")]);
    hello(&mut world, runner, remembers());
    assert_eq!(state_of(&world, instance.0), InstanceState::Draining);
    // The runner itself can undrain it, too.
    assert_eq!(world.request(runner, RunnerCommand::Undrain { instance: instance.0 }), Ok(Outcome::Undrained));
    hello(&mut world, runner, remembers());
    assert_eq!(state_of(&world, instance.0), InstanceState::Live);
    let actions: Vec<String> = world.state.audit(&Admin::socket(0), 2).into_iter().map(|e| e.action).collect();
    assert_eq!(actions, ["undrain", "drain"]);
}

#[test]
fn what_a_drained_runner_gets_later_is_drained_as_well() {
    let mut world = world();
    let runner = world.join("r1");
    let (first, _) = world.attach(runner, "shop/db");
    let client = RunnerCommand::Attach { service: path("shop/db"), client: true, release: None };
    world.request(runner, client).unwrap();
    let outcome = world.order(AdminCommand::DrainNode { name: label("r1") }).unwrap();
    assert_eq!(outcome, Outcome::NodeDrained { node: label("r1"), drained: true, instances: vec![first] });
    let second = world.attach(runner, "shop/db");
    assert_eq!(state_of(&world, second.0), InstanceState::Draining);
    assert!(world.state.nodes(&Admin::socket(0))[0].drained);
    // A runner that enrols again stays drained.
    let token = world.token(NewPurpose::JoinAny { uses: 1 });
    world.join_with(token, "r1");
    let third = world.attach(runner, "shop/db");
    assert_eq!(state_of(&world, third.0), InstanceState::Draining);
    world.order(AdminCommand::UndrainNode { name: label("r1") }).unwrap();
    let all = [first, second.0, third.0].map(|instance| state_of(&world, instance));
    assert_eq!(all, [InstanceState::Live; 3]);
    let later = world.attach(runner, "shop/db").0;
    assert_eq!(state_of(&world, later), InstanceState::Live);
}

#[test]
fn a_teams_administrator_drains_only_what_is_the_teams() {
    let mut world = world();
    let wide = world.join("wide");
    let (theirs, _) = world.attach(wide, "bank/v");
    let (own, _) = world.attach(wide, "shop/db");
    world.admin = Admin { team: Some(label("acme")), ..Admin::socket(0) };
    for instance in [theirs, InstanceId(99)] {
        assert_eq!(
            refused(world.order(AdminCommand::Drain { instance })),
            format!("NotFound: team `acme` has no instance {instance} | `mesh-coord instances` lists them")
        );
    }
    world.order(AdminCommand::Drain { instance: own }).unwrap();
    assert!(refused(world.order(AdminCommand::DrainNode { name: label("wide") })).starts_with("Forbidden"));
    assert_eq!(state_of(&world, theirs), InstanceState::Live);
}

#[test]
fn undraining_a_runner_undoes_only_what_draining_it_did() {
    let mut world = world();
    let runner = world.join("r1");
    let [before, with, since, undrained] = [0; 4].map(|_| world.attach(runner, "shop/db").0);
    let order = |world: &mut World, command| match world.order(command).unwrap() {
        Outcome::NodeDrained { instances, .. } => instances,
        _ => vec![],
    };
    world.request(runner, RunnerCommand::Drain { instance: before }).unwrap();
    assert_eq!(order(&mut world, AdminCommand::UndrainNode { name: label("r1") }), [], "the runner is not drained");
    assert_eq!(state_of(&world, before), InstanceState::Draining);

    let drained = order(&mut world, AdminCommand::DrainNode { name: label("r1") });
    assert_eq!(drained, [with, since, undrained]);
    order(&mut world, AdminCommand::Drain { instance: since });
    order(&mut world, AdminCommand::Drain { instance: undrained });
    order(&mut world, AdminCommand::Undrain { instance: undrained });
    assert_eq!(state_of(&world, undrained), InstanceState::Live);
    // A repeated command changes nothing.
    order(&mut world, AdminCommand::DrainNode { name: label("r1") });
    assert_eq!(order(&mut world, AdminCommand::UndrainNode { name: label("r1") }), [with, undrained]);
    assert_eq!([before, since].map(|id| state_of(&world, id)), [InstanceState::Draining; 2]);
    order(&mut world, AdminCommand::Undrain { instance: before });
    assert_eq!(state_of(&world, before), InstanceState::Live);
}
