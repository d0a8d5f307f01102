//! systemd services as instances, by the units that `mesh-node up` writes and the drop-in of the examples.

use std::{fs, path::Path};

use mesh_netns_tests::{Runner, Stack, isolated, traffic, traffic::Answer, wait};
use mesh_runtime_tests::{Census, Stage, Systemd};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\nport = 5432\n[services.\"the web\"]\n";
const DROP_IN: &str = include_str!("../../../examples/systemd/mesh-attach.conf");
/// The purpose of the example.
const EXAMPLE: &str = "shop.db";

/// The output of a service that has run.
const STARTED: &str = "/root/started";
/// A service with that output.
const STARTS: &str = "ExecStart=/usr/bin/touch /root/started\nType=oneshot\n";

/// Echoes its input in one process: in a container systemd isn't notified of other processes' ends with the first
/// control groups.
const ECHO: &str = "ExecStart=:/usr/bin/perl -MIO::Socket::INET -e ' \\
    my $listener = IO::Socket::INET->new(LocalPort => 5432, Listen => 5, ReuseAddr => 1) or die $!; \\
    while (my $stream = $listener->accept) { while (sysread $stream, my $text, 4096) { syswrite $stream, $text } }'\n";

struct Machine {
    // It ends before the lab clears its remains away.
    systemd: Systemd,
    /// Its runner, if that isn't the stage's.
    _runner: Option<Runner>,
    stage: Stage,
    /// What there was before the services started.
    before: Census,
}

/// A coordinator, and a runner with systemd and the agent in it.
fn machine() -> Machine {
    let mut stage = Stage::new(&[SHOP]);
    let systemd = Systemd::boot(&stage.lab, stage.aws.namespace());
    systemd.take_over(&mut stage.aws);
    Machine { systemd, _runner: None, before: stage.census(), stage }
}

/// The stage with a runner that may host nothing but `shop`.
fn confined() -> Machine {
    let stage = Stage::new(&[SHOP, "deployment = \"billing\"\n[services.api]\n"]);
    let mut runner = stage.world.machine("confined", Stack::Dual);
    let token = stage.coordinator.token(&["--deployment", "shop"]);
    runner.start(&[&stage.coordinator.url(false), &token, "--name", "confined"]);
    let systemd = Systemd::boot(&stage.lab, runner.namespace());
    systemd.take_over(&mut runner);
    Machine { systemd, _runner: Some(runner), before: stage.census(), stage }
}

impl Machine {
    /// A service that is named like its mesh-attach@.service.
    fn service(&self, name: &str, instance: &str, text: &str) {
        self.systemd.unit(&format!("{name}.service.d/mesh-attach.conf"), &DROP_IN.replace(EXAMPLE, instance));
        self.systemd.unit(&format!("{name}.service"), &format!("[Service]\n{text}"));
    }

    /// A service does not start. systemd reports it, and the journal of its mesh-attach@.service says why and what to
    /// do. (Not its status, which selects lines by the start: when journald reads the output of a short command,
    /// systemd may have forgotten the start, and only the unit is known.) Nothing is left of either.
    fn is_refused(&self, name: &str, instance: &str, words: &[&str]) {
        let attach = format!("mesh-attach@{instance}");
        let said = self.systemd.systemctl(&["start", name]).expect_code(1).stderr;
        assert!(said.contains("A dependency job for") || said.contains("failed"), "{said}");
        assert_eq!(self.systemd.systemctl(&["is-failed", &attach]).done().stdout, "failed\n");
        let journal = self.systemd.journal(&attach);
        for word in words {
            assert!(journal.contains(word), "{word} is not in\n{journal}");
        }
        assert!(!self.systemd.root().join(STARTED.trim_start_matches('/')).exists(), "it ran");
        self.no_file_is_left();
    }

    /// The instances' own identifiers.
    fn ids(&self) -> Vec<String> {
        let all = self.stage.coordinator.json(&["instances"]);
        let all = all["instances"].as_array().expect("an array");
        all.iter().map(|instance| instance["id"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until neither a namespace nor a directory is left.
    fn no_file_is_left(&self) {
        let left = || self.systemd.command(&["find", "/run/netns", "/run/mesh", "-mindepth", "1"]).done().stdout;
        wait::until_true("the end of the unit", || left().is_empty());
    }

    /// Waits until nothing is left of any instance, anywhere.
    fn nothing_is_left(&self) {
        self.stage.nothing_is_left(&self.before);
        self.no_file_is_left();
    }
}

#[test]
fn a_service_is_attached_before_its_first_instruction_and_leaves_nothing() {
    isolated(|| {
        let machine = machine();
        let ovh = machine.stage.world.runner(&machine.stage.coordinator, "ovh", Stack::Dual);
        let db = ovh.attach("shop/db");
        let _server = db.serve(5432, Answer::Greeting("the price list\n".to_owned()));
        // The first line asks the kernel itself. The script runs once and waits for nothing.
        let script = "ip -o addr show dev mesh0; cat /etc/hosts; env; nc db.warp 5432 </dev/null; \
                      nc $WARP_IST_db 5432 </dev/null; ip link set mesh0 down || echo is not allowed to";
        let text = format!("Type=oneshot\nRemainAfterExit=yes\nExecStart=:/usr/bin/busybox sh -c '{script}'\n");
        machine.service("app", "shop.app", &text);
        machine.systemd.systemctl(&["start", "app"]).done();
        let said = machine.systemd.journal("app");
        let address = |service| machine.stage.coordinator.address_of(service);
        for words in [
            format!("inet {}/32", address("shop/app")),
            "192.0.2.7 printer".to_owned(),
            format!("{} db.warp", address("shop/db")),
            format!("WARP_IST_db={}", address("shop/db")),
            "is not allowed to".to_owned(),
        ] {
            assert!(said.contains(&words), "{words} is not in\n{said}");
        }
        // By name and by variable. What systemd says itself may stand between.
        assert_eq!(said.lines().filter(|line| *line == "the price list").count(), 2, "{said}");
        assert!(machine.stage.instances().contains(&"shop/app live".to_owned()));
        machine.systemd.systemctl(&["stop", "app"]).done();
        wait::until_true("the end of the instance", || machine.stage.instances() == ["shop/db live"]);
        machine.no_file_is_left();
    });
}

#[test]
fn restarted_it_is_the_same_instance_and_killed_it_is_none() {
    isolated(|| {
        let machine = machine();
        machine.service("db", "shop.db", "ExecStart=/usr/bin/sleep infinity\n");
        machine.systemd.systemctl(&["start", "db"]).done();
        let first = machine.ids();
        assert_eq!((first.len(), machine.stage.instances()), (1, vec!["shop/db live".to_owned()]));
        machine.systemd.systemctl(&["restart", "db"]).done();
        assert_eq!(machine.ids(), first);
        machine.systemd.systemctl(&["kill", "--signal=KILL", "db"]).done();
        machine.nothing_is_left();
        assert_eq!(machine.systemd.systemctl(&["is-failed", "db"]).done().stdout, "failed\n");

        // A service that restarts keeps its instance meanwhile.
        machine.service("db", "shop.db", "ExecStart=/usr/bin/sleep infinity\nRestart=always\nRestartSec=100ms\n");
        machine.systemd.systemctl(&["restart", "db"]).done();
        let again = machine.ids();
        machine.systemd.systemctl(&["kill", "--signal=KILL", "db"]).done();
        wait::until_true("the service to be back", || {
            let restarts = machine.systemd.systemctl(&["show", "--property=NRestarts", "db"]).done().stdout;
            restarts == "NRestarts=1\n" && machine.systemd.is_active("db")
        });
        assert_eq!(machine.ids(), again);
        machine.systemd.systemctl(&["stop", "db"]).done();
        machine.nothing_is_left();
    });
}

#[test]
fn an_agent_that_is_upgraded_or_killed_leaves_connections_where_they_are() {
    isolated(|| {
        let machine = machine();
        let ovh = machine.stage.world.runner(&machine.stage.coordinator, "ovh", Stack::Dual);
        let app = ovh.attach("shop/app");
        machine.service("db", "shop.db", ECHO);
        machine.systemd.systemctl(&["start", "db"]).done();
        let first = machine.ids();
        let address = machine.stage.coordinator.address_of("shop/db");
        let mut stream = wait::until("a connection", || app.connect(address, 5432).ok());
        let mut ping = |text: &str| traffic::ping(&mut stream, text.as_bytes()).expect("the connection stands");
        ping("before");
        // A package upgrade does this. systemd reports it as up when it answers.
        machine.systemd.systemctl(&["restart", "mesh-node"]).done();
        machine.systemd.command(&["mesh-node", "status"]).done();
        ping("restarted");
        machine.systemd.systemctl(&["kill", "--signal=KILL", "mesh-node"]).done();
        ping("killed");
        wait::until_true("the agent to be back", || machine.systemd.command(&["mesh-node", "status"]).code == Some(0));
        assert_eq!(machine.ids(), first);
        // An agent that is away when a service ends notices it when it is back.
        machine.systemd.systemctl(&["stop", "mesh-node"]).done();
        machine.systemd.systemctl(&["stop", "db"]).done();
        machine.no_file_is_left();
        machine.systemd.systemctl(&["start", "mesh-node"]).done();
        wait::until_true("the end of the instance", || {
            machine.stage.instances().iter().all(|it| it.starts_with("shop/app"))
        });
    });
}

#[test]
fn awkward_names_and_one_that_only_calls() {
    isolated(|| {
        let machine = machine();
        machine.stage.coordinator.apply("deployment = \"my-shop\"\n[services.my-db]\n[services.\"the web\"]\n").done();
        let configuration = machine.systemd.root().join("etc/mesh-node/attach");
        fs::create_dir_all(&configuration).expect("cannot make a directory");
        fs::write(configuration.join("web.conf"), "SERVICE=\"my-shop/the web\"\n").expect("cannot write a file");
        fs::write(configuration.join("my-shop.my-db.conf"), "OPTIONS=--client\n").expect("cannot write a file");
        for (name, instance) in [("db", "my-shop.my-db"), ("web", "web")] {
            machine.service(name, instance, "ExecStart=/usr/bin/sleep infinity\n");
            machine.systemd.systemctl(&["start", name]).done();
        }
        let mut instances = machine.stage.instances();
        instances.sort();
        assert_eq!(instances, ["my-shop/my-db client", "my-shop/the web live"]);
        machine.systemd.systemctl(&["stop", "db", "web"]).done();
        machine.nothing_is_left();
    });
}

#[test]
fn what_cannot_have_the_mesh_does_not_start_and_the_journal_says_what_to_do() {
    isolated(|| {
        let machine = machine();
        machine.service("ghost", "shop.ghost", STARTS);
        machine.is_refused("ghost", "shop.ghost", &["error: ", "no service `ghost`", "hint: "]);
        machine.service("unnamed", "unnamed", STARTS);
        machine.is_refused("unnamed", "unnamed", &["names no service", "/etc/mesh-node/attach/unnamed.conf"]);
        // On a machine that hasn't joined, the agent's unit is skipped without a failure.
        machine.systemd.systemctl(&["stop", "mesh-node"]).done();
        let state = machine.systemd.root().join("var/lib/mesh-node");
        fs::rename(&state, state.with_extension("away")).expect("cannot rename a directory");
        machine.service("db", "shop.db", STARTS);
        machine.is_refused("db", "shop.db", &["no agent is running", "mesh-node join"]);
        assert!(
            !machine.systemd.is_active("mesh-node")
                && machine.systemd.systemctl(&["is-failed", "mesh-node"]).code != Some(0)
        );
        // Once it has joined, no repair is needed.
        fs::rename(state.with_extension("away"), &state).expect("cannot rename a directory");
        machine.systemd.systemctl(&["start", "db"]).done();
        assert!(Path::new(&machine.systemd.root().join("root/started")).exists());
        machine.nothing_is_left();
    });
}

#[test]
fn services_that_cannot_be_attached_do_not_start_and_the_journal_says_what_to_do() {
    isolated(|| {
        let mut machine = confined();
        machine.service("api", "billing.api", STARTS);
        machine.is_refused("api", "billing.api", &["`billing` that `confined` may host", "token"]);
        machine.stage.coordinator.stop();
        machine.service("db", "shop.db", STARTS);
        machine.is_refused("db", "shop.db", &["the coordinator is away", "try again when it is back"]);
        machine.stage.coordinator.start();
        // An agent that can't run, even with systemd's restarts.
        machine.systemd.systemctl(&["stop", "mesh-node"]).done();
        machine.systemd.unit("mesh-node.service.d/broken.conf", "[Service]\nExecStartPre=/usr/bin/false\n");
        machine.is_refused("db", "shop.db", &["no agent is running", "mesh-node"]);
        machine.systemd.unit("mesh-node.service.d/broken.conf", "");
        machine.systemd.systemctl(&["reset-failed"]).done();
        // A namespace of that name by another program is removed with the failed start.
        machine.systemd.command(&["ip", "netns", "add", "mesh-shop.db"]).done();
        machine.is_refused("db", "shop.db", &["/run/netns/mesh-shop.db", "File exists"]);
        machine.systemd.systemctl(&["start", "db"]).done();
        assert!(Path::new(&machine.systemd.root().join("root/started")).exists());
        machine.nothing_is_left();
    });
}

#[test]
fn a_service_of_any_user_has_the_mesh_and_no_power_over_it() {
    isolated(|| {
        let machine = machine();
        let script = "ip -o addr show dev mesh0; cat /etc/hosts; env; cat /proc/self/uid_map; id -u; \
                      ip link set mesh0 down || echo is not allowed to; ip netns exec mesh-shop.app true || echo nor to leave";
        let text = format!("Type=oneshot\nRemainAfterExit=yes\nExecStart=:/usr/bin/busybox sh -c '{script}'\n");
        let (app, db) =
            (machine.stage.coordinator.address_of("shop/app"), machine.stage.coordinator.address_of("shop/db"));
        for (name, user, is_so) in [
            ("ordinary", "User=nobody\n", "65534\n"),
            ("private", "PrivateUsers=yes\n", "0\n"),
            ("both", "User=nobody\nPrivateUsers=yes\n", "65534\n"),
        ] {
            // All of them are in the only namespace of the only instance.
            machine.service(name, "shop.app", &format!("{text}{user}"));
            machine.systemd.systemctl(&["start", name]).done();
            let said = machine.systemd.journal(name);
            for words in [
                format!("inet {app}/32"),
                format!("{db} db.warp"),
                format!("WARP_IST_db={db}"),
                is_so.to_owned(),
                "is not allowed to".to_owned(),
                "nor to leave".to_owned(),
            ] {
                assert!(said.contains(&words), "{name}: {words} is not in\n{said}");
            }
            assert_eq!(said.contains("4294967295"), name == "ordinary", "its user namespace: {said}");
        }
        assert_eq!(machine.stage.instances(), ["shop/app live"]);
        machine.systemd.systemctl(&["stop", "ordinary", "private"]).done();
        assert_eq!(machine.stage.instances(), ["shop/app live"], "one of them is there still");
        machine.systemd.systemctl(&["stop", "both"]).done();
        machine.nothing_is_left();
    });
}
