//! Several coordinators know exactly which runners may still act on what was taken back, also after the loss of the
//! coordinator that a runner was connected to.

use std::time::Duration;

use mesh_netns_tests::{Coordinator, World, isolated, traffic::Answer, wait};
use serde_json::{Value, json};

use crate::{
    common::{BILLING, REPORTS, SHOP, declare, is_refused, reaches},
    several_coordinators::{on_etcd, runner},
};

/// How long until the records have what a coordinator that is gone had to know.
const RECORDED: Duration = Duration::from_secs(120);

/// The runners that a change of a deployment's trust is not in force at, as a coordinator tells after a second, and how
/// many it concerns.
fn pending(coordinator: &Coordinator, deployment: &str) -> (Value, Value) {
    let answer = coordinator.command(&["trust", "--app", deployment, "--wait", "--timeout", "1s", "--json"]).json();
    (answer["pending"].clone(), answer["concerned"].clone())
}

fn id(coordinator: &Coordinator, deployment: &str) -> String {
    let all = coordinator.json(&["deployments"]);
    let rows = all["deployments"].as_array().expect("an array");
    let row = rows.iter().find(|row| row["deployment"] == deployment).expect("it is declared");
    row["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_runner_that_ends_with_its_coordinator_owes_what_was_taken_from_it_and_nothing_else() {
    isolated(|| {
        let world = World::new();
        let (etcd, mut one, mut two) = on_etcd(&world);
        declare(&one, &[SHOP, BILLING, REPORTS]);
        let mut aws = runner(&world, "aws", &[&two]);
        wait::until_true("the runner at the second one", || two.log().contains("stream began"));
        let gcp = runner(&world, "gcp", &[&one]);
        let (app, api) = (aws.attach("shop/app"), gcp.attach("billing/api"));
        let _server = api.serve(80, Answer::Echo);
        one.command(&["trust", "shop", "--app", "billing", "--wait"]).done();
        reaches(&app, api.service_address, 80);

        // Its agent goes with its coordinator, and then what it could call is taken back.
        two.kill();
        aws.kill();
        one.command(&["trust", "--clear", "--app", "billing"]).done();
        assert_eq!(pending(&one, "billing"), (json!(["aws"]), json!(2)));
        assert_eq!(pending(&one, "reports"), (json!([]), json!(0)), "it never knew of that");

        // In time the records say so, and a coordinator that has just begun reads it there.
        let owed = format!("mesh/r/owed/{}", id(&one, "billing"));
        wait::true_within(RECORDED, "a record of what it owes", || etcd.get(&owed).contains("runners"));
        one.kill();
        one.start();
        assert_eq!(pending(&one, "billing"), (json!(["aws"]), json!(2)));
        assert_eq!(pending(&one, "reports"), (json!([]), json!(0)));

        // It comes back, with its coordinator, and owes nothing any more.
        two.start();
        aws.start_alone(&[]);
        aws.wait_connected();
        is_refused(&app, api.service_address, 80);
        wait::until_true("nothing to be owed", || pending(&one, "billing") == (json!([]), json!(1)));
        wait::until_true("no record", || !etcd.get(&owed).contains("runners"));
        wait::until_true("the same by the other", || pending(&two, "billing") == (json!([]), json!(1)));
    });
}
