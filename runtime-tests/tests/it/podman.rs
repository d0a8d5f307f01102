//! podman, by one hook in its directory of hooks, or with `mesh-runc` as its runtime.

use std::fs;

use mesh_netns_tests::{Runner, isolated, wait};
use mesh_runtime_tests::{Lab, Podman, Stage};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\nport = 5432\n";
const DB: [&str; 2] = ["--annotation", "mesh.service=shop/db"];
const NONE: [&str; 2] = ["--network", "none"];
const MAPPED: [&str; 2] = ["--uidmap", "0:100000:65536"];

#[test]
fn by_a_hook_all_is_there_before_the_first_instruction() {
    isolated(|| all_is_there(Podman::with_hooks));
}

#[test]
fn by_the_wrapper_all_is_there_before_the_first_instruction() {
    isolated(|| all_is_there(Podman::with_wrapper));
}

fn all_is_there(podman: fn(&Lab, &Runner) -> Podman) {
    let stage = Stage::new(&[SHOP]);
    let (app, db) = (stage.coordinator.address_of("shop/app"), stage.coordinator.address_of("shop/db"));
    let podman = podman(&stage.lab, &stage.aws);
    podman.command(&["network", "create", "further"]).done();
    let before = stage.census();
    // Each line uses the present state, and nothing is waited for.
    let look =
        "grep app.warp /etc/hosts; echo \"$WARP_IST_app $PORT\"; ip addr show mesh0; ip route; ls /sys/class/net";
    let users = [&[][..], &MAPPED, &["--cap-drop", "ALL", "--user", "1000"]];
    for (network, users) in
        users.map(|users| ("none", users)).into_iter().chain([("podman", users[0]), ("further", users[1])])
    {
        let said = podman.run(&[&DB[..], &["--network", network], users].concat(), look).done().stdout;
        for words in [format!("{app} app.warp\n"), format!("\n{app} 5432\n"), format!("inet {db}/32")] {
            assert!(said.contains(&words), "{network} {users:?}: nothing of `{words}` in: {said}");
        }
        let is_networked = said.contains("default via") && said.contains("eth0\n");
        assert_eq!(is_networked, network != "none", "podman's own network is as ever: {said}");
    }
    stage.nothing_is_left(&before);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let podman = Podman::with_hooks(&stage.lab, &stage.aws);
        stage.aws.kill();
        let said = podman.run(&NONE, "env; ls /sys/class/net").done().stdout;
        assert!(!said.contains("WARP") && !said.contains("mesh0"), "{said}");
    });
}

#[test]
fn an_image_does_not_make_itself_a_member_of_hooks() {
    isolated(|| an_image_makes_no_container_a_member(Podman::with_hooks));
}

#[test]
fn an_image_does_not_make_itself_a_member_of_the_wrapper() {
    isolated(|| an_image_makes_no_container_a_member(Podman::with_wrapper));
}

fn an_image_makes_no_container_a_member(podman: fn(&Lab, &Runner) -> Podman) {
    let stage = Stage::new(&[SHOP]);
    let podman = podman(&stage.lab, &stage.aws);
    let before = stage.census();
    let manifest = podman.annotated("sly", "mesh.service=shop/db");
    let script = "ls /sys/class/net; env; echo it runs";
    for users in [&[][..], &MAPPED] {
        let run = |flags: &[&str]| podman.run_image("sly", &[&NONE[..], users, flags].concat(), script).done().stdout;
        let said = run(&[]);
        assert!(said.ends_with("it runs\n") && !said.contains("mesh0") && !said.contains("WARP_"), "{said}");
        let said = run(&["--annotation", "mesh.service=shop/app"]);
        assert!(said.contains("mesh0") && said.contains("WARP_IST_db"), "{said}");
    }
    // The image of the container can no longer be determined.
    let refused = |service: &str| {
        let said = podman.run_image(
            "sly",
            &[&NONE[..], &["--annotation", &format!("mesh.service={service}")]].concat(),
            script,
        );
        assert!(!said.stdout.contains("it runs"));
        said.stderr
    };
    let text = fs::read_to_string(&manifest).expect("the manifest");
    let twice = text.replacen("\"annotations\":", "\"Annotations\":{},\"annotations\":", 1);
    fs::write(&manifest, twice).expect("cannot write a file");
    let said = refused("shop/app");
    assert!(said.contains("shop/app: the image") && said.contains("podman image inspect"), "{said}");
    stage.nothing_is_left(&before);
}

#[test]
fn a_further_process_has_the_names_and_by_the_wrapper_the_variables() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let app = stage.coordinator.address_of("shop/app");
        for (podman, variables) in [
            (Podman::with_wrapper(&stage.lab, &stage.aws), format!("{app} 5432\n")),
            // podman makes the environment of further processes itself, from the container's configuration.
            (Podman::with_hooks(&stage.lab, &stage.aws), "\n".to_owned()),
        ] {
            let before = stage.census();
            let db = podman.container(&[DB, NONE].concat(), &["sleep", "1000"]);
            assert_eq!(podman.exec(&db, "echo $WARP_IST_app $PORT").done().stdout, variables);
            assert_eq!(podman.exec(&db, "grep app.warp /etc/hosts").done().stdout, format!("{app} app.warp\n"));
            podman.remove(&db);
            stage.nothing_is_left(&before);
        }
    });
}

#[test]
fn a_container_can_at_most_cut_itself_off() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let podman = Podman::with_hooks(&stage.lab, &stage.aws);
        let before = stage.census();
        let flags = [DB, NONE].concat();
        let changes = [
            "ip link set mesh0 down",
            "ip link del mesh0",
            "ip addr add 100.112.0.77/32 dev mesh0",
            "ip rule del pref 12",
        ];
        let ordinary = podman.container(&flags, &["sleep", "1000"]);
        for change in changes {
            let refused = podman.exec(&ordinary, change);
            assert!(refused.stderr.contains("not permitted"), "{change}: {}", refused.stderr);
        }
        let admins = [&[][..], &MAPPED].map(|users| {
            let admin = podman.container(&[&flags, users, &["--cap-add", "NET_ADMIN"]].concat(), &["sleep", "1000"]);
            assert_eq!(stage.instances().len(), 2);
            podman.exec(&admin, "ip link del mesh0").done();
            wait::until_true("the end of that one instance", || stage.instances() == ["shop/db live"]);
            podman.exec(&ordinary, "ip addr show mesh0").done();
            admin
        });
        admins.iter().chain([&ordinary]).for_each(|container| podman.remove(container));
        stage.nothing_is_left(&before);
    });
}

#[test]
fn what_podman_starts_is_attached_by_its_service_too() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        let (_service, socket) = podman.service();
        stage.configure(&format!("[containers]\nwatch = [{socket:?}]\n"));
        stage.aws.stop();
        stage.aws.start(&[]);
        let before = stage.census();
        let db = podman.container(&["--label", "mesh.service=shop/db", "--network", "none"], &["sleep", "1000"]);
        wait::until_true("the interface", || podman.exec(&db, "ip addr show mesh0").code == Some(0));
        wait::until_true("the names", || podman.exec(&db, "grep app.warp /etc/hosts").code == Some(0));
        kill(Pid::from_raw(podman.pid(&db)), Signal::SIGKILL).expect("cannot kill a container");
        stage.nothing_is_left(&before);
    });
}
