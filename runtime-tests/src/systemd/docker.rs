//! Docker as a unit of a machine with systemd, with its socket and its containers on that machine.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{Systemd, write};
use crate::{Lab, image};

/// Without networks of its own: what runs there has the mesh or nothing. `GROUP` is the lab's control group, which the lab
/// removes also where the machine sees the outer ones.
const UNIT: &str = "[Service]
Type=notify
ExecStart=/usr/sbin/dockerd --bridge none --iptables=false --cgroup-parent /GROUP --exec-opt native.cgroupdriver=cgroupfs --shutdown-timeout 1
Delegate=yes
KillMode=process
";
/// `docker compose`, whichever way Debian has it.
const COMMAND: &str = "#!/bin/sh
[ \"$1\" = compose ] && command -v docker-compose >/dev/null && shift && exec docker-compose --ansi never \"$@\"
exec /usr/bin/docker \"$@\"
";
/// Where that is on the machine, to be first on the PATH.
pub const DOCKER_COMMANDS: &str = "/opt/docker";

impl Systemd {
    /// Starts it, with the image `busybox`.
    ///
    /// # Panics
    /// If that fails.
    pub fn start_docker(&self, lab: &Lab) {
        let command = self.root.join(DOCKER_COMMANDS.trim_start_matches('/')).join("docker");
        write(&command, COMMAND);
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).expect("cannot make it a program");
        self.unit("docker.service", &UNIT.replace("GROUP", lab.group()));
        let started = self.systemctl(&["start", "docker"]);
        assert_eq!(started.code, Some(0), "{}\n{}", started.stderr, self.journal("docker"));
        fs::copy(image::archive(), self.root.join("root/image.tar")).expect("cannot copy an image");
        self.command(&["docker", "import", "/root/image.tar", "busybox"]).done();
    }
}
