//! CNI: our plugin at the end of a chain, called by hand as the specification has it, and by podman.

use std::{fs, path::Path};

use mesh_netns_tests::{Namespace, Outcome, isolated, wait};
use mesh_runtime_tests::{Plugin, Podman, Stage};
use serde_json::{Value, json};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";

/// The plugin, called on the stage's runner.
fn call(stage: &Stage, command: &str, id: &str, netns: &str, network: &Value) -> Outcome {
    let plugin = Plugin::install();
    plugin.call(&stage.aws, command, id, Path::new(netns), network)
}

/// A pod whose annotations say what it is.
fn annotated(service: &str) -> Value {
    Plugin::network(&json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"mesh.service": service}}}))
}

#[test]
fn the_commands_of_the_specification() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        stage.configure("[containers.sources]\npods = [\"shop\"]\n");
        let pod = Namespace::create("pod");
        let path = pod.path().display().to_string();
        let ours = annotated("shop/db");
        for _ in 0..2 {
            let result = call(&stage, "ADD", "f00", &path, &ours).done();
            assert_eq!(result.json(), ours["prevResult"], "passed on as it came");
            assert_eq!(stage.instances(), ["shop/db live"]);
        }
        assert!(pod.interface("mesh0").is_some());
        assert_eq!(call(&stage, "CHECK", "f00", &path, &ours).done().stdout, "");
        let missing = call(&stage, "CHECK", "other", &path, &ours).expect_code(1).json();
        assert_eq!(missing["code"], 100, "{missing}");
        assert_eq!(call(&stage, "STATUS", "", "", &Plugin::network(&json!({"cniVersion": "1.1.0"}))).done().stdout, "");
        let versions = call(&stage, "VERSION", "", "", &json!({})).done().json();
        assert!(
            versions["supportedVersions"].as_array().is_some_and(|all| all.contains(&json!("1.1.0"))),
            "{versions}"
        );
        // The runtime may call twice, and may not know the namespace any more.
        for netns in [&path, ""] {
            assert_eq!(call(&stage, "DEL", "f00", netns, &ours).done().stdout, "");
            assert!(stage.instances().is_empty());
        }
        assert!(pod.interface("mesh0").is_none());
    });
}

#[test]
fn what_a_runtime_has_forgotten_is_collected() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let ours = Plugin::network(&json!({"service": "shop/db"}));
        let pods = ["a", "b"].map(Namespace::create);
        for pod in &pods {
            call(&stage, "ADD", pod.name(), &pod.path().display().to_string(), &ours).done();
        }
        assert_eq!(stage.instances().len(), 2);
        let valid =
            json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]});
        call(&stage, "GC", "", "", &Plugin::network(&json!({"cniVersion": "1.1.0", "name": "another"}))).done();
        assert_eq!(stage.instances().len(), 2, "they are another network's");
        call(&stage, "GC", "", "", &Plugin::network(&valid)).done();
        assert_eq!(stage.instances(), ["shop/db live"]);
        assert!(pods[0].interface("mesh0").is_some() && pods[1].interface("mesh0").is_none());
        // A restarted agent knows it still; and a namespace that is gone is the end in any case.
        let [a, _b] = pods;
        drop(a);
        wait::until_true("the end of the instance", || stage.instances().is_empty());
    });
}

#[test]
fn a_restarted_agent_knows_what_it_was_told_by_cni() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let (pod, ours) = (Namespace::create("pod"), Plugin::network(&json!({"service": "shop/db"})));
        let path = pod.path().display().to_string();
        call(&stage, "ADD", "f00", &path, &ours).done();
        stage.aws.kill();
        stage.aws.start(&[]);
        assert_eq!(call(&stage, "CHECK", "f00", &path, &ours).done().stdout, "");
        call(&stage, "DEL", "f00", "", &ours).done();
        assert!(stage.instances().is_empty() && pod.interface("mesh0").is_none());
    });
}

#[test]
fn what_stands_in_the_way_is_told_as_the_specification_has_it() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let pod = Namespace::create("pod");
        let path = pod.path().display().to_string();
        let refused = |stage: &Stage, network: &Value, code: u32, words: &str| {
            let said = call(stage, "ADD", "f00", &path, network).expect_code(1).json();
            assert!(said["code"] == code && said["msg"].as_str().is_some_and(|msg| msg.contains(words)), "{said}");
            assert_eq!(said["cniVersion"], network["cniVersion"]);
            assert!(pod.interface("mesh0").is_none() && stage.instances().is_empty());
        };
        refused(&stage, &Plugin::network(&json!({"service": "shop/nobody"})), 11, "no service `nobody`");
        refused(&stage, &Plugin::network(&json!({"service": "shop"})), 7, "names no service");
        refused(&stage, &Plugin::network(&json!({"service": "shop/db", "prevResult": null})), 7, "no prevResult");
        // Whoever may annotate pods becomes nothing by that, unless the operator says so.
        call(&stage, "ADD", "f00", &path, &annotated("shop/db")).done();
        assert!(pod.interface("mesh0").is_none());
        stage.aws.kill();
        refused(&stage, &Plugin::network(&json!({"service": "shop/db"})), 11, "no agent is running");
        call(&stage, "DEL", "f00", &path, &Plugin::network(&json!({"service": "shop/db"}))).done();
        let away =
            call(&stage, "STATUS", "", "", &Plugin::network(&json!({"cniVersion": "1.1.0"}))).expect_code(1).json();
        assert_eq!(away["code"], 50, "{away}");
    });
}

#[test]
fn podman_calls_it_behind_its_own_network() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let networks = Path::new("/run/cni-networks");
        fs::create_dir_all(networks).expect("cannot make a directory");
        let list = json!({"cniVersion": "0.4.0", "name": "shop", "plugins": [
            {"type": "bridge", "bridge": "cni-shop", "isGateway": true,
             "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.7.0/24"}]]}},
            {"type": "mesh", "service": "shop/db", "state": stage.aws.state()},
        ]});
        fs::write(networks.join("shop.conflist"), list.to_string()).expect("cannot write a file");
        fs::create_dir_all("/etc/containers/containers.conf.d").expect("cannot make a directory");
        let configuration = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"/usr/lib/cni\", {:?}]\nnetwork_config_dir = {networks:?}\n",
            Plugin::install().directory()
        );
        fs::write("/etc/containers/containers.conf.d/cni.conf", configuration).expect("cannot write a file");
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        let address = stage.coordinator.address_of("shop/db");
        let said = podman.run(&["--network", "shop"], "ip addr").done().stdout;
        assert!(said.contains(&format!("inet {address}/32")) && said.contains("inet 10.88.7."), "{said}");
        wait::until_true("the end of the instance", || stage.instances().is_empty());
    });
}
