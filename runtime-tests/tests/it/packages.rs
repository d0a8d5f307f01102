//! The packages of `packaging/build deb`, installed by dpkg on a machine of the test.

use std::{fs, os::unix::fs::PermissionsExt as _};

use mesh_netns_tests::{
    Nat, Stack, isolated,
    traffic::{self, Answer},
    wait,
};
use mesh_runtime_tests::{Stage, dpkg, machine, package};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
/// Echoes its input.
const ECHO: &str = "use IO::Socket::INET; my $l = IO::Socket::INET->new(LocalPort => 5432, Listen => 5) or die $!; \
     while (my $s = $l->accept) { while (sysread $s, my $t, 4096) { syswrite $s, $t } }";

#[test]
fn an_agent_is_installed_enrolled_upgraded_removed_and_purged() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let systemd = machine(&stage.lab, stage.aws.namespace());
        let package = package(&systemd, "mesh-node");
        let said = dpkg(&systemd, &["--install", &package]).stdout;
        assert!(said.contains("mesh-node up TOKEN"), "{said}");
        assert!(!systemd.is_active("mesh-node"), "the machine is on no mesh yet");
        assert_eq!(systemd.systemctl(&["is-enabled", "mesh-node"]).stdout, "enabled\n");
        assert_eq!(systemd.systemctl(&["is-failed", "mesh-node"]).stdout, "inactive\n");
        systemd.command(&["sh", "-c", "test \"$(readlink /usr/bin/mesh-runc)\" = mesh-node"]).done();
        systemd
            .command(&["/usr/bin/mesh-node", "setup", "systemd"])
            .refused(&["a package has brought", "systemctl enable --now"]);

        systemd.join(&mut stage.aws);
        systemd.systemctl(&["start", "mesh-node"]).done();
        systemd.wait_connected();
        let db = systemd.prepare(&["/usr/bin/mesh-node", "run", "shop/db", "--", "perl", "-e", ECHO]);
        let _db = mesh_netns_tests::Daemon::start(db, &systemd.root().join("db.log"));
        let ovh = stage.world.runner(&stage.coordinator, "ovh", Stack::Dual);
        let app = ovh.attach("shop/app");
        let address = stage.coordinator.address_of("shop/db");
        let mut stream = wait::until("a connection", || app.connect(address, 5432).ok());
        traffic::ping(&mut stream, b"before").expect("an echo");
        let process = || systemd.systemctl(&["show", "--property=MainPID", "mesh-node"]).done().stdout;
        let first = process();
        fs::write(systemd.root().join("etc/mesh-node/config.toml"), "[containers]\nwatch = []\n")
            .expect("cannot write a file");
        dpkg(&systemd, &["--install", &package]);
        assert!(process() != first && systemd.is_active("mesh-node"), "it is the new program that runs");
        traffic::ping(&mut stream, b"after").expect("the connection stands");
        let kept = fs::read_to_string(systemd.root().join("etc/mesh-node/config.toml")).expect("the configuration");
        assert_eq!(kept, "[containers]\nwatch = []\n");

        // Its set-up for runtimes would break them after its removal.
        let units = systemd.root().join("etc/systemd/system");
        fs::create_dir_all(&units).expect("cannot make a directory");
        let docker = "[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/touch /run/reloaded\n";
        fs::write(units.join("docker.service"), docker).expect("cannot write a unit");
        systemd.systemctl(&["daemon-reload"]).done();
        systemd.systemctl(&["start", "docker"]).done();
        systemd.command(&["/usr/bin/mesh-node", "setup", "docker"]).done();
        let file = systemd.root().join("etc/docker/daemon.json");
        let set_up = fs::read_to_string(&file).expect("Docker's file");
        fs::write(&file, format!("{set_up},")).expect("cannot damage a file");
        let stays = systemd.command(&["dpkg", "--no-pager", "--remove", "mesh-node"]).expect_code(1);
        assert!(
            stays.stderr.contains("is not what Docker takes") && stays.stderr.contains("mesh-node: stays"),
            "{stays:?}"
        );
        systemd.command(&["/usr/bin/mesh-node", "--version"]).done();
        fs::write(&file, set_up).expect("cannot mend a file");
        let removed = dpkg(&systemd, &["--remove", "mesh-node"]);
        assert!(removed.stdout.contains("+++ /etc/docker/daemon.json"), "{}", removed.stdout);
        assert!(removed.stderr.contains("restart those that run"), "{}", removed.stderr);
        systemd.command(&["test", "-e", "/run/reloaded"]).done();
        let there = |path: &str| systemd.root().join(path).exists();
        let runtimes = || fs::read_to_string(systemd.root().join("etc/docker/daemon.json")).expect("Docker's file");
        assert!(!runtimes().contains("mesh-node") && runtimes().contains("\"mesh\": {\"path\": \"/usr/bin/env\""));
        assert!(!systemd.is_active("mesh-node"));
        assert!(there("var/lib/mesh-node/identity.json") && there("etc/mesh-node/config.toml"), "it was not purged");
        dpkg(&systemd, &["--install", &package]);
        wait::until_true("the agent to be back", || systemd.command(&["/usr/bin/mesh-node", "status"]).code == Some(0));
        dpkg(&systemd, &["--purge", "mesh-node"]);
        assert!(!there("var/lib/mesh-node") && !there("etc/mesh-node"));
        assert!(runtimes().contains("\"mesh\""), "containers made meanwhile name it");
        assert!(systemd.systemctl(&["cat", "mesh-node"]).code != Some(0));
    });
}

#[test]
fn a_coordinator_is_installed_started_by_hand_upgraded_and_purged() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let systemd = machine(&stage.lab, stage.aws.namespace());
        let package = package(&systemd, "mesh-coord");
        let said = dpkg(&systemd, &["--install", &package]).stdout;
        assert!(said.contains("mesh-coord init"), "{said}");
        assert!(!systemd.is_active("mesh-coord"), "its range is chosen at the first start");
        let options = systemd.root().join("etc/default/mesh-coord");
        fs::write(options, "MESH_COORD_OPTIONS=\"--range 100.80.0.0/16\"\n").expect("cannot write a file");
        systemd.systemctl(&["enable", "--now", "mesh-coord"]).done();
        let token = || systemd.command(&["mesh-coord", "token", "create", "--any"]);
        wait::until_true("a token", || token().code == Some(0));
        let process = || systemd.systemctl(&["show", "--property=MainPID", "mesh-coord"]).done().stdout;
        let first = process();
        dpkg(&systemd, &["--install", &package]);
        assert!(process() != first);
        wait::until_true("a token", || token().code == Some(0));
        assert!(systemd.journal("mesh-coord").contains("range=100.80.0.0/16"));
        dpkg(&systemd, &["--remove", "mesh-coord"]);
        let database = systemd.root().join("var/lib/private/mesh-coord/mesh-coord.db");
        assert!(database.exists() && !systemd.is_active("mesh-coord"));
        dpkg(&systemd, &["--purge", "mesh-coord"]);
        let left = systemd.command(&[
            "sh",
            "-c",
            "ls -d /var/lib/mesh-coord /var/lib/private/* /etc/default/mesh-coord 2>/dev/null",
        ]);
        assert_eq!(left.stdout, "");
    });
}

/// A relay by its unit, between two runners that reach each other by nothing else.
#[test]
fn a_relay_is_installed_enrolled_carries_and_is_upgraded_and_purged() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let at = stage.world.machine("fra", Stack::V4);
        let systemd = machine(&stage.lab, at.namespace());
        let package = package(&systemd, "mesh-coord");
        dpkg(&systemd, &["--install", &package]);
        assert!(!systemd.is_active("mesh-coord-relay"), "it has neither an address nor a token");

        let shown = at.namespace().ip_output("-4 -o addr show dev eth0");
        let address = shown.split_whitespace().nth(3).and_then(|net| net.split('/').next()).expect("an address");
        let token = stage.coordinator.command(&["token", "create", "--relay", "fra"]).done().stdout;
        let options = systemd.root().join("etc/default/mesh-coord-relay");
        assert_eq!(fs::metadata(&options).expect("the options").permissions().mode() & 0o777, 0o600);
        let url = stage.coordinator.url(false);
        let text =
            format!("MESH_RELAY_OPTIONS=\"--public {address} --tls [::]:443 {url}\"\nMESH_TOKEN={}\n", token.trim());
        fs::write(&options, text).expect("cannot write a file");
        systemd.systemctl(&["enable", "--now", "mesh-coord-relay"]).done();
        let is_online = || stage.coordinator.json(&["relays"])["relays"][0]["state"] == "online";
        wait::until_true("the relay to be in the mesh", is_online);
        fs::write(&options, format!("MESH_RELAY_OPTIONS=\"--public {address} --tls [::]:443\"\n"))
            .expect("cannot write a file");

        let process =
            || systemd.systemctl(&["show", "--value", "--property=MainPID", "mesh-coord-relay"]).done().stdout;
        let status = systemd.command(&["cat", &format!("/proc/{}/status", process().trim())]).done().stdout;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(field("Uid:").iter().all(|id| id != "0"), "{status}");
        // CAP_NET_BIND_SERVICE (capabilities(7)).
        assert_eq!((field("CapEff:"), field("CapBnd:")), (vec![format!("{:016x}", 1 << 10)], field("CapEff:")));
        assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), (vec!["1".to_owned()], vec!["2".to_owned()]));

        let routers = ["north", "south"].map(|name| stage.world.router(name, Nat::Symmetric, Stack::V4));
        let [cellar, attic] = [(0, "cellar"), (1, "attic")]
            .map(|(router, name)| stage.world.runner_behind(&routers[router], &stage.coordinator, name));
        for runner in [&cellar, &attic] {
            wait::until_true("an address at the relay", || {
                runner.json(&["status"])["relays"][0]["relayed"].is_string()
            });
        }
        let (app, db) = (cellar.attach("shop/app"), attic.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut stream = app.connect(db.service_address, 5432).expect("a connection");
        traffic::ping(&mut stream, b"by the relay").expect("an echo");
        assert_eq!(cellar.peer("attic").expect("a peer")["path"], "relay");

        let first = process();
        systemd.systemctl(&["restart", "mesh-coord-relay"]).done();
        traffic::ping(&mut stream, b"restarted").expect("the connection stands");
        let second = process();
        dpkg(&systemd, &["--install", &package]);
        traffic::ping(&mut stream, b"upgraded").expect("the connection stands");
        assert!(first != second && second != process());
        wait::until_true("the relay to be back in the mesh", is_online);

        systemd.systemctl(&["stop", "mesh-coord-relay"]).done();
        assert_eq!(
            systemd.systemctl(&["is-failed", "mesh-coord-relay"]).stdout,
            "inactive\n",
            "it ends as it is asked to"
        );
        let journal = systemd.journal("mesh-coord-relay");
        assert!(journal.contains("known to the coordinator") && !journal.contains("meshrelay1."), "{journal}");
        dpkg(&systemd, &["--purge", "mesh-coord"]);
        let left = "ls -d /var/lib/mesh-coord-relay /var/lib/private/* /etc/default/mesh-coord* 2>/dev/null";
        assert_eq!(systemd.command(&["sh", "-c", left]).stdout, "");
    });
}
