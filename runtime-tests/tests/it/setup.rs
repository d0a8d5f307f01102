//! `mesh-node setup`: what it writes is what the runtimes take, it shows it first, and it takes it back.

use std::{fs, path::Path};

use mesh_netns_tests::isolated;
use mesh_runtime_tests::{Docker, Podman, Stage};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const DAEMON: &str = "/etc/docker/daemon.json";

#[test]
fn docker_starts_members_after_setup_and_none_after_undo() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        fs::create_dir_all("/etc/docker").expect("cannot make a directory");
        fs::write(DAEMON, "{\"log-level\": \"error\"}\n").expect("cannot write a file");
        let shown = stage.aws.command(&["setup", "docker", "--dry-run"]).done().stdout;
        assert!(
            shown.contains("+++ /etc/docker/daemon.json") && shown.contains("+  \"default-runtime\": \"mesh\""),
            "{shown}"
        );
        assert_eq!(fs::read_to_string(DAEMON).expect("the file"), "{\"log-level\": \"error\"}\n", "only shown");

        let done = stage.aws.command(&["setup", "docker"]).done();
        assert_eq!(done.stdout, shown);
        assert!(done.stderr.contains("systemctl reload docker"), "{}", done.stderr);
        assert!(stage.aws.command(&["setup", "docker"]).done().stderr.contains("nothing to do"));
        let docker = Docker::start_with(&stage.lab, &stage.aws, DAEMON.into());
        docker.run(&["--label", "mesh.service=shop/db"], "ip addr show mesh0").done();
        docker.run(&[], "! ip addr show mesh0").done();
        drop(docker);

        stage.aws.command(&["setup", "docker", "--undo"]).done();
        let left = fs::read_to_string(DAEMON).expect("the operator's file");
        assert!(left.contains("log-level") && !left.contains("mesh"), "{left}");
    });
}

#[test]
fn podman_starts_members_after_setup_and_none_after_undo() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        let flags = ["--annotation", "mesh.service=shop/db", "--network", "none"];
        podman.run(&flags, "! ip addr show mesh0").done();
        stage.aws.command(&["setup", "podman"]).done();
        podman.run(&flags, "ip addr show mesh0").done();
        stage.aws.command(&["setup", "podman", "--undo"]).done();
        podman.run(&flags, "! ip addr show mesh0").done();
        assert!(!Path::new("/etc/containers/oci/hooks.d/mesh.json").exists());
        assert!(!Path::new("/etc/containers/containers.conf.d/mesh.conf").exists());
    });
}

#[test]
fn what_somebody_else_wrote_is_not_touched() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        fs::create_dir_all("/etc/docker").expect("cannot make a directory");
        let theirs = "{\"default-runtime\": \"nvidia\"}\n";
        fs::write(DAEMON, theirs).expect("cannot write a file");
        stage.aws.command(&["setup", "docker"]).refused(&["default runtime nvidia", "[containers] runc"]);
        stage.aws.command(&["setup", "docker", "--undo"]).done();
        assert_eq!(fs::read_to_string(DAEMON).expect("the file"), theirs);
        let hooks = Path::new("/etc/containers/oci/hooks.d");
        fs::create_dir_all(hooks).expect("cannot make a directory");
        fs::write(hooks.join("mesh.json"), "{}").expect("cannot write a file");
        stage.aws.command(&["setup", "podman"]).refused(&["mesh.json is there already"]);
    });
}
