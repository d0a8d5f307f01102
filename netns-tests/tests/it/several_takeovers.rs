//! A coordinator of three fails, in each way that there is: its runners find another one, what runs goes on, and what is new
//! is known. `--nocapture` shows how long it took.

use mesh_netns_tests::{
    World, isolated,
    several::{Fault, Several},
    traffic::{Answer, ping},
};

use crate::common::reaches;

#[test]
fn runners_find_another_coordinator_however_theirs_fails() {
    isolated(|| {
        let world = World::new();
        let mut several = Several::start(&world, 3, 5);
        let (app, db) = (several.runners[0].attach("shop/app"), several.runners[1].attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        for fault in [
            Fault::CoordinatorKilled,
            Fault::CoordinatorStopped,
            Fault::CoordinatorPaused,
            Fault::CoordinatorWithoutRunners,
            Fault::CoordinatorWithoutEtcd,
        ] {
            let mut took = several.take_over(fault);
            took.sort_unstable();
            assert!(!took.is_empty(), "some runners had their streams there");
            println!("{}: another stream after {took:.2?}", fault.words());
            ping(&mut standing, b"still there").expect("the connection stands");
            assert_eq!(several.wait_well(), Vec::<String>::new());
            let late = several.runners[2].attach("shop/app");
            reaches(&late, db.service_address, 5432);
        }
        for action in ["runners-silent", "stream-taken-over"] {
            let noted = several.coordinators[0].json(&["audit", "--action", action]);
            assert_eq!(noted["audit"], serde_json::json!([]), "{action}");
        }
    });
}
