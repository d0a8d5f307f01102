//! For tests: a relay on this machine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use mesh_engine::UDP_BUFFER;
use mesh_proto::RelayId;
use mesh_relay_client::{Config, Login};
use mesh_udp::{Inbox, Udp};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use turn_server_proto::{
    api::{Transmit, TurnServerApi as _, TurnServerPollRet},
    server::TurnServer,
};
use turn_types::{Instant as Time, TransportType};
use zeroize::Zeroizing;

/// A TURN server. Dropping it ends its thread.
pub(crate) struct Turn {
    at: SocketAddr,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn password(runner: u64) -> String {
    format!("password of {runner}")
}

impl Turn {
    /// Starts one, at a port of 127.0.0.1.
    pub(crate) fn start(port: u16) -> Self {
        let (udp, end) = (Udp::bind(port).unwrap(), Arc::new(AtomicBool::new(false)));
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, udp.port().unwrap()));
        let mut server = TurnServer::new(TransportType::Udp, at, "mesh".to_owned());
        (1..=2).for_each(|runner: u64| server.add_user(runner.to_string(), password(runner)));
        let mut server = Server { server, sockets: vec![(at, udp)], began: Instant::now() };
        let ended = Arc::clone(&end);
        let thread = Some(thread::spawn(move || server.run(&ended)));
        Self { at, end, thread }
    }

    pub(crate) fn port(&self) -> u16 {
        self.at.port()
    }

    /// The relay, for one of the runners 1 and 2.
    pub(crate) fn config(&self, runner: u64) -> Config {
        let login = Login::new(runner.to_string(), Zeroizing::new(password(runner)));
        Config { id: RelayId(1), addresses: vec![self.at], streams: false, login, earlier: None }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[0], self.at));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    server: TurnServer,
    /// Its own socket, and that of each allocation.
    sockets: Vec<(SocketAddr, Udp)>,
    began: Instant,
}

impl Server {
    fn run(&mut self, end: &AtomicBool) {
        let mut inbox = Inbox::new(UDP_BUFFER);
        while !end.load(Ordering::Relaxed) {
            let mut waiting: Vec<_> =
                self.sockets.iter().map(|(_, udp)| PollFd::new(udp.as_fd(), PollFlags::POLLIN)).collect();
            poll(&mut waiting, PollTimeout::NONE).unwrap();
            for socket in 0..self.sockets.len() {
                let (at, udp) = &self.sockets[socket];
                let at = *at;
                udp.receive(&mut inbox).unwrap();
                for message in inbox.messages() {
                    for datagram in message.datagrams.chunks(message.stride.max(1)) {
                        self.take(message.from, at, datagram);
                    }
                }
            }
        }
    }

    fn take(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let now = Time::from_nanos(self.began.elapsed().as_nanos() as i64 + 1_000_000_000);
        let answer = self.server.recv(Transmit::new(datagram, TransportType::Udp, from, to), now);
        if let Some(answer) = answer.map(|answer| answer.build()) {
            self.send(answer.from, answer.to, &answer.data);
        }
        while let TurnServerPollRet::AllocateSocket {
            transport,
            listen_addr,
            client_addr,
            allocation_transport,
            family,
        } = self.server.poll(now)
        {
            let udp = Udp::bind(0).unwrap();
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, udp.port().unwrap()));
            self.sockets.push((at, udp));
            self.server.allocated_socket(
                transport,
                listen_addr,
                client_addr,
                allocation_transport,
                family,
                Ok(at),
                now,
            );
        }
        while let Some(transmit) = self.server.poll_transmit(now) {
            self.send(transmit.from, transmit.to, &transmit.data);
        }
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let (_, udp) = self.sockets.iter().find(|(at, _)| *at == from).unwrap_or(&self.sockets[0]);
        // A full buffer loses datagrams, as any relay does.
        let _ = udp.send(None, to, bytes, None);
    }
}
