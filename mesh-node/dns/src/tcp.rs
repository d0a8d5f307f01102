//! Questions by TCP (RFC 7766): the connections of one instance.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{self, Checksum, Device, DeviceCapabilities, Medium},
    socket::tcp::{self, Socket, SocketBuffer, State},
    time,
    wire::{HardwareAddress, IpCidr, IpEndpoint, IpListenEndpoint},
};

use crate::PORT;

/// The most connections of an instance. One more is refused.
const MOST: usize = 8;
/// For how long a connection may be quiet, and for how long its end may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest question, in bytes; and what is buffered of answers, which are longer.
const LONGEST: usize = 2048;
const ANSWERS: usize = 4096;

/// Answers a question. `None`: the connection ends.
pub(crate) type Ask<'a> = dyn FnMut(&[u8]) -> Option<Vec<u8>> + 'a;

/// The connections of one instance.
pub(crate) struct Server {
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    wire: Wire,
    address: Ipv4Addr,
    /// The zero of smoltcp's time.
    origin: Instant,
}

struct Connection {
    handle: SocketHandle,
    /// What has come and is no whole question yet, its length first.
    question: Vec<u8>,
    /// An answer, and how much of it is sent.
    answer: Vec<u8>,
    sent: usize,
    /// When it has been quiet for too long.
    until: Instant,
}

impl Server {
    /// `seed` is random: sequence numbers are drawn from it.
    pub(crate) fn new(address: Ipv4Addr, mtu: u16, seed: u64, now: Instant) -> Self {
        let mut wire = Wire { mtu, received: None, sent: vec![] };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, time::Instant::ZERO);
        // Neither can be full.
        interface.update_ip_addrs(|all| {
            let _ = all.push(IpCidr::new(address.into(), 32));
        });
        let _ = interface.routes_mut().add_default_ipv4_route(address);
        let (sockets, connections) = (SocketSet::new(vec![]), vec![]);
        Self { interface, sockets, connections, wire, address, origin: now }
    }

    /// Handles a segment. `from`: who opens a connection by it.
    pub(crate) fn handle(
        &mut self,
        segment: &[u8],
        from: Option<(Ipv4Addr, u16)>,
        now: Instant,
        ask: &mut Ask<'_>,
        send: &mut dyn FnMut(&[u8]),
    ) {
        if let Some(from) = from {
            self.listen(from.into(), now);
        }
        self.wire.received = Some(segment.to_vec());
        self.run(now, ask, send);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, ask: &mut Ask<'_>, send: &mut dyn FnMut(&[u8])) {
        for connection in self.connections.iter_mut().filter(|connection| connection.until <= now) {
            let socket: &mut Socket<'_> = self.sockets.get_mut(connection.handle);
            match socket.state() {
                State::Established | State::CloseWait => socket.close(),
                _ => socket.abort(),
            }
            connection.until = now + PATIENCE;
        }
        self.run(now, ask, send);
    }

    /// When [`Self::handle_timeout`] has to be called; `None`: there is no connection.
    pub(crate) fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        let quiet = self.connections.iter().map(|connection| connection.until).min()?;
        let delay = self.interface.poll_delay(self.time(now), &self.sockets);
        let poll = delay.map(|delay| now + Duration::from_micros(delay.total_micros()));
        Some(poll.map_or(quiet, |poll| poll.min(quiet)))
    }

    fn time(&self, now: Instant) -> time::Instant {
        let passed = now.saturating_duration_since(self.origin).as_micros();
        time::Instant::from_micros(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    /// Makes room for a connection from `from`, if there is any.
    fn listen(&mut self, from: IpEndpoint, now: Instant) {
        let knows = |connection: &Connection| {
            let socket: &Socket<'_> = self.sockets.get(connection.handle);
            socket.remote_endpoint() == Some(from)
        };
        if self.connections.len() >= MOST || self.connections.iter().any(knows) {
            return;
        }
        let buffer = |size| SocketBuffer::new(vec![0; size]);
        let mut socket = Socket::new(buffer(LONGEST + 2), buffer(ANSWERS));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let at = IpListenEndpoint { addr: Some(self.address.into()), port: PORT };
        if socket.listen(at).is_ok() {
            let (handle, until) = (self.sockets.add(socket), now + PATIENCE);
            self.connections.push(Connection { handle, question: vec![], answer: vec![], sent: 0, until });
        }
    }

    fn run(&mut self, now: Instant, ask: &mut Ask<'_>, send: &mut dyn FnMut(&[u8])) {
        let time = self.time(now);
        self.interface.poll(time, &mut self.wire, &mut self.sockets);
        let sockets = &mut self.sockets;
        for connection in &mut self.connections {
            if connection.serve(sockets.get_mut(connection.handle), ask) {
                connection.until = now + PATIENCE;
            }
        }
        self.interface.poll(time, &mut self.wire, sockets);
        self.connections.retain(|connection| {
            let socket: &Socket<'_> = sockets.get(connection.handle);
            // A segment that comes later than the end is refused.
            let over = matches!(socket.state(), State::Closed | State::Listen | State::TimeWait);
            if over {
                sockets.remove(connection.handle);
            }
            !over
        });
        self.wire.sent.drain(..).for_each(|packet| send(&packet));
    }
}

impl Connection {
    /// Takes questions in and puts answers out, one after the other. Returns whether anything was done.
    fn serve(&mut self, socket: &mut Socket<'_>, ask: &mut Ask<'_>) -> bool {
        let mut moved = false;
        loop {
            if self.sent < self.answer.len() {
                let Ok(sent @ 1..) = socket.send_slice(self.answer.get(self.sent..).unwrap_or_default()) else {
                    return moved;
                };
                self.sent += sent;
                moved = true;
                continue;
            }
            (self.answer, self.sent) = (vec![], 0);
            let wanted = match self.question.first_chunk::<2>() {
                Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
                None => 2,
            };
            if wanted > 2 + LONGEST {
                socket.abort();
                return moved;
            }
            if self.question.len() == wanted && wanted > 2 {
                let answer = ask(self.question.get(2..).unwrap_or_default());
                self.question.clear();
                let Some((answer, length)) = answer.and_then(|a| u16::try_from(a.len()).ok().map(|l| (a, l))) else {
                    socket.abort();
                    return moved;
                };
                self.answer.extend(length.to_be_bytes());
                self.answer.extend(answer);
                continue;
            }
            let missing = wanted.saturating_sub(self.question.len());
            let taken = socket.recv(|bytes| {
                let taken = bytes.get(..bytes.len().min(missing)).unwrap_or_default();
                self.question.extend(taken);
                (taken.len(), taken.len())
            });
            match taken {
                Ok(1..) => moved = true,
                // No more will come.
                Err(tcp::RecvError::Finished) => {
                    socket.close();
                    return moved;
                }
                // A question of length zero is none.
                Ok(_) if wanted == 2 && self.question.len() == 2 => {
                    socket.abort();
                    return moved;
                }
                _ => return moved,
            }
        }
    }
}

/// One packet in, any number out.
struct Wire {
    mtu: u16,
    received: Option<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);

struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: time::Instant) -> Option<(Received, Sending<'_>)> {
        Some((Received(self.received.take()?), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: time::Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu.into();
        // The kernel on the other side of the TUN leaves them to be completed.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}
