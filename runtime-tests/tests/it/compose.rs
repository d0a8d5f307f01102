//! examples/compose, unchanged, on the Dockers of two machines: the README's results are right.

use std::time::Duration;

use mesh_netns_tests::{Outcome, Stack, isolated_for, run, wait};
use mesh_runtime_tests::{Docker, Stage, compose, example, make_images};

/// How long the example may take to start on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A command of the example's README, with its output: `--nocapture` shows it, and the README has it from there.
#[track_caller]
fn show(machine: &str, command: &str, outcome: Outcome) -> String {
    println!("{machine}$ {command}\n{}{}", outcome.stdout, outcome.stderr);
    outcome.done().stdout
}

/// The commands in a text.
fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn the_example_does_what_it_says() {
    isolated_for(5 * LIMIT, || {
        let stage = Stage::new(&[]);
        let files = ["mesh.toml", "reports.toml"].map(|file| example().join(file).display().to_string());
        let applied = stage.coordinator.command(&["apply", &files[0], &files[1]]);
        show("coordinator", "mesh-coord apply mesh.toml reports.toml", applied);
        let ovh = stage.world.runner(&stage.coordinator, "ovh", Stack::Dual);
        let (here, there) = (Docker::start(&stage.lab, &stage.aws), Docker::start(&stage.lab, &ovh));
        let before = stage.census();
        show("aws", "./images", make_images(&here));
        show("ovh", "./images", make_images(&there));

        show("aws", "docker compose up --detach db cache", compose(&here, &["up", "--detach", "db", "cache"]));
        show("ovh", "docker compose up --detach app", compose(&there, &["up", "--detach", "app"]));
        // Docker publishes the port; everything behind it goes through the mesh.
        let visit = || {
            let mut browser = ovh.namespace().command("busybox");
            browser.args(["wget", "-q", "-O", "-", "http://127.0.0.1:8080/cgi-bin/visit"]);
            run(browser)
        };
        let is_served = || visit().stdout.contains("in the database");
        wait::true_within(LIMIT, "the application to have found its database and its cache", is_served);
        let page = show("ovh", "curl http://127.0.0.1:8080/cgi-bin/visit", visit());
        let [counted, kept] = numbers(&page)[..] else { panic!("{page}") };
        assert!(counted >= 2 && kept >= 2, "{page}");
        assert_eq!(stage.instances().len(), 3, "{:?}", stage.instances());

        // The rights of another deployment.
        let report = show("ovh", "docker compose run --rm report", compose(&there, &["run", "--rm", "-T", "report"]));
        assert!(report.starts_with(&format!("{kept} visits")), "{report}");
        let cache = stage.coordinator.address_of("shop/cache");
        let ask = ["run", "--rm", "-T", "--entrypoint", "redis-cli", "report", "-h", &cache.to_string(), "ping"];
        let refused = compose(&there, &ask);
        println!("ovh$ docker compose {}\n{}{}", ask.join(" "), refused.stdout, refused.stderr);
        assert!(refused.code != Some(0) && refused.stderr.contains("No route to host"), "{}", refused.stderr);

        let why = ovh.command(&["why", "reports/sales", "shop/cache", "6379"]).expect_code(1);
        println!("ovh$ mesh-node why reports/sales shop/cache 6379\n{}{}", why.stdout, why.stderr);
        assert!(why.stdout.contains("the `trust` key of shop's file rules who may"), "{}", why.stdout);

        // The containers are new, and the data is in the volume.
        compose(&here, &["up", "--detach", "--force-recreate", "db"]).done();
        wait::true_within(LIMIT, "the database to be back", is_served);
        let page = visit().done().stdout;
        assert!(numbers(&page).get(1) > Some(&kept), "{page}");

        show("ovh", "docker compose down", compose(&there, &["down"]));
        show("aws", "docker compose down --volumes", compose(&here, &["down", "--volumes"]));
        stage.nothing_is_left(&before);
    });
}
