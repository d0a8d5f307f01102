//! An end that is gone: an instance, a runner, a deployment. Its connections are reset at every other end, none hangs,
//! and no others are affected.

use mesh_netns_tests::{
    Condition, Coordinator, Crowd, Instance, NamedServer, Runner, World, isolated, packet::opens, wait,
};

use crate::{
    common::wait_refused_at_home,
    replicas::{PORT, serve, shop},
    revocation::{Standing, assert_resets},
};

/// Two instances of shop/app and two of shop/db, one of each on each runner.
struct Stage {
    _world: World,
    coordinator: Coordinator,
    aws: Runner,
    ovh: Runner,
    apps: [Instance; 2],
    dbs: [Instance; 2],
    servers: [NamedServer; 2],
}

impl Stage {
    fn set() -> Self {
        let (_world, coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let apps = [&aws, &ovh].map(|runner| runner.attach("shop/app"));
        let dbs = [&aws, &ovh].map(|runner| runner.attach("shop/db"));
        let servers = serve([&dbs[0], &dbs[1]]);
        Self { _world, coordinator, aws, ovh, apps, dbs, servers }
    }

    /// From each app to one of the dbs.
    #[track_caller]
    fn to_db(&self, db: usize) -> [Standing; 2] {
        // By the service's address from the same runner, by the instance's own from the other one.
        [0, 1].map(|app| {
            let to = if app == db { self.dbs[db].service_address } else { self.dbs[db].address };
            Standing::new(&self.apps[app], to, PORT)
        })
    }
}

#[test]
fn a_callee_that_is_detached() {
    isolated(|| {
        let stage = Stage::set();
        let lost = stage.to_db(0);
        let mut kept = stage.to_db(1);
        stage.aws.command(&["detach", &stage.dbs[0].id]).done();
        lost.into_iter().for_each(Standing::assert_reset);
        assert_resets(&stage.servers[0], 2 * Standing::COUNT);
        kept.iter_mut().for_each(Standing::assert_untouched);
        assert_eq!(stage.servers[1].resets(), 0);
        // New connections go to the other one.
        for app in &stage.apps {
            let mut new = Crowd::gather(&app.namespace, stage.dbs[0].service_address, PORT, 5);
            assert_eq!(new.at(&stage.dbs[1].id), 5);
            new.assert_all_answer();
        }
    });
}

#[test]
fn a_caller_that_is_detached() {
    isolated(|| {
        let stage = Stage::set();
        let [lost_here, mut kept_here] = stage.to_db(0);
        let [lost_there, mut kept_there] = stage.to_db(1);
        stage.aws.command(&["detach", &stage.apps[0].id]).done();
        [lost_here, lost_there].into_iter().for_each(Standing::assert_reset);
        for server in &stage.servers {
            assert_resets(server, Standing::COUNT);
        }
        [&mut kept_here, &mut kept_there].into_iter().for_each(Standing::assert_untouched);
    });
}

#[test]
fn without_a_coordinator_a_detached_ones_far_ends_are_reset_all_the_same() {
    isolated(|| {
        let mut stage = Stage::set();
        let [mut of_near, mut of_afar] = stage.to_db(0);
        let mut kept = stage.to_db(1);
        stage.coordinator.kill();
        wait::until_true("the agents to notice", || {
            [&stage.aws, &stage.ovh].iter().all(|runner| runner.json(&["status"])["map"]["connected"] == false)
        });
        stage.aws.command(&["detach", &stage.dbs[0].id]).done();
        [&mut of_near, &mut of_afar].into_iter().for_each(Standing::assert_told);
        kept.iter_mut().for_each(Standing::assert_untouched);
        // A caller ends as well.
        let [lost, mut kept] = kept;
        stage.aws.command(&["detach", &stage.apps[0].id]).done();
        assert_resets(&stage.servers[1], Standing::COUNT);
        lost.assert_reset();
        kept.assert_untouched();
    });
}

#[test]
fn a_service_that_moves_to_another_runner() {
    isolated(|| {
        let (_world, _coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let [near, afar] = [&aws, &ovh].map(|runner| runner.attach("shop/app"));
        let here = aws.attach("shop/db");
        let server = here.serve_named(PORT);
        let _app_server = near.serve_named(80);
        let lost = [&near, &afar].map(|caller| Standing::new(caller, here.service_address, PORT));
        let mut kept = Standing::new(&afar, near.address, 80);
        aws.command(&["detach", &here.id]).done();
        let there = ovh.attach("shop/db");
        assert_eq!(there.service_address, here.service_address);
        let _server = there.serve_named(PORT);
        lost.into_iter().for_each(Standing::assert_reset);
        assert_resets(&server, 2 * Standing::COUNT);
        let late = here.namespace.interface("mesh0");
        assert_eq!(late, None);
        for caller in [&near, &afar] {
            let mut new = Crowd::gather(&caller.namespace, here.service_address, PORT, 5);
            assert_eq!(new.at(&there.id), 5);
            new.assert_all_answer();
        }
        kept.assert_untouched();
    });
}

#[test]
fn a_deployment_that_is_deleted() {
    isolated(|| {
        let stage = Stage::set();
        let Stage { coordinator, aws, ovh, apps, .. } = &stage;
        coordinator.apply("deployment = \"apis\"\ntrust = [\"shop\"]\n[services.grpc]\n[services.web]\n").done();
        let [grpc, web] = [aws.attach("apis/grpc"), ovh.attach("apis/web")];
        let servers = serve([&grpc, &web]);
        let from_shop: Vec<Standing> = apps.iter().map(|app| Standing::new(app, grpc.service_address, PORT)).collect();
        let within = Standing::new(&grpc, web.service_address, PORT);
        let mut kept = [stage.to_db(0), stage.to_db(1)];
        coordinator.command(&["delete", "apis"]).refused(&["--force"]);
        coordinator.command(&["delete", "apis", "--force"]).done();
        let address = grpc.service_address;
        for mut standing in from_shop.into_iter().chain([within]) {
            standing.assert_told();
        }
        assert_resets(&servers[0], 2 * Standing::COUNT);
        assert_resets(&servers[1], Standing::COUNT);
        for app in apps {
            wait_refused_at_home(app, address, PORT);
        }
        kept.iter_mut().flatten().for_each(Standing::assert_untouched);
        for instance in [&grpc, &web] {
            wait::until_true("its mesh0 to be gone", || instance.namespace.interface("mesh0").is_none());
        }
    });
}

#[test]
fn a_runner_that_is_removed() {
    isolated(|| {
        let stage = Stage::set();
        let Stage { coordinator, ovh, apps, dbs, servers, .. } = &stage;
        let [mut kept, mut from_ovh] = stage.to_db(0);
        let [mut to_ovh, _within_ovh] = stage.to_db(1);
        let mut from_there = Crowd::gather(&dbs[1].namespace, dbs[0].address, PORT, 5);
        let syns = [&dbs[0], &dbs[1]].map(Instance::capture);
        coordinator.command(&["node", "remove", "ovh", "--force"]).done();
        // At the others, all connections to it and from it.
        to_ovh.assert_told();
        assert_resets(&servers[0], Standing::COUNT + 5);
        // And at the removed runner, by the last packets of the others and by its own agent.
        from_ovh.assert_told();
        from_there.wait_all(Condition::Reset);
        kept.assert_untouched();
        // No packets go to it or come from it any more.
        wait_refused_at_home(&apps[0], dbs[1].address, PORT);
        let mut new = Crowd::gather(&apps[0].namespace, dbs[1].service_address, PORT, 10);
        assert_eq!(new.at(&dbs[0].id), 10);
        new.assert_all_answer();
        assert_eq!(syns.each_ref().map(|capture| capture.received_once(opens)), [10, 0]);
        wait::until_true("its agent to notice", || ovh.json(&["status"])["map"]["connected"] == false);
    });
}
