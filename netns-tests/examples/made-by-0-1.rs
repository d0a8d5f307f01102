//! Makes the files of `files/0.1` with the programs of 0.1: `files/0.1/make` starts it, in namespaces of its own.

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use mesh_netns_tests::{Coordinator, Daemon, Runner, Stack, World, furnish, run, wait};
use serde_json::{Value, json};

const SHOP: &str = r#"deployment = "shop"
team = "acme"
expose = ["db"]
[services.db]
aliases = ["mysql"]
port = 5432
[services.app]
ist = [{ service = "db", variables = ["DATABASE"], hostnames = ["db.internal"] }]
"#;
const BILLING: &str = r#"deployment = "billing"
team = "acme"
trust = [{ deployment = "shop", services = ["api"], ports = [443] }]
[services.api]
"#;
const BLOG: &str = "deployment = \"blog\"\nteam = \"press\"\n[services.web]\n";
const NEWS: &str = "deployment = \"news\"\nteam = \"press\"\n[services.feed]\n";
const OFFICE: &str = "deployment = \"office\"\nteam = \"acme\"\n[services.desk]\n";
const GONE: &str = "deployment = \"gone\"\n[services.x]\n";

fn main() {
    let to = env::args().nth(1).expect("the directory to write to");
    furnish();
    let world = World::new();
    let mut coordinator = world.coordinator(&["--range", "100.96.0.0/12", "--mtu", "1300"]);
    declare(&coordinator);
    let tokens = tokens(&coordinator);
    let token = |name: &str| tokens[name]["token"].as_str().expect("a token").to_owned();

    let url = coordinator.url(false);
    let join = |name: &str, token: &str, flags: &[&str]| {
        let mut runner = world.machine(name, Stack::Dual);
        runner.start(&[&[url.as_str(), token, "--name", name], flags].concat());
        runner
    };
    let some = token("some-uses-left");
    // Its network is the second one: the coordinator's is the first.
    let mut alpha =
        join("alpha", &some, &["--provider", "hetzner", "--listen", "51999", "--endpoint", "10.77.0.9:51999"]);
    let mut beta = join("beta", &some, &[]);
    let mut gone = join("gone", &token("used-up"), &[]);
    coordinator.command(&["node", "remove", "gone"]).done();
    gone.kill();
    coordinator.command(&["switch", "udp-gso", "off", "--node", "beta"]).done();

    // Instances: by a namespace, by a process, by a container; one that is drained, one that only calls.
    let _db = alpha.attach("shop/db");
    let drained = alpha.attach("shop/db");
    alpha.drain(&drained);
    let _client = alpha.attach_client("billing/api");
    let ended = alpha.attach("shop/app");
    let process = process("app");
    alpha.command(&["attach", "shop/app", "--pid", &process.pid().to_string()]).done();
    let container = self::process("container");
    create(&alpha, &container);
    let _silent = beta.attach("shop/db");
    let _web = beta.attach("blog/web");
    beta.kill();

    let to = Path::new(&to);
    let said = json!({"tokens": tokens, "coordinator": said(&coordinator), "agent": alpha.json(&["status"])});
    coordinator.stop();
    // The coordinator doesn't know of it.
    let detached = alpha.command(&["detach", &ended.id]);
    assert!(!alpha.json(&["status"])["instances"].to_string().contains(&ended.id), "{detached:?}");
    alpha.stop();
    copy(coordinator.data(), &to.join("coordinator"), &["mesh-coord.db", "tls-key.pem", "enrol-key"]);
    // Without `pins`, which has 16 MiB of zeros.
    let state = ["identity.json", "view.json", "instances.json", "containers.json", "boot.json"];
    copy(alpha.state(), &to.join("agent"), &state);
    fs::write(to.join("said.json"), format!("{said:#}\n")).expect("what the programs said");
    drop((process, container));
}

fn declare(coordinator: &Coordinator) {
    for text in [SHOP, BILLING, OFFICE, BLOG, NEWS, GONE] {
        coordinator.command(&["apply", &coordinator.file("mesh.toml", text)]).done();
    }
    coordinator.command(&["delete", "gone"]).done();
    coordinator.command(&["trust", "--app", "shop", "office", "--service", "db", "--port", "5432"]).done();
    coordinator.command(&["trust", "--app", "shop", "later"]).done();
    coordinator.command(&["trust", "--app", "blog", "news", "later"]).done();
    coordinator.command(&["trust", "--app", "blog", "later", "--remove"]).done();
}

/// The tokens, by what becomes of them. They are good for as long as may be.
fn tokens(coordinator: &Coordinator) -> Value {
    let create = |flags: &[&str]| coordinator.json(&[&["token", "create", "--ttl", "3650d"], flags].concat());
    let tokens = json!({
        "some-uses-left": create(&["--any", "--uses", "3"]),
        "used-up": create(&["--any"]),
        "revoked": create(&["--any"]),
        "unused": create(&["--team", "press", "--ephemeral"]),
        "admin-of-acme": create(&["--admin", "--team", "acme"]),
    });
    let revoked = tokens["revoked"]["id"].as_str().expect("an identifier");
    coordinator.command(&["token", "revoke", revoked]).done();
    tokens
}

/// What the coordinator says of everything.
fn said(coordinator: &Coordinator) -> Value {
    json!({
        "deployments": coordinator.json(&["deployments"]),
        "services": coordinator.json(&["services"]),
        "instances": coordinator.json(&["instances"]),
        "nodes": coordinator.json(&["nodes"]),
        "tokens": coordinator.json(&["token", "list"]),
        "audit": coordinator.json(&["audit"]),
        "trust-shop": coordinator.json(&["trust", "--app", "shop"]),
        "trust-billing": coordinator.json(&["trust", "--app", "billing"]),
        "trust-blog": coordinator.json(&["trust", "--app", "blog"]),
    })
}

/// A process in namespaces of its own, with a hosts file.
fn process(name: &str) -> Daemon {
    let (hosts, ready) = (format!("/run/hosts-{name}"), format!("/run/ready-{name}"));
    fs::write(&hosts, "127.0.0.1 localhost\n").expect("a hosts file");
    let mut command = Command::new("unshare");
    let script = format!("mount --bind {hosts} /etc/hosts; touch {ready}; exec sleep infinity");
    command.args(["--net", "--mount", "sh", "-euc", &script]);
    let process = Daemon::start(command, Path::new(&format!("/run/{name}.log")));
    wait::until_true("the process to be ready", || Path::new(&ready).exists());
    process
}

/// Does what a runtime does when a container is created.
fn create(runner: &Runner, process: &Daemon) {
    let bundle = Path::new("/run/bundle");
    fs::create_dir_all(bundle).expect("a directory");
    let mounts = json!([{"destination": "/etc/hosts", "source": "/run/hosts-container", "type": "bind"}]);
    fs::write(bundle.join("config.json"), json!({"ociVersion": "1.0.2", "mounts": mounts}).to_string())
        .expect("a file");
    let state = json!({
        "ociVersion": "1.0.2", "id": "c0ffee".repeat(10), "status": "creating", "pid": process.pid(), "bundle": bundle,
        "annotations": {"mesh.service": "shop/app"},
    });
    let mut hook = runner.prepare(&["hook", "createRuntime"]);
    let mut hook = hook.stdin(Stdio::piped()).spawn().expect("the hook");
    hook.stdin.take().expect("piped").write_all(state.to_string().as_bytes()).expect("its input");
    assert!(hook.wait().expect("its end").success(), "the hook failed");
}

fn copy(from: &Path, to: &Path, names: &[&str]) {
    fs::create_dir_all(to).expect("a directory");
    for name in names {
        if let Err(e) = fs::copy(from.join(name), to.join(name)) {
            panic!("{}: {e}; there are {}", from.join(name).display(), list(from));
        }
    }
}

fn list(directory: &Path) -> String {
    let mut ls = Command::new("ls");
    ls.arg("-la").arg(directory);
    run(ls).stdout
}
