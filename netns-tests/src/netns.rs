//! Network namespaces: made, entered, wired.

use std::{
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
};

use crate::{Stack, sys, wait};

/// A named network namespace (`/run/netns/NAME`), deleted when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    door: Door,
}

/// The way into a namespace, for code that may outlive its [`Namespace`].
#[derive(Debug, Clone)]
pub(crate) struct Door(Arc<OwnedFd>);

impl Door {
    /// [`Namespace::enter`].
    pub(crate) fn enter<R: Send>(&self, task: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.pass();
                task()
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a thread there.
    pub(crate) fn spawn<R: Send + 'static>(&self, task: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
        let door = self.clone();
        thread::spawn(move || {
            door.pass();
            task()
        })
    }

    fn pass(&self) {
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("cannot enter a network namespace");
    }
}

impl Namespace {
    /// Makes one. IPv6 addresses given there are usable at once (no duplicate address detection).
    ///
    /// # Panics
    /// If that is impossible.
    #[must_use]
    pub fn create(name: &str) -> Self {
        ip_batch(&[&format!("netns add {name}")]);
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).unwrap_or_else(|e| panic!("cannot open {path}: {e}"));
        let namespace = Self { name: name.to_owned(), door: Door(Arc::new(file.into())) };
        namespace.ip(&["link set lo up"]);
        namespace.enter(quick_ipv6);
        namespace
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is mounted: for `--netns`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `task` in this namespace, in its own thread. Sockets opened there stay there.
    pub fn enter<R: Send>(&self, task: impl FnOnce() -> R + Send) -> R {
        self.door.enter(task)
    }

    pub(crate) fn door(&self) -> Door {
        self.door.clone()
    }

    /// A command that will run in this namespace.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        sys::in_namespace(&mut command, self.door.0.try_clone().expect("cannot duplicate a descriptor"));
        command.stdin(Stdio::null());
        command
    }

    /// Lines for `ip -batch` in this namespace.
    ///
    /// # Panics
    /// If one of them fails.
    pub fn ip(&self, lines: &[&str]) {
        self.enter(|| ip_batch(lines));
    }

    /// Rules for `nft -f` in this namespace.
    ///
    /// # Panics
    /// If nft doesn't take them.
    #[track_caller]
    pub fn nft(&self, rules: &str) {
        feed(self.command("nft").args(["-f", "-"]), "nft: install nftables", rules);
    }

    /// What `nft ARGS` prints in this namespace.
    #[must_use]
    pub fn nft_output(&self, arguments: &str) -> String {
        let output =
            self.command("nft").args(arguments.split(' ')).output().expect("cannot start nft: install nftables");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `ip ARGS` prints in this namespace.
    #[must_use]
    pub fn ip_output(&self, arguments: &str) -> String {
        let output = self.command("ip").args(arguments.split(' ')).output().expect("cannot start ip");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until an interface carries packets. The kernel lets a link come up in its own time (linkwatch_event of
    /// net/core/link_watch.c), and drops what is sent before that.
    pub fn wait_up(&self, interface: &str) {
        let up = || self.ip_output(&format!("-o link show {interface}")).contains(" state UP ");
        wait::until_true(&format!("{interface} of {} to come up", self.name), up);
    }

    /// The index of one of its interfaces, if there is such a one.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<u32> {
        self.enter(|| if_nametoindex(name).ok())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It ends with the test's own mount namespace anyway.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

/// Whether a program there listens at this TCP port (proc_net_tcp(5)).
pub(crate) fn listens(namespace: &Namespace, port: u16) -> bool {
    let port = format!(":{port:04X}");
    namespace.enter(|| {
        ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"].iter().any(|path| {
            let sockets = fs::read_to_string(path).unwrap_or_default();
            sockets.lines().skip(1).any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("0A")
            })
        })
    })
}

/// Lines for `ip -batch` in the calling thread's namespace.
///
/// # Panics
/// If one of them fails.
pub fn ip_batch(lines: &[&str]) {
    ip_batch_of(&[], lines);
}

/// [`ip_batch`] for lines that don't say themselves of which protocol they are: `-4` or `-6`.
pub(crate) fn ip_batch_of(family: &[&str], lines: &[&str]) {
    let script = lines.join("\n") + "\n";
    feed(Command::new("ip").args(family).args(["-batch", "-"]), "ip: install iproute2", &script);
}

/// Runs a program to its end that reads `script`.
#[track_caller]
fn feed(command: &mut Command, what: &str, script: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {what}: {e}"));
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("it reads its standard input");
    let output = child.wait_with_output().expect("cannot wait for a child");
    assert!(output.status.success(), "{what} failed: {}\n{script}", String::from_utf8_lossy(&output.stderr));
}

/// Addresses of interfaces made from now on in the calling thread's namespace are usable at once.
pub(crate) fn quick_ipv6() {
    for setting in ["accept_dad", "dad_transmits", "router_solicitations"] {
        for which in ["all", "default"] {
            // Absent where the kernel has no IPv6; then the tests that need it fail by themselves.
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/{setting}"), "0");
        }
    }
}

/// A network of the underlay: number `n` is 10.0.n.0/24 and fd00:n::/64, with the router at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub u8);

impl Network {
    /// An IPv4 address in it.
    #[must_use]
    pub fn v4(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.0, host)
    }

    /// An IPv6 address in it.
    #[must_use]
    pub fn v6(self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, u16::from(self.0), 0, 0, 0, 0, 0, u16::from(host))
    }
}

/// The addresses of a network: those of the underlay, or private ones for IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) network: Network,
    /// The first three bytes of its IPv4 addresses, if they are private.
    pub(crate) private: Option<[u8; 3]>,
}

impl Addresses {
    /// The IPv4 address of a machine.
    pub(crate) fn v4(self, host: u8) -> Ipv4Addr {
        self.private.map_or_else(|| self.network.v4(host), |[a, b, c]| Ipv4Addr::new(a, b, c, host))
    }

    /// Gives an interface its addresses, and a default route by the router that ends in `via`.
    pub(crate) fn give(self, machine: &Namespace, interface: &str, host: u8, stack: Stack, via: Option<u8>) {
        let (v4, v6) = (self.v4(host), self.network.v6(host));
        let v4 = (stack != Stack::V6).then(|| format!("addr add {v4}/24 dev {interface}"));
        let v6 = (stack != Stack::V4).then(|| format!("addr add {v6}/64 dev {interface} nodad"));
        let mut lines: Vec<String> = v4.into_iter().chain(v6).collect();
        if let Some(via) = via {
            let v4 = (stack != Stack::V6).then(|| format!("route add default via {}", self.v4(via)));
            let v6 = (stack != Stack::V4).then(|| format!("route add default via {}", self.network.v6(via)));
            lines.extend(v4.into_iter().chain(v6));
        }
        machine.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
