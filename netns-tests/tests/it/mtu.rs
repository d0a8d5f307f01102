//! Links that carry less than the runners' interfaces say. They send no ICMP (or it is dropped), and fragments are dropped
//! on the way as well: what is too long is gone.

use std::time::Duration;

use mesh_netns_tests::{
    Capture, Coordinator, Instance, Runner, Stack, Steady, World, isolated, isolated_for,
    traffic::{Answer, exchange, ping},
    wait,
};

use crate::common::{SHOP, declare};

/// Two runners behind careless firewalls, and an instance on each.
struct Pair {
    runners: [Runner; 2],
    app: Instance,
    db: Instance,
    _coordinator: Coordinator,
}

impl Pair {
    fn new(world: &World, stack: Stack, flags: &[&str]) -> Self {
        let coordinator = world.coordinator(flags);
        declare(&coordinator, &[SHOP]);
        let runners = ["aws", "ovh"].map(|name| world.runner(&coordinator, name, stack));
        for runner in &runners {
            runner.namespace().be_careless();
            // Datagrams are seen one by one.
            runner.namespace().ip(&["link set eth0 gso_max_segs 1"]);
        }
        let (app, db) = (runners[0].attach("shop/app"), runners[1].attach("shop/db"));
        Self { runners, app, db, _coordinator: coordinator }
    }

    fn set_mtu(&self, world: &World, mtu: u16) {
        self.runners.iter().for_each(|runner| world.set_mtu(runner.namespace(), mtu));
    }
}

/// The longest datagrams of the tunnel that a machine has sent, with their IP headers: those that may be fragmented, which
/// carry data, and those that may not.
fn longest(capture: &Capture) -> (usize, usize) {
    let (mut data, mut pings) = (0, 0);
    for frame in capture.frames().iter().filter(|frame| frame.outgoing) {
        let (protocol, whole) = match frame.ethertype {
            0x0800 => (frame.bytes[9], frame.bytes[6] & 0x40 != 0),
            0x86dd => (frame.bytes[6], false),
            _ => continue,
        };
        if protocol == 17 {
            let longest = if whole { &mut pings } else { &mut data };
            *longest = frame.bytes.len().max(*longest);
        }
    }
    (data, pings)
}

/// Longer than this no transfer stands still.
const STALL: Duration = Duration::from_millis(1500);

/// Shrinks and widens the link under transfers in both directions.
fn changes(stack: Stack, outer: usize, mtus: &[u16]) {
    let world = World::new();
    let pair = Pair::new(&world, stack, &[]);
    let transfers = [Steady::start(&pair.app, &pair.db, 5432), Steady::start(&pair.db, &pair.app, 80)];
    let more = |bytes| Steady::wait_more(&transfers, bytes);
    more(2_000_000);
    for mtu in mtus {
        transfers.iter().for_each(|transfer| _ = transfer.take_stall());
        pair.set_mtu(&world, *mtu);
        more(2_000_000);
        let stalls = transfers.each_ref().map(Steady::take_stall);
        println!("MTU {mtu}: the longest waits are {stalls:?}");
        // From now on nothing is longer than the link.
        let captures = pair.runners.each_ref().map(|runner| Capture::interface(runner.namespace(), "eth0"));
        more(500_000);
        for capture in &captures {
            let (data, _) = longest(capture);
            assert!((576 + outer..=usize::from(*mtu)).contains(&data), "{data} bytes over a link of {mtu}");
        }
        // TCP's first retransmission finds it out, and its second one passes, after 0.6 s; on a busy machine the third.
        assert!(stalls.iter().all(|stall| *stall < STALL), "MTU {mtu}: {stalls:?}");
    }
    // The last link carries everything again, and it is used within two minutes.
    wait::true_within(Duration::from_secs(120), "the whole length to be used again", || {
        let capture = Capture::interface(pair.runners[0].namespace(), "eth0");
        more(300_000);
        longest(&capture).0 == 1344 + outer
    });
    transfers.into_iter().for_each(Steady::finish);
}

#[test]
fn transfers_go_on_when_an_ipv4_link_shrinks_and_widens() {
    isolated_for(Duration::from_secs(600), || changes(Stack::V4, 60, &[1400, 1280, 1124, 1280, 1500]));
}

#[test]
fn transfers_go_on_when_an_ipv6_link_shrinks_and_widens() {
    isolated_for(Duration::from_secs(600), || changes(Stack::V6, 80, &[1400, 1280, 1500]));
}

#[test]
fn a_link_that_was_small_from_the_start_carries_connections_both_ways() {
    isolated(|| {
        let world = World::new();
        let pair = Pair::new(&world, Stack::V4, &[]);
        for mtu in [1400, 1280, 1124] {
            pair.set_mtu(&world, mtu);
            for (from, to, port) in [(&pair.app, &pair.db, 5432), (&pair.db, &pair.app, 80)] {
                let _server = to.serve(port, Answer::Exchange(5_000_000));
                let mut stream = from.connect(to.service_address, port).expect("a connection");
                exchange(&mut stream, 5_000_000).expect("every byte, both ways");
            }
        }
    });
}

/// mesh0 can have the MTU of jumbo frames where links carry 1,500 bytes.
#[test]
fn an_mtu_of_jumbo_frames_works_over_links_of_1500() {
    isolated(|| {
        let world = World::new();
        let pair = Pair::new(&world, Stack::Dual, &["--mtu", "8920"]);
        let interface = pair.app.namespace.ip_output("link show mesh0");
        assert!(interface.contains(" mtu 8920 "), "{interface}");
        let _server = pair.db.serve(5432, Answer::Exchange(20_000_000));
        let _echo = pair.db.serve(7, Answer::Echo);
        let mut stream = pair.app.connect(pair.db.service_address, 5432).expect("a connection");
        exchange(&mut stream, 20_000_000).expect("every byte, both ways");
        let mut echo = pair.app.connect(pair.db.service_address, 7).expect("a connection");
        ping(&mut echo, &[7; 30_000]).expect("an echo");
        let captures = pair.runners.each_ref().map(|runner| Capture::interface(runner.namespace(), "eth0"));
        ping(&mut echo, &[7; 300_000]).expect("an echo");
        for capture in &captures {
            let (data, _) = longest(capture);
            assert!((1408..=1500).contains(&data), "{data} bytes over a link of 1500");
        }
    });
}
