//! One identity in use on two machines, and a machine that comes back after a long time.

use std::{fs, path::Path};

use mesh_netns_tests::{Coordinator, Crowd, Daemon, Runner, Stack, World, isolated, wait};

use crate::common::{SHOP, declare};

/// Starts an agent with a copy of the runner's state directory, on a machine without its namespaces.
fn start_copy(of: &Runner, on: &Runner) -> Daemon {
    fs::create_dir_all(on.state()).expect("a directory");
    for entry in fs::read_dir(of.state()).expect("a state directory").map(|entry| entry.expect("an entry")) {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            fs::copy(entry.path(), on.state().join(entry.file_name())).expect("a copy");
        }
    }
    let mut command = on.namespace().command("unshare");
    let script = "mount -t tmpfs none /run/netns && exec \"$MESH_NODE\" join";
    command.args(["--mount", "sh", "-c", script]).env("MESH_NODE_STATE", on.state()).env("NO_COLOR", "1");
    Daemon::start(command, Path::new(&format!("{}.log", on.state().display())))
}

fn audit(coordinator: &Coordinator, action: &str) -> usize {
    let audit = coordinator.json(&["audit"]);
    audit["audit"].as_array().expect("an array").iter().filter(|entry| entry["action"] == action).count()
}

#[test]
fn a_copied_machine_is_refused_and_no_connection_of_the_first_breaks() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let (mut one, two) =
            (world.runner(&coordinator, "one", Stack::Dual), world.runner(&coordinator, "two", Stack::Dual));
        let (db, app) = (one.attach("shop/db"), two.attach("shop/app"));
        let _server = db.serve_named(9000);
        let mut standing = Crowd::gather(&app.namespace, db.service_address, 9000, 5);
        let machine = world.machine("copy", Stack::Dual);
        let mut copy = start_copy(&one, &machine);
        wait::until_true("the copy to be refused", || copy.log().contains("is a copy of the runner `one`"));
        let unharmed = |coordinator: &Coordinator, standing: &mut Crowd| {
            standing.assert_all_answer();
            app.connect(db.service_address, 9000).expect("a new connection");
            let instances = coordinator.json(&["instances"]).to_string();
            assert!(instances.contains(&db.id) && instances.contains(&db.address.to_string()), "{instances}");
        };
        unharmed(&coordinator, &mut standing);
        assert!(coordinator.log().contains("two machines use one identity"), "{}", coordinator.log());
        assert_eq!((audit(&coordinator, "copy-refused"), audit(&coordinator, "stream-taken-over")), (1, 0));

        // The copy isn't accepted after a restart of the coordinator or of the first agent either.
        coordinator.kill();
        coordinator.start();
        one.wait_connected();
        unharmed(&coordinator, &mut standing);
        one.kill();
        one.start(&[]);
        unharmed(&coordinator, &mut standing);
        assert!(copy.runs(), "{}", copy.log());
    });
}

#[test]
fn a_machine_that_lost_its_power_is_no_copy_of_itself() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut one = world.runner(&coordinator, "one", Stack::Dual);
        let db = one.attach("shop/db");
        // Its messages at its end don't get through.
        world.cut(one.namespace());
        one.kill();
        world.mend(one.namespace());
        one.start(&[]);
        let instances = coordinator.json(&["instances"]).to_string();
        assert!(instances.contains(&db.id), "{instances}");
        assert_eq!(audit(&coordinator, "copy-refused"), 0);
    });
}
