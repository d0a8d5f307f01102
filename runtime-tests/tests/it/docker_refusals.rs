//! `mesh-runc` never touches containers without the mesh. A container that needs the mesh and can't have it does not
//! start, and Docker's own error says what to do.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use mesh_netns_tests::isolated;
use mesh_runtime_tests::{Docker, Stage, mesh_node};
use serde_json::json;

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const DB: [&str; 2] = ["--label", "mesh.service=shop/db"];
const COMPOSE: [&str; 6] = [
    "--label",
    "com.docker.compose.project=shop",
    "--label",
    "com.docker.compose.service=db",
    "--label",
    "com.docker.compose.oneoff=False",
];

fn stage() -> (Stage, Docker) {
    let stage = Stage::new(&[SHOP]);
    let docker = Docker::start(&stage.lab, &stage.aws);
    stage.configure(&asked(&docker));
    (stage, docker)
}

/// A configuration in which this Docker is asked about images.
fn asked(docker: &Docker) -> String {
    format!("[containers]\nwatch = [{:?}]\n", docker.socket())
}

/// A wrapper for mesh-runc, in its own mount namespace without files that describe images, neither in Docker's own
/// store nor in containerd's.
const WITHOUT_IMAGES: &str = r#"#!/bin/sh
exec unshare --mount sh -c 'for store in /var/lib/docker-*/image /var/lib/docker-*/containerd/daemon/io.containerd.content.*; do [ ! -d "$store" ] || mount -t tmpfs none "$store"; done; exec /run/mesh-runc "$@"' mesh "$@"
"#;

/// Docker that has to be asked about images.
fn with_images_in_no_files(stage: &Stage) -> Docker {
    let (runtime, configuration) = (Path::new("/run/runtime"), Path::new("/run/daemon.json"));
    fs::write(runtime, WITHOUT_IMAGES).expect("cannot write a file");
    fs::set_permissions(runtime, fs::Permissions::from_mode(0o755)).expect("cannot make it a program");
    symlink(mesh_node(), "/run/mesh-runc").expect("cannot make a link");
    let config = json!({"runtimes": {"mesh": {"path": runtime}}, "default-runtime": "mesh"});
    fs::write(configuration, config.to_string()).expect("cannot write a file");
    Docker::start_with(&stage.lab, &stage.aws, configuration.to_owned())
}

/// An image with these labels, made from this container.
fn image(docker: &Docker, name: &str, labels: &str) {
    let made = docker.container(&[], &["true"]);
    docker.command(&["commit", "--change", &format!("LABEL {labels}"), &made.id, name]).done();
}

/// A container of this image and with these flags is no member.
#[track_caller]
fn is_no_member(docker: &Docker, flags: &[&str], image: &str) {
    let said = docker.command(&[&["run", "--rm"], flags, &[image, "ls", "/sys/class/net"]].concat()).done().stdout;
    assert!(!said.contains("mesh0"), "{flags:?}: {said}");
}

/// A container of this image and with these flags is a member.
#[track_caller]
fn is_member(docker: &Docker, flags: &[&str], image: &str) {
    let said = docker.command(&[&["run", "--rm"], flags, &[image, "ls", "/sys/class/net"]].concat()).done().stdout;
    assert!(said.contains("mesh0"), "{flags:?}: {said}");
}

/// A container with these flags does not start, and Docker's error has each of these words.
#[track_caller]
fn is_refused(stage: &Stage, docker: &Docker, flags: &[&str], words: &[&str]) {
    let outcome = docker.run(flags, "echo it runs");
    assert!(!outcome.stdout.contains("it runs"), "{flags:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{flags:?}: nothing of `{word}` in: {}", outcome.stderr);
    }
    assert!(stage.instances().is_empty(), "no partial effect");
}

/// A container with these flags starts without anything of the mesh.
#[track_caller]
fn is_left_alone(stage: &Stage, docker: &Docker, flags: &[&str]) {
    let said = docker.run(flags, "env; cat /etc/hosts; ls /sys/class/net; echo it runs").done().stdout;
    assert!(said.ends_with("it runs\n") && !said.contains("WARP_") && !said.contains("warp"), "{flags:?}: {said}");
    assert!(!said.lines().any(|name| name == "mesh0"), "{flags:?}: {said}");
    assert!(stage.instances().is_empty());
}

#[test]
fn what_is_not_ours_is_left_alone_whatever_the_agent_does() {
    isolated(|| {
        let (mut stage, docker) = stage();
        is_left_alone(&stage, &docker, &[]);
        is_left_alone(&stage, &docker, &["--network", "host", "--label", "service=shop", "--label", "role=web"]);
        is_refused(&stage, &docker, &["--label", "mesh.client=yes"], &["mesh.client", "mesh.service"]);
        is_left_alone(&stage, &docker, &COMPOSE);
        stage.configure("[containers.sources]\ncompose = [\"billing\"]\n");
        is_left_alone(&stage, &docker, &COMPOSE);
        stage.configure("this is no configuration");
        is_left_alone(&stage, &docker, &["--label", "com.example.project=shop"]);
        stage.aws.kill();
        is_left_alone(&stage, &docker, &[]);
    });
}

#[test]
fn an_image_decides_nothing_about_the_mesh() {
    isolated(|| {
        let (stage, docker) = stage();
        image(&docker, "sly", "mesh.service=shop/db");
        is_no_member(&docker, &[], "sly");
        is_member(&docker, &["--label", "mesh.service=shop/app"], "sly");
        stage.configure(&(asked(&docker) + "[containers.sources]\ncompose = [\"shop\"]\n"));
        let [_, project, _, service, _, oneoff] = COMPOSE;
        image(&docker, "composed", &format!("{project} {service} {oneoff}"));
        is_no_member(&docker, &[], "composed");
        image(&docker, "built", &format!("{project} {service}"));
        is_member(&docker, &COMPOSE, "built");
    });
}

#[test]
fn where_no_file_describes_the_image_docker_is_asked() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let docker = with_images_in_no_files(&stage);
        image(&docker, "sly", "mesh.service=shop/db");
        is_left_alone(&stage, &docker, &[]);
        let words = ["shop/db: cannot ask Docker for the image sha256:", "/var/run/docker.sock: ", "watch = ["];
        is_refused(&stage, &docker, &DB, &words);
        stage.configure("[containers]\nfail = \"open\"\n");
        is_left_alone(&stage, &docker, &DB);
        // It answers just while it starts the container.
        stage.configure(&asked(&docker));
        is_member(&docker, &DB, "busybox");
        is_no_member(&docker, &[], "sly");
        is_member(&docker, &["--label", "mesh.service=shop/app"], "sly");
    });
}

#[test]
fn a_mistake_in_the_configuration_neither_lets_a_member_out_nor_puts_another_runtime_in() {
    isolated(|| {
        let (stage, docker) = stage();
        stage.configure("[containers.sources]\nheroku = [\"*\"]\n");
        is_refused(&stage, &docker, &COMPOSE, &["/run/aws/config.toml, line 2", "heroku"]);
        is_refused(&stage, &docker, &DB, &["/run/aws/config.toml, line 2", "heroku"]);
        is_left_alone(&stage, &docker, &[]);
        // With the named runtime if that can be determined, else with none.
        stage.configure("[containers]\nrunc = \"/run/sandbox\"\nfial = \"open\"\n");
        is_refused(&stage, &docker, &[], &["cannot run /run/sandbox"]);
        // It would call itself without end.
        stage.configure(&format!("[containers]\nrunc = {:?}\n", mesh_node()));
        is_refused(&stage, &docker, &[], &["is mesh-runc itself", "remove the line"]);
        stage.configure("[containers]\nrunc = \"/run/sandbox\nfail = \"open\"\n");
        is_refused(&stage, &docker, &[], &["/run/aws/config.toml, line 2"]);
        stage.configure("");
        is_left_alone(&stage, &docker, &[]);
    });
}

#[test]
fn a_platform_that_is_named_counts_for_the_deployments_that_are_named() {
    isolated(|| {
        let (stage, docker) = stage();
        stage.configure(&(asked(&docker) + "[containers.sources]\ncompose = [\"shop\"]\n"));
        let said = docker.run(&COMPOSE, "echo $WARP_IST_app; ls /sys/class/net").done().stdout;
        let app = stage.coordinator.address_of("shop/app");
        assert!(said.contains(&app.to_string()) && said.contains("mesh0"), "{said}");
    });
}

#[test]
fn without_an_agent_a_container_that_asks_for_the_mesh_does_not_start_unless_it_may() {
    isolated(|| {
        let (mut stage, docker) = stage();
        stage.aws.kill();
        is_refused(&stage, &docker, &DB, &["shop/db: no agent is running", "mesh-node join --state /run/aws"]);
        stage.configure("[containers]\nfail = \"open\"\n");
        is_left_alone(&stage, &docker, &DB);
        stage.configure("[containers]\nfail = \"ajar\"\n");
        is_refused(&stage, &docker, &DB, &["/run/aws/config.toml, line 2", "ajar"]);
    });
}

#[test]
fn whatever_stands_in_the_way_is_said_by_docker() {
    isolated(|| {
        let (mut stage, docker) = stage();
        let refused = |flags: &[&str], words: &[&str]| is_refused(&stage, &docker, flags, words);
        refused(&["--label", "mesh.service=shop/ghost"], &["`shop` has no service `ghost`", "mesh-coord services"]);
        refused(&["--label", "mesh.service=ghost/db"], &["ghost/db"]);
        refused(&["--label", "mesh.service=shop"], &["mesh.service=shop: `shop` names no service", "shop/db"]);
        refused(
            &[&DB[..], &["--label", "mesh.client=yes"]].concat(),
            &["mesh.client=yes says nothing", "mesh.client=true"],
        );
        refused(&[&DB[..], &["--network", "host"]].concat(), &["machine's own network namespace", "--network host"]);
        refused(&[&DB[..], &["--volume", "/etc/hosts:/etc/hosts"]].concat(), &["machine's own", "mount nothing over"]);
        for (label, words) in [
            ("mesh.servcie=shop/db", ["no label or annotation mesh.servcie", "mesh.service=DEPLOYMENT/SERVICE"]),
            ("Mesh.Service=shop/db", ["no label or annotation Mesh.Service", "mesh.service=DEPLOYMENT/SERVICE"]),
            ("mesh.deployment=shop", ["no label or annotation mesh.deployment", "mesh."]),
            ("mesh-service=shop/db", ["no label or annotation mesh-service", "mesh.service=DEPLOYMENT/SERVICE"]),
        ] {
            refused(&["--label", label], &words);
            refused(&[&DB[..], &["--label", label]].concat(), &words);
        }
        refused(&[&DB[..], &["--label", "mesh.cleint=true"]].concat(), &["mesh.cleint", "mesh.client=true"]);
        stage.coordinator.stop();
        let refused = docker.run(&DB, "true");
        assert!(refused.stderr.contains("coordinator"), "{}", refused.stderr);
    });
}

#[test]
fn a_runner_that_may_not_host_the_service_says_so() {
    isolated(|| {
        let (stage, _docker) = stage();
        stage.coordinator.apply("deployment = \"billing\"\n[services.api]\n").done();
        let mut ovh = stage.world.machine("ovh", mesh_netns_tests::Stack::V4);
        let token = stage.coordinator.token(&["--deployment", "billing"]);
        ovh.start(&[&stage.coordinator.url(false), &token, "--name", "ovh"]);
        let docker = Docker::start(&stage.lab, &ovh);
        fs::write(ovh.state().join("config.toml"), asked(&docker)).expect("cannot write a file");
        is_refused(&stage, &docker, &DB, &["shop/db"]);
        docker.run(&["--label", "mesh.service=billing/api"], "ip addr show mesh0").done();
    });
}

#[test]
fn an_agent_that_hangs_delays_only_its_own_containers() {
    isolated(|| {
        let (stage, docker) = stage();
        let db = docker.container(&DB, &["sleep", "1000"]);
        stage.aws.pause();
        docker.run(&[], "true").done();
        // Not even the end of its own container.
        docker.command(&["rm", "--force", &db.id]).done();
        let refused = docker.run(&DB, "true");
        assert!(refused.stderr.contains("the agent does not answer"), "{}", refused.stderr);
        stage.aws.resume();
        mesh_netns_tests::wait::until_true("the end of the instance", || stage.instances().is_empty());
        docker.run(&DB, "ip addr show mesh0").done();
    });
}
