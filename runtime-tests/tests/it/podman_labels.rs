//! podman passes labels to no hook. A container with a label for the mesh doesn't start without the mesh, however it is started.

use std::fs;

use mesh_netns_tests::{Outcome, isolated, wait};
use mesh_runtime_tests::{Container, Podman, Stage};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const DB: &str = "mesh.service=shop/db";

struct Way {
    stage: Stage,
    podman: Podman,
}

impl Way {
    fn new() -> Self {
        let stage = Stage::new(&[SHOP]);
        let podman = Podman::as_configured(&stage.lab, &stage.aws);
        stage.aws.command(&["setup", "podman"]).done();
        Self { stage, podman }
    }

    #[track_caller]
    fn create(&self, flags: &[&str], image: &str) -> Container {
        let group = format!("/{}", self.stage.lab.group());
        let ours = ["create", "--cgroup-parent", &group, "--log-driver", "k8s-file", "--network", "none"];
        let all = [&ours[..], flags, &[image, "sleep", "1000"]].concat();
        Container { id: self.podman.command(&all).done().stdout.trim().to_owned() }
    }

    #[track_caller]
    fn is_refused(&self, outcome: &Outcome, container: &Container, words: &[&str]) {
        assert_ne!(outcome.code, Some(0), "{}", outcome.stdout);
        for word in words {
            assert!(outcome.stderr.contains(word), "nothing of `{word}` in: {}", outcome.stderr);
        }
        let state = self.podman.command(&["inspect", "--format", "{{.State.Running}}", &container.id]).done().stdout;
        assert_eq!(state.trim(), "false");
    }
}

#[test]
fn a_label_is_refused_however_the_container_is_started() {
    isolated(|| {
        let way = Way::new();
        let file = "/run/labels";
        fs::write(file, format!("{DB}\n")).expect("cannot write a file");
        let as_label = ["shop/db: podman does not pass labels", "--annotation mesh.service=shop/db"];
        for (flags, words) in [
            (["--label", DB], as_label),
            (["--label-file", file], as_label),
            (["--label", "mesh.servcie=shop/db"], ["mesh.servcie", "--annotation mesh.service="]),
        ] {
            let container = way.create(&flags, "busybox");
            for command in [&["start"][..], &["restart"], &["container", "start"], &["start"]] {
                let outcome = way.podman.command(&[command, &[&container.id]].concat());
                way.is_refused(&outcome, &container, &words);
            }
            way.podman.remove(&container);
        }
        let run = way.podman.run(&["--label-file", file, "--network", "none"], "echo it runs");
        assert!(run.code != Some(0) && !run.stdout.contains("it runs"), "{}", run.stdout);
        assert!(run.stderr.contains(as_label[0]), "{}", run.stderr);
        assert!(way.stage.instances().is_empty());
    });
}

#[test]
fn other_labels_and_those_of_the_image_do_not_stop_a_container() {
    isolated(|| {
        let way = Way::new();
        fs::create_dir_all("/run/recipe").expect("cannot make a directory");
        fs::write("/run/recipe/Containerfile", "FROM localhost/busybox\n").expect("cannot write a file");
        let build = ["build", "--quiet", "--label", DB, "--tag", "labelled", "/run/recipe"];
        way.podman.command(&build).done();
        let starts = |flags: &[&str], image: &str, script: &str| {
            let container = way.create(flags, image);
            way.podman.command(&["start", &container.id]).done();
            way.podman.exec(&container, script).done();
            way.podman.remove(&container);
        };
        starts(&["--label", "service=db"], "busybox", "! ip addr show mesh0");
        starts(&[], "localhost/labelled", "! ip addr show mesh0");
        // For use with other engines too.
        starts(&["--annotation", DB, "--label", DB], "busybox", "ip addr show mesh0");
        let container = way.create(&["--label", "mesh.service=shop/app"], "localhost/labelled");
        let outcome = way.podman.command(&["start", &container.id]);
        way.is_refused(&outcome, &container, &["shop/app: podman does not pass labels"]);
        way.podman.remove(&container);
    });
}

#[test]
fn a_label_counts_where_the_agent_follows_podmans_service() {
    isolated(|| {
        let mut way = Way::new();
        let (_service, socket) = way.podman.service();
        way.stage.configure(&format!("[containers]\nwatch = [{socket:?}]\n"));
        way.stage.aws.stop();
        way.stage.aws.start(&[]);
        let container = way.create(&["--label", DB], "busybox");
        way.podman.command(&["start", &container.id]).done();
        wait::until_true("the interface", || way.podman.exec(&container, "ip addr show mesh0").code == Some(0));
        way.podman.remove(&container);
        wait::until_true("the end of the instance", || way.stage.instances().is_empty());
    });
}
