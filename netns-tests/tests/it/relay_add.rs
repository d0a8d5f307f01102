//! A TURN server becomes a relay of the mesh only if it does what runners need, and nothing for others.

use std::{fs, path::Path};

use mesh_netns_tests::{Coordinator, Daemon, Outcome, Relay, Turn, World, isolated, wait};
use serde_json::json;

/// Adds the relay by its secret, with these further places, and returns what the command says.
fn add_with(coordinator: &Coordinator, relay: &Relay, secret: &Path, places: &[&str]) -> Outcome {
    let (turn, secret) = (relay.plain(false).to_string(), format!("@{}", secret.display()));
    coordinator.command(&[&["relay", "add", "fra-1", "--turn", &turn, "--secret", &secret], places].concat())
}

/// The same by UDP and TCP.
fn add(coordinator: &Coordinator, relay: &Relay, secret: &Path) -> Outcome {
    add_with(coordinator, relay, secret, &["--tcp", &relay.plain(false).to_string()])
}

#[test]
fn a_closed_coturn_is_added_and_one_that_is_not_is_refused_with_the_lines_it_lacks() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let mut relay = world.relay("relay", Turn::Coturn);

        let wrong = Path::new("/run/wrong");
        fs::write(wrong, "another secret".replace(' ', "-")).unwrap();
        add(&coordinator, &relay, wrong).refused(&["refuses the secret (401)", "static-auth-secret"]);

        let (own, tls) = (relay.secret_file(), relay.tls(false).to_string());
        let closed = format!("{}:9", relay.plain(false).ip());
        add_with(&coordinator, &relay, &own, &["--tcp", &closed]).refused(&["refused", "let TCP through"]);
        let by_tls = |key: &str| add_with(&coordinator, &relay, &own, &["--turns", &tls, "--fingerprint", key]);
        by_tls(&"A".repeat(43)).refused(&["another server answers", "--fingerprint is"]);
        by_tls(relay.fingerprint()).done();
        coordinator.command(&["relay", "remove", "fra-1"]).done();

        let done = add(&coordinator, &relay, &own).done().stdout;
        assert!(done.contains("relay-2 fra-1 is added"), "{done}");
        let listed = coordinator.json(&["relays"]);
        let own = &listed["relays"][0];
        assert_eq!((&own["name"], &own["kind"], &own["state"]), (&json!("fra-1"), &json!("turn"), &json!("added")));
        assert_eq!(own["udp"], json!([relay.plain(false).to_string()]));
        let secrets = fs::read_to_string(coordinator.data().join("relay-secrets.json")).unwrap();
        assert!(secrets.contains(relay.secret()) && !coordinator.log().contains(relay.secret()));
        for file in ["mesh-coord.db", "mesh-coord.db-wal"] {
            let bytes = fs::read(coordinator.data().join(file)).unwrap();
            assert!(!bytes.windows(relay.secret().len()).any(|window| window == relay.secret().as_bytes()), "{file}");
        }
        add(&coordinator, &relay, &relay.secret_file()).refused(&["there is a relay `fra-1` already"]);
        coordinator.command(&["relay", "remove", "fra-1"]).done();
        let secrets = fs::read_to_string(coordinator.data().join("relay-secrets.json")).unwrap();
        assert!(!secrets.contains(relay.secret()), "a removed relay's secret is kept");

        // What is printed for coturn, and the same with lines left out.
        let address = relay.plain(false).ip().to_string();
        let printed = coordinator.command(&["relay", "coturn", "fra-1", "--address", &address]).done().stdout;
        let secret = printed.lines().find_map(|line| line.strip_prefix("static-auth-secret=")).unwrap();
        let file = Path::new("/run/printed");
        fs::write(file, secret).unwrap();
        relay.stop();
        let open: String =
            printed.lines().filter(|line| !line.starts_with("denied-")).map(|line| format!("{line}\n")).collect();
        let denying: String =
            printed.lines().filter(|line| !line.starts_with("allowed-")).map(|line| format!("{line}\n")).collect();
        for (name, configuration, words) in [
            ("printed", printed.as_str(), &["is added"][..]),
            ("open", &open, &["is an open relay", "denied-peer-ip=0.0.0.0-255.255.255.255", "relay coturn"]),
            ("denying", &denying, &["error 403", "allowed-peer-ip="]),
        ] {
            let path = format!("/run/{name}.conf");
            fs::write(
                &path,
                format!("{configuration}userdb=/run/{name}.users\npidfile=/run/{name}.pid\nlog-file=stdout\n"),
            )
            .unwrap();
            let mut command = relay.namespace().command("turnserver");
            command.args(["-c", &path]);
            let daemon = Daemon::start(command, Path::new(&format!("/run/{name}.log")));
            let mut said = String::new();
            wait::until_true("the server to listen", || {
                let outcome = add(&coordinator, &relay, file);
                said = format!("{}{}", outcome.stdout, outcome.stderr);
                !said.contains("no TURN server") && !said.contains("no answer")
            });
            for word in words {
                assert!(said.contains(word), "{name}: {word}: {said}");
            }
            if name == "printed" {
                coordinator.command(&["relay", "remove", "fra-1"]).done();
            }
            daemon.kill();
        }
        add(&coordinator, &relay, file).refused(&["is no TURN server"]);
    });
}
