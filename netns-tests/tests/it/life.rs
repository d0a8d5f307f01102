//! The programs as processes: no problem with their logs, files or arguments ends one.

use std::{
    fs::{self, File},
    io::{PipeReader, PipeWriter, Read as _, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mesh_netns_tests::{Coordinator, Namespace, Runner, Stack, World, isolated, run, traffic::Answer, wait};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::common::{SHOP, declare, reaches};

/// A program whose log doesn't go to the harness.
struct Program(Child);

impl Program {
    fn start(mut command: Command, log: impl Into<Stdio>) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("a program"))
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_connected(runner: &Runner) -> bool {
    runner.command(&["status", "--json"]).is_connected()
}

/// Starts the agent of `runner`, which has joined, again with full logging.
fn talkative(runner: &Runner, log: impl Into<Stdio>) -> Program {
    let mut command = runner.prepare(&["join"]);
    command.env("RUST_LOG", "debug");
    Program::start(command, log)
}

fn serve(coordinator: &Coordinator, log: impl Into<Stdio>) -> Program {
    let data = coordinator.data().to_str().expect("ASCII").to_owned();
    let mut command = coordinator.prepare(&["serve", "--data", &data]);
    command.env("RUST_LOG", "debug");
    Program::start(command, log)
}

fn full_disk() -> File {
    File::options().write(true).open("/dev/full").expect("/dev/full")
}

/// A coordinator with a runner that has joined and stopped.
fn joined(world: &World) -> (Coordinator, Runner) {
    let coordinator = world.coordinator(&[]);
    declare(&coordinator, &[SHOP]);
    let mut runner = world.runner(&coordinator, "aws", Stack::Dual);
    runner.stop();
    (coordinator, runner)
}

#[test]
fn an_agent_whose_log_has_lost_its_reader_finds_its_coordinator_again() {
    isolated(|| {
        let world = World::new();
        let (mut coordinator, runner) = joined(&world);
        let (reader, log) = std::io::pipe().expect("a pipe");
        let mut agent = talkative(&runner, log);
        wait::until_true("the agent to connect", || is_connected(&runner));
        drop(reader);
        coordinator.kill();
        wait::until_true("the agent to notice", || !is_connected(&runner));
        coordinator.start();
        wait::until_true("the agent to connect again", || is_connected(&runner));
        assert!(agent.runs());
    });
}

#[test]
fn logs_on_a_full_disk_end_neither_program() {
    isolated(|| {
        let world = World::new();
        let (mut coordinator, runner) = joined(&world);
        coordinator.kill();
        let mut server = serve(&coordinator, full_disk());
        let mut agent = talkative(&runner, full_disk());
        wait::until_true("the agent to connect", || is_connected(&runner));
        assert!(agent.runs() && server.runs());
    });
}

/// `mount ARGUMENTS`, in the test's own mount namespace.
fn mount(arguments: &str) {
    let status = Command::new("mount").args(arguments.split(' ')).status().expect("mount(8)");
    assert!(status.success(), "mount {arguments}");
}

#[test]
fn an_agent_starts_again_where_nothing_can_be_written_and_cuts_no_instance_off() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut aws = world.machine("aws", Stack::Dual);
        let state = aws.state().to_str().expect("ASCII").to_owned();
        fs::create_dir(&state).expect("a directory");
        mount(&format!("-t tmpfs -o size=40m,mode=700 none {state}"));
        aws.start(&[&coordinator.url(false), &coordinator.token(&["--any"]), "--name", "aws"]);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (ovh.attach("shop/app"), aws.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        reaches(&app, db.service_address, 5432);

        // Full to the last byte.
        let mut fill = File::create(format!("{state}/fill")).expect("a file");
        for size in [1 << 20, 4096, 1] {
            while fill.write_all(&vec![1; size]).is_ok() {}
        }
        drop(fill);
        aws.kill();
        aws.start(&[]);
        reaches(&app, db.service_address, 5432);

        aws.kill();
        mount(&format!("-o remount,ro {state}"));
        aws.start(&["--listen", "51820"]);
        reaches(&app, db.service_address, 5432);
        let warnings = || aws.json(&["status"])["warnings"].as_array().cloned().unwrap_or_default();
        assert!(
            warnings()[0].as_str().is_some_and(|warning| warning.contains("cannot write to the state directory")),
            "{:?}",
            warnings()
        );
        assert!(aws.log().contains("cannot write to the state directory"), "{}", aws.log());
        aws.command(&["join"]).refused(&["another agent is running"]);
        // Other runners don't wait for an instance that a restart would forget: it is attached, and the output says
        // that it isn't known everywhere.
        let other = Namespace::create("other");
        aws.command(&["attach", "shop/app", "--netns", "/run/netns/other"]).done();

        // The write succeeds once the disk allows it.
        mount(&format!("-o remount,rw {state}"));
        fs::remove_file(format!("{state}/fill")).expect("a file to remove");
        wait::until_true("everything to be written", || warnings().is_empty());
        let remembered = fs::read_to_string(format!("{state}/instances.json")).expect("the instances");
        assert!(remembered.contains("/run/netns/other"), "{remembered}");
        aws.kill();
        aws.start(&[]);
        reaches(&app, db.service_address, 5432);
        assert_eq!(aws.json(&["status"])["instances"].as_array().map(Vec::len), Some(2));
        drop(other);
    });
}

#[test]
fn a_name_whose_first_address_swallows_packets_costs_no_connection() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        let mut aws = world.machine("aws", Stack::Dual);
        // The coordinator's own networks are 1 and 10.0.1.0/24: packets to the others are dropped silently.
        let hosts = "10.0.1.2 coord.example\nfd00:1::77 coord.example\n10.0.1.77 coord.example\n";
        fs::write("/run/hosts", hosts).expect("a hosts file");
        mount("--bind /run/hosts /etc/hosts");
        for dead in ["fd00:1::77", "10.0.1.77"] {
            mesh_netns_tests::ip_batch(&[&format!("neigh add {dead} lladdr 02:00:00:00:00:99 dev net1")]);
        }
        aws.start(&["https://coord.example:7443", &coordinator.token(&["--any"]), "--name", "aws"]);
        coordinator.kill();
        wait::until_true("the agent to notice", || !is_connected(&aws));
        coordinator.start();
        wait::true_within(Duration::from_secs(10), "the agent to connect again", || is_connected(&aws));
        // And where none works, each is named.
        fs::write("/run/hosts", "10.0.1.1 coord.example\nfd00:1::1 coord.example\n").expect("a hosts file");
        let other = world.machine("other", Stack::Dual);
        let mut command = other.prepare(&["join", "https://coord.example:7443", &coordinator.token(&["--any"])]);
        command.env("ALL_PROXY", "socks5h://me:secret@proxy.example:1080");
        let refused =
            run(command).refused(&["10.0.1.1:7443", "[fd00:1::1]:7443", "the proxy in $ALL_PROXY is not used"]);
        assert!(!refused.stderr.contains("secret"), "{}", refused.stderr);
    });
}

/// Reads until it has seen `text`.
fn read_until(mut log: &PipeReader, text: &str) {
    let (mut seen, mut buffer) = (String::new(), [0; 65536]);
    while !seen.contains(text) {
        let n = log.read(&mut buffer).expect("a pipe");
        assert!(n > 0, "the log ended without `{text}`");
        let kept = seen.len().saturating_sub(text.len());
        seen = seen.split_off(seen.ceil_char_boundary(kept)) + &String::from_utf8_lossy(&buffer[..n]);
    }
}

/// A pipe that takes nothing more until it is read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a pipe");
    for size in [4096, 1] {
        while writer.write(&vec![b'.'; size]).is_ok() {}
    }
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a pipe");
    (reader, writer)
}

#[test]
fn unread_logs_stall_neither_program_and_are_there_when_read() {
    isolated(|| {
        let world = World::new();
        let (mut coordinator, mut runner) = joined(&world);
        coordinator.kill();
        let ((server_log, server_end), (agent_log, agent_end)) = (full_pipe(), full_pipe());
        let mut server = serve(&coordinator, server_end);
        let mut agent = talkative(&runner, agent_end);
        wait::until_true("the agent to connect", || is_connected(&runner));
        let instance = runner.attach("shop/db");
        runner.command(&["detach", &instance.id]).done();
        assert!(agent.runs() && server.runs());
        read_until(&server_log, "ready");
        read_until(&agent_log, "connected to the coordinator");
        // An end waits for no reader either.
        drop((server, agent));
        let (_log, end) = full_pipe();
        let mut agent = talkative(&runner, end);
        wait::until_true("the agent to answer", || runner.command(&["status"]).code == Some(0));
        kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGTERM).expect("a child");
        wait::until_true("the agent to end", || !agent.runs());
        runner.start_alone(&[]);
    });
}

#[test]
fn a_token_stands_neither_in_the_command_line_nor_in_the_environment_of_the_agent() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any", "--uses", "9"]));
        let mut aws = world.machine("aws", Stack::Dual);
        aws.start(&[&url, &token, "--name", "aws"]);
        let line = fs::read_to_string(format!("/proc/{}/cmdline", aws.pid())).expect("a command line");
        assert!(line.contains(&url) && line.contains("--name\0aws\0"), "{line}");
        assert!(!line.contains(&token[20..40]) && !line.contains(&token[60..]), "{line}");

        let ovh = world.machine("ovh", Stack::Dual);
        let mut command = ovh.prepare(&["join", &url, "--name", "ovh"]);
        command.env("MESH_TOKEN", &token);
        let agent = Program::start(command, Stdio::null());
        wait::true_within(Duration::from_secs(30), "the agent to connect", || is_connected(&ovh));
        let environment = fs::read(format!("/proc/{}/environ", agent.0.id())).expect("an environment");
        let environment = String::from_utf8_lossy(&environment);
        assert!(environment.contains("MESH_NODE_STATE=") && !environment.contains(&token[20..40]), "{environment}");
    });
}
