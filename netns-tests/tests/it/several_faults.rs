//! Several coordinators whose machines fail, while clients write and look: what was confirmed stays, whole, and what is
//! seen anywhere fits one order.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use mesh_netns_tests::{
    World, isolated,
    several::{Several, Trial},
};

/// How many faults there are.
const FAULTS: usize = 30;

#[test]
fn what_was_confirmed_stays_and_all_see_the_same_whatever_fails() {
    isolated(|| {
        let seed = RandomState::new().hash_one(0);
        println!("seed {seed}");
        let world = World::new();
        let mut several = Several::start(&world, 3, 2);
        let lasts = [Duration::from_millis(300), Duration::from_millis(1500)];
        let trial = Trial { seed, lasts, think: Duration::from_millis(20) };
        let report = several.suffer(trial, |report| report.wrong.is_empty() && report.count() < FAULTS);
        assert!(report.wrong.is_empty(), "after {} faults: {}", report.count(), report.wrong.join("\n"));
        let [confirmed, refused, unknown] = report.writes;
        println!(
            "{} faults, {confirmed} writes confirmed, {refused} refused, {unknown} without an answer, {} looks",
            report.count(),
            report.looks
        );
        assert!(confirmed > 100 && report.looks > 100, "clients have done something");
    });
}
