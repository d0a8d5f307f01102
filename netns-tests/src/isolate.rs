//! Every test runs in a process of its own, in namespaces of its own: the test binary starts itself again through
//! unshare(1), for the one test only. So nothing can be left behind (the PID namespace takes all processes with it, the
//! mount namespace all files, the network namespace all interfaces), tests can't disturb each other or the machine, and
//! an ordinary user can run them as well, as root of a user namespace.

use std::{
    any::type_name,
    env, fs,
    io::Read,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::mount::{MsFlags, mount};

use crate::{sys, wait};

/// Set in the process that is inside.
const INSIDE: &str = "MESH_NETNS_INSIDE";

/// No test takes this long that doesn't say so; one that does is stuck.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs `test`, the whole body of a `#[test]` function, in namespaces of its own.
///
/// # Panics
/// If the test does, with all that it printed; if it takes too long; if there can be no namespaces here.
pub fn isolated<F: FnOnce()>(test: F) {
    isolated_for(LIMIT, test);
}

/// [`isolated`] with another limit, for a test that has much to do.
///
/// # Panics
/// Likewise.
pub fn isolated_for<F: FnOnce()>(limit: Duration, test: F) {
    if env::var_os(INSIDE).is_some() {
        furnish();
        return test();
    }
    let name = test_name::<F>();
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--").arg(env::current_exe().expect("the path of this test binary"));
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    sys::die_with_parent(&mut command);
    let mut child = command.spawn().expect("cannot start unshare(1): install util-linux");

    let output = drain(child.stdout.take().expect("piped"));
    let errors = drain(child.stderr.take().expect("piped"));
    let deadline = Instant::now() + limit;
    let status = wait::within(limit + Duration::from_secs(10), "the end of a test that was killed", || {
        if Instant::now() > deadline {
            child.kill().expect("cannot kill the test");
        }
        child.try_wait().expect("cannot wait for the test")
    });
    let output = output.join().expect("reading cannot fail");
    let errors = errors.join().expect("reading cannot fail");
    let ran = output.contains("1 passed");
    let how = match status.signal() {
        Some(_) => format!("{name} was killed: it took longer than {limit:?}, or crashed"),
        None => format!("{name} failed"),
    };
    // What the inner libtest says of its one test would only be mistaken for a closing line.
    let chatter = ["running 1 test", "test ", "failures:", "    "];
    let output: String = output
        .lines()
        .filter(|line| !chatter.iter().any(|c| line.starts_with(c)))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(status.success() && ran, "{how}\n{output}\n{errors}");
    // The figures of a test. libtest hides them unless asked (`--nocapture`).
    print!("{}", output.trim_start());
}

/// The test's path as libtest knows it, from the type of the closure that is its body: `crate::module::test::{{closure}}`.
fn test_name<F>() -> &'static str {
    let path = type_name::<F>();
    let path = path.trim_end_matches("::{{closure}}");
    path.split_once("::").map_or(path, |(_, name)| name)
}

fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before a failure is all there is.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a test finds in its world: an empty /run for its files and its namespaces, and an /etc/hosts of its own. For
/// programs that are started in namespaces of their own otherwise than by [`isolated`].
///
/// # Panics
/// If the mounts are refused: then these namespaces are not its own.
pub fn furnish() {
    let none: Option<&str> = None;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .expect("cannot mount a tmpfs on /run");
    fs::create_dir_all("/run/netns").expect("cannot make /run/netns");
    fs::write("/run/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n").expect("cannot write /run/hosts");
    mount(Some("/run/hosts"), "/etc/hosts", none, MsFlags::MS_BIND, none).expect("cannot mount over /etc/hosts");
}
