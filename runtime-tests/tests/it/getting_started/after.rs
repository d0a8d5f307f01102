//! What holds of `mesh-coord init` and `mesh-node up` besides the page: once more, back again, and in the wrong place.

use std::{fs, net::TcpListener};

use mesh_netns_tests::{Namespace, wait};
use mesh_runtime_tests::dpkg;

use super::Machine;

/// What `init` and `up` have written and started is no more there, and what the packages own is.
pub(super) fn everything_is_gone(alpha: &Machine) {
    for unit in ["mesh-coord", "mesh-node"] {
        wait::until_true("the end of the unit", || !alpha.systemd.is_active(unit));
        assert!(!alpha.systemd.root().join(format!("etc/systemd/system/{unit}.service")).exists());
    }
    let kept = fs::read_to_string(alpha.systemd.root().join("etc/default/mesh-coord")).expect("the package's file");
    assert_eq!(kept, include_str!("../../../../packaging/deb/mesh-coord.default"));
    assert!(!alpha.systemd.root().join("var/lib/mesh-node/identity.json").exists());
    assert!(alpha.systemd.root().join("var/lib/private/mesh-coord/mesh-coord.db").exists(), "the mesh stays");
}

/// The same mesh is taken up again; once more changes nothing; the agent may be stopped for a while.
pub(super) fn it_is_repeated(alpha: &Machine) {
    let dry = alpha.command(&["mesh-coord", "init", "--dry-run"]).done();
    assert!(dry.stdout.contains("+MESH_COORD_OPTIONS=\"--advertise https://192.0.2.10:7443\""), "{}", dry.stdout);
    assert!(!alpha.systemd.is_active("mesh-coord"));
    let first = alpha.command(&["mesh-coord", "init", "--json"]).done().json();
    assert_eq!((&first["done"], &first["urls"][0]), (&true.into(), &"https://192.0.2.10:7443".into()));
    let deployments = alpha.command(&["mesh-coord", "deployments", "--json"]).done().json();
    assert_eq!(deployments["deployments"].as_array().map(Vec::len), Some(2), "the deployments of the page");
    let process = alpha.process("mesh-coord");
    let again = alpha.command(&["mesh-coord", "init", "--uses", "1"]).done();
    assert!(again.stderr.contains("runs already") && again.stdout.starts_with("mesh2."), "{}", again.stderr);
    assert_eq!(alpha.process("mesh-coord"), process);

    let token = again.stdout.trim();
    let up = alpha.command(&["mesh-node", "up", token, "--json"]).done().json();
    assert_eq!((&up["runner"]["name"], &up["done"]), (&"alpha".into(), &true.into()));
    let process = alpha.process("mesh-node");
    for arguments in [&["mesh-node", "up"][..], &["mesh-node", "up", token]] {
        let again = alpha.command(arguments).done();
        assert!(again.stderr.contains("a runner already"), "{}", again.stderr);
        assert_eq!(alpha.process("mesh-node"), process);
    }
    // Other options count at once, also beside a token that can be read only once.
    let line = format!("echo {token} | mesh-node up - --listen 51821 --no-relay");
    alpha.command(&["sh", "-c", &line]).done();
    let status = alpha.command(&["mesh-node", "status", "--json"]).done().json();
    assert_eq!((&status["port"], &status["map"]["connected"]), (&51821.into(), &true.into()));
    let configuration =
        || fs::read_to_string(alpha.systemd.root().join("etc/mesh-node/config.toml")).expect("the file");
    assert!(configuration().contains("relays = false"));
    alpha.command(&["mesh-node", "up", "--undo"]).done();
    assert!(!alpha.systemd.is_active("mesh-node") && !configuration().contains("relays = false"));
    let nodes = || alpha.command(&["mesh-coord", "nodes"]).done().stdout;
    assert!(nodes().contains("alpha"), "it is a runner still");
    alpha.command(&["mesh-node", "up"]).done();
}

/// What is in the way is said, with what to do, and nothing has changed.
pub(super) fn it_is_misused(alpha: &Machine) {
    let refused = |arguments: &[&str], words: &[&str]| alpha.command(arguments).refused(words);
    refused(&["mesh-coord", "init", "--range", "100.80.0.0/16"], &["with other options", "init --undo"]);
    refused(&["mesh-node", "up", "--name", "gamma"], &["has joined as alpha", "--name"]);
    let damaged = format!("mesh2.{}", "A".repeat(96));
    refused(&["mesh-node", "up", &damaged], &["token"]);
    refused(&["setpriv", "--reuid=65534", "mesh-node", "up"], &["only root", "sudo"]);
    refused(&["setpriv", "--reuid=65534", "mesh-coord", "init"], &["only root", "sudo"]);
    refused(&["setpriv", "--reuid=65534", "mesh-coord", "init", "--undo"], &["only root", "sudo", "nothing was done"]);
    alpha.command(&["mesh-coord", "nodes"]).done();
    // Not systemd's machine any more, as far as a program can see.
    let hidden = |line: &str| {
        let script = format!("mount -t tmpfs tmpfs /run/systemd && {line}");
        alpha.command(&["unshare", "--mount", "sh", "-c", &script])
    };
    hidden("mesh-coord init")
        .refused(&["systemd does not run", "mesh-coord serve --advertise https://192.0.2.10:7443"]);
    hidden("mesh-node up @token --provider home")
        .refused(&["systemd does not run", "mesh-node join @token --provider home"]);
    alpha.command(&["mesh-coord", "init", "--undo", "--dry-run"]).done();
    assert!(alpha.systemd.is_active("mesh-coord") && alpha.systemd.is_active("mesh-node"));
}

/// Programs that no package has brought bring their units.
pub(super) fn without_packages(alpha: &Machine, namespace: &Namespace) {
    alpha.command(&["cp", "/usr/bin/mesh-coord", "/usr/bin/mesh-node", "/opt"]).done();
    dpkg(&alpha.systemd, &["--purge", "mesh-coord", "mesh-node"]);
    let busy = namespace.enter(|| TcpListener::bind("[::]:7443")).expect("a free port");
    alpha.command(&["/opt/mesh-coord", "init"]).refused(&["can't listen at [::]:7443", "--listen"]);
    assert!(!alpha.systemd.root().join("etc/default/mesh-coord").exists(), "nothing was written");
    drop(busy);
    let token = alpha.command(&["/opt/mesh-coord", "init", "--range", "100.80.0.0/16"]).done().stdout;
    let unit = |name: &str| fs::read_to_string(alpha.systemd.root().join(format!("etc/systemd/system/{name}.service")));
    assert!(unit("mesh-coord").is_ok_and(|unit| unit.contains("ExecStart=/opt/mesh-coord serve")));
    alpha.command(&["/opt/mesh-node", "up", token.trim()]).done();
    assert!(unit("mesh-node").is_ok_and(|unit| unit.contains("ExecStart=/opt/mesh-node join")));
    let left = alpha.command(&["/opt/mesh-node", "leave"]).done();
    assert!(left.stderr.contains("taken out: /etc/systemd/system/mesh-node.service"), "{}", left.stderr);
    alpha.command(&["/opt/mesh-coord", "init", "--undo"]).done();
    for name in ["mesh-coord", "mesh-node", "mesh-attach@"] {
        assert!(unit(name).is_err() && !alpha.systemd.is_active(name), "{name}");
    }
    assert!(!alpha.systemd.root().join("etc/default/mesh-coord").exists());
    let nothing = alpha.command(&["/opt/mesh-coord", "init", "--undo"]).done();
    assert!(nothing.stderr.contains("nothing to do"), "{}", nothing.stderr);
}
