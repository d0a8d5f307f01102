//! `mesh-node setup`: what it writes is what the runtimes take, it shows it first, and it takes it back. What it does for
//! systemd is used in `systemd.rs`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use mesh_netns_tests::{Outcome, isolated, run, wait};
use mesh_runtime_tests::{Docker, Podman, Stage, mesh_node};
use nix::mount::{MsFlags, mount};

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

/// Everything below some places: files with their contents, links with where they lead to. Not podman's lock.
fn all_below(places: &[&str]) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut paths: Vec<PathBuf> = places.iter().map(PathBuf::from).collect();
    while let Some(path) = paths.pop() {
        let Ok(kind) = fs::symlink_metadata(&path).map(|metadata| metadata.file_type()) else { continue };
        if kind.is_dir() {
            paths.extend(fs::read_dir(&path).expect("a directory").flatten().map(|entry| entry.path()));
        } else if kind.is_symlink() {
            let to = fs::read_link(&path).expect("a link").display().to_string();
            all.insert(path, to);
        } else if kind.is_file() && !path.ends_with("cni.lock") {
            let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
            all.insert(path, text);
        }
    }
    all
}

/// Shows what a `setup` would do, which changes nothing below `places`; does it; and does it again, which is nothing.
fn set_up(stage: &Stage, arguments: &[&str], places: &[&str]) -> Outcome {
    let setup = |more: &[&str]| stage.aws.command(&[&["setup"], arguments, more].concat()).done();
    let before = all_below(places);
    let shown = setup(&["--dry-run"]).stdout;
    assert!(shown.contains("+++ ") && all_below(places) == before, "only shown");
    let done = setup(&[]);
    assert_eq!(done.stdout, shown);
    assert!(all_below(places) != before);
    assert!(setup(&[]).stderr.contains("nothing to do"));
    done
}

/// Takes it back: below `places` everything is as it was.
fn take_back(stage: &Stage, what: &str, places: &[&str], before: &BTreeMap<PathBuf, String>) {
    let shown = stage.aws.command(&["setup", what, "--undo", "--dry-run"]).done().stdout;
    assert!(!shown.is_empty());
    assert_eq!(stage.aws.command(&["setup", what, "--undo"]).done().stdout, shown);
    assert_eq!(all_below(places), *before);
    assert!(stage.aws.command(&["setup", what, "--undo"]).done().stderr.contains("nothing to do"));
}

#[test]
fn podman_has_the_devices_after_setup_and_none_after_undo() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        stage.aws.command(&["setup", "cdi"]).refused(&["no service is listed", "--service shop/db"]);
        let file = stage.aws.state().join("config.toml");
        let theirs = "# by hand\n[containers]\nfail = \"closed\"\n";
        stage.configure(theirs);
        let (configuration, devices) = (file.display().to_string(), "/run/cdi");
        let places = [configuration.as_str(), devices];
        let before = all_below(&places);
        let done = set_up(&stage, &["cdi", "--service", "shop/db"], &places);
        assert!(done.stderr.contains("systemctl restart mesh-node"), "{}", done.stderr);
        stage.aws.stop();
        stage.aws.start(&[]);
        wait::until_true("the devices", || Path::new("/run/cdi/mesh.json").exists());
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        let flags = ["--device", "mesh.warp/service=shop.db", "--network", "none"];
        podman.run(&flags, "ip addr show mesh0 && test -n \"$WARP_IST_app\"").done();
        take_back(&stage, "cdi", &places, &before);
        assert_ne!(podman.run(&flags, "true").code, Some(0), "there is no such device any more");
        stage.aws.stop();
        stage.aws.start(&[]);
        assert_eq!(all_below(&places), before, "nor after the restart");
    });
}

/// Debian's plugins of CNI in a directory of the test's own, which is where Debian has them.
fn own_plugins() {
    let (own, theirs) = (Path::new("/run/plugins"), "/usr/lib/cni");
    fs::create_dir_all(own).expect("cannot make a directory");
    for plugin in ["bridge", "host-local", "loopback", "portmap", "firewall", "tuning"] {
        fs::copy(Path::new(theirs).join(plugin), own.join(plugin)).expect("install containernetworking-plugins");
    }
    mount(Some(own), theirs, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("cannot mount over the plugins");
}

fn network(name: &str, subnet: &str) -> PathBuf {
    let path = PathBuf::from(format!("/etc/cni/net.d/10-{name}.conflist"));
    let text = format!(
        r#"{{
  "name": "{name}", "cniVersion": "0.4.0",
  "plugins": [
    {{ "type": "bridge", "bridge": "cni-{name}", "isGateway": true,
      "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{subnet}"}}]]}} }}
  ]
}}
"#
    );
    fs::create_dir_all("/etc/cni/net.d").expect("cannot make a directory");
    fs::write(&path, text).expect("cannot write a file");
    path
}

#[test]
fn what_is_in_a_network_is_attached_after_setup_and_is_not_after_undo() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        own_plugins();
        // What podman's package brings is another network, as it is with its users.
        network("shop", "10.88.7.0/24");
        network("other", "10.88.8.0/24");
        stage.aws.command(&["setup", "cni"]).refused(&["more than one network", "other, shop", "--network NAME"]);
        let places = ["/etc/cni", "/usr/lib/cni", "/opt"];
        let before = all_below(&places);
        set_up(&stage, &["cni", "--network", "shop", "--service", "shop/db"], &places);
        stage.aws.command(&["setup", "cni", "--network", "shop"]).refused(&["other settings", "--undo --network shop"]);
        fs::create_dir_all("/etc/containers/containers.conf.d").expect("cannot make a directory");
        let backend = "[network]\nnetwork_backend = \"cni\"\n";
        fs::write("/etc/containers/containers.conf.d/cni.conf", backend).expect("cannot write a file");
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        let address = stage.coordinator.address_of("shop/db");
        podman.run(&["--network", "shop"], &format!("ip addr show mesh0 | grep {address}/32")).done();
        podman.run(&["--network", "other"], "! ip addr show mesh0").done();
        take_back(&stage, "cni", &places, &before);
        podman.run(&["--network", "shop"], "! ip addr show mesh0").done();
    });
}

#[test]
fn units_come_and_go() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let places = ["/etc/systemd"];
        let before = all_below(&places);
        let done = set_up(&stage, &["systemd"], &places);
        assert!(done.stderr.contains("systemctl daemon-reload && systemctl enable --now mesh-node"), "{}", done.stderr);
        let unit = fs::read_to_string("/etc/systemd/system/mesh-node.service").expect("the unit");
        let (program, state) = (mesh_node().display().to_string(), stage.aws.state().display().to_string());
        assert!(unit.contains(&format!("\nExecStart={program} join --state {state}\n")), "{unit}");
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "/etc/systemd/system/mesh-node.service", "/etc/systemd/system/mesh-attach@.service"]);
        let said = run(verify).done().stderr;
        assert!(!said.contains("mesh-"), "{said}");
        take_back(&stage, "systemd", &places, &before);
    });
}

#[test]
fn what_somebody_else_set_up_for_cdi_cni_and_systemd_is_not_touched() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        own_plugins();
        let unit = Path::new("/etc/systemd/system/mesh-attach@.service");
        fs::create_dir_all("/etc/systemd/system").expect("cannot make a directory");
        fs::write(unit, "[Service]\nExecStart=/bin/true\n").expect("cannot write a file");
        stage.configure("[containers]\ncdi = [\"shop/app\"]\n");
        fs::create_dir_all("/run/cdi").expect("cannot make a directory");
        fs::write("/run/cdi/mesh.json", "{\"kind\": \"nvidia.com/gpu\"}").expect("cannot write a file");
        network("shop", "10.88.7.0/24");
        symlink("/bin/true", "/usr/lib/cni/mesh").expect("cannot make a link");
        let configuration = stage.aws.state().join("config.toml").display().to_string();
        let places = ["/etc/systemd", "/etc/cni", "/run/cdi", "/usr/lib/cni/mesh", &configuration];
        let before = all_below(&places);
        let refused = |arguments: &[&str], words: &[&str]| {
            stage.aws.command(&[&["setup"], arguments].concat()).refused(words);
            assert_eq!(all_below(&places), before);
        };
        refused(&["systemd"], &["mesh-attach@.service is there already", "not from us"]);
        refused(&["cdi", "--service", "shop/db"], &["config.toml", "cdi = [\"shop/app\", \"shop/db\"]"]);
        refused(&["cni", "--network", "shop"], &["/usr/lib/cni/mesh is there already, and leads to /bin/true"]);
        refused(&["cni", "--network", "web"], &["no list for a network web", "shop"]);
        refused(&["systemd", "--service", "shop/db"], &["--service goes with"]);
        for what in ["systemd", "cdi", "cni"] {
            let undone = stage.aws.command(&["setup", what, "--undo"]).done();
            assert!(undone.stderr.contains("nothing to do"), "{}", undone.stdout);
            assert_eq!(all_below(&places), before);
        }
    });
}
