//! CDI: a service is a device if the agent's configuration says so.

use std::{fs, path::Path};

use mesh_netns_tests::{isolated, wait};
use mesh_runtime_tests::{Podman, Stage, offer};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\nport = 5432\n";
const FILE: &str = "/var/run/cdi/mesh.json";
const DB: [&str; 2] = ["--device", "mesh.warp/service=shop.db"];

fn stage() -> (Stage, Podman) {
    let mut stage = Stage::new(&[SHOP]);
    offer(&mut stage.aws, &["shop/db"]);
    let podman = Podman::as_configured(&stage.lab, &stage.aws);
    (stage, podman)
}

#[test]
fn a_device_brings_all_before_the_first_instruction() {
    isolated(|| {
        let (stage, podman) = stage();
        let (app, db) = (stage.coordinator.address_of("shop/app"), stage.coordinator.address_of("shop/db"));
        podman.command(&["network", "create", "further"]).done();
        let before = stage.census();
        let look = "grep app.warp /etc/hosts; echo \"$WARP_IST_app $PORT\"; ip addr show mesh0; ls /sys/class/net";
        let mapped = ["--uidmap", "0:100000:65536"];
        for (network, users) in [("none", &[][..]), ("none", &mapped), ("podman", &[]), ("further", &mapped)] {
            let said = podman.run(&[&DB[..], &["--network", network], users].concat(), look).done().stdout;
            for words in [format!("{app} app.warp\n"), format!("\n{app} 5432\n"), format!("inet {db}/32")] {
                assert!(said.contains(&words), "{network} {users:?}: nothing of `{words}` in: {said}");
            }
            assert_eq!(said.contains("eth0\n"), network != "none", "podman's own network is as ever: {said}");
        }
        stage.nothing_is_left(&before);
    });
}

#[test]
fn a_further_process_has_the_names() {
    isolated(|| {
        let (stage, podman) = stage();
        let before = stage.census();
        let container = podman.container(&[DB, ["--network", "none"]].concat(), &["sleep", "1000"]);
        let app = stage.coordinator.address_of("shop/app");
        assert_eq!(podman.exec(&container, "grep app.warp /etc/hosts").done().stdout, format!("{app} app.warp\n"));
        // podman passes the environment from devices only to the first process.
        assert_eq!(podman.exec(&container, "echo $WARP_IST_app").done().stdout, "\n");
        podman.remove(&container);
        stage.nothing_is_left(&before);
    });
}

#[test]
fn an_agent_that_starts_without_its_coordinator_goes_on_with_what_was_known() {
    isolated(|| {
        let (mut stage, _podman) = stage();
        let known = fs::read_to_string(FILE).expect("the devices");
        stage.coordinator.stop();
        stage.aws.stop();
        // No instance here gets a map from the agent, which has looked when it says so.
        stage.configure("[containers]\ncdi = [\"shop/db\", \"shop/ghost\"]\n");
        stage.aws.start_alone(&[]);
        wait::until_true("the devices", || fs::read_to_string(FILE).is_ok_and(|text| text.contains("shop.ghost")));
        let after = fs::read_to_string(FILE).expect("the devices");
        let device = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON")["devices"][0].clone();
        assert_eq!(device(&after), device(&known));
        stage.coordinator.start();
    });
}

#[test]
fn what_changes_is_in_the_next_container() {
    isolated(|| {
        let (stage, podman) = stage();
        let flags = [DB, ["--network", "none"]].concat();
        // The agent gets the changes for its instances.
        podman.container(&flags, &["sleep", "1000"]);
        stage.coordinator.apply(&SHOP.replace("[services.app]", "[services.app]\n[services.cache]")).done();
        let told = || fs::read_to_string(FILE).is_ok_and(|text| text.contains("WARP_IST_cache"));
        wait::until_true("the new variable", told);
        podman.run(&flags, "test -n \"$WARP_IST_cache\"").done();
        stage.aws.command(&["leave"]).done();
        assert!(!Path::new(FILE).exists());
    });
}
