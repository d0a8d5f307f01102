//! What was revoked and confirmed stays revoked, whichever coordinators lag, die and come back, and whatever they send.

use std::fs;

use mesh_netns_tests::{
    Caller, Coordinator, Identity, Laggard, Runner, Stack, World, isolated, packet, several::Several, traffic::Answer,
    wait,
};

use crate::common::{BILLING, SHOP, declare, is_refused};

fn give(coordinator: &Coordinator) {
    coordinator.command(&["trust", "shop", "--app", "billing", "--wait", "--timeout", "30s"]).done();
}

fn take(coordinator: &Coordinator) {
    coordinator.command(&["trust", "--clear", "--app", "billing", "--wait", "--timeout", "30s"]).done();
}

fn wait_passes(caller: &Caller) {
    let before = caller.passed();
    wait::until_true("a call to come through", || caller.passed() > before);
}

fn restart(runner: &mut Runner) {
    runner.kill();
    runner.start_alone(&[]);
}

#[test]
fn after_a_confirmed_revocation_not_one_syn_passes_whichever_coordinator_lags() {
    isolated(|| {
        let world = World::new();
        let mut several = Several::start(&world, 3, 2);
        declare(&several.coordinators[0], &[BILLING]);
        let (app, api) = (several.runners[0].attach("shop/app"), several.runners[1].attach("billing/api"));
        let _server = api.serve(80, Answer::Echo);
        let caller = Caller::start(&app, api.service_address, 80);
        for round in 0..3 {
            several.coordinators.rotate_left(1);
            let [lagging, revoking, other] = &mut several.coordinators[..] else { panic!("three coordinators") };
            give(other);
            wait_passes(&caller);
            let syns = lagging.frozen(|| {
                take(revoking);
                caller.forbid();
                let syns = api.capture();
                // The one that knows nothing of it will be alone.
                revoking.kill();
                other.kill();
                caller.wait_more(5);
                syns
            });
            // Agents that have to find their place anew at it, and such as begin anew there.
            match round {
                0 => {}
                1 => restart(&mut several.runners[0]),
                _ => several.runners.iter_mut().for_each(restart),
            }
            several.runners.iter_mut().for_each(Runner::wait_connected);
            declare(&several.coordinators[0], &[&format!("deployment = \"later{round}\"\n[services.app]\n")]);
            let _later = several.runners[0].attach(&format!("later{round}/app"));
            caller.wait_more(20);
            assert_eq!(caller.broke(), 0, "calls that left their runner after the revocation, in round {round}");
            assert_eq!(syns.received(packet::opens), 0, "SYNs at the other end");
            is_refused(&app, api.service_address, 80);
            for number in [1, 2] {
                several.coordinators[number].start();
            }
            caller.allow();
        }
    });
}

#[test]
fn a_runner_takes_no_older_map_and_without_that_care_a_revoked_call_would_pass() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        let mut runners = ["aws", "gcp"].map(|name| world.runner(&coordinator, name, Stack::Dual));
        let (app, api) = (runners[0].attach("shop/app"), runners[1].attach("billing/api"));
        let _server = api.serve(80, Answer::Echo);
        give(&coordinator);
        let caller = Caller::start(&app, api.service_address, 80);
        wait_passes(&caller);
        let old = runners.each_ref().map(Identity::of);
        take(&coordinator);
        caller.forbid();
        coordinator.kill();

        let laggard = Laggard::start(&coordinator, &old);
        let wait_offered = |runners: &[Runner]| {
            let refusals = |runner: &Runner| runner.log().matches("the coordinator is behind").count();
            let before: Vec<usize> = runners.iter().map(refusals).collect();
            wait::until_true("the old map to be refused", || {
                runners.iter().zip(&before).all(|(runner, before)| refusals(runner) > *before)
            });
        };
        wait_offered(&runners);
        // It is remembered on the disk.
        runners.iter_mut().for_each(restart);
        wait_offered(&runners);
        caller.wait_more(20);
        assert_eq!((caller.broke(), laggard.taken()), (0, 0), "an old map was offered {} times", laggard.sent());
        is_refused(&app, api.service_address, 80);

        // Runners that don't know how far they were: what this test is for would happen, and is seen.
        for runner in &mut runners {
            runner.kill();
            fs::remove_file(runner.state().join("view.json")).expect("the map");
            runner.start_alone(&[]);
        }
        wait::until_true("a revoked call to come through", || caller.broke() > 0);
        assert!(laggard.taken() > 0);
    });
}
