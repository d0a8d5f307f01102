//! `mesh-node setup`: the runtimes accept what it writes, it shows it first, and it undoes it. `systemd.rs` uses
//! units as it writes them for systemd.

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
use serde_json::json;

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const DAEMON: &str = "/etc/docker/daemon.json";
const DB: [&str; 2] = ["--label", "mesh.service=shop/db"];

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn docker_starts_members_after_setup_and_none_after_undo() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        fs::create_dir_all("/etc/docker").expect("cannot make a directory");
        fs::write(DAEMON, "{\n    \"log-level\": \"error\"\n}\n").expect("cannot write a file");
        let shown = stage.aws.command(&["setup", "docker", "--dry-run"]).done().stdout;
        assert!(
            shown.contains("+++ /etc/docker/daemon.json") && shown.contains("+    \"default-runtime\": \"mesh\""),
            "{shown}"
        );
        let by_program = stage.aws.command(&["setup", "docker", "--dry-run", "--json"]).done().json();
        assert_eq!(by_program["changes"][0], json!({"path": DAEMON, "diff": shown}));
        assert_eq!((&by_program["version"], &by_program["done"]), (&json!(1), &json!(false)));
        assert_eq!(read(DAEMON), "{\n    \"log-level\": \"error\"\n}\n", "only shown");
        for odd in [["docker", "--network", "net"], ["docker", "--service", "shop/db"]] {
            let refused = stage.aws.command(&[&["setup"], &odd[..]].concat()).expect_code(2).stderr;
            assert!(refused.contains("nothing to do with") && refused.contains("goes with"), "{refused}");
        }

        let done = stage.aws.command(&["setup", "docker"]).done();
        assert_eq!(done.stdout, shown);
        assert!(done.stderr.contains("systemctl reload docker"), "{}", done.stderr);
        assert!(stage.aws.command(&["setup", "docker"]).done().stderr.contains("nothing to do"));
        let docker = Docker::start_with(&stage.lab, &stage.aws, DAEMON.into());
        // Where mesh-runc can ask about images that containerd keeps.
        stage.configure(&format!("[containers]\nwatch = [{:?}]\n", docker.socket()));
        docker.run(&DB, "ip addr show mesh0").done();
        docker.run(&[], "! ip addr show mesh0").done();
        let [stopped, running] = ["stopped", "running"].map(|name| {
            let container = docker.container(&[&DB[..], &["--name", name]].concat(), &["sleep", "1000"]);
            docker.exec(&container, &[], "ip addr show mesh0").done();
            container
        });
        docker.command(&["stop", "--time", "0", &stopped.id]).done();

        // Existing containers with it go on, and start again without it.
        let undone = stage.aws.command(&["setup", "docker", "--undo"]).done();
        assert!(
            undone.stderr.contains("the runtime `mesh` stays in daemon.json as a name for runc"),
            "{}",
            undone.stderr
        );
        docker.reload();
        let runtimes = || docker.command(&["info", "--format", "{{json .Runtimes}} {{.DefaultRuntime}}"]).done().stdout;
        wait::until_true("Docker to know", || !runtimes().contains("runc-wrapper") && runtimes().ends_with(" runc\n"));
        docker.exec(&running, &[], "ip addr show mesh0").done();
        for container in [&stopped, &running] {
            docker.command(&["restart", "--time", "0", &container.id]).done();
            docker.exec(container, &[], "! ip addr show mesh0").done();
            docker.command(&["stop", "--time", "0", &container.id]).done();
            docker.command(&["start", &container.id]).done();
            docker.command(&["rm", "--force", &container.id]).done();
        }
        wait::until_true("the end of all instances", || stage.instances().is_empty());
        let made = docker.container(&DB, &["sleep", "1000"]);
        assert_eq!(docker.inspect(&made)["HostConfig"]["Runtime"], "runc");

        // A second call changes nothing, and the remains do no harm.
        let left = read(DAEMON);
        let again = stage.aws.command(&["setup", "docker", "--undo"]).done();
        assert!(
            again.stderr.contains("nothing to do") && again.stderr.contains("stays in daemon.json"),
            "{}",
            again.stderr
        );
        assert_eq!(read(DAEMON), left);
        assert!(left.contains("\"log-level\": \"error\"") && !left.contains("mesh-node"), "{left}");
        stage.aws.command(&["setup", "docker"]).done();
        docker.reload();
        wait::until_true("Docker to know", || runtimes().contains("runc-wrapper"));
        docker.run(&DB, "ip addr show mesh0").done();
    });
}

#[test]
fn a_label_for_podman_is_refused_and_an_annotation_that_is_mistyped_too() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        stage.aws.command(&["setup", "podman"]).done();
        let refused = |flags: &[&str], words: &[&str]| {
            let outcome = podman.run(&[flags, &["--network", "none"]].concat(), "echo it runs");
            assert!(outcome.code != Some(0) && !outcome.stdout.contains("it runs"), "{flags:?}: {}", outcome.stdout);
            for word in words {
                assert!(outcome.stderr.contains(word), "{flags:?}: nothing of `{word}` in: {}", outcome.stderr);
            }
            assert!(stage.instances().is_empty(), "no partial effect");
        };
        let as_label = ["labels", "--annotation mesh.service=shop/db"];
        refused(&["--label", "mesh.service=shop/db"], &as_label);
        refused(&["--label=mesh.service=shop/db"], &as_label);
        refused(&["-lmesh.service=shop/db"], &as_label);
        refused(&["--label", "mesh.servcie=shop/db"], &["mesh.servcie", "--annotation mesh.service="]);
        refused(&["--annotation", "mesh.servcie=shop/db"], &["mesh.servcie", "mesh.service=DEPLOYMENT/SERVICE"]);
        refused(&["--annotation", "mesh.service=shop"], &["`shop` names no service"]);
        // Other labels are ignored.
        podman.run(&["--label", "service=db", "--network", "none"], "! ip addr show mesh0").done();
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
fn files_of_others_are_not_touched() {
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

#[test]
fn what_stands_in_the_way_is_said() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let setup = |arguments: &[&str]| stage.aws.command(&[&["setup", "docker"], arguments].concat());
        fs::create_dir_all("/etc/docker").expect("cannot make a directory");
        for text in ["{\n  // ours\n  \"dns\": []\n}\n", "[]", "{\"runtimes\": 1}"] {
            fs::write(DAEMON, text).expect("cannot write a file");
            setup(&[]).refused(&["daemon.json is not what Docker takes", "correct it first"]);
            setup(&["--undo"]).refused(&["daemon.json is not what Docker takes"]);
            assert_eq!(read(DAEMON), text);
        }
        // The file is elsewhere: it is changed there, and the link stays.
        fs::remove_file(DAEMON).expect("cannot remove a file");
        symlink("/run/kept.json", DAEMON).expect("cannot make a link");
        setup(&[]).refused(&["daemon.json is a link that leads nowhere"]);
        fs::write("/run/kept.json", "{}\n").expect("cannot write a file");
        setup(&[]).done();
        assert!(read("/run/kept.json").contains("runc-wrapper") && Path::new(DAEMON).is_symlink());
        fs::remove_file(DAEMON).expect("cannot remove a file");
        // The machine's configuration can't be changed.
        let (etc, how) = (Path::new("/etc"), MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        mount(Some(etc), etc, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("cannot mount over /etc");
        mount(None::<&str>, etc, None::<&str>, how, None::<&str>).expect("cannot make /etc read-only");
        assert!(setup(&["--dry-run"]).done().stdout.contains("+++ /etc/docker/daemon.json"));
        setup(&[]).refused(&["cannot change /etc/docker/daemon.json", "Read-only", "is made elsewhere"]);
        assert!(!Path::new(DAEMON).exists());
    });
}

/// Everything below some paths: files with their contents, and links with their targets. podman's lock is left out.
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

/// Shows what a `setup` would do, which changes nothing below `places`; does it; and does it again, which changes
/// nothing.
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

/// Undoes it: below `places` everything is as before.
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
        let podman = Podman::knows_cni(&stage.aws).then(|| Podman::as_configured(&stage.lab, &stage.aws));
        let runs = |network: &str, script: &str| {
            if let Some(podman) = &podman {
                podman.run(&["--network", network], script).done();
            }
        };
        let address = stage.coordinator.address_of("shop/db");
        runs("shop", &format!("ip addr show mesh0 | grep {address}/32"));
        runs("other", "! ip addr show mesh0");
        take_back(&stage, "cni", &places, &before);
        runs("shop", "! ip addr show mesh0");
    });
}

#[test]
fn a_damaged_list_does_not_block_the_others() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        own_plugins();
        let places = ["/etc/cni", "/usr/lib/cni"];
        let setup = |arguments: &[&str]| stage.aws.command(&[&["setup", "cni"], arguments].concat());
        // podman's package brings one, or none.
        fs::create_dir_all("/etc/cni/net.d").expect("cannot make a directory");
        fs::remove_dir_all("/etc/cni/net.d").expect("cannot remove podman's network");
        fs::create_dir_all("/etc/cni/net.d").expect("cannot make a directory");
        let damaged = Path::new("/etc/cni/net.d/00-damaged.conflist");
        fs::write(damaged, "{\"name\": \"x\", \"plugins\": [").expect("cannot write a file");
        setup(&[]).refused(&["there is no network", "passed over: ", "00-damaged.conflist is not the list"]);
        network("shop", "10.88.7.0/24");
        let before = all_below(&places);
        set_up(&stage, &["cni", "--service", "shop/db"], &places);
        setup(&["--undo", "--network", "web"]).refused(&["no list for a network web", "shop"]);
        let undone = setup(&["--undo"]).done();
        assert!(undone.stderr.contains("00-damaged.conflist") && undone.stderr.contains("stays unchanged"));
        assert_eq!(all_below(&places), before);
        // One that may need the link: that stays.
        setup(&["--service", "shop/db"]).done();
        fs::write(damaged, "{\"name\": \"x\", \"plugins\": [{\"type\": \"mesh\"}").expect("cannot write a file");
        setup(&["--undo"]).done();
        assert!(Path::new("/usr/lib/cni/mesh").is_symlink());
        assert!(!read("/etc/cni/net.d/10-shop.conflist").contains("mesh"));
        fs::remove_file(damaged).expect("cannot remove a file");
        setup(&["--undo"]).done();
        assert!(!Path::new("/usr/lib/cni/mesh").is_symlink());
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
fn set_ups_of_others_for_cdi_cni_and_systemd_are_not_touched() {
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
        refused(&["systemd"], &["mesh-attach@.service is there already", "did not write it"]);
        refused(&["cdi", "--service", "shop/db"], &["config.toml", "cdi = [\"shop/app\", \"shop/db\"]"]);
        refused(&["cni", "--network", "shop"], &["/usr/lib/cni/mesh is there already, and leads to /bin/true"]);
        refused(&["cni", "--network", "web"], &["no list for a network web", "shop"]);
        for what in ["systemd", "cdi", "cni"] {
            let undone = stage.aws.command(&["setup", what, "--undo"]).done();
            assert!(undone.stderr.contains("nothing to do"), "{}", undone.stdout);
            assert_eq!(all_below(&places), before);
        }
    });
}
