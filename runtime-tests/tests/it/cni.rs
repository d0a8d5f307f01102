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

/// Waits until no instance is left, and no interface in the pod: DEL waits two seconds for the agent, and succeeds
/// without it.
fn wait_detached(stage: &Stage, pod: &Namespace) {
    wait::until_true("the end of the instance", || stage.instances().is_empty() && pod.interface("mesh0").is_none());
}

/// Calls GC until it has been done: it waits two seconds for the agent, and if that is busy asks to be called again.
fn collect(stage: &Stage, network: &Value) {
    wait::until_true("what is forgotten to be collected", || {
        let said = call(stage, "GC", "", "", network);
        assert_eq!(said.stdout.is_empty(), said.code == Some(0), "{said:?}");
        said.code == Some(0)
    });
}

/// A pod with annotations for the mesh.
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
            wait_detached(&stage, &pod);
        }
    });
}

#[test]
fn every_version_of_the_specification_is_spoken() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let (before, pod) = (stage.census(), Namespace::create("pod"));
        let path = pod.path().display().to_string();
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let ours = Plugin::network_of(version, &json!({"service": "shop/db"}));
            let is_silent = |command: &str, netns: &str, network: &Value| {
                assert_eq!(call(&stage, command, "f00", netns, network).done().stdout, "", "{command} of {version}");
            };
            let result = call(&stage, "ADD", "f00", &path, &ours).done().json();
            assert_eq!(result, ours["prevResult"], "of {version}");
            assert_eq!((stage.instances(), pod.interface("mesh0").is_some()), (vec!["shop/db live".to_owned()], true));
            let versions = call(&stage, "VERSION", "", "", &json!({"cniVersion": version})).done().json();
            assert!(versions["supportedVersions"].as_array().is_some_and(|all| all.contains(&json!(version))));
            // CHECK came with 0.4.0, STATUS and GC with 1.1.0.
            if version > "0.4" {
                is_silent("CHECK", &path, &ours);
            }
            if version == "1.1.0" {
                is_silent("STATUS", "", &ours);
                let valid = json!([{"containerID": "f00", "ifname": "eth0"}]);
                let known = Plugin::network_of(version, &json!({"cni.dev/valid-attachments": valid}));
                collect(&stage, &known);
                assert_eq!(stage.instances(), ["shop/db live"]);
                collect(&stage, &Plugin::network_of(version, &json!({"cni.dev/valid-attachments": []})));
                wait_detached(&stage, &pod);
            }
            is_silent("DEL", &path, &ours);
            wait_detached(&stage, &pod);
            is_silent("DEL", "", &ours);
            let ghost = Plugin::network_of(version, &json!({"service": "shop/ghost"}));
            let error = call(&stage, "ADD", "f00", &path, &ghost).expect_code(1).json();
            assert_eq!((&error["cniVersion"], &error["code"]), (&json!(version), &json!(11)), "{error}");
        }
        let unknown = Plugin::network_of("2.0.0", &json!({"service": "shop/db"}));
        assert_eq!(call(&stage, "ADD", "f00", &path, &unknown).expect_code(1).json()["code"], 1);
        drop(pod);
        stage.nothing_is_left(&before);
    });
}

#[test]
fn an_allocation_of_nomads_is_what_its_job_and_group_say_where_that_counts() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        stage.configure("[containers.sources]\nnomad = [\"shop\"]\n");
        let (before, alloc, plugin) = (stage.census(), Namespace::create("alloc"), Plugin::install());
        let network = Plugin::network(&json!({}));
        let nomad = |command: &str, job: &str, group: &str| {
            let arguments = format!(
                "IgnoreUnknown=1;NOMAD_REGION=global;NOMAD_NAMESPACE=default;NOMAD_JOB_ID={job};NOMAD_GROUP_NAME={group};NOMAD_ALLOC_ID=a110c"
            );
            plugin.call_with(&arguments, &stage.aws, command, "a110c", &alloc.path(), &network)
        };
        // A job may have the name of a deployment, and one without is no member.
        for (job, group) in [("billing", "db"), ("shop", "")] {
            assert_eq!(nomad("ADD", job, group).done().json(), network["prevResult"]);
            assert!(alloc.interface("mesh0").is_none() && stage.instances().is_empty());
        }
        let error = nomad("ADD", "shop", "ghost").expect_code(1).json();
        assert!(error["msg"].as_str().is_some_and(|msg| msg.contains("no service `ghost`")), "{error}");
        assert_eq!(nomad("ADD", "shop", "db").done().json(), network["prevResult"]);
        assert_eq!(stage.instances(), ["shop/db live"]);
        let address = stage.coordinator.address_of("shop/db");
        assert!(alloc.ip_output("-o addr show dev mesh0").contains(&format!("inet {address}/32")));
        nomad("CHECK", "shop", "db").done();
        nomad("DEL", "shop", "db").done();
        wait_detached(&stage, &alloc);
        drop(alloc);
        stage.nothing_is_left(&before);
    });
}

#[test]
fn where_the_mesh_may_be_missing_the_chain_goes_on_without_it() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        stage.configure("[containers]\nfail = \"open\"\n");
        let (before, pod) = (stage.census(), Namespace::create("pod"));
        let path = pod.path().display().to_string();
        let goes_without = |stage: &Stage, service: &str, words: &str| {
            let ours = Plugin::network(&json!({"service": service}));
            let said = call(stage, "ADD", "f00", &path, &ours).done();
            assert_eq!(said.json(), ours["prevResult"]);
            assert!(said.stderr.contains(words), "{words} is not in {}", said.stderr);
            assert!(pod.interface("mesh0").is_none());
            // Otherwise a runtime that checks its containers would end it.
            assert_eq!(call(stage, "CHECK", "f00", &path, &ours).done().stdout, "");
            assert_eq!(call(stage, "DEL", "f00", &path, &ours).done().stdout, "");
        };
        goes_without(&stage, "shop/ghost", "no service `ghost`");
        // Errors in the network's own configuration are for its author to correct.
        let wrong = Plugin::network(&json!({"service": "shop"}));
        assert_eq!(call(&stage, "ADD", "f00", &path, &wrong).expect_code(1).json()["code"], 7);
        stage.aws.kill();
        goes_without(&stage, "shop/db", "no agent is running");
        stage.aws.start(&[]);
        call(&stage, "ADD", "f00", &path, &Plugin::network(&json!({"service": "shop/db"}))).done();
        assert!(pod.interface("mesh0").is_some(), "with all out of the way it is attached");
        drop(pod);
        stage.nothing_is_left(&before);
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
        collect(&stage, &Plugin::network(&json!({"cniVersion": "1.1.0", "name": "another"})));
        assert_eq!(stage.instances().len(), 2, "they are another network's");
        collect(&stage, &Plugin::network(&valid));
        wait::until_true("the end of one instance", || {
            stage.instances() == ["shop/db live"] && pods[1].interface("mesh0").is_none()
        });
        assert!(pods[0].interface("mesh0").is_some());
        // A restarted agent still knows it, and a namespace that is gone always ends it.
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
        wait_detached(&stage, &pod);
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
        refused(&stage, &Plugin::network(&json!({"service": "shop/ghost"})), 11, "no service `ghost`");
        refused(&stage, &Plugin::network(&json!({"service": "shop"})), 7, "names no service");
        refused(&stage, &Plugin::network(&json!({"service": "shop/db", "prevResult": null})), 7, "no prevResult");
        // A user who may annotate pods gets nothing by that, unless the operator allows it.
        call(&stage, "ADD", "f00", &path, &annotated("shop/db")).done();
        assert!(pod.interface("mesh0").is_none());
        // A pod without annotations, as reported by containerd, is no member whatever is wrong here.
        let bare = Plugin::network(&json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": null}}));
        stage.configure("[containers]\nfial = \"open\"\n");
        refused(&stage, &annotated("shop/db"), 11, "config.toml, line 2");
        for command in ["ADD", "DEL"] {
            call(&stage, command, "f00", &path, &bare).done();
        }
        call(&stage, "DEL", "f00", &path, &json!("no network")).done();
        stage.configure("");
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
        if !Podman::knows_cni(&stage.aws) {
            println!("this podman can't call plugins of CNI, as Debian builds it since version 5");
            return;
        }
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        let address = stage.coordinator.address_of("shop/db");
        let said = podman.run(&["--network", "shop"], "ip addr").done().stdout;
        assert!(said.contains(&format!("inet {address}/32")) && said.contains("inet 10.88.7."), "{said}");
        wait::until_true("the end of the instance", || stage.instances().is_empty());
    });
}
