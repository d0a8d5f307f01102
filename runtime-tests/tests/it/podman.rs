//! podman, by one hook in its directory of hooks, or with `mesh-runc` as its runtime.

use std::fs;

use mesh_netns_tests::{Runner, isolated, wait};
use mesh_runtime_tests::{Lab, Podman, Stage};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\nport = 5432\n";
const DB: [&str; 4] = ["--annotation", "mesh.service=shop/db", "--network", "none"];

fn stage() -> Stage {
    Stage::new(&[SHOP])
}

/// Nothing is left of any container.
#[track_caller]
fn nothing_is_left(stage: &Stage) {
    wait::until_true("the end of all instances", || stage.instances().is_empty());
    let remembered = fs::read_to_string(stage.aws.state().join("containers.json")).expect("what the agent remembers");
    assert!(remembered.contains("\"containers\":{}"), "{remembered}");
}

#[test]
fn by_a_hook_all_is_there_before_the_first_instruction() {
    isolated(|| all_is_there(Podman::with_hooks));
}

#[test]
fn by_the_wrapper_all_is_there_before_the_first_instruction() {
    isolated(|| all_is_there(Podman::with_wrapper));
}

fn all_is_there(podman: fn(&Lab, &Runner) -> Podman) {
    let stage = stage();
    let (app, db) = (stage.coordinator.address_of("shop/app"), stage.coordinator.address_of("shop/db"));
    // podman writes the hosts file once more after the hooks; ours comes back right behind it.
    let names = "n=0; until grep app.warp /etc/hosts || [ $n = 500 ]; do n=$((n + 1)); sleep 0.02; done";
    let look = format!("ip addr show mesh0; echo \"$WARP_IST_app $PORT\"; {names}");
    let podman = podman(&stage.lab, &stage.aws);
    for users in [&[][..], &["--uidmap", "0:100000:65536"], &["--cap-drop", "ALL", "--user", "1000"]] {
        let said = podman.run(&[&DB[..], users].concat(), &look).done().stdout;
        assert!(said.contains(&format!("inet {db}/32")), "{users:?}: {said}");
        assert!(said.contains(&format!("\n{app} 5432\n")), "{users:?}: {said}");
        assert!(said.contains(&format!("{app} app.warp\n")), "{users:?}: {said}");
    }
    nothing_is_left(&stage);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    isolated(|| {
        let mut stage = stage();
        let podman = Podman::with_hooks(&stage.lab, &stage.aws);
        stage.aws.kill();
        let said = podman.run(&["--network", "none"], "env; ls /sys/class/net").done().stdout;
        assert!(!said.contains("WARP") && !said.contains("mesh0"), "{said}");
    });
}

#[test]
fn what_cannot_have_the_mesh_does_not_start_and_podman_says_why() {
    isolated(|| {
        let mut stage = stage();
        let podman = Podman::with_wrapper(&stage.lab, &stage.aws);
        let refused = |annotation: &str, network: &str, words: &str| {
            let outcome = podman.run(&["--annotation", annotation, "--network", network], "echo it runs");
            assert!(!outcome.stdout.contains("it runs"), "{annotation}");
            assert!(outcome.stderr.contains(words), "{annotation}: {}", outcome.stderr);
        };
        refused("mesh.service=shop/nobody", "none", "`shop` has no service `nobody`");
        refused("mesh.service=shop", "none", "names no service");
        refused("mesh.service=shop/db", "host", "machine's own network namespace");
        stage.aws.kill();
        let outcome = podman.run(&DB, "true");
        assert!(outcome.stderr.contains("no agent is running"), "{}", outcome.stderr);
    });
}

#[test]
fn a_further_process_has_the_variables_by_the_wrapper() {
    isolated(|| {
        let stage = stage();
        let podman = Podman::with_wrapper(&stage.lab, &stage.aws);
        let db = podman.container(&DB, &["sleep", "1000"]);
        let app = stage.coordinator.address_of("shop/app");
        assert_eq!(podman.exec(&db, "echo $WARP_IST_app $PORT").done().stdout, format!("{app} 5432\n"));
    });
}

#[test]
fn however_a_container_ends_nothing_of_it_stays() {
    isolated(|| {
        let stage = stage();
        let podman = Podman::with_hooks(&stage.lab, &stage.aws);
        let db = podman.container(&DB, &["sleep", "1000"]);
        assert_eq!(stage.instances(), ["shop/db live"]);
        podman.command(&["restart", "--time", "0", &db.id]).done();
        assert_eq!(stage.instances(), ["shop/db live"]);
        podman.exec(&db, "ip addr show mesh0").done();
        podman.command(&["stop", "--time", "0", &db.id]).done();
        nothing_is_left(&stage);
        podman.command(&["start", &db.id]).done();
        kill(Pid::from_raw(podman.pid(&db)), Signal::SIGKILL).expect("cannot kill a container");
        nothing_is_left(&stage);
    });
}

#[test]
fn whoever_is_killed_nothing_of_a_container_stays() {
    isolated(|| {
        let mut stage = stage();
        let podman = Podman::with_hooks(&stage.lab, &stage.aws);
        let stays = podman.container(&DB, &["sleep", "1000"]);
        let goes = podman.container(&DB, &["sleep", "1000"]);
        stage.aws.kill();
        podman.command(&["kill", &goes.id]).done();
        stage.aws.start(&[]);
        wait::until_true("the end of one instance", || stage.instances() == ["shop/db live"]);
        podman.exec(&stays, "ip addr show mesh0").done();
        // What stands for the daemon that podman doesn't have: nobody tells of the end then.
        let process = podman.pid(&stays);
        kill(podman.monitor(&stays), Signal::SIGKILL).expect("cannot kill conmon");
        assert_eq!(stage.instances(), ["shop/db live"]);
        kill(Pid::from_raw(process), Signal::SIGKILL).expect("cannot kill a container");
        nothing_is_left(&stage);
    });
}

#[test]
fn the_networks_of_podman_stay_as_they_are() {
    isolated(|| {
        let stage = stage();
        let podman = Podman::with_hooks(&stage.lab, &stage.aws);
        podman.command(&["network", "create", "further"]).done();
        let app = stage.coordinator.address_of("shop/app");
        for network in ["podman", "further"] {
            let flags = ["--annotation", "mesh.service=shop/db", "--network", network];
            let names = "n=0; until grep app.warp /etc/hosts || [ $n = 500 ]; do n=$((n + 1)); sleep 0.02; done";
            let said = podman.run(&flags, &format!("ip addr; ip route; echo $WARP_IST_app; {names}")).done().stdout;
            assert!(said.contains("eth0") && said.contains("default via") && said.contains("mesh0"), "{said}");
            assert!(said.contains(&format!("\n{app}\n")) && said.contains(&format!("{app} app.warp\n")), "{said}");
        }
        nothing_is_left(&stage);
    });
}

#[test]
fn a_namespace_that_outlives_its_container_is_as_it_was() {
    isolated(|| {
        let stage = stage();
        let podman = Podman::with_hooks(&stage.lab, &stage.aws);
        let kept = mesh_netns_tests::Namespace::create("kept");
        let picture = || ["link", "addr", "rule", "route show table all"].map(|what| kept.ip_output(what)).join("\n");
        let before = picture();
        let flags = ["--annotation", "mesh.service=shop/db", "--network", "ns:/run/netns/kept"];
        podman.run(&flags, "ip addr show mesh0").done();
        nothing_is_left(&stage);
        wait::until_true("the namespace to be as it was", || picture() == before);
    });
}

#[test]
fn a_service_is_a_device_where_the_configuration_says_so() {
    isolated(|| {
        let mut stage = stage();
        stage.configure("[containers]\ncdi = [\"shop/db\"]\n");
        stage.aws.stop();
        stage.aws.start(&[]);
        let file = "/var/run/cdi/mesh.json";
        wait::until_true("the devices", || fs::read_to_string(file).is_ok_and(|text| text.contains("shop.db")));
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        let (app, db) = (stage.coordinator.address_of("shop/app"), stage.coordinator.address_of("shop/db"));
        let flags = ["--device", "mesh.warp/service=shop.db", "--network", "none"];
        let said = podman.run(&flags, "ip addr show mesh0; echo \"$WARP_IST_app $PORT\"").done().stdout;
        assert!(said.contains(&format!("inet {db}/32")) && said.contains(&format!("\n{app} 5432\n")), "{said}");
        nothing_is_left(&stage);
        let mapped = [&flags[..], &["--uidmap", "0:100000:65536"]].concat();
        assert!(podman.run(&mapped, "ip addr show mesh0").done().stdout.contains(&format!("inet {db}/32")));
        let ends = podman.container(&flags, &["sleep", "1000"]);
        podman.command(&["restart", "--time", "0", &ends.id]).done();
        assert_eq!(stage.instances(), ["shop/db live"]);
        podman.exec(&ends, "ip addr show mesh0").done();
        kill(Pid::from_raw(podman.pid(&ends)), Signal::SIGKILL).expect("cannot kill a container");
        nothing_is_left(&stage);
        // What is declared later is in the next container's environment.
        podman.container(&flags, &["sleep", "1000"]);
        stage.coordinator.apply(&SHOP.replace("[services.app]", "[services.app]\n[services.cache]")).done();
        let told = || fs::read_to_string(file).is_ok_and(|text| text.contains("WARP_IST_cache"));
        wait::until_true("the new variable", told);
        podman.run(&flags, "test -n \"$WARP_IST_cache\"").done();
        stage.aws.command(&["leave"]).done();
        assert!(!std::path::Path::new(file).exists());
    });
}

#[test]
fn what_podman_starts_is_attached_by_its_service_too() {
    isolated(|| {
        let mut stage = stage();
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        let (_service, socket) = podman.service();
        stage.configure(&format!("[containers]\nwatch = [{socket:?}]\n"));
        stage.aws.stop();
        stage.aws.start(&[]);
        let db = podman.container(&["--label", "mesh.service=shop/db", "--network", "none"], &["sleep", "1000"]);
        wait::until_true("the interface", || podman.exec(&db, "ip addr show mesh0").code == Some(0));
        wait::until_true("the names", || podman.exec(&db, "grep app.warp /etc/hosts").code == Some(0));
        kill(Pid::from_raw(podman.pid(&db)), Signal::SIGKILL).expect("cannot kill a container");
        nothing_is_left(&stage);
    });
}
