//! Other userspace WireGuards: a daemon at each end of a cable, configured by the cross-platform protocol that they
//! share (wireguard.com/xplatform).

use std::{
    io::{Read, Write},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use boringtun::x25519::{PublicKey, StaticSecret};
use mesh_netns_tests::{Daemon, Namespace, World, run, wait};

use crate::{
    arguments::Arguments,
    contender::{Cable, Way},
    known,
};

/// The ends of the tunnel are 10.98.0.1 and 10.98.0.2.
const INSIDE: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 98, 0, 1), Ipv4Addr::new(10, 98, 0, 2)];

const PORT: u16 = 51820;

pub(crate) struct Rival {
    cable: Cable,
    daemons: [Daemon; 2],
    version: (String, String),
}

/// Where a program is. The script says it of the yardstick, whose age it has looked at; of others the directory.
pub(crate) fn find(program: &str, arguments: &Arguments) -> Result<PathBuf, String> {
    let path = match program {
        "wireguard-go" => arguments.wireguard_go.clone(),
        _ => arguments.peers.as_ref().map(|peers| peers.join(program)),
    };
    let path = path.ok_or_else(|| "there is none that is new enough".to_owned())?;
    if path.is_file() { Ok(path) } else { Err(format!("there is no {}", path.display())) }
}

impl Rival {
    pub(crate) fn start(name: &str, program: &str, path: &Path, mtu: u16) -> Self {
        let cable = Cable::lay(name);
        let secrets = [(); 2].map(|()| StaticSecret::from(known::random()));
        let ends = cable.machines();
        let daemons = [0, 1].map(|end: usize| {
            let (interface, namespace) = (interface(name, mtu, end), ends[end]);
            let mut command = namespace.command(&path.display().to_string());
            match program {
                "wireguard-go" => command.env("WG_PROCESS_FOREGROUND", "1").env("LOG_LEVEL", "error"),
                "boringtun-cli" => command.env("WG_SUDO", "1").arg("--disable-drop-privileges"),
                _ => command.arg("--disable-drop-privileges"),
            };
            command.args(["-f", &interface]);
            let mut daemon = Daemon::start(command, Path::new(&format!("/run/{name}-{end}.log")));
            wait::until_true(&format!("{program} to make its interface"), || {
                assert!(daemon.runs(), "it ended at once:\n{}", daemon.log());
                namespace.interface(&interface).is_some() && socket(&interface).exists()
            });
            configure(&interface, &secrets[end], &PublicKey::from(&secrets[1 - end]), 1 - end);
            let up =
                [format!("addr add {}/24 dev {interface}", INSIDE[end]), format!("link set {interface} mtu {mtu} up")];
            namespace.ip(&[&up[0], &up[1]]);
            daemon
        });
        let version = (program.to_owned(), version(path));
        Self { cable, daemons, version }
    }
}

impl Way for Rival {
    fn client(&self) -> &Namespace {
        self.cable.client()
    }
    fn server(&self) -> &Namespace {
        self.cable.server()
    }
    fn target(&self) -> Ipv4Addr {
        INSIDE[1]
    }
    fn daemons(&self) -> Vec<u32> {
        self.daemons.iter().map(Daemon::pid).collect()
    }
    fn machines(&self) -> Vec<&Namespace> {
        self.cable.machines()
    }
    fn version(&self) -> Option<(String, String)> {
        Some(self.version.clone())
    }
}

/// Of no two daemons the same, since their sockets are in one directory.
fn interface(name: &str, mtu: u16, end: usize) -> String {
    format!("{}{mtu}{}", &name[..2], ["a", "b"][end])
}

fn socket(interface: &str) -> PathBuf {
    format!("/var/run/wireguard/{interface}.sock").into()
}

fn configure(interface: &str, own: &StaticSecret, peer: &PublicKey, peer_end: usize) {
    let text = format!(
        "set=1\nprivate_key={}\nlisten_port={PORT}\npublic_key={}\nendpoint={}:{PORT}\nallowed_ip={}/32\n\n",
        hex(own.as_bytes()),
        hex(peer.as_bytes()),
        World::cable_end(peer_end as u8),
        INSIDE[peer_end],
    );
    let mut stream = UnixStream::connect(socket(interface)).expect("its socket");
    stream.write_all(text.as_bytes()).expect("it listens");
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).expect("an answer");
    assert!(answer[..length].starts_with(b"errno=0"), "{interface}: {}", String::from_utf8_lossy(&answer[..length]));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn version(path: &Path) -> String {
    let mut command = Command::new(path);
    command.arg("--version");
    let said = run(command).stdout;
    let first = said.lines().next().unwrap_or_default();
    first.split_whitespace().next_back().unwrap_or("unknown").to_owned()
}
