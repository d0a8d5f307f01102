//! By a relay as well, nothing is longer than the links carry.

use std::time::Duration;

use mesh_netns_tests::{Capture, Nat, Steady, Turn, isolated_for, wait};

use crate::reach::{Lab, Pair};

/// Longer than this no transfer stands still.
const STALL: Duration = Duration::from_millis(1500);

/// The longest datagram with data that a machine has sent, with its IP header: one that may be fragmented.
fn longest(capture: &Capture) -> usize {
    let frames = capture.frames();
    let data = frames.iter().filter(|frame| frame.outgoing && frame.ethertype == 0x0800);
    let data = data.filter(|frame| frame.bytes[9] == 17 && frame.bytes[6] & 0x40 == 0);
    data.map(|frame| frame.bytes.len()).max().unwrap_or(0)
}

fn links_shrink_and_widen(turn: Turn) {
    let lab = Lab::new(turn);
    let pair = Pair::new(&lab, [Nat::Symmetric, Nat::Symmetric]);
    for site in &pair.sites {
        site.router.namespace().be_careless();
        site.runner.namespace().be_careless();
        // Datagrams are seen one by one.
        site.runner.namespace().ip(&["link set eth0 gso_max_segs 1"]);
    }
    lab.relay.namespace().be_careless();
    let transfers = [Steady::start(&pair.app, &pair.db, 5432), Steady::start(&pair.db, &pair.app, 80)];
    Steady::wait_more(&transfers, 1_000_000);
    for mtu in [1400, 1280, 1124, 1280, 1500] {
        transfers.iter().for_each(|transfer| _ = transfer.take_stall());
        pair.sites.iter().for_each(|site| lab.world.set_mtu(site.router.namespace(), mtu));
        Steady::wait_more(&transfers, 1_000_000);
        let stalls = transfers.each_ref().map(Steady::take_stall);
        println!("MTU {mtu}: the longest waits are {stalls:?}");
        let captures = pair.sites.each_ref().map(|site| Capture::interface(site.runner.namespace(), "eth0"));
        Steady::wait_more(&transfers, 300_000);
        for capture in &captures {
            let longest = longest(capture);
            assert!((640..=usize::from(mtu)).contains(&longest), "{longest} bytes over a link of {mtu}");
        }
        assert!(stalls.iter().all(|stall| *stall < STALL), "MTU {mtu}: {stalls:?}");
    }
    wait::true_within(Duration::from_secs(300), "the whole length to be used again", || {
        let capture = Capture::interface(pair.sites[0].runner.namespace(), "eth0");
        Steady::wait_more(&transfers, 300_000);
        // The longest inner packet, WireGuard's and UDP's headers, and that of ChannelData.
        longest(&capture) == 1344 + 60 + 4
    });
    assert_eq!(pair.paths(), ["relay"; 2]);
    transfers.into_iter().for_each(Steady::finish);
}

#[test]
fn transfers_by_coturn_go_on_when_links_shrink_and_widen() {
    isolated_for(Duration::from_secs(600), || links_shrink_and_widen(Turn::Coturn));
}

#[test]
fn transfers_by_a_relay_of_the_mesh_go_on_when_links_shrink_and_widen() {
    isolated_for(Duration::from_secs(600), || links_shrink_and_widen(Turn::Enrolled));
}
