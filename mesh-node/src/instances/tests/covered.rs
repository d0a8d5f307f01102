//! What takes the place of a process's hosts file by a mount: the names go there, and don't stay in the file below.

use std::path::{Path, PathBuf};

use mesh_proto::InstanceId;

use super::hosts::Process;
use crate::{
    attach::{Namespace, lab::namespace},
    hosts::{Place, Reach as _},
    instances::lab::{Agent, World},
};

const THEIRS: &str = "127.0.0.1 localhost\n";

struct Stage {
    world: World,
    ns: Namespace,
    files: [PathBuf; 2],
}

impl Stage {
    fn new(name: &str) -> Self {
        let world = World::new(name);
        let files = ["below", "above"].map(|name| world.scratch.0.join(name));
        files.iter().for_each(|file| std::fs::write(file, THEIRS).unwrap());
        Self { world, ns: namespace(), files }
    }

    /// A process with the first file, and its instance.
    async fn attach(&self, agent: &Agent) -> Process {
        let process = Process::with(&self.files[0], Some(&self.ns));
        let place = process.place();
        let file = place.open(&place.reach().unwrap()).unwrap();
        agent.attach_opened("shop/db", &self.ns, Some((place, file))).await.unwrap();
        assert_eq!(self.named(), [true, false]);
        process
    }

    /// Which of the files hold names; the others are as they were.
    fn named(&self) -> [bool; 2] {
        self.files.each_ref().map(|file| is_named(file))
    }
}

fn is_named(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.starts_with(THEIRS), "{text}");
    text.contains("app.warp\n") || text != THEIRS
}

async fn warnings(agent: &Agent) -> String {
    agent.instances.list().await.into_iter().flat_map(|instance| instance.warnings).collect()
}

#[tokio::test]
async fn names_follow_a_mount_over_the_file_and_come_back_when_it_goes() {
    let stage = Stage::new("mounted-over");
    let agent = stage.world.agent().await;
    let process = stage.attach(&agent).await;
    process.runs("mount --bind \"$0\" /etc/hosts", &stage.files[1]);
    agent.until("in the upper one only", async |_| stage.named() == [false, true]).await;
    process.runs("umount --lazy /etc/hosts", &stage.files[1]);
    agent.until("in the lower one again", async |_| stage.named() == [true, false]).await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!(stage.named(), [false; 2]);
}

#[tokio::test]
async fn a_mount_whose_file_is_not_kept_is_said_until_it_goes() {
    let stage = Stage::new("mounted-barred");
    let agent = stage.world.agent().await;
    let process = stage.attach(&agent).await;
    for (over, away, why) in [
        ("mount -t tmpfs none /etc", "umount --lazy /etc", "cannot open the hosts file"),
        (
            "mount --bind \"$0\" /etc/hosts; mount -o remount,bind,ro /etc/hosts",
            "umount --lazy /etc/hosts",
            "its process may not write it",
        ),
        ("mount -t tmpfs none /etc; ln -s \"$0\" /etc/hosts", "umount --lazy /etc", "symbolic link"),
    ] {
        process.runs(over, &stage.files[1]);
        agent.until(why, async |agent| warnings(agent).await.contains(why) && stage.named() == [false; 2]).await;
        process.runs(away, &stage.files[1]);
        agent.until("back", async |agent| warnings(agent).await.is_empty() && stage.named() == [true, false]).await;
    }
}

#[tokio::test]
async fn a_mount_that_came_while_no_agent_ran_leaves_no_names_below_it() {
    let stage = Stage::new("mounted-meanwhile");
    let agent = stage.world.agent().await;
    let process = stage.attach(&agent).await;
    let view = agent.control.view();
    agent.kill().await;
    process.runs("mount --bind \"$0\" /etc/hosts", &stage.files[1]);
    let mut agent = Agent::start(&stage.world.state, &stage.world.model, view).await;
    agent.until("in the upper one only", async |_| stage.named() == [false, true]).await;
    assert_eq!(agent.instances.hosts_warnings(), [""; 0]);
    // The instance ends together with what holds its file.
    let view = agent.control.view();
    agent.kill().await;
    drop((process, stage.ns));
    agent = Agent::start(&stage.world.state, &stage.world.model, view).await;
    let named = || stage.files.each_ref().map(|file| is_named(file));
    agent.until("in none", async |agent| agent.list().await.is_empty() && named() == [false; 2]).await;
}

#[tokio::test]
async fn a_file_that_was_renamed_while_no_agent_ran_keeps_no_names() {
    let stage = Stage::new("renamed-meanwhile");
    let [hosts, away] = &stage.files;
    let agent = stage.world.agent().await;
    agent.attach_with("shop/db", &stage.ns, Some(&Place::Path(hosts.clone()))).await.unwrap();
    let view = agent.control.view();
    agent.kill().await;
    std::fs::rename(hosts, away).unwrap();
    std::fs::write(hosts, THEIRS).unwrap();
    assert_eq!(stage.named(), [false, true]);
    let agent = Agent::start(&stage.world.state, &stage.world.model, view).await;
    agent.until("in the new one only", async |_| stage.named() == [true, false]).await;
}

#[tokio::test]
async fn names_in_a_file_that_nothing_leads_to_are_said() {
    let stage = Stage::new("mounted-away");
    let agent = stage.world.agent().await;
    let process = stage.attach(&agent).await;
    process.runs("mount -t tmpfs none /etc; cp \"$0\" /etc/hosts", &stage.files[1]);
    agent.until("followed", async |_| stage.named() == [false; 2]).await;
    let read = || std::fs::read_to_string(process.root().join("etc/hosts")).unwrap_or_default();
    agent.until("in the one of the process", async |_| read().contains("app.warp\n")).await;
    let view = agent.control.view();
    agent.kill().await;
    process.runs("mount -t tmpfs none /etc; cp \"$0\" /etc/hosts", &stage.files[1]);
    let agent = Agent::start(&stage.world.state, &stage.world.model, view).await;
    let said = |agent: &Agent| agent.instances.hosts_warnings().concat();
    agent.until("said", async |agent| said(agent).contains("names of shop/db stay in the hosts file")).await;
    assert!(said(&agent).contains("no mount of its file system can be reached"), "{}", said(&agent));
    // The next agent finds it, as its process shows it again.
    let view = agent.control.view();
    agent.kill().await;
    process.runs("umount --lazy /etc", &stage.files[1]);
    let agent = Agent::start(&stage.world.state, &stage.world.model, view).await;
    agent.until("kept", async |_| read().contains("app.warp\n")).await;
    assert_eq!(said(&agent), "");
}
