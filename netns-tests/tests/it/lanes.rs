//! Several lanes: bulk goes by all that both runners have, and every byte arrives, whatever happens to the agents.

use mesh_netns_tests::{Coordinator, Crowd, Instance, Pace, Runner, Stack, Transfer, World, isolated, wait};
use serde_json::Value;

use crate::{
    common::{SHOP, declare},
    replicas::PORT,
};

/// Connections at once: more than there are lanes.
const BUSY: usize = 12;

/// What counts as a share of the work.
const SHARE: u64 = 1 << 20;

/// Two runners, and an instance on each.
struct Pair {
    _coordinator: Coordinator,
    runners: [Runner; 2],
    app: Instance,
    db: Instance,
}

impl Pair {
    fn new(world: &World, lanes: [&str; 2]) -> Self {
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut runners = ["aws", "ovh"].map(|name| world.runner(&coordinator, name, Stack::Dual));
        for (runner, lanes) in runners.iter_mut().zip(lanes) {
            runner.stop();
            runner.start(&["--lanes", lanes]);
        }
        let (app, db) = (runners[0].attach("shop/app"), runners[1].attach("shop/db"));
        Self { _coordinator: coordinator, runners, app, db }
    }

    fn transfers(&self) -> Vec<Transfer> {
        Crowd::gather(&self.app.namespace, self.db.service_address, PORT, BUSY).transfer(Pace::Full)
    }
}

/// What each lane has sent and received.
fn carried(runner: &Runner) -> Vec<u64> {
    let status = runner.json(&["status"]);
    let lanes = status["lanes"].as_array().unwrap_or_else(|| panic!("no lanes: {status:#}"));
    let bytes = |lane: &Value, of: &str| lane[of].as_u64().expect("bytes");
    lanes.iter().map(|lane| bytes(lane, "tx_bytes") + bytes(lane, "rx_bytes")).collect()
}

#[track_caller]
fn wait_for_all_lanes(runners: &[Runner]) {
    wait::until_true("every lane to carry its share", || {
        runners.iter().all(|runner| carried(runner).iter().all(|bytes| *bytes >= SHARE))
    });
}

#[test]
fn bulk_goes_by_all_lanes_before_and_after_an_agent_is_killed_and_another_is_stopped() {
    isolated(|| {
        let world = World::new();
        let mut pair = Pair::new(&world, ["4", "4"]);
        let _server = pair.db.serve_named(PORT);
        let transfers = pair.transfers();
        wait_for_all_lanes(&pair.runners);
        pair.runners[1].kill();
        pair.runners[1].start(&[]);
        transfers.iter().for_each(|transfer| transfer.wait_more(SHARE));
        wait_for_all_lanes(&pair.runners);
        pair.runners[0].stop();
        pair.runners[0].start(&[]);
        transfers.iter().for_each(|transfer| transfer.wait_more(SHARE));
        wait_for_all_lanes(&pair.runners);
        for transfer in transfers {
            transfer.finish().expect("every byte as it was sent");
        }
    });
}

#[test]
fn runners_with_different_numbers_of_lanes_use_those_that_both_have() {
    isolated(|| {
        let world = World::new();
        let mut pair = Pair::new(&world, ["3", "2"]);
        let _server = pair.db.serve_named(PORT);
        let transfers = pair.transfers();
        wait::until_true("both lanes to carry their share", || {
            pair.runners.iter().all(|runner| carried(runner)[..2].iter().all(|bytes| *bytes >= SHARE))
        });
        let third = carried(&pair.runners[0])[2];
        assert!(third < 10_000, "{third} bytes by a lane that the other runner doesn't have");
        // One that has a single lane, as an older agent.
        pair.runners[1].stop();
        pair.runners[1].start(&["--lanes", "1"]);
        transfers.iter().for_each(|transfer| transfer.wait_more(SHARE));
        assert_eq!(carried(&pair.runners[1]).len(), 1);
        for transfer in transfers {
            transfer.finish().expect("every byte as it was sent");
        }
    });
}
