//! An etcd that is put back to an earlier state, under coordinators that were stopped first, and under such as run on.

use std::collections::BTreeSet;

use mesh_netns_tests::{
    Identity, Runner, World, isolated,
    several::Several,
    traffic::{Answer, ping},
    wait,
};

use crate::common::{declare, reaches};

/// The epochs of the maps that the runners have.
fn epochs(runners: &[Runner]) -> BTreeSet<String> {
    runners.iter().map(|runner| Identity::of(runner).view()["epoch"].to_string()).collect()
}

#[test]
fn after_a_restore_of_etcd_all_maps_begin_anew_and_what_runs_goes_on() {
    isolated(|| {
        let world = World::new();
        let mut several = Several::start(&world, 2, 2);
        let (app, db) = (several.runners[0].attach("shop/app"), several.runners[1].attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        for runs_on in [false, true] {
            let ended = several.runners[1].attach("shop/app");
            several.etcd.save("/run/etcd.db");
            // What comes after the backup is lost with it, but for what runs.
            declare(&several.coordinators[0], &["deployment = \"late\"\n[services.x]\n"]);
            several.runners[1].command(&["detach", &ended.id]).done();
            let late = several.runners[1].attach("shop/app");
            let before = epochs(&several.runners);
            assert_eq!(before.len(), 1, "{before:?}");
            if runs_on {
                several.etcd.put_back("/run/etcd.db");
                for coordinator in &mut several.coordinators {
                    wait::until_true("it to notice", || coordinator.log().contains("put back to an earlier state"));
                    assert!(!coordinator.ended().success(), "it ends");
                }
            } else {
                several.coordinators.iter_mut().for_each(|coordinator| assert!(coordinator.stop().success()));
                several.etcd.put_back("/run/etcd.db");
            }
            several.coordinators.iter_mut().for_each(mesh_netns_tests::Coordinator::start);
            wait::until_true("the runners to have maps of another epoch", || {
                let now = epochs(&several.runners);
                now.len() == 1 && now.is_disjoint(&before)
            });
            several.runners.iter_mut().for_each(Runner::wait_connected);
            for coordinator in &several.coordinators {
                let deployments = coordinator.json(&["deployments"]).to_string();
                assert!(deployments.contains("shop") && !deployments.contains("late"), "{deployments}");
                wait::until_true("the instances to be those that run", || {
                    let all = coordinator.json(&["instances"]).to_string();
                    let has = |id: &str| all.contains(&format!("\"{id}\""));
                    has(&app.id) && has(&db.id) && has(&late.id) && !has(&ended.id)
                });
                let silent = coordinator.json(&["audit", "--action", "runners-silent"]);
                assert_eq!(silent["audit"], serde_json::json!([]));
            }
            ping(&mut standing, b"still there").expect("the connection stands");
            reaches(&app, db.service_address, 5432);
            reaches(&late, db.service_address, 5432);
        }
    });
}
