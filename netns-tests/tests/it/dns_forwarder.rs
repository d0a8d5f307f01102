//! Unbound asks the resolver, as a server of the container's own would: what it doesn't believe, it answers with SERVFAIL.

use std::{fs, path::Path};

use mesh_netns_tests::{Daemon, World, isolated, run, wait};

use crate::dns::{Lab, RESOLVER, lab};

/// Where it listens.
const AT: &str = "5300";

/// It asks in random capitals, and for 512 bytes at most, so that longer answers come by TCP. It keeps no answer.
fn configuration() -> String {
    format!(
        "server:\n directory: \"/run\"\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n use-syslog: no\n logfile: \"\"\n\
         do-daemonize: no\n interface: 127.0.0.1\n port: {AT}\n do-ip6: no\n module-config: \"iterator\"\n\
         use-caps-for-id: yes\n edns-buffer-size: 512\n cache-max-ttl: 0\n cache-max-negative-ttl: 0\n\
         harden-referral-path: yes\n harden-below-nxdomain: yes\n qname-minimisation: yes\n\
         local-zone: \"127.100.in-addr.arpa.\" nodefault\n\
         forward-zone:\n name: \"warp.\"\n forward-addr: {RESOLVER}\n\
         forward-zone:\n name: \"100.in-addr.arpa.\"\n forward-addr: {RESOLVER}\n\
         remote-control:\n control-enable: no\n"
    )
}

fn start(lab: &Lab) -> Daemon {
    fs::write("/run/unbound.conf", configuration()).expect("our own /run");
    let mut command = lab.app.namespace.command("unbound");
    command.args(["-d", "-c", "/run/unbound.conf"]);
    Daemon::start(command, Path::new("/run/unbound.log"))
}

fn dig(lab: &Lab, arguments: &[&str]) -> String {
    let mut command = lab.app.namespace.command("dig");
    command.args(["@127.0.0.1", "-p", AT, "+time=20", "+tries=1"]).args(arguments);
    run(command).stdout
}

#[test]
fn unbound_takes_every_answer_and_notices_a_right_that_is_taken() {
    isolated(|| {
        let world = World::new();
        let lab = lab(&world, 24);
        let (db, grpc) = (lab.dbs[0].service_address, &lab.grpc);
        let unbound = start(&lab);
        wait::until_true("Unbound to answer", || dig(&lab, &["warp", "SOA"]).contains("NOERROR"));

        let short = |arguments: &[&str]| -> Vec<String> {
            dig(&lab, &[&["+short"], arguments].concat()).lines().map(str::to_owned).collect()
        };
        for (arguments, expected) in [
            (&["my-db.warp"][..], db.to_string()),
            (&["My-DB.Shop.Warp"], db.to_string()),
            (&["i-1.warp"], lab.dbs[0].address.to_string()),
            (&["grpc.api.warp"], grpc.service_address.to_string()),
            (&["_port._tcp.my-db.warp", "SRV"], "0 1 5432 my-db.shop.warp.".to_owned()),
            (&["-x", &grpc.address.to_string()], format!("{}.warp.", grpc.id)),
            (&["warp", "NS"], "ns.dns.warp.".to_owned()),
        ] {
            assert_eq!(short(arguments), [expected], "{arguments:?}\n{}", unbound.log());
        }
        let mut all: Vec<_> = lab.dbs.iter().map(|db| db.address.to_string()).collect();
        let mut found = short(&["all.my-db.warp"]);
        all.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, all);
        assert_eq!(short(&["_port._tcp.all.my-db.warp", "SRV"]).len(), 24, "by TCP, since it is too long");
        for (arguments, words) in [
            (&["my-db.warp", "AAAA"][..], &["NOERROR", "ANSWER: 0", "SOA"][..]),
            (&["_tcp.my-db.warp"], &["NOERROR", "ANSWER: 0"]),
            (&["none.warp"], &["NXDOMAIN", "SOA"]),
            (&["beneath.none.warp"], &["NXDOMAIN", "SOA"]),
        ] {
            let said = dig(&lab, arguments);
            assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}\n{}", unbound.log());
        }

        lab.coordinator.command(&["trust", "shop", "--app", "api", "--remove", "--wait"]).done();
        assert!(dig(&lab, &["grpc.api.warp"]).contains("NXDOMAIN"));
    });
}
