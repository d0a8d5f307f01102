//! Runners whose way out is an HTTP proxy: a real squid.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use mesh_netns_tests::{Coordinator, Runner, Squid, Stack, World, isolated, run, wait};

use crate::common::{SHOP, declare};

/// A machine, cut off from the coordinator, and a proxy that both reach.
fn behind_proxy(world: &World) -> (Coordinator, Squid, Runner) {
    let coordinator = world.coordinator(&[]);
    let squid = world.squid();
    let runner = world.machine("inside", Stack::Dual);
    world.cut_between(runner.namespace(), coordinator.namespace());
    (coordinator, squid, runner)
}

/// What `mesh-node status` says, with the trouble.
fn trouble(runner: &Runner) -> String {
    runner.command(&["status"]).stdout
}

/// Writes a file that only its owner may read.
fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).expect("cannot write a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("cannot change a file's mode");
}

/// The arguments of a process, as all users see them.
fn arguments(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).expect("a process");
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

#[test]
fn a_runner_joins_by_the_proxy_of_its_environment_and_follows_the_coordinator() {
    isolated(|| {
        let world = World::new();
        let (coordinator, mut squid, mut runner) = behind_proxy(&world);
        squid.start_open(7443);
        runner.set_environment("https_proxy", format!("http://{}", squid.place()));
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
        runner.start(&[&url, &token, "--name", "inside"]);
        declare(&coordinator, &[SHOP]);
        runner.attach("shop/db");
        // The requests of the enrolment have ended; the stream is still open.
        assert!(squid.served().contains("CONNECT 10.0.1.2:7443"), "{}", squid.served());

        // The proxy ends: the runner says so, and is back when it is.
        squid.kill();
        wait::until_true("the status to name the proxy", || trouble(&runner).contains("can't be reached"));
        assert!(trouble(&runner).contains(&format!("the proxy http://{}", squid.place())), "{}", trouble(&runner));
        squid.start_open(7443);
        runner.wait_connected();

        // Where an exception says so, the connection is direct, and here that leads nowhere.
        runner.stop();
        runner.set_environment("no_proxy", "localhost,10.0.1.0/24");
        runner.start_alone(&[]);
        wait::until_true("the direct way to fail", || trouble(&runner).contains("cannot reach the coordinator"));
        assert!(!trouble(&runner).contains("the proxy"), "{}", trouble(&runner));
    });
}

#[test]
fn a_password_goes_to_the_proxy_that_asks_for_it_and_nowhere_else() {
    isolated(|| {
        let world = World::new();
        let (coordinator, mut squid, mut runner) = behind_proxy(&world);
        squid.start_with_login(7443);
        let (place, token) = (squid.place(), coordinator.token(&["--any"]));
        let url = coordinator.url(false);
        let join = |proxy: &str, url: &str| runner.command(&["join", url, &token, "--proxy", proxy]);
        join(&format!("http://{place}"), &url)
            .refused(&["asks for a user and a password (HTTP 407)", "USER:PASSWORD@"]);
        let typed = join(&format!("http://{}@{place}", Squid::LOGIN), &url).refused(&["every user", "@FILE"]);
        assert!(!typed.stderr.contains("w0rd"), "{}", typed.stderr);

        let file = Path::new("/run/proxy-of-inside");
        let at = format!("@{}", file.display());
        write_secret(file, &format!("http://me:wrong@{place}\n"));
        join(&at, &url).refused(&["refuses the user or the password (HTTP 407)"]);
        write_secret(file, &format!("http://{}@{place}\n", Squid::LOGIN));
        join(&at, "https://10.0.1.2:9").refused(&["refuses to connect there (HTTP 403)", "443", "NO_PROXY"]);
        join(&at, "https://10.0.1.1:7443").refused(&["finds no way there (HTTP 503)"]);

        runner.start(&[&url, &token, "--name", "inside", "--proxy", &at]);
        let shown = arguments(runner.pid());
        let said = runner.log() + &runner.command(&["status"]).done().stdout + &shown;
        let kept = fs::read_to_string(runner.state().join("identity.json")).expect("the identity");
        for secret in ["p@ss", "p%40ss", "bWU6cEBzczp3MHJk"] {
            assert!(!said.contains(secret) && !kept.contains(secret), "{secret} in {said}\n{kept}");
        }
        // The flag is remembered.
        runner.stop();
        runner.start(&[]);
    });
}

#[test]
fn the_configuration_names_the_proxy_and_administrators_pass_it_too() {
    isolated(|| {
        let world = World::new();
        let (coordinator, mut squid, mut runner) = behind_proxy(&world);
        squid.start_with_login(7443);
        let proxy = format!("http://{}@{}", Squid::LOGIN, squid.place());
        fs::create_dir(runner.state()).expect("a directory");
        fs::set_permissions(runner.state(), fs::Permissions::from_mode(0o700)).expect("a directory");
        let configuration = runner.state().join("config.toml");
        write_secret(&configuration, &format!("[agent]\nproxy = \"{proxy}\"\n"));
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
        runner.start(&[&url, &token, "--name", "inside"]);
        assert!(!runner.log().contains("chmod 600"), "{}", runner.log());
        runner.stop();
        fs::set_permissions(&configuration, fs::Permissions::from_mode(0o644)).expect("a file");
        runner.start(&[]);
        assert!(runner.log().contains("chmod 600"), "{}", runner.log());

        let admin = coordinator.json(&["token", "create", "--admin"])["token"].as_str().expect("a token").to_owned();
        let nodes = |proxy: &str| {
            let mut command = runner.namespace().command(&std::env::var("MESH_COORD").expect("the program's path"));
            command.args(["nodes", "--url", &url]).env("MESH_ADMIN_TOKEN", &admin).env("HTTPS_PROXY", proxy);
            run(command)
        };
        assert!(nodes(&proxy).done().stdout.contains("inside"));
        let refused = nodes(&format!("http://me:wrong@{}", squid.place())).refused(&["HTTP 407", "hint:"]);
        assert!(!refused.stderr.contains("wrong@"), "{}", refused.stderr);
    });
}
