//! containerd without Docker: by CNI, and by `mesh-runc` as its runc.

use std::fs;

use mesh_netns_tests::{Runner, isolated, wait};
use mesh_runtime_tests::{Containerd, Stage};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::refusals::{Network, Runtime, meet_all, path, said};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
/// What a container sees of the mesh. It begins with the kernel's state, so that nothing was waited for. The names
/// aren't read by cat: busybox's passes the file's own pages (sendfile(2)), and when the shim reads them the container
/// may have ended and its names be gone.
const LOOK: &str = "ip addr; grep . /etc/hosts; echo \"app is <$WARP_IST_app>\"; cat /proc/self/uid_map; \
                    ip link set mesh0 down || echo is not allowed to";

/// A network behind a bridge, and our plugin.
fn bridge(service: &str) -> Value {
    json!([
        {"type": "bridge", "bridge": "cni-shop", "isGateway": true,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.8.0/24"}]]}},
        {"type": "mesh", "service": service},
    ])
}

#[test]
fn by_cni_a_container_has_its_interface_and_leaves_nothing() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let containerd = Containerd::start(&stage.lab, &stage.aws);
        containerd.network(&bridge("shop/db"));
        let before = stage.census();
        let address = format!("inet {}/32", stage.coordinator.address_of("shop/db"));
        let is_attached = |said: &str| {
            assert!(said.contains(&address) && said.contains("inet 10.88.8."), "{said}");
            assert!(said.contains("app is <>") && said.contains("is not allowed to"), "{said}");
        };
        is_attached(&containerd.run(&stage.aws, "db", &["--cni"], LOOK).done().stdout);
        let said = containerd.run_mapped(&stage.aws, "mapped", &["--cni"], &json!({}), LOOK).done().stdout;
        assert!(said.contains("100000"), "it has no user namespace: {said}");
        is_attached(&said);
        // A container without a call of the plugin is no member and gets no error.
        containerd.run(&stage.aws, "none", &[], "! ip addr show mesh0").done();
        stage.nothing_is_left(&before);

        containerd.container(&stage.aws, "db", &["--cni"], "true");
        assert_eq!(stage.instances(), ["shop/db live"]);
        is_attached(&containerd.exec(&stage.aws, "db", LOOK).done().stdout);
        // `ctr` calls plugins when it makes a container, and never again.
        containerd.restart(&stage.aws, "db");
        containerd.exec(&stage.aws, "db", "! ip addr show mesh0").done();
        containerd.remove(&stage.aws, "db");
        stage.nothing_is_left(&before);
    });
}

#[test]
fn by_the_wrapper_a_container_has_all_before_it_starts_and_leaves_nothing() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let containerd = Containerd::start(&stage.lab, &stage.aws);
        let before = stage.census();
        let (app, db) = (stage.coordinator.address_of("shop/app"), stage.coordinator.address_of("shop/db"));
        // containerd alone makes no hosts file: its users do this.
        fs::write("/run/hosts-of-db", "127.0.0.1 localhost\n").expect("cannot write a file");
        let wrapper = containerd.wrapper();
        let mount = "type=bind,src=/run/hosts-of-db,dst=/etc/hosts,options=rbind:rw";
        let flags = ["--runc-binary", &wrapper, "--annotation", "mesh.service=shop/db", "--mount", mount];
        let is_attached = |said: &str| {
            for words in [
                format!("inet {db}/32"),
                format!("{app} app.warp\n"),
                format!("app is <{app}>"),
                "is not allowed to".to_owned(),
            ] {
                assert!(said.contains(&words), "{words} is not in\n{said}");
            }
        };
        // It has no network but the mesh.
        is_attached(&containerd.run(&stage.aws, "db", &flags, LOOK).done().stdout);
        containerd.run(&stage.aws, "plain", &["--runc-binary", &wrapper], "! ip addr show mesh0").done();
        // There `ctr` 1.7 loses the requested runc: `WithUIDOwner` of its task's options replaces the container's.
        if !containerd.ctr(&stage.aws, &["--version"]).done().stdout.contains(" 1.7.") {
            let (flag, ours) = (["--runc-binary", &wrapper], json!({"mesh.service": "shop/db"}));
            let said = containerd.run_mapped(&stage.aws, "mapped", &flag, &ours, LOOK).done().stdout;
            assert!(said.contains("100000"), "it has no user namespace: {said}");
            assert!(said.contains(&format!("inet {db}/32")) && said.contains(&format!("app is <{app}>")), "{said}");
        }
        stage.nothing_is_left(&before);

        containerd.container(&stage.aws, "db", &flags, &format!("({LOOK}) >/tmp/first 2>&1"));
        is_attached(&containerd.exec(&stage.aws, "db", LOOK).done().stdout);
        for _ in 0..2 {
            wait::until_true("what it saw first", || {
                containerd.exec(&stage.aws, "db", "cat /tmp/first").stdout.contains("is not allowed to")
            });
            is_attached(&containerd.exec(&stage.aws, "db", "cat /tmp/first; rm /tmp/first").done().stdout);
            assert_eq!(stage.instances(), ["shop/db live"]);
            containerd.restart(&stage.aws, "db");
        }
        containerd.remove(&stage.aws, "db");
        stage.nothing_is_left(&before);
        assert_eq!(fs::read_to_string("/run/hosts-of-db").expect("it is there"), "127.0.0.1 localhost\n");
    });
}

#[test]
fn nothing_of_a_container_stays_after_any_kill() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let mut containerd = Containerd::start(&stage.lab, &stage.aws);
        let before = stage.census();
        containerd.network(&bridge("shop/db"));
        let wrapper = containerd.wrapper();
        let wrapped = ["--runc-binary", &wrapper, "--annotation", "mesh.service=shop/app"];
        let (stay, go) = (["stays", "wrapped-stays"], ["goes", "wrapped-goes"]);
        for names in [stay, go] {
            containerd.container(&stage.aws, names[0], &["--cni"], "true");
            containerd.container(&stage.aws, names[1], &wrapped, "true");
        }
        let sorted = |stage: &Stage| {
            let mut all = stage.instances();
            all.sort();
            all
        };
        assert_eq!(sorted(&stage), ["shop/app live", "shop/app live", "shop/db live", "shop/db live"]);
        stage.aws.kill();
        for name in go {
            kill(containerd.pid(&stage.aws, name), Signal::SIGKILL).expect("cannot kill a container");
        }
        stage.aws.start(&[]);
        wait::until_true("the end of two instances", || sorted(&stage) == ["shop/app live", "shop/db live"]);
        let processes = stay.map(|name| containerd.pid(&stage.aws, name));
        containerd.kill();
        assert_eq!(stage.instances().len(), 2);
        for process in processes {
            kill(process, Signal::SIGKILL).expect("cannot kill a container");
        }
        wait::until_true("the end of the others", || stage.instances().is_empty());
        stage.nothing_is_left(&before);
    });
}

/// How containerd uses the mesh.
enum Ctr {
    Wrapper(Containerd),
    Cni(Containerd),
}

impl Runtime for Ctr {
    fn start(&self, runner: &Runner, service: &str, network: Network) -> Result<(), String> {
        let annotation = format!("mesh.service={service}");
        let namespace = format!("network:{}", path(network).display());
        let (containerd, mut flags, wrapper) = match self {
            Self::Wrapper(containerd) => (containerd, vec!["--annotation", &annotation], containerd.wrapper()),
            Self::Cni(containerd) => (containerd, vec!["--cni"], "runc".to_owned()),
        };
        flags.extend(["--runc-binary", &wrapper]);
        match (self, network) {
            (_, Network::Own) => {}
            (_, Network::Host) => flags.push("--net-host"),
            (_, Network::Overlapping | Network::Taken) => flags.extend(["--with-ns", &namespace]),
        }
        // As after a plugin that doesn't enter the namespace: the others don't configure the machine's.
        let previous = json!({"cniVersion": "1.0.0", "interfaces": []});
        containerd.network(&json!([{"type": "mesh", "service": service, "prevResult": previous}]));
        let outcome = containerd.run(runner, "member", &flags, "echo it runs");
        // `ctr` doesn't forget a container that hasn't started by itself.
        containerd.ctr(runner, &["tasks", "delete", "--force", "member"]);
        containerd.ctr(runner, &["containers", "delete", "member"]);
        said(&outcome)
    }
}

#[test]
fn ctr_says_what_stands_in_the_way_of_the_wrapper_and_what_to_do() {
    isolated(|| meet_all(|stage, runner| Ctr::Wrapper(Containerd::start(&stage.lab, runner))));
}

#[test]
fn ctr_says_what_stands_in_the_way_of_cni_and_what_to_do() {
    isolated(|| meet_all(|stage, runner| Ctr::Cni(Containerd::start(&stage.lab, runner))));
}
