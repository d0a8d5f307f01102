//! A container with /dev/net/tun can take over no interface and no packets of others. With NET_ADMIN it can at most cut
//! itself off.

use std::process::Command;

use mesh_netns_tests::{isolated, run, wait};
use mesh_runtime_tests::{Docker, Podman, Stage};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const BILLING: &str = "deployment = \"billing\"\n[services.api]\n";
const DB: [&str; 2] = ["--label", "mesh.service=shop/db"];

/// Tries to get a queue of an existing TUN interface, or of a new one, as in tuntap.rst: `TUNSETIFF` with
/// `IFF_TUN|IFF_NO_PI`, then with `IFF_VNET_HDR`, then with `IFF_MULTI_QUEUE`. Prints each result.
const TAKE: &str = r#"
    for my $name ("mesh0", "sly0") {
        for my $flags (0x1001, 0x5001, 0x5101) {
            my ($device, $request) = (undef, pack("a16 s x22", $name, $flags));
            my $taken = open($device, "+<", "/dev/net/tun") && ioctl($device, 0x400454ca, $request);
            print "$name: ", $taken ? "taken" : $!, "\n";
        }
    }"#;
/// Takes the interface's only queue as soon as it is free, reports it, and keeps it.
const HOLD: &str = r#"
    $| = 1;
    open(my $device, "+<", "/dev/net/tun") or die "/dev/net/tun: $!";
    my $request = pack("a16 s x22", "mesh0", 0x5001);
    until (ioctl($device, 0x400454ca, $request)) { select(undef, undef, undef, 0.01) }
    print "taken\n";
    sleep 1000;"#;
const NOT_PERMITTED: &str = "Operation not permitted";
const TUN: [&str; 4] = ["--device", "/dev/net/tun", "--network", "none"];

/// The interface is made for one queue: a request for several always fails.
const ONE_QUEUE: &str = "mesh0: Invalid argument";

/// All attempts were refused for this reason.
#[track_caller]
fn is_refused(said: &str, why: &str) {
    let is_refused = |line: &str| line.contains(why) || line == ONE_QUEUE;
    assert!(said.lines().count() == 6 && said.lines().all(is_refused), "{said}");
}

/// While the agent runs, in containers of a runtime.
fn no_container_takes_it(prepare: impl Fn(&[&str], &[&str]) -> Command, service: &[&str]) {
    let takes = |flags: &[&str]| {
        run(prepare(&[&["--rm"][..], &TUN, service, flags].concat(), &["perl", "-e", TAKE])).done().stdout
    };
    is_refused(&takes(&["--user", "0"]), NOT_PERMITTED);
    // The permissions of the device differ from machine to machine.
    is_refused(&takes(&["--user", "1000"]), "ermi");
    let of_mesh0 = takes(&["--user", "0", "--cap-add", "NET_ADMIN"]);
    let of_mesh0: Vec<&str> = of_mesh0.lines().filter(|line| line.starts_with("mesh0")).collect();
    assert!(of_mesh0.len() == 3 && of_mesh0.iter().all(|line| !line.ends_with("taken")), "{of_mesh0:?}");
}

#[test]
fn what_docker_starts_takes_no_interface_over() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let docker = Docker::start(&stage.lab, &stage.aws);
        let before = stage.census();
        no_container_takes_it(|flags, command| docker.prepare_own(flags, command), &DB);
        stage.nothing_is_left(&before);
    });
}

#[test]
fn what_podman_starts_takes_no_interface_over() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let podman = Podman::with_hooks(&stage.lab, &stage.aws);
        let before = stage.census();
        let service = ["--annotation", "mesh.service=shop/db"];
        no_container_takes_it(|flags, command| podman.prepare_own(flags, command), &service);
        // Root of a user namespace has no rights where the device was made.
        let flags = [&["--rm", "--user", "0", "--uidmap", "0:100000:65536"][..], &TUN, &service].concat();
        is_refused(&run(podman.prepare_own(&flags, &["perl", "-e", TAKE])).done().stdout, "ermi");
        stage.nothing_is_left(&before);
    });
}

#[test]
fn while_no_agent_runs_an_admin_takes_his_own_at_most() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP, BILLING]);
        let docker = Docker::start(&stage.lab, &stage.aws);
        let before = stage.census();
        let _db = docker.container(&DB, &["nc", "-ll", "-p", "5432", "-e", "echo", "the price list"]);
        let start = |flags: &[&str], command: &[&str]| {
            let flags = [&["--detach", "--user", "0"][..], &TUN, flags].concat();
            run(docker.prepare_own(&flags, command)).done().stdout.trim().to_owned()
        };
        let ordinary = start(&["--label", "mesh.service=shop/app"], &["sleep", "1000"]);
        let sly = start(&["--label", "mesh.service=billing/api", "--cap-add", "NET_ADMIN"], &["perl", "-e", HOLD]);
        assert_eq!(stage.instances().len(), 3);
        assert_eq!(docker.command(&["logs", &sly]).done().stdout, "", "the agent has it");
        stage.aws.kill();
        wait::until_true("it to be taken", || docker.command(&["logs", &sly]).done().stdout == "taken\n");
        is_refused(&docker.command(&["exec", &ordinary, "perl", "-e", TAKE]).done().stdout, NOT_PERMITTED);
        stage.aws.start(&[]);
        // All others are unchanged.
        let ask = "until nc -w 5 db.warp 5432 </dev/null; do sleep 0.1; done";
        assert_eq!(docker.run(&["--label", "mesh.service=shop/app"], ask).done().stdout, "the price list\n");
        let all = docker.command(&["ps", "--quiet"]).done().stdout;
        docker.command(&[&["rm", "--force"][..], &all.split_whitespace().collect::<Vec<_>>()].concat()).done();
        stage.nothing_is_left(&before);
    });
}
