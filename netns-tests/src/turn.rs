//! A relay: a TURN server in a namespace of its own, reached by UDP and TCP, and by TLS at port 443.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};

use crate::{
    Coordinator, Namespace,
    netns::Network,
    process::{Daemon, program},
    wait,
};

/// The program that a relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Debian's coturn, so closed that it is of use to those alone who have a credential, and to them only between
    /// themselves.
    Coturn,
    /// `mesh-coord relay` with a secret from a file, without a coordinator.
    Own,
    /// `mesh-coord relay` that a coordinator has made one of its own, by a token.
    Enrolled,
}

/// A relay, for IPv4 and IPv6.
pub struct Relay {
    turn: Turn,
    namespace: Namespace,
    network: Network,
    directory: PathBuf,
    fingerprint: String,
    /// The coordinator's, if it is enrolled.
    url: Option<String>,
    one_thread: bool,
    daemon: Option<Daemon>,
}

/// Where TURN is by UDP and TCP (RFC 8656), and by TLS.
const PLAIN: u16 = 3478;
const TLS: u16 = 443;

/// What credentials are made with (draft-uberti-behave-turn-rest).
const SECRET: &str = "a-secret-that-only-the-tests-know";

impl Relay {
    /// Starts one.
    ///
    /// # Panics
    /// If it isn't installed, or doesn't answer.
    pub(crate) fn new(namespace: Namespace, network: Network, turn: Turn) -> Self {
        let this = Self::prepared(namespace, network, turn, None);
        this.write("secret", SECRET);
        let mut this = match turn {
            Turn::Coturn => this.configured(),
            Turn::Own | Turn::Enrolled => this.with_key(),
        };
        this.start();
        this
    }

    /// Starts one that a coordinator gave a token.
    ///
    /// # Panics
    /// If it doesn't answer.
    pub(crate) fn enrolled(namespace: Namespace, network: Network, coordinator: &Coordinator, token: &str) -> Self {
        let this = Self::prepared(namespace, network, Turn::Enrolled, Some(coordinator.url(false)));
        this.write("token", token);
        let mut this = this.with_key();
        this.start();
        this
    }

    fn prepared(namespace: Namespace, network: Network, turn: Turn, url: Option<String>) -> Self {
        let directory = PathBuf::from("/run").join(namespace.name());
        fs::DirBuilder::new().mode(0o700).create(&directory).expect("a new directory");
        let fingerprint = certify(&directory);
        Self { turn, namespace, network, directory, fingerprint, url, one_thread: false, daemon: None }
    }

    fn configured(self) -> Self {
        self.write("turnserver.conf", &self.configuration());
        self
    }

    /// Its TLS key is where it keeps its own.
    fn with_key(self) -> Self {
        let data = self.directory.join("data");
        fs::DirBuilder::new().mode(0o700).create(&data).expect("a new directory");
        let key = fs::read_to_string(self.directory.join("key.pem")).expect("a key");
        write_secret(&data.join("tls-key.pem"), &key);
        self
    }

    fn write(&self, name: &str, text: &str) {
        write_secret(&self.directory.join(name), text);
    }

    /// A closed configuration for turnserver(1): it relays only to its own address, which only allocations have ports at.
    fn configuration(&self) -> String {
        let (v4, v6) = (self.network.v4(2), self.network.v6(2));
        let directory = self.directory.display();
        format!(
            "listening-ip={v4}\nlistening-ip={v6}\nrelay-ip={v4}\n\
             listening-port={PLAIN}\ntls-listening-port={TLS}\nmin-port=50000\nmax-port=50999\n\
             realm=mesh\nuse-auth-secret\nstatic-auth-secret={SECRET}\n\
             allowed-peer-ip={v4}\n\
             denied-peer-ip=0.0.0.0-255.255.255.255\n\
             denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\n\
             stale-nonce=600\nuser-quota=8\n\
             no-rfc5780\nno-stun-backward-compatibility\nresponse-origin-only-with-rfc5780\nno-software-attribute\n\
             no-cli\nno-dtls\n\
             cert={directory}/certificate.pem\npkey={directory}/key.pem\n\
             userdb={directory}/users\npidfile={directory}/pid\nlog-file=stdout\nsimple-log\n"
        )
    }

    /// Starts it again, and waits until it answers.
    ///
    /// # Panics
    /// If it runs, or doesn't answer.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "the relay runs already");
        let command = match self.turn {
            Turn::Coturn => self.coturn(),
            Turn::Own | Turn::Enrolled => self.own(),
        };
        let mut daemon = Daemon::start(command, &self.directory.join("log"));
        wait::until_true("the relay to answer", || {
            assert!(daemon.runs(), "the relay ended at once:\n{}", daemon.log());
            self.answers(self.network.v4(2).into()) && self.answers(self.network.v6(2).into())
        });
        self.daemon = Some(daemon);
    }

    fn coturn(&self) -> Command {
        let mut command = self.namespace.command("turnserver");
        command.arg("-c").arg(self.directory.join("turnserver.conf"));
        command
    }

    fn own(&self) -> Command {
        let mut command = self.namespace.command(&program("MESH_COORD"));
        let file = |name: &str| format!("@{}", self.directory.join(name).display());
        command.arg("relay");
        match &self.url {
            Some(url) => {
                command.arg(url).env("MESH_TOKEN", fs::read_to_string(self.directory.join("token")).expect("a token"))
            }
            None => command.args(["--secret", &file("secret")]),
        };
        command.args(["--listen", &format!("[::]:{PLAIN}"), "--tls", &format!("[::]:{TLS}")]);
        command.args(["--public", &self.network.v4(2).to_string(), "--public", &self.network.v6(2).to_string()]);
        command.arg("--data").arg(self.directory.join("data"));
        if self.one_thread {
            command.args(["--threads", "1"]);
        }
        command.env("NO_COLOR", "1");
        command
    }

    /// Its process.
    ///
    /// # Panics
    /// If it doesn't run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the relay runs").pid()
    }

    /// Whether it says something to a request of STUN by UDP, and takes connections.
    fn answers(&self, address: IpAddr) -> bool {
        let asks = || {
            let own: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let socket = UdpSocket::bind((own, 0)).expect("a port");
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            // Until it listens, its machine refuses (ICMP).
            let asked = socket.connect((address, PLAIN)).and_then(|()| socket.send(&binding()));
            asked.and_then(|_| socket.recv(&mut [0; 200])).is_ok()
        };
        let takes = |port| TcpStream::connect((address, port)).is_ok();
        self.namespace.enter(|| asks() && takes(PLAIN) && takes(TLS))
    }

    /// Ends it (SIGTERM).
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn stop(&mut self) {
        self.daemon.take().expect("the relay runs").terminate();
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn kill(&mut self) {
        self.daemon.take().expect("the relay runs").kill();
    }

    /// Stops it (SIGSTOP) while `act` runs: what comes meanwhile waits in its sockets.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn frozen<R>(&self, act: impl FnOnce() -> R) -> R {
        self.daemon.as_ref().expect("the relay runs").frozen(act)
    }

    /// Starts it again with one thread, so that all of its clients are at the same socket.
    ///
    /// # Panics
    /// If it doesn't run, or isn't `mesh-coord relay`.
    pub fn use_one_thread(&mut self) {
        assert_ne!(self.turn, Turn::Coturn);
        self.stop();
        self.one_thread = true;
        self.start();
    }

    /// Tells a coordinator of it.
    #[track_caller]
    pub fn register(&self, coordinator: &Coordinator) {
        let mut arguments = vec!["relay".to_owned(), "add".to_owned(), self.namespace.name().to_owned()];
        for v6 in [false, true] {
            let (plain, tls) = (self.plain(v6).to_string(), self.tls(v6).to_string());
            let flags = [("--turn", &plain), ("--tcp", &plain), ("--turns", &tls)];
            arguments.extend(flags.iter().flat_map(|(flag, place)| [(*flag).to_owned(), (*place).clone()]));
        }
        let secret = format!("@{}", self.secret_file().display());
        // A fingerprint may begin with a hyphen.
        let fingerprint = format!("--fingerprint={}", self.fingerprint);
        arguments.extend(["--secret".to_owned(), secret, fingerprint]);
        coordinator.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).done();
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its network: it is at the address that ends in 2.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// Where it is by UDP and TCP.
    #[must_use]
    pub fn plain(&self, v6: bool) -> SocketAddr {
        self.at(v6, PLAIN)
    }

    /// Where it is by TLS.
    #[must_use]
    pub fn tls(&self, v6: bool) -> SocketAddr {
        self.at(v6, TLS)
    }

    fn at(&self, v6: bool, port: u16) -> SocketAddr {
        if v6 { (self.network.v6(2), port).into() } else { (self.network.v4(2), port).into() }
    }

    /// The fingerprint of its key for TLS, as tokens have that of the coordinator's.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What credentials are made with.
    #[must_use]
    pub fn secret(&self) -> &str {
        SECRET
    }

    /// The file of it.
    #[must_use]
    pub fn secret_file(&self) -> PathBuf {
        self.directory.join("secret")
    }

    /// All that it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }
}

/// A Binding request (RFC 8489, section 6.3.1). SOFTWARE makes it longer than its answer, which relays that amplify nothing
/// ask for.
fn binding() -> [u8; 84] {
    let mut message = [b' '; 84];
    message[..8].copy_from_slice(&[0, 1, 0, 64, 0x21, 0x12, 0xa4, 0x42]);
    message[8..20].copy_from_slice(b"a test waits");
    message[20..24].copy_from_slice(&[0x80, 0x22, 0, 60]);
    message
}

/// Makes a key and a certificate in a directory, and returns the key's fingerprint: SHA-256 of its SubjectPublicKeyInfo.
fn certify(directory: &Path) -> String {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["relay".to_owned()]).and_then(|params| params.self_signed(&key));
    write_secret(&directory.join("key.pem"), &key.serialize_pem());
    write_secret(&directory.join("certificate.pem"), &certificate.expect("a certificate").pem());
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(key.subject_public_key_info()))
}

fn write_secret(path: &Path, text: &str) {
    let file = fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}
