//! A client of a relay that is no runner, honest or not: it speaks TURN (RFC 8656) itself, with whatever credential it has.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use hmac::{Hmac, Mac as _};
use md5::Md5;
use rustls::{ClientConnection, StreamOwned, server::ParsedCertificate};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::{Namespace, tls::tls};

/// What opens a relay, until a time of the Unix epoch (draft-uberti-behave-turn-rest).
#[derive(Debug, Clone)]
pub struct Pass {
    username: String,
    password: String,
}

impl Pass {
    /// One that is good until then, made with the relay's secret.
    #[must_use]
    pub fn new(secret: &str, name: &str, until: u64) -> Self {
        let username = format!("{until}:{name}");
        let password = BASE64_STANDARD.encode(hmac(secret.as_bytes(), username.as_bytes()));
        Self { username, password }
    }

    /// Its name, with the time.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Its password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }
}

/// How a guest talks to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// By UDP.
    Udp,
    /// By TCP.
    Tcp,
    /// By TLS over TCP.
    Tls,
}

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A client of a relay.
pub struct Guest {
    wire: Wire,
    pass: Pass,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    number: u8,
}

/// What a relay takes exception to: the code of its refusal (RFC 8656, section 19).
pub type Refusal = u16;

/// Methods (RFC 8656, section 17), each with the class of a request or of an indication.
const ALLOCATE: u16 = 0x003;
const REFRESH: u16 = 0x004;
const SEND: u16 = 0x016;
const DATA_INDICATION: u16 = 0x017;
const CREATE_PERMISSION: u16 = 0x008;
const CHANNEL_BIND: u16 = 0x009;
const SUCCESS: u16 = 0x100;

/// Attributes (section 18).
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const CHANNEL_NUMBER: u16 = 0x000c;
const LIFETIME: u16 = 0x000d;
const PEER: u16 = 0x0012;
const DATA: u16 = 0x0013;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const RELAYED: u16 = 0x0016;
const TRANSPORT: u16 = 0x0019;
const SOFTWARE: u16 = 0x8022;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A relay that doesn't answer for so long is silent.
const SILENCE: Duration = Duration::from_secs(5);

impl Guest {
    /// Goes to a relay from a machine.
    ///
    /// # Panics
    /// If there is no connection, or the key at the other end isn't the one that is expected.
    #[must_use]
    pub fn new(from: &Namespace, to: SocketAddr, carrier: Carrier, fingerprint: &str, pass: &Pass) -> Self {
        let tcp = || {
            let tcp = from.enter(|| TcpStream::connect(to)).expect("a connection to the relay");
            tcp.set_read_timeout(Some(SILENCE)).expect("a timeout");
            tcp
        };
        let wire = match carrier {
            Carrier::Udp => {
                let own: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
                return Self::by_udp(from, (own, 0).into(), to, pass);
            }
            Carrier::Tcp => Wire::Tcp(tcp()),
            Carrier::Tls => {
                let mut tls = tls(tcp(), to.ip(), Some(b"stun.turn"));
                tls.flush().expect("TLS with the relay");
                let chain = tls.conn.peer_certificates().expect("a certificate");
                let key = ParsedCertificate::try_from(&chain[0]).expect("a certificate").subject_public_key_info();
                assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&key)), fingerprint);
                Wire::Tls(Box::new(tls))
            }
        };
        Self::by(wire, pass)
    }

    /// Goes to a relay by UDP, from one of a machine's addresses.
    ///
    /// # Panics
    /// If there is no way.
    #[must_use]
    pub fn by_udp(from: &Namespace, own: SocketAddr, to: SocketAddr, pass: &Pass) -> Self {
        let socket = from.enter(|| UdpSocket::bind(own)).expect("a port");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
        Self::by(Wire::Udp(socket), pass)
    }

    fn by(wire: Wire, pass: &Pass) -> Self {
        Self { wire, pass: pass.clone(), realm: vec![], nonce: vec![], number: 0 }
    }

    /// Gets an address at the relay.
    ///
    /// # Errors
    /// The relay's refusal.
    pub fn allocate(&mut self) -> Result<SocketAddr, Refusal> {
        // Who hasn't proven its address gets no longer answers than its question: SOFTWARE makes that long enough.
        let attributes = [(TRANSPORT, vec![17, 0, 0, 0]), (SOFTWARE, vec![b' '; 60])];
        let answer = self.ask(ALLOCATE, &attributes)?;
        Ok(unmask(answer.get(RELAYED).expect("an address")))
    }

    /// Lets a peer's datagrams in, and its own out to it.
    ///
    /// # Errors
    /// The relay's refusal.
    pub fn permit(&mut self, peer: SocketAddr) -> Result<(), Refusal> {
        self.ask(CREATE_PERMISSION, &[(PEER, mask(peer))]).map(|_| ())
    }

    /// Keeps the address.
    ///
    /// # Errors
    /// The relay's refusal.
    pub fn refresh(&mut self) -> Result<(), Refusal> {
        self.keep(600)
    }

    /// Gives the address back.
    ///
    /// # Errors
    /// The relay's refusal.
    pub fn leave(&mut self) -> Result<(), Refusal> {
        self.keep(0)
    }

    fn keep(&mut self, seconds: u32) -> Result<(), Refusal> {
        self.ask(REFRESH, &[(LIFETIME, seconds.to_be_bytes().into())]).map(|_| ())
    }

    /// Binds a channel to a peer, for whole datagrams with four bytes before each.
    ///
    /// # Errors
    /// The relay's refusal.
    pub fn bind(&mut self, number: u16, peer: SocketAddr) -> Result<(), Refusal> {
        let number = [&number.to_be_bytes()[..], &[0; 2]].concat();
        self.ask(CHANNEL_BIND, &[(CHANNEL_NUMBER, number), (PEER, mask(peer))]).map(|_| ())
    }

    /// Its socket, connected to the relay.
    ///
    /// # Panics
    /// If it doesn't go by UDP.
    #[must_use]
    pub fn socket(&self) -> &UdpSocket {
        let Wire::Udp(socket) = &self.wire else { panic!("not by UDP") };
        socket
    }

    /// Sends a datagram by the relay.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn send(&mut self, to: SocketAddr, text: &[u8]) {
        let message = self.message(SEND, &[(PEER, mask(to)), (DATA, text.into())], false);
        self.write(&message).expect("the way to the relay");
    }

    /// Waits for a datagram from the relay; `None` if there is none for so long.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn receive(&mut self, limit: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        self.set_limit(limit);
        let message = loop {
            match self.read() {
                Ok(message) if message.kind == DATA_INDICATION => break Some(message),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    break None;
                }
                Err(error) => panic!("the way to the relay: {error}"),
            }
        };
        self.set_limit(SILENCE);
        message.map(|message| (unmask(message.get(PEER).expect("a peer")), message.get(DATA).expect("data").into()))
    }

    fn set_limit(&self, limit: Duration) {
        match &self.wire {
            Wire::Udp(socket) => socket.set_read_timeout(Some(limit)),
            Wire::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Wire::Tls(stream) => stream.sock.set_read_timeout(Some(limit)),
        }
        .expect("a timeout");
    }

    /// Asks, again with a credential where the relay wants one (RFC 8489, section 9.2.4).
    fn ask(&mut self, method: u16, attributes: &[(u16, Vec<u8>)]) -> Result<Message, Refusal> {
        for _ in 0..3 {
            let answer = self.once(method, attributes);
            if answer.kind == method | SUCCESS {
                return Ok(answer);
            }
            let code = answer.get(ERROR_CODE).expect("a code of error");
            let code = u16::from(code[2]) * 100 + u16::from(code[3]);
            let nonce = answer.get(NONCE).unwrap_or_default().to_vec();
            if !matches!(code, 401 | 438) || nonce.is_empty() || (code == 401 && !self.nonce.is_empty()) {
                return Err(code);
            }
            self.nonce = nonce;
            self.realm = answer.get(REALM).unwrap_or(&self.realm).to_vec();
        }
        panic!("the relay takes no nonce of its own")
    }

    fn once(&mut self, method: u16, attributes: &[(u16, Vec<u8>)]) -> Message {
        let request = self.message(method, attributes, !self.nonce.is_empty());
        self.write(&request).expect("the way to the relay");
        loop {
            let answer = self.read().unwrap_or_else(|e| panic!("no answer to request {method:#05x}: {e}"));
            if answer.bytes[8..20] == request[8..20] {
                return answer;
            }
        }
    }

    fn message(&mut self, kind: u16, attributes: &[(u16, Vec<u8>)], with_pass: bool) -> Vec<u8> {
        self.number += 1;
        let mut message = [&kind.to_be_bytes()[..], &[0; 2], &COOKIE, b"a guest's ", &[0, self.number]].concat();
        for (kind, value) in attributes {
            append(&mut message, *kind, value);
        }
        if with_pass {
            append(&mut message, USERNAME, self.pass.username.as_bytes());
            append(&mut message, REALM, &self.realm);
            append(&mut message, NONCE, &self.nonce);
        }
        let length = message.len() - 20 + if with_pass { 24 } else { 0 };
        message[2..4].copy_from_slice(&u16::try_from(length).expect("a short message").to_be_bytes());
        if with_pass {
            let realm = String::from_utf8_lossy(&self.realm);
            let key = Md5::digest(format!("{}:{realm}:{}", self.pass.username, self.pass.password));
            let integrity = hmac(&key, &message);
            append(&mut message, MESSAGE_INTEGRITY, &integrity);
        }
        message
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// That of the way to the relay.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Udp(socket) => socket.send(bytes).map(|_| ()),
            Wire::Tcp(stream) => stream.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Takes what has come as it is, and how long that is. It waits no longer than a limit.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` if nothing has come, or that of the way to the relay.
    pub fn take(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<usize> {
        self.set_limit(limit);
        match &mut self.wire {
            Wire::Udp(socket) => socket.recv(buffer),
            Wire::Tcp(stream) => stream.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }

    fn read(&mut self) -> io::Result<Message> {
        let stream: &mut dyn Read = match &mut self.wire {
            Wire::Udp(socket) => {
                let mut bytes = vec![0; 2000];
                let length = socket.recv(&mut bytes)?;
                bytes.truncate(length);
                return Ok(Message::new(bytes));
            }
            Wire::Tcp(stream) => stream,
            Wire::Tls(stream) => stream,
        };
        let mut header = [0; 20];
        stream.read_exact(&mut header)?;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]]))];
        stream.read_exact(&mut rest)?;
        Ok(Message::new([&header[..], &rest].concat()))
    }
}

/// A message of a relay.
struct Message {
    kind: u16,
    bytes: Vec<u8>,
}

impl Message {
    fn new(bytes: Vec<u8>) -> Self {
        assert!(bytes.len() >= 20 && bytes[4..8] == COOKIE, "a message of STUN: {bytes:02x?}");
        Self { kind: u16::from_be_bytes([bytes[0], bytes[1]]), bytes }
    }

    fn get(&self, wanted: u16) -> Option<&[u8]> {
        let mut rest = &self.bytes[20..];
        while let [a, b, c, d, ..] = *rest {
            let length = usize::from(u16::from_be_bytes([c, d]));
            let value = &rest[4..4 + length];
            if u16::from_be_bytes([a, b]) == wanted {
                return Some(value);
            }
            rest = &rest[(4 + length.next_multiple_of(4)).min(rest.len())..];
        }
        None
    }
}

fn append(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend(u16::try_from(value.len()).expect("a short attribute").to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// XOR-PEER-ADDRESS and XOR-RELAYED-ADDRESS of IPv4 (RFC 8489, section 14.2).
fn mask(address: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address}: relayed addresses are of IPv4") };
    let port = (address.port() ^ 0x2112).to_be_bytes();
    let ip = (u32::from(ip) ^ u32::from_be_bytes(COOKIE)).to_be_bytes();
    [&[0, 1], &port[..], &ip].concat()
}

fn unmask(value: &[u8]) -> SocketAddr {
    let [_, 1, a, b, ref ip @ ..] = *value else { panic!("relayed addresses are of IPv4: {value:02x?}") };
    let ip = u32::from_be_bytes(ip.try_into().expect("an address of IPv4")) ^ u32::from_be_bytes(COOKIE);
    (std::net::Ipv4Addr::from(ip), u16::from_be_bytes([a, b]) ^ 0x2112).into()
}
