//! What else may answer at the socket of a Docker that the agent follows.

use std::{fs, io::Write as _, path::Path, process::Command};

use mesh_netns_tests::{Daemon, isolated, wait};
use mesh_runtime_tests::{Docker, Stage};

use crate::{
    docker_watch::{DB, SHOP, follow, is_attached},
    front::Front,
};

#[test]
fn a_docker_that_takes_new_versions_only() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let docker = Docker::start_plain(&stage.lab, &stage.aws);
        let front = Front::of(&docker, "v1.44");
        follow(&mut stage, front.socket());
        let db = docker.container(&DB, &["sleep", "1000"]);
        is_attached(&docker, &db);
        assert_eq!(front.asked("/v1.24/"), 0, "what works first is what is asked by");
    });
}

#[test]
fn a_docker_that_refuses_is_said_once_and_not_every_time() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let refusal = "HTTP/1.0 400 Bad Request\r\n\r\n{\"message\":\"client version 1.24 is too old\"}\n";
        let front = Front::answering(move |mut asker, _| asker.write_all(refusal.as_bytes()));
        follow(&mut stage, front.socket());
        wait::until_true("the agent to have tried several times", || front.asked("/v1.24/version") >= 3);
        let log = stage.aws.log();
        assert_eq!(log.matches("client version 1.24 is too old").count(), 3, "once by each version: {log}");
        assert!(log.contains("WARN") && log.contains("can't be followed"), "{log}");
    });
}

#[test]
fn no_other_process_passes_for_docker() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let (directory, socket) = (Path::new("/run/stranger"), Path::new("/run/stranger/docker.sock"));
        fs::create_dir(directory).expect("cannot make a directory");
        nix::unistd::chown(directory, Some(65534.into()), None).expect("cannot give a directory away");
        // It would answer every question.
        let script = "my $l = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 5) or die $!; $| = 1; print \"listens\\n\"; \
             while (my $s = $l->accept) { print \"called\\n\"; print while <$s> }";
        let mut stranger = Command::new("setpriv");
        stranger.args(["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-MIO::Socket::UNIX", "-e", script]);
        stranger.arg(socket);
        let stranger = Daemon::start(stranger, Path::new("/run/stranger.log"));
        wait::until_true("the stranger", || stranger.log().contains("listens"));
        follow(&mut stage, socket);
        wait::until_true("several calls", || stranger.log().matches("called").count() >= 3);
        assert!(!stranger.log().contains("GET"), "{}", stranger.log());
        let said = "answered by a process of user 65534, which is neither root nor the user of this agent";
        assert_eq!(stage.aws.log().matches(said).count(), 1, "{}", stage.aws.log());
    });
}
