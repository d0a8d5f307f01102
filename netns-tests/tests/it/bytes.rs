//! Speed never corrupts data: large transfers, over renewed sessions, at any MTU, and whatever offloads the kernel
//! refuses.

use std::{collections::BTreeMap, time::Duration};

use mesh_netns_tests::{
    Coordinator, Crowd, Faults, Instance, Offload, Pace, Runner, Stack, Weather, World, isolated, isolated_for,
    traffic::{Answer, exchange},
    wait,
};
use serde_json::Value;

use crate::common::{SHOP, declare};

/// Two runners, and an instance on each.
struct Pair {
    coordinator: Coordinator,
    runners: [Runner; 2],
    app: Instance,
    db: Instance,
}

impl Pair {
    fn new(world: &World) -> Self {
        Self::with_mtu(world, 1344)
    }

    fn with_mtu(world: &World, mtu: u16) -> Self {
        let coordinator = world.coordinator_named(&format!("coord{mtu}"), &["--mtu", &mtu.to_string()]);
        declare(&coordinator, &[SHOP]);
        let runners = ["aws", "ovh"].map(|name| world.runner(&coordinator, &format!("{name}{mtu}"), Stack::Dual));
        let (app, db) = (runners[0].attach("shop/app"), runners[1].attach("shop/db"));
        Self { coordinator, runners, app, db }
    }

    /// A round trip of this many bytes, each checked.
    #[track_caller]
    fn exchange(&self, bytes: u64) {
        let server = self.db.serve(5432, Answer::Exchange(bytes));
        let mut stream = self.app.connect(self.db.service_address, 5432).expect("a connection");
        exchange(&mut stream, bytes).expect("every byte, both ways");
        assert_eq!(server.accepted(), 1);
    }

    fn handshake_age(&self) -> u64 {
        let status = self.runners[0].json(&["status"]);
        status["peers"][0]["handshake_age_seconds"].as_u64().unwrap_or_else(|| panic!("no session: {status:#}"))
    }
}

/// The bytes that each kind of call carries.
fn means(runner: &Runner) -> BTreeMap<String, u64> {
    let status = runner.json(&["status"]);
    let calls = status["traffic"].as_object().unwrap_or_else(|| panic!("no traffic: {status:#}"));
    let count = |of: &Value, what: &str| of[what].as_u64().expect("a count");
    calls.iter().map(|(name, of)| (name.clone(), count(of, "bytes") / count(of, "count").max(1))).collect()
}

#[test]
fn gigabytes_of_odd_writes_arrive_across_a_rekeying() {
    const PART: u64 = 250_000_000;
    const PARTS: usize = 8;
    // Two minutes until the session is renewed, and as much for the rest on a slow machine.
    const LIMIT: Duration = Duration::from_secs(900);
    // A session is renewed after 120 s (WireGuard whitepaper §6.1).
    const NEARLY: u64 = 117;
    isolated_for(LIMIT, || {
        let world = World::new();
        let pair = Pair::new(&world);
        for _ in 0..PARTS {
            pair.exchange(PART);
        }
        wait::true_within(LIMIT, "a session that is about to be renewed", || pair.handshake_age() >= NEARLY);
        while pair.handshake_age() >= NEARLY {
            pair.exchange(PART);
        }
        // Without offloads a call carries 1.4 KB, at several times the cost, which would otherwise go unnoticed.
        for runner in &pair.runners {
            for (calls, mean) in means(runner) {
                assert!(mean > 5000, "an offload is missing: {calls} carry {mean} bytes each");
            }
        }
    });
}

#[test]
fn any_mtu_carries_the_same_bytes() {
    isolated(|| {
        let world = World::new();
        for mtu in [1279, 1280, 1281, 1343, 1344, 1345, 1407, 1408, 1409] {
            let pair = Pair::with_mtu(&world, mtu);
            let interface = pair.app.namespace.ip_output("link show mesh0");
            assert!(interface.contains(&format!(" mtu {mtu} ")), "{interface}");
            pair.exchange(20_000_000);
        }
    });
}

#[test]
fn lost_repeated_and_late_datagrams_cost_no_byte() {
    isolated(|| {
        let world = World::new();
        let pair = Pair::new(&world);
        let (lost, doubled, late) = (10, 10, 20);
        let (late_by, delay) = (Duration::from_millis(5), Duration::from_millis(1));
        let storm = world.weather(Weather { lost, doubled, late, late_by, delay, seed: 1 });
        pair.exchange(20_000_000);
        assert!(storm.lost() > 0, "none of {} was lost", storm.passed());
        assert!(pair.runners.iter().any(|runner| runner.drops("replayed") > 0), "none came twice");
    });
}

#[test]
fn what_its_operator_switches_off_stays_off_and_the_bytes_are_the_same() {
    isolated(|| {
        let world = World::new();
        let mut pair = Pair::new(&world);
        for flag in ["--no-tun-gso", "--no-udp-gso", "--no-udp-gro"] {
            for runner in &mut pair.runners {
                runner.stop();
                runner.start(&[flag]);
            }
            for runner in &pair.runners {
                let whys = whys(runner);
                assert!(!whys.is_empty() && whys.values().all(|why| why.contains(flag)), "{flag}: {whys:?}");
                let text = runner.command(&["status"]).done().stdout;
                assert!(text.contains(&format!("{} off", &flag[5..])), "{text}");
            }
            pair.exchange(20_000_000);
        }
    });
}

#[test]
fn whatever_the_kernel_refuses_is_crossed_under_load() {
    isolated(|| {
        let world = World::new();
        let mut pair = Pair::new(&world);
        let faults = pair.runners.each_mut().map(Faults::of);
        let server = pair.db.serve_named(9000);
        let transfers = Crowd::gather(&pair.app.namespace, pair.db.service_address, 9000, 4).transfer(Pace::Full);
        let go_on = || transfers.iter().for_each(|transfer| transfer.wait_more(5_000_000));
        let restart = |pair: &mut Pair| {
            for runner in &mut pair.runners {
                runner.stop();
                runner.start(&[]);
            }
        };
        go_on();
        restart(&mut pair);
        go_on();
        for runner in &pair.runners {
            assert_eq!(whys(runner), BTreeMap::new(), "all four are there");
        }

        // The path's batches: too long, ambiguous, or impossible.
        for errno in [libc::EMSGSIZE, libc::EINVAL, libc::EIO] {
            faults.iter().for_each(|faults| faults.refuse(Offload::UdpGso, errno));
            go_on();
            faults.iter().for_each(|faults| faults.allow(Offload::UdpGso));
            go_on();
        }
        // A TUN's super-packets.
        faults.iter().for_each(|faults| faults.refuse(Offload::TunGso, libc::EINVAL));
        go_on();
        faults.iter().for_each(|faults| faults.allow(Offload::TunGso));
        go_on();
        for runner in &pair.runners {
            for counter in ["udp-gso-refused", "udp-gso-unsupported", "udp-gso-off", "tun-gso-refused"] {
                assert!(runner.drops(counter) > 0, "{counter}");
            }
            let whys = whys(runner);
            assert!(whys["udp-gso"].contains("refuses it on some routes"), "{whys:?}");
            assert!(whys["tun-gro"].contains("refused super-packets"), "{whys:?}");
        }
        // An offload that failed is tried again when the operator enables it.
        for state in ["off", "on"] {
            pair.coordinator.command(&["switch", "udp-gso", state]).done();
            let on = || pair.runners.iter().all(|runner| offload(runner, "udp-gso")["on"] == (state == "on"));
            wait::until_true("the switch to arrive", on);
            go_on();
        }
        let off = pair.runners[0].drops("udp-gso-off");
        go_on();
        assert_eq!(pair.runners[0].drops("udp-gso-off"), off);

        // Old kernels: no batches in, no super-packets at all.
        for faults in &faults {
            faults.refuse(Offload::UdpGro, libc::ENOPROTOOPT);
            faults.refuse(Offload::TunOffloads, libc::EINVAL);
        }
        restart(&mut pair);
        go_on();
        for runner in &pair.runners {
            assert!(whys(runner)["udp-gro"].contains("too old"), "{:?}", whys(runner));
            assert!(whys(runner)["tun-gso"].contains("TUNs have none"), "{:?}", whys(runner));
            let means = means(runner);
            assert!(means["tun-reads"] < 1400 && means["udp-receives"] < 1500, "{means:?}");
        }
        // Each of them can be undone.
        for faults in &faults {
            faults.allow(Offload::UdpGro);
            faults.allow(Offload::TunOffloads);
        }
        restart(&mut pair);
        go_on();
        for runner in &pair.runners {
            assert_eq!(whys(runner), BTreeMap::new());
        }
        for transfer in transfers {
            transfer.finish().expect("every byte, both ways");
        }
        assert_eq!(server.resets(), 0);
    });
}

fn offload(runner: &Runner, name: &str) -> Value {
    runner.json(&["status"])["offloads"][name].clone()
}

/// The offloads with a remark in the status.
fn whys(runner: &Runner) -> BTreeMap<String, String> {
    let status = runner.json(&["status"]);
    let offloads = status["offloads"].as_object().unwrap_or_else(|| panic!("no offloads: {status:#}"));
    assert_eq!(offloads.len(), 4);
    offloads.iter().filter_map(|(name, of)| Some((name.clone(), of["why"].as_str()?.to_owned()))).collect()
}
