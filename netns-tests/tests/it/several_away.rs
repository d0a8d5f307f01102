//! While etcd is wholly away, several coordinators can change nothing, and nothing else happens.

use mesh_netns_tests::{Coordinator, Steady, World, isolated, wait};

use crate::{
    common::{SHOP, declare},
    several_coordinators::{deployment, members, noted, on_etcd, runner},
};

/// So much passes in the time in which streams would end, several times over: a few megabytes do a second.
const LONG: u64 = 80_000_000;

/// The lines of a log from here on that an operator has to look at.
fn warnings(coordinator: &Coordinator, from: usize) -> Vec<String> {
    let log = coordinator.log();
    let is_one = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    log.get(from..).unwrap_or_default().lines().filter(is_one).map(ToOwned::to_owned).collect()
}

#[test]
fn while_etcd_is_wholly_away_no_agent_moves_and_afterwards_all_goes_on() {
    isolated(|| {
        let world = World::new();
        let (mut etcd, one, two) = on_etcd(&world);
        declare(&one, &[SHOP]);
        let known = [&one, &two];
        let (aws, gcp) = (runner(&world, "aws", &known), runner(&world, "gcp", &known));
        let (app, db) = (aws.attach("shop/app"), gcp.attach("shop/db"));
        let transfer = [Steady::start(&app, &db, 5432)];
        let begun = || known.map(|coordinator| coordinator.log().matches("stream began").count());
        let (before, logged) = (begun(), known.map(|coordinator| coordinator.log().len()));

        wait::until_true("each to know of the other one", || known.iter().all(|one| members(one).len() == 2));
        for member in [0, 1] {
            etcd.kill(member);
        }
        for coordinator in known {
            wait::until_true("commands to be refused", || {
                let outcome = coordinator.command(&["deployments"]);
                outcome.code == Some(1) && outcome.stderr.contains("the database cannot be reached")
            });
        }
        Steady::wait_more(&transfer, LONG);
        assert_eq!(begun(), before, "an agent has moved");
        for (coordinator, from) in known.into_iter().zip(logged) {
            let warnings = warnings(coordinator, from);
            let [warning] = &warnings[..] else { panic!("one line is enough: {warnings:?}") };
            assert!(warning.contains("the way to the database is lost"), "{warning}");
        }
        for runner in [&aws, &gcp] {
            assert!(runner.command(&["status", "--json"]).is_connected());
        }

        for member in [0, 1] {
            etcd.start(member);
        }
        for (coordinator, name) in known.into_iter().zip(["a", "b"]) {
            wait::until_true("a commit", || coordinator.apply(&deployment(name)).code == Some(0));
        }
        let fresh = || members(&one).iter().filter(|(state, _)| state == "fresh").count();
        wait::until_true("both to be fresh", || fresh() == 2);
        let _later = aws.attach("a/app");
        let _later = gcp.attach("b/app");
        assert_eq!(begun(), before, "an agent has moved");
        assert_eq!(noted(&one, "runners-silent"), 0);
        let [transfer] = transfer;
        transfer.finish();
    });
}
