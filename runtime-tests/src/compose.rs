//! Docker Compose, as Debian packages it, and the example that it runs.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use mesh_netns_tests::{Outcome, run_for};

use crate::Docker;

/// How long it may take to start or stop all of a project.
const LIMIT: Duration = Duration::from_secs(120);

/// The directory of the example, which is run as it is.
#[must_use]
pub fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/compose")
}

/// `docker-compose ARGUMENTS` for the example, on a machine's Docker. (The same as `docker compose`.)
#[track_caller]
pub fn compose(docker: &Docker, arguments: &[&str]) -> Outcome {
    let mut command = Command::new("docker-compose");
    command.arg("--file").arg(example().join("compose.yaml")).args(["--project-name", "shop", "--ansi", "never"]);
    command.args(arguments);
    ask(docker, command)
}

/// The example's script that makes its images.
#[track_caller]
pub fn make_images(docker: &Docker) -> Outcome {
    ask(docker, Command::new(example().join("images")))
}

#[track_caller]
fn ask(docker: &Docker, command: Command) -> Outcome {
    run_for(LIMIT, docker.address(command))
}
