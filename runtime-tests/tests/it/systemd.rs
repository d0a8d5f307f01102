//! systemd services as instances, by the units that `mesh-node setup systemd` installs and the drop-in of the examples.

use std::{fs, path::Path};

use mesh_netns_tests::{Stack, isolated, traffic, traffic::Answer, wait};
use mesh_runtime_tests::{Stage, Systemd};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\nport = 5432\n[services.\"the web\"]\n";
const DROP_IN: &str = include_str!("../../../examples/systemd/mesh-attach.conf");
/// What the example is for.
const EXAMPLE: &str = "shop.db";

/// Sends back what comes; one process, since systemd in a container has no word of the others' ends by the first control groups.
const ECHO: &str = "ExecStart=:/usr/bin/perl -MIO::Socket::INET -e ' \\
    my $listener = IO::Socket::INET->new(LocalPort => 5432, Listen => 5, ReuseAddr => 1) or die $!; \\
    while (my $stream = $listener->accept) { while (sysread $stream, my $text, 4096) { syswrite $stream, $text } }'\n";

struct Machine {
    // It ends before the lab clears away what it leaves.
    systemd: Systemd,
    stage: Stage,
}

/// A coordinator, and a runner with systemd and the agent in it.
fn machine() -> Machine {
    let mut stage = Stage::new(&[SHOP]);
    let systemd = Systemd::boot(&stage.lab, &stage.aws);
    systemd.take_over(&mut stage.aws);
    Machine { systemd, stage }
}

impl Machine {
    /// A service that is what its mesh-attach@.service is called after.
    fn service(&self, name: &str, instance: &str, text: &str) {
        self.systemd.unit(&format!("{name}.service.d/mesh-attach.conf"), &DROP_IN.replace(EXAMPLE, instance));
        self.systemd.unit(&format!("{name}.service"), &format!("[Service]\n{text}"));
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
        wait::until_true("the end of the instance", || self.stage.instances().is_empty());
        self.no_file_is_left();
        let status = self.systemd.command(&["mesh-node", "status", "--json"]).done().json();
        assert_eq!(status["instances"].as_array().map(Vec::len), Some(0), "{status:#}");
    }
}

#[test]
fn a_service_is_attached_before_its_first_instruction_and_leaves_nothing() {
    isolated(|| {
        let machine = machine();
        let ovh = machine.stage.world.runner(&machine.stage.coordinator, "ovh", Stack::Dual);
        let db = ovh.attach("shop/db");
        let _server = db.serve(5432, Answer::Greeting("the price list\n".to_owned()));
        // The first line asks the kernel itself; all of it is gone through once, and nothing is waited for.
        let script = "ip -o addr show dev mesh0; cat /etc/hosts; env; nc -w 5 db.warp 5432 </dev/null; \
                      nc -w 5 $WARP_IST_db 5432 </dev/null; ip link set mesh0 down || echo is not allowed to";
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
            "the price list\nthe price list".to_owned(),
            "is not allowed to".to_owned(),
        ] {
            assert!(said.contains(&words), "{words} is not in\n{said}");
        }
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

        // One that comes back by itself keeps its instance meanwhile.
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
        // What a package does when it is upgraded; systemd says that it is up when it answers.
        machine.systemd.systemctl(&["restart", "mesh-node"]).done();
        machine.systemd.command(&["mesh-node", "status"]).done();
        ping("restarted");
        machine.systemd.systemctl(&["kill", "--signal=KILL", "mesh-node"]).done();
        ping("killed");
        wait::until_true("the agent to be back", || machine.systemd.command(&["mesh-node", "status"]).code == Some(0));
        assert_eq!(machine.ids(), first);
        // One that is away when a service ends finds out when it is back.
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
        let started = "/root/started";
        let text = format!("ExecStart=/usr/bin/touch {started}\nType=oneshot\n");
        machine.service("nobody", "shop.nobody", &text);
        let refused = |name: &str, instance: &str, words: &[&str]| {
            let attach = format!("mesh-attach@{instance}");
            let said = machine.systemd.systemctl(&["start", name]).expect_code(1).stderr;
            assert!(said.contains("A dependency job for") || said.contains("failed"), "{said}");
            let journal = machine.systemd.journal(&attach);
            let status = machine.systemd.systemctl(&["status", &attach]).expect_code(3).stdout;
            for word in words {
                assert!(journal.contains(word) && status.contains(word), "{word} is not in\n{journal}\n{status}");
            }
            assert!(!machine.systemd.root().join(started.trim_start_matches('/')).exists(), "it ran");
            machine.no_file_is_left();
            assert!(machine.stage.instances().is_empty());
        };
        refused("nobody", "shop.nobody", &["error: ", "no service `nobody`", "hint: "]);
        machine.service("unnamed", "unnamed", &text);
        refused("unnamed", "unnamed", &["names no service", "/etc/mesh-node/attach/unnamed.conf"]);
        // A machine that has not joined: the agent's unit is passed over, and that is no failure of its own.
        machine.systemd.systemctl(&["stop", "mesh-node"]).done();
        let state = machine.systemd.root().join("var/lib/mesh-node");
        fs::rename(&state, state.with_extension("away")).expect("cannot rename a directory");
        machine.service("db", "shop.db", &text);
        refused("db", "shop.db", &["no agent is running", "mesh-node join"]);
        assert!(
            !machine.systemd.is_active("mesh-node")
                && machine.systemd.systemctl(&["is-failed", "mesh-node"]).code != Some(0)
        );
        // Once it has, there is nothing to be put right by hand.
        fs::rename(state.with_extension("away"), &state).expect("cannot rename a directory");
        machine.systemd.systemctl(&["start", "db"]).done();
        assert!(Path::new(&machine.systemd.root().join("root/started")).exists());
        machine.nothing_is_left();
    });
}
