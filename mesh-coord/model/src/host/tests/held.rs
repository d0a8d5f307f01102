//! The instances that a runner says it holds.

use super::*;

#[test]
fn instances_that_the_runner_no_longer_holds_end() {
    let (mut world, runner) = world();
    let other = world.join("r2");
    let (a, b) = (world.attach(runner, "shop/db"), world.attach(runner, "shop/app"));
    let c = world.attach(other, "shop/db");
    assert_eq!(hello(&mut world, runner, vec![held(b, "shop/app")]), (vec![a.0.0], vec![], vec![]));
    assert_eq!(world.state.instances_on(runner).count(), 1);
    assert_eq!(world.state.instances_on(other).next().unwrap().id, c.0, "others' are not touched");
}

/// After a restore from a backup, a runner keeps the instances that it could have been given.
#[test]
fn unknown_instances_are_taken_in_where_they_fit() {
    let (mut world, runner) = world();
    let range_end = Ipv4Addr::new(100, 127, 255, 253);
    let fits = (InstanceId(40), range_end);
    assert_eq!(hello(&mut world, runner, vec![held(fits, "shop/db")]), (vec![], vec![40], vec![]));
    // New numbers and addresses come after those of the instance.
    let next = world.attach(runner, "shop/db");
    assert_eq!(next, (InstanceId(41), Ipv4Addr::new(100, 127, 255, 252)));

    let keep = || vec![held(fits, "shop/db"), held(next, "shop/db")];
    let far = InstanceId(42 + limits::ADOPT_AHEAD);
    for (what, bad) in [
        ("its address is taken", held((InstanceId(50), next.1), "shop/db")),
        ("its address is a service's", held((InstanceId(50), Ipv4Addr::new(100, 112, 0, 1)), "shop/db")),
        ("its address is the network's", held((InstanceId(50), Ipv4Addr::new(100, 112, 0, 0)), "shop/db")),
        ("its address is the resolver's", held((InstanceId(50), Ipv4Addr::new(100, 127, 255, 254)), "shop/db")),
        ("its address is not the mesh's", held((InstanceId(50), Ipv4Addr::new(192, 0, 2, 1)), "shop/db")),
        ("its service is gone", held((InstanceId(50), Ipv4Addr::new(100, 127, 0, 9)), "shop/gone")),
        ("no such number will be given soon", held((far, Ipv4Addr::new(100, 127, 0, 9)), "shop/db")),
        ("no such number is given", held((InstanceId(0), Ipv4Addr::new(100, 127, 0, 9)), "shop/db")),
    ] {
        let number = bad.instance.0;
        let reported = keep().into_iter().chain([bad]).collect();
        assert_eq!(hello(&mut world, runner, reported), (vec![], vec![], vec![number]), "{what}");
    }
    let twice = keep().into_iter().chain([
        held((InstanceId(60), Ipv4Addr::new(100, 127, 0, 9)), "shop/db"),
        held((InstanceId(61), Ipv4Addr::new(100, 127, 0, 9)), "shop/db"),
    ]);
    assert_eq!(hello(&mut world, runner, twice.collect()), (vec![], vec![60], vec![61]), "one address, one instance");
}

#[test]
fn an_address_at_rest_is_not_brought_back() {
    let (mut world, runner) = world();
    let instance = world.attach(runner, "shop/db");
    world.detach(runner, instance.0);
    let reported = || vec![held(instance, "shop/db")];
    assert_eq!(hello(&mut world, runner, reported()), (vec![], vec![], vec![instance.0.0]));
    world.now = world.now.plus(600);
    assert_eq!(hello(&mut world, runner, reported()), (vec![], vec![instance.0.0], vec![]));
}

#[test]
fn a_runner_takes_no_instance_of_others_and_none_out_of_its_scope() {
    let (mut world, other) = world();
    let theirs = world.attach(other, "shop/db");
    let token = world.token(NewPurpose::JoinDeployments { deployments: [label("bank")].into(), uses: 1 });
    let runner = world.join_with(token, "r2");
    let reported = vec![held(theirs, "shop/db"), held((InstanceId(9), Ipv4Addr::new(100, 127, 0, 9)), "shop/db")];
    assert_eq!(hello(&mut world, runner, reported), (vec![], vec![], vec![theirs.0.0, 9]));
    assert_eq!(world.state.instances_on(other).count(), 1);
}

#[test]
fn what_differs_from_what_is_known_ends_and_is_attached_anew() {
    let (mut world, runner) = world();
    let instance = world.attach(runner, "shop/db");
    assert_eq!(
        hello(&mut world, runner, vec![held(instance, "shop/app")]),
        (vec![instance.0.0], vec![], vec![instance.0.0])
    );
    let instance = world.attach(runner, "shop/db");
    let client = Held { client: true, ..held(instance, "shop/db") };
    assert_eq!(hello(&mut world, runner, vec![client]), (vec![], vec![], vec![]), "but whether it only calls");
    assert_eq!(world.state.instances_on(runner).next().unwrap().state, InstanceState::Client);
}

/// The release is the agent's to say, also of an instance that is brought back. Other deployments aren't told.
#[test]
fn a_release_stays_with_its_instance_and_is_its_own_deployment_s_affair() {
    let (mut world, runner) = world();
    let [v1, v2]: [Option<mesh_proto::Release>; 2] = ["v1", "v2"].map(|release| release.parse().ok());
    let attach = RunnerCommand::Attach { service: path("shop/db"), client: false, release: v1.clone() };
    let Ok(Outcome::Attached { instance, address, .. }) = world.request(runner, attach) else { panic!("attached") };
    let release = |world: &World| world.state.instances[&instance].release.clone();
    assert_eq!(release(&world), v1);
    let reported =
        |release: &Option<_>| vec![Held { release: release.clone(), ..held((instance, address), "shop/db") }];
    hello(&mut world, runner, reported(&v1));
    let revision = world.state.revision();
    hello(&mut world, runner, reported(&v1));
    assert_eq!((release(&world), world.state.revision()), (v1, revision), "nothing has changed");
    hello(&mut world, runner, reported(&v2));
    assert_eq!(release(&world), v2);
    // One that is brought back, as after a restore from a backup.
    let unknown = (InstanceId(9), Ipv4Addr::new(100, 127, 0, 9));
    let both = [reported(&v2), vec![Held { release: v2.clone(), ..held(unknown, "shop/app") }]].concat();
    assert_eq!(hello(&mut world, runner, both), (vec![], vec![9], vec![]));
    assert_eq!(world.state.instances[&unknown.0].release, v2);

    world.trust("shop", &["bank"]).unwrap();
    let other = world.join("r2");
    world.attach(other, "bank/vault");
    let seen = |runner| world.view(runner).instance(instance).unwrap().release.clone();
    assert_eq!((seen(runner), seen(other)), (v2, None));
}
