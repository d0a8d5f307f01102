//! containerd without Docker: by CNI, and by `mesh-runc` as its runc.

use std::fs;

use mesh_netns_tests::{isolated, wait};
use mesh_runtime_tests::{Containerd, Stage};
use nix::sys::signal::{Signal, kill};
use serde_json::json;

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";

#[test]
fn a_container_is_attached_by_cni_and_leaves_nothing() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let containerd = Containerd::start(&stage.lab, &stage.aws);
        let list = json!({"cniVersion": "1.0.0", "name": "shop", "plugins": [
            {"type": "bridge", "bridge": "cni-shop", "isGateway": true,
             "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.8.0/24"}]]}},
            {"type": "mesh", "service": "shop/db"},
        ]});
        fs::write("/etc/cni/net.d/10-shop.conflist", list.to_string()).expect("cannot write a file");
        let address = stage.coordinator.address_of("shop/db");
        let said = containerd.run(&stage.aws, "db", &["--cni"], "ip addr").done().stdout;
        assert!(said.contains(&format!("inet {address}/32")) && said.contains("inet 10.88.8."), "{said}");
        wait::until_true("the end of the instance", || stage.instances().is_empty());
    });
}

#[test]
fn whoever_is_killed_nothing_of_a_container_stays() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let mut containerd = Containerd::start(&stage.lab, &stage.aws);
        let list = json!({"cniVersion": "1.0.0", "name": "shop", "plugins": [
            {"type": "bridge", "bridge": "cni-shop", "isGateway": true,
             "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.8.0/24"}]]}},
            {"type": "mesh", "service": "shop/db"},
        ]});
        fs::write("/etc/cni/net.d/10-shop.conflist", list.to_string()).expect("cannot write a file");
        for name in ["stays", "goes"] {
            containerd.container(&stage.aws, name, &["--cni"]);
        }
        assert_eq!(stage.instances(), ["shop/db live"; 2]);
        stage.aws.kill();
        kill(containerd.pid(&stage.aws, "goes"), Signal::SIGKILL).expect("cannot kill a container");
        stage.aws.start(&[]);
        wait::until_true("the end of one instance", || stage.instances() == ["shop/db live"]);
        let process = containerd.pid(&stage.aws, "stays");
        containerd.kill();
        assert_eq!(stage.instances(), ["shop/db live"]);
        kill(process, Signal::SIGKILL).expect("cannot kill a container");
        wait::until_true("the end of the other", || stage.instances().is_empty());
    });
}

#[test]
fn a_container_is_attached_by_the_wrapper_and_leaves_nothing() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let containerd = Containerd::start(&stage.lab, &stage.aws);
        let (app, db) = (stage.coordinator.address_of("shop/app"), stage.coordinator.address_of("shop/db"));
        let wrapper = containerd.wrapper();
        let flags = ["--runc-binary", &wrapper, "--annotation", "mesh.service=shop/db"];
        let said = containerd.run(&stage.aws, "db", &flags, "ip addr; echo \"$WARP_IST_app\"").done().stdout;
        assert!(said.contains(&format!("inet {db}/32")) && said.ends_with(&format!("\n{app}\n")), "{said}");
        wait::until_true("the end of the instance", || stage.instances().is_empty());
        let plain = containerd.run(&stage.aws, "plain", &["--runc-binary", &wrapper], "! ip addr show mesh0");
        plain.done();
    });
}
