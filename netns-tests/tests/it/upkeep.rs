//! The set-up in a container survives other programs that configure its network, and never costs the container its own
//! addresses.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use mesh_netns_tests::{Coordinator, Instance, Namespace, Runner, Stack, World, isolated, traffic::Answer, wait};

use crate::common::{MESH_TABLE, SHOP, declare, reaches};

/// The container's own address, on its bridge.
const OWN: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);

/// The two rules by which wg-quick routes all traffic but the local network's into a VPN.
const VPN: [&str; 2] = ["rule add not fwmark 51820 table 7", "rule add table main suppress_prefixlength 0"];

/// A namespace like that of a container on a bridge, with a table that routes everything elsewhere.
fn container(name: &str) -> Namespace {
    let container = Namespace::create(name);
    container.ip(&[
        "link set lo up",
        "link add eth0 type veth peer name bridge",
        "link set eth0 up",
        "link set bridge up",
        "addr add 172.20.0.2/24 dev eth0",
        "route add default via 172.20.0.1",
        "route add default dev eth0 table 7",
    ]);
    container.wait_up("eth0");
    container
}

/// A world with `shop/db` on a runner, and a server there.
fn stage() -> (World, Coordinator, Runner, Instance) {
    let world = World::new();
    let coordinator = world.coordinator(&[]);
    declare(&coordinator, &[SHOP]);
    let aws = world.runner(&coordinator, "aws", Stack::Dual);
    let db = aws.attach("shop/db");
    (world, coordinator, aws, db)
}

/// At this instant, without waiting for a repair.
#[track_caller]
fn reaches_itself(container: &Namespace, why: &str) {
    for own in [Ipv4Addr::LOCALHOST, OWN] {
        let connected = container.enter(|| {
            let listener = TcpListener::bind((own, 0)).expect("its own address");
            let address = listener.local_addr().expect("an address");
            TcpStream::connect_timeout(&address, Duration::from_secs(2))
        });
        connected.unwrap_or_else(|e| panic!("{why}: its own address {own}: {e}"));
    }
}

fn connects(app: &Instance, db: &Instance) -> bool {
    let to = SocketAddrV4::new(db.service_address, 5432).into();
    app.namespace.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(1))).is_ok()
}

#[test]
fn rules_at_any_priority_take_neither_its_own_addresses_nor_the_mesh_from_a_container() {
    isolated(|| {
        let (_world, _coordinator, aws, db) = stage();
        let _server = db.serve(5432, Answer::Echo);
        let rules = ["pref 100", "pref 50", "pref 5", "pref 0", ""]
            .map(|priority| format!("rule add from 172.20.0.0/24 lookup 7 {priority}"));
        let rules: Vec<Vec<&str>> = rules.iter().map(|rule| vec![&**rule]).chain([VPN.to_vec()]).collect();
        for (number, rules) in rules.iter().enumerate() {
            let early = container(&format!("early-{number}"));
            early.ip(rules);
            let before = early.ip_output("rule");
            let early = aws.attach_in(early, "shop/app");
            let late = aws.attach_in(container(&format!("late-{number}")), "shop/app");
            late.namespace.ip(rules);
            for app in [&early, &late] {
                reaches_itself(&app.namespace, rules[0]);
                reaches(app, db.service_address, 5432);
            }
            aws.command(&["detach", &early.id]).done();
            assert_eq!(early.namespace.ip_output("rule"), before, "it leaves what others had");
            let rules_left = late.namespace.ip_output("rule").matches("lookup 7").count();
            aws.command(&["detach", &late.id]).done();
            let left = late.namespace.ip_output("rule");
            assert_eq!(left.matches("lookup 7").count(), rules_left, "{left}");
            assert!(!left.contains("100.112.0.0"), "{left}");
        }
    });
}

#[test]
fn a_vpn_that_spares_the_local_network_spares_it_in_an_attached_container() {
    isolated(|| {
        let (_world, _coordinator, aws, _db) = stage();
        let plain = container("plain");
        plain.ip(&VPN);
        // The order of other programs' rules beside the look-up of local addresses: the later rule comes first, as
        // usual.
        let order = |namespace: &Namespace| {
            let rules = namespace.ip_output("rule");
            let others = rules.lines().filter_map(|rule| rule.split_once(":\t")).map(|(_, rule)| rule.to_owned());
            others.filter(|rule| !rule.contains("100.112.0.0")).collect::<Vec<_>>()
        };
        let expected = order(&plain);
        // Some of these change while the agent inspects them for the first time.
        let apps = [0, 1, 2, 3, 4, 5, 6, 7].map(|number| {
            let app = aws.attach_in(container(&format!("app-{number}")), "shop/app");
            app.namespace.ip(&VPN);
            app
        });
        for app in &apps {
            wait::until_true("the order that they have elsewhere", || order(&app.namespace) == expected);
        }
    });
}

#[test]
fn what_others_take_away_in_a_container_is_put_back() {
    isolated(|| {
        let (_world, _coordinator, aws, db) = stage();
        let _server = db.serve(5432, Answer::Echo);
        let flush = format!("route flush table {MESH_TABLE}");
        let disturbances: [&[&str]; 8] = [
            &["link set mesh0 down"],
            &["addr flush dev mesh0"],
            &["route del 100.112.0.0/12 dev mesh0", &flush],
            &["rule del pref 0 blackhole"],
            &["rule del pref 0 iif lo", "rule del pref 0 iif mesh0", "rule del pref 0 blackhole", &flush],
            &["link set mesh0 mtu 600"],
            &["link set mesh0 down", "link set mesh0 name tun7"],
            &["link set mesh0 down", "addr flush dev mesh0", "link set mesh0 up"],
        ];
        // Each in a container of its own: what is disturbed many times is put back less and less often.
        for (number, disturbance) in disturbances.iter().enumerate() {
            let app = aws.attach_in(container(&format!("app-{number}")), "shop/app");
            reaches(&app, db.service_address, 5432);
            let picture = || {
                ["rule", "route show table main", &format!("route show table {MESH_TABLE}"), "-br addr", "-br link"]
                    .map(|what| app.namespace.ip_output(what))
            };
            let before = picture();
            app.namespace.ip(disturbance);
            wait::until_true(&format!("{disturbance:?} to be put right"), || picture() == before);
            wait::until_true(&format!("the mesh after {disturbance:?}"), || connects(&app, &db));
        }
        let app = aws.attach_in(container("app"), "shop/app");
        app.namespace.ip(&["link set lo down"]);
        wait::until_true("lo to be up again", || app.namespace.ip_output("link show lo").contains(",UP"));
        reaches_itself(&app.namespace, "lo was down");
        // A VPN's clean-up: the main table as it was without us and the network.
        app.namespace.ip(&["route flush table main"]);
        wait::until_true("the mesh without a main table", || {
            connects(&app, &db) && app.namespace.ip_output("route").contains("100.112.0.0/12 dev mesh0")
        });
        assert!(aws.log().contains("put back"), "{}", aws.log());
    });
}

#[test]
fn endless_changes_are_reported_in_status_and_delay_no_other() {
    isolated(|| {
        let (_world, _coordinator, aws, db) = stage();
        let _server = db.serve(5432, Answer::Echo);
        let (app, other) = (aws.attach_in(container("app"), "shop/app"), aws.attach("shop/app"));
        let trouble = |of: &Instance| {
            let status = aws.json(&["status"]);
            let instances = status["instances"].as_array().expect("instances").clone();
            let found = instances.into_iter().find(|found| found["id"] == of.id.as_str()).expect("the instance");
            found["warnings"].as_array().map(|warnings| warnings[0].as_str().expect("a text").to_owned())
        };
        assert_eq!(trouble(&app), None);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // It may not be restored yet.
                    let _ = app.namespace.ip_output("rule del pref 0 blackhole");
                }
            });
            let said = wait::until("the trouble to be said", || trouble(&app));
            assert!(said.contains("policy rules") && said.contains("ip monitor"), "{said}");
            other.namespace.ip(&["link set mesh0 down"]);
            wait::until_true("the other one to be put right", || connects(&other, &db));
            assert_eq!(trouble(&other), None);
            over.store(true, Ordering::Relaxed);
        });
    });
}

/// A process's resident memory, and its maximum since the last call, in kilobytes.
fn memory(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let found = (field("VmRSS:"), field("VmHWM:"));
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("proc(5)");
    found
}

#[test]
fn routes_rules_and_addresses_of_a_container_are_not_the_agents_memory() {
    isolated(|| {
        let (_world, _coordinator, aws, _db) = stage();
        // The cost of the first attachment isn't measured.
        let warm = aws.attach_in(container("warm"), "shop/app");
        aws.command(&["detach", &warm.id]).done();
        let crowded = container("crowded");
        let routes =
            (0..100_000_u32).map(|n| format!("route add 10.{}.{}.{}/32 dev eth0", n >> 16, n >> 8 & 255, n & 255));
        let rules = (1..2000).map(|n| format!("rule add pref {n} from 10.9.{}.{} lookup 7", n >> 8, n & 255));
        let addresses = (1..2000).map(|n| format!("addr add 10.8.{}.{}/32 dev lo", n >> 8, n & 255));
        let lines: Vec<String> = routes.chain(rules).chain(addresses).collect();
        crowded.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let (before, _) = memory(aws.pid());
        let app = aws.attach_in(crowded, "shop/app");
        let (_, most) = memory(aws.pid());
        assert!(most < before + 2048, "{before} kB before, {most} kB while attaching");
        aws.command(&["detach", &app.id]).done();
        let (_, most) = memory(aws.pid());
        assert!(most < before + 2048, "{before} kB before, {most} kB while detaching");
        assert!(!app.namespace.ip_output("rule").contains("100.112.0.0"));
    });
}

#[test]
fn a_network_that_is_larger_than_the_range_is_no_clash() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut aws = world.machine("aws", Stack::Dual);
        aws.namespace().ip(&["route add blackhole 100.64.0.0/10", "route add blackhole 100.0.0.0/8 table 52"]);
        let token = coordinator.token(&["--any"]);
        aws.start(&[&coordinator.url(false), &token, "--name", "aws"]);
        let db = aws.attach("shop/db");
        let _server = db.serve(5432, Answer::Echo);
        let wide = container("wide");
        wide.ip(&[
            "route add 100.64.0.0/10 via 172.20.0.1",
            "route add 100.64.0.0/10 dev eth0 table 52",
            "rule add pref 5 lookup 52",
        ]);
        let app = aws.attach_in(wide, "shop/app");
        reaches(&app, db.service_address, 5432);

        let narrow = container("narrow");
        narrow.ip(&["route add 100.112.9.0/24 via 172.20.0.1"]);
        let path = narrow.path();
        let refused = aws.command(&["attach", "shop/app", "--netns", path.to_str().expect("an ASCII path")]);
        refused.refused(&["100.112.9.0/24 is routed via 172.20.0.1"]);
    });
}

#[test]
fn a_firewall_in_a_container_that_eats_the_mesh_is_named_by_a_probe() {
    isolated(|| {
        let (_world, _coordinator, aws, db) = stage();
        let app = aws.attach_in(container("app"), "shop/app");
        let probe = |code: i32| {
            let outcome = aws.command(&["why", "shop/app", "shop/db", "5432", "--probe", "--json"]).expect_code(code);
            let steps = outcome.json()["steps"].as_array().expect("steps").clone();
            let step = steps.iter().find(|step| step["step"] == "probe").expect("a step of the probe");
            step["code"].as_str().expect("a code").to_owned()
        };
        assert_eq!(probe(1), "refused-by-callee");
        let _server = db.serve(5432, Answer::Echo);
        assert_eq!(probe(0), "answered");
        let nft = |command: &str| {
            let status = app.namespace.command("nft").arg(command).status().expect("nft of nftables");
            assert!(status.success(), "nft {command}");
        };
        for (rule, code) in [
            ("ip daddr 100.64.0.0/10 drop", "never-left"),
            // The first one also takes the reject, which goes to an address of the mesh.
            ("ip daddr 100.64.0.0/10 reject", "refused-in-container"),
            ("tcp dport 5432 reject", "refused-in-container"),
            ("tcp dport 5432 reject with tcp reset", "refused-in-container"),
        ] {
            nft(&format!(
                "add table ip guard; add chain ip guard out {{ type filter hook output priority 0; }}; add rule ip guard out {rule}"
            ));
            assert_eq!(probe(1), code, "{rule}");
            nft("delete table ip guard");
            assert_eq!(probe(0), "answered");
        }
        let refused = aws.command(&["why", "shop/db", "shop/app", "80", "--probe"]).expect_code(1);
        assert!(refused.stdout.contains("refused it"), "{}", refused.stdout);
    });
}
