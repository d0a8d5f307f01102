//! What is compared: two places joined by one veth pair, with something between them or nothing.

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path as FsPath};

use mesh_netns_tests::{Daemon, Namespace, World, wait};

use crate::{
    arguments::Arguments,
    mesh::{Local, Mesh},
    pingpong::{Path, Server},
    rival::{self, Rival},
};

/// The contenders of every run.
pub(crate) const ALWAYS: &[&str] =
    &["veth", "mesh", "mesh-default", "mesh-known", "mesh-local", "wireguard-go", "wireguard-go-default"];

/// Those that are measured if they are asked for, and there.
pub(crate) const ON_REQUEST: &[&str] = &["mesh-lanes-2", "mesh-lanes-4", "boringtun-cli", "gotatun"];

/// The inner MTU at which all are compared, in bytes.
pub(crate) const SAME_MTU: u16 = 1408;

/// What mesh and WireGuard take by themselves.
pub(crate) const MESH_MTU: u16 = 1344;
pub(crate) const WIREGUARD_MTU: u16 = 1420;

/// What a mesh that isn't small knows besides.
const KNOWN_RUNNERS: usize = 1000;
const KNOWN_RULES: usize = 10_000;

/// Two ends and the way between them.
pub(crate) trait Way {
    /// From where connections are opened.
    fn client(&self) -> &Namespace;
    /// Where they are taken.
    fn server(&self) -> &Namespace;
    /// The server's address.
    fn target(&self) -> Ipv4Addr;
    /// The processes that carry it.
    fn daemons(&self) -> Vec<u32>;
    /// The machines that they run on.
    fn machines(&self) -> Vec<&Namespace>;
    /// What was dropped so far, by reason, if that can be asked.
    fn drops(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
    /// Whether it goes the way it should, and with all offloads; otherwise what is wrong.
    fn check(&self) -> Option<String> {
        None
    }
    /// What its program says of itself, with its name.
    fn version(&self) -> Option<(String, String)> {
        None
    }
}

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// The inner MTU in bytes. The cable's own is 1500.
    pub(crate) mtu: u16,
    pub(crate) way: Box<dyn Way>,
    /// They serve from beginning to end.
    servers: Option<(Server, Daemon)>,
}

/// Makes the wanted contenders. `remarks` names those that can't be measured.
pub(crate) fn all(world: &World, arguments: &Arguments, remarks: &mut Vec<String>) -> Vec<Contender> {
    let mut all: Vec<Contender> = vec![];
    let mut add = |name, mtu, way: Box<dyn Way>| {
        eprintln!("{name}: ready");
        all.push(Contender { name, mtu, way, servers: None });
    };
    if arguments.wants("veth") {
        add("veth", 1500, Box::new(Cable::lay("veth")));
    }
    if arguments.wants("mesh") {
        add("mesh", SAME_MTU, Box::new(Mesh::make(world, "s", SAME_MTU, 1)));
    }
    for (name, letter, lanes) in [("mesh-lanes-2", "t", 2), ("mesh-lanes-4", "u", 4)] {
        if arguments.wants(name) {
            add(name, SAME_MTU, Box::new(Mesh::make(world, letter, SAME_MTU, lanes)));
        }
    }
    if arguments.wants("mesh-default") {
        add("mesh-default", MESH_MTU, Box::new(Mesh::make(world, "d", MESH_MTU, 1)));
    }
    if arguments.wants("mesh-known") {
        let mut mesh = Mesh::make(world, "k", SAME_MTU, 1);
        mesh.enlarge(KNOWN_RUNNERS, KNOWN_RULES);
        add("mesh-known", SAME_MTU, Box::new(mesh));
    }
    if arguments.wants("mesh-local") {
        add("mesh-local", MESH_MTU, Box::new(Local::make(world, MESH_MTU)));
    }
    for (name, program, mtu) in [
        ("wireguard-go", "wireguard-go", SAME_MTU),
        ("wireguard-go-default", "wireguard-go", WIREGUARD_MTU),
        ("boringtun-cli", "boringtun-cli", SAME_MTU),
        ("gotatun", "gotatun", SAME_MTU),
    ] {
        if arguments.wants(name) {
            match rival::find(program, arguments) {
                Ok(path) => add(name, mtu, Box::new(Rival::start(name, program, &path, mtu))),
                Err(why) => remarks.push(format!("{name} was not measured: {why}")),
            }
        }
    }
    all
}

impl Contender {
    /// Everything between the ends is there: what is left is the same for all.
    pub(crate) fn prepare(&mut self, cc: &str) -> Result<(), String> {
        let (client, server) = (self.way.client(), self.way.server());
        for namespace in [client, server] {
            // Room for the ports of connections that have just ended.
            namespace.enter(|| set("ip_local_port_range", "10000 65000").and_then(|()| set("tcp_tw_reuse", "1")))?;
        }
        let echo = Server::start(server, cc)
            .map_err(|e| format!("a server with {cc}, which modprobe tcp_{cc} may bring: {e}"))?;
        let mut iperf = server.command("iperf3");
        iperf.arg("-s");
        let iperf = Daemon::start(iperf, FsPath::new(&format!("/run/iperf3-{}.log", self.name)));
        self.servers = Some((echo, iperf));
        wait::until_true(&format!("{} to carry a connection", self.name), || self.path(cc).answers());
        self.check()
    }

    /// [`Way::check`].
    pub(crate) fn check(&self) -> Result<(), String> {
        self.way.check().map_or(Ok(()), |wrong| Err(format!("{}: {wrong}", self.name)))
    }

    pub(crate) fn path<'a>(&'a self, cc: &'a str) -> Path<'a> {
        Path { from: self.way.client(), to: self.way.target(), cc }
    }
}

fn set(name: &str, value: &str) -> Result<(), String> {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value).map_err(|e| format!("{name} can't be `{value}` here: {e}"))
}

/// Two namespaces and the veth pair itself.
pub(crate) struct Cable {
    ends: [Namespace; 2],
}

impl Cable {
    /// `name` and a or b are the namespaces.
    pub(crate) fn lay(name: &str) -> Self {
        let ends = ["a", "b"].map(|end| Namespace::create(&format!("{name}-{end}")));
        World::cable(&ends[0], &ends[1]);
        Self { ends }
    }
}

impl Way for Cable {
    fn client(&self) -> &Namespace {
        &self.ends[0]
    }
    fn server(&self) -> &Namespace {
        &self.ends[1]
    }
    fn target(&self) -> Ipv4Addr {
        World::cable_end(1)
    }
    fn daemons(&self) -> Vec<u32> {
        vec![]
    }
    fn machines(&self) -> Vec<&Namespace> {
        self.ends.iter().collect()
    }
}
