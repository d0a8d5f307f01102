//! The images, built from `packaging/Containerfile` and run by podman. No registry is asked: the base is what the programs need
//! of this machine's own libraries.

use std::{fs, path::Path, process::Command};

use mesh_netns_tests::{Namespace, Outcome, Stack, isolated, run, wait};
use mesh_runtime_tests::{Podman, Stage, mesh_node};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";

/// A base image with glibc and the loader.
fn base(podman: &Podman) {
    let mut ldd = Command::new("ldd");
    ldd.arg(mesh_node());
    let said = run(ldd).done().stdout;
    let libraries =
        said.split_whitespace().filter(|word| word.starts_with('/')).map(|path| path.trim_start_matches('/'));
    let mut tar = Command::new("tar");
    tar.args(["--directory", "/", "--create", "--dereference", "--file", "/run/base.tar"]).args(libraries);
    run(tar).done();
    podman.command(&["import", "--quiet", "/run/base.tar", "base"]).done();
}

/// Builds the image of a program.
fn build(podman: &Podman, name: &str, program: &Path) -> Outcome {
    let context = format!("/run/context-{name}");
    fs::create_dir_all(&context).expect("cannot make a directory");
    fs::copy(program, Path::new(&context).join(name)).expect("cannot copy a program");
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/Containerfile");
    let arguments =
        ["--build-arg", "BASE=localhost/base", "--pull=never", "--file", recipe, "--target", name, "--tag", name];
    podman.command(&[&["build", "--quiet"][..], &arguments, &[&context]].concat()).done()
}

#[test]
fn a_coordinator_and_an_agent_run_from_their_images() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let machine = stage.world.machine("ovh", Stack::Dual);
        let podman = Podman::as_configured(&stage.lab, &machine);
        base(&podman);
        let group = format!("/{}", stage.lab.group());
        let start = |name: &str, flags: &[&str], command: &[&str]| {
            let ours = [
                "run",
                "--detach",
                "--cgroup-parent",
                &group,
                "--log-driver",
                "k8s-file",
                "--network",
                "host",
                "--name",
                name,
            ];
            podman.command(&[&ours[..], flags, &[&format!("localhost/{name}")], command].concat()).done();
        };
        let within = |name: &str, command: &[&str]| podman.command(&[&["exec", name, name], command].concat());

        let coordinator = std::env::var("MESH_COORD").expect("MESH_COORD gives the path of the program under test");
        build(&podman, "mesh-coord", Path::new(&coordinator));
        start("mesh-coord", &["--cap-drop", "all"], &[]);
        let token = wait::until("a token", || {
            Some(within("mesh-coord", &["token", "create", "--any"])).filter(|it| it.code == Some(0))
        });
        assert!(token.stdout.starts_with("mesh1."), "{}", token.stdout);

        // The agent joins the mesh of the other one, which has services.
        build(&podman, "mesh-node", &mesh_node());
        let (url, token) = (stage.coordinator.url(false), stage.coordinator.token(&["--any"]));
        let flags = [
            "--pid=host",
            "--cap-add=NET_ADMIN,SYS_ADMIN,SYS_PTRACE,DAC_OVERRIDE",
            "--security-opt=seccomp=unconfined",
            "--device=/dev/net/tun",
            "--volume=/run/netns:/run/netns:rslave",
        ];
        start("mesh-node", &flags, &["join", &url, &token, "--name", "ovh"]);
        wait::until_true("the agent to answer", || within("mesh-node", &["status"]).code == Some(0));
        let namespace = Namespace::create("db");
        within("mesh-node", &["attach", "shop/db", "--netns", "/run/netns/db"]).done();
        assert!(namespace.interface("mesh0").is_some());
        assert_eq!(stage.instances(), ["shop/db live"]);
    });
}
