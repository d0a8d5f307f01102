//! For tests: data planes with one service each, and traffic of the kernel's own TCP.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
};

use mesh_engine::{Map, Port};
use mesh_proto::{
    Abilities, DeploymentId, Epoch, InstanceId, PrivateKey, Range, Record, Revision, RunnerId, ServiceId, View,
    relay::Relayed,
    view::{Deployment, Instance, InstanceState, Network, Runner, Service},
};
use tokio::sync::mpsc::UnboundedReceiver;

pub(crate) mod turn;

use super::{DataEvent, Dataplane, Report};
use crate::attach::{
    Addressing, Namespace,
    lab::{PATIENCE, addressing, within},
};

/// An instance of a mesh: the `n`-th instance of service `n`, at 100.112.1.n and 100.112.0.n.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) n: u8,
    pub(crate) runner: u64,
}

impl At {
    pub(crate) fn addressing(self) -> Addressing {
        Addressing { service: [100, 112, 0, self.n].into(), ..addressing(self.n) }
    }

    pub(crate) fn instance(self) -> InstanceId {
        InstanceId(self.n.into())
    }
}

/// A data plane with its events and a runtime.
pub(crate) struct Plane {
    pub(crate) dataplane: Dataplane,
    events: UnboundedReceiver<DataEvent>,
    runtime: tokio::runtime::Runtime,
    place: Vec<Relayed>,
}

/// The private key of a runner.
pub(crate) fn key(runner: u64) -> PrivateKey {
    PrivateKey::from_bytes([runner as u8; 32])
}

impl Plane {
    /// Starts a runner's data plane with its socket in the namespace `host`, or in the test's.
    pub(crate) fn start(runner: u64, host: Option<&Namespace>) -> Self {
        Self::with_lanes(runner, host, 1)
    }

    /// The same, with so many lanes.
    pub(crate) fn with_lanes(runner: u64, host: Option<&Namespace>, lanes: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let start = || Dataplane::start(key(runner), 0, lanes, Vec::new(), Box::new(vec![0; 1 << 16])).unwrap();
        let (dataplane, events) = host.map_or_else(start, |host| within(host, start));
        Self { dataplane, events, runtime, place: vec![] }
    }

    /// Replaces the map, and waits until it is in use.
    pub(crate) fn set_map(&mut self, view: &View) {
        self.dataplane.set_map(Map::compile(view));
        self.wait_for(|event| *event == DataEvent::Applied(view.revision));
    }

    pub(crate) fn attach(&self, tun: OwnedFd, at: At) -> Port {
        self.dataplane.attach(tun, at.instance())
    }

    pub(crate) fn wait_for(&mut self, mut wanted: impl FnMut(&DataEvent) -> bool) -> DataEvent {
        let events = &mut self.events;
        let next = async {
            loop {
                let event = events.recv().await.expect("the data plane has ended");
                if let DataEvent::Failed(why) = &event {
                    panic!("{why}");
                }
                if wanted(&event) {
                    return event;
                }
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, next).await }).expect("the event never came")
    }

    /// Waits for another address at a relay than the last one, and returns it.
    pub(crate) fn next_place(&mut self) -> Vec<Relayed> {
        let known = self.place.clone();
        let is_news = |event: &DataEvent| matches!(event, DataEvent::Relays(news) if !news.relayed.is_empty() && news.relayed != known);
        let DataEvent::Relays(news) = self.wait_for(is_news) else { unreachable!() };
        self.place.clone_from(&news.relayed);
        news.relayed
    }

    pub(crate) fn report(&self) -> Report {
        self.runtime.block_on(self.dataplane.report()).expect("the data plane has ended")
    }

    pub(crate) fn count(&self, counter: &str) -> u64 {
        let report = self.report();
        report.io.iter().find(|(name, _)| *name == counter).expect("there is no such counter").1
    }
}

/// The view of runner `me`: one deployment, with these instances, and the runners that listen at these addresses.
pub(crate) fn view(me: u64, instances: &[At], runners: &[(u64, SocketAddr)]) -> View {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(Epoch([7; 16]), Revision(1), RunnerId(me), network);
    let name = |text: &str| text.parse().unwrap();
    view.put(Record::Deployment(
        Deployment { id: DeploymentId(1), name: name("shop"), team: name("acme"), trust_source: None }.into(),
    ));
    for at in instances {
        let Addressing { instance, service, .. } = at.addressing();
        let id = ServiceId(at.n.into());
        let deployment = DeploymentId(1);
        let name = format!("service-{}", at.n).parse().unwrap();
        view.put(Record::Service(Service { id, deployment, name, address: service, automatic_names: true }.into()));
        view.put(Record::Instance(
            Instance {
                id: at.instance(),
                service: id,
                runner: RunnerId(at.runner),
                address: instance,
                state: InstanceState::Live,
                release: None,
            }
            .into(),
        ));
    }
    for &(runner, endpoint) in runners {
        view.put(Record::Runner(
            Runner {
                id: RunnerId(runner),
                name: name(&format!("runner-{runner}")),
                provider: name("lab"),
                public_key: key(runner).public(),
                endpoints: vec![endpoint],
                silent: false,
                can: Abilities::ALL,
                reflexive: vec![],
                relayed: vec![],
            }
            .into(),
        ));
    }
    view
}

/// The same for runners that have addresses at relays alone.
pub(crate) fn view_by_relay(me: u64, instances: &[At], runners: &[(u64, Vec<Relayed>)]) -> View {
    let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut view = view(me, instances, &runners.iter().map(|(runner, _)| (*runner, unknown)).collect::<Vec<_>>());
    for (runner, relayed) in runners {
        let mut record = Runner::clone(view.runner(RunnerId(*runner)).unwrap());
        (record.endpoints, record.relayed) = (vec![], relayed.clone());
        view.put(Record::Runner(record.into()));
    }
    view
}

/// The endpoint of a data plane on this machine.
pub(crate) fn endpoint(plane: &Plane) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, plane.dataplane.port()).into()
}

/// A TCP connection from one namespace to an address, and the listener's end of it in the other.
pub(crate) fn connect(from: &Namespace, to: &Namespace, address: Ipv4Addr) -> (TcpStream, TcpStream) {
    let listener = within(to, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    let target = (address, listener.local_addr().unwrap().port()).into();
    let caller = within(from, || TcpStream::connect_timeout(&target, PATIENCE)).unwrap();
    let (callee, _) = listener.accept().unwrap();
    for stream in [&caller, &callee] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (caller, callee)
}

/// Sends so many bytes each way at once, in writes of odd sizes, and checks that just these arrive.
pub(crate) fn exchange(a: &TcpStream, b: &TcpStream, bytes: usize) {
    thread::scope(|scope| {
        for (from, to, seed) in [(a, b, 1), (b, a, 2)] {
            scope.spawn(move || send(from, bytes, seed));
            scope.spawn(move || receive(to, bytes, seed));
        }
    });
}

/// Sends so many bytes one way.
pub(crate) fn send(mut stream: &TcpStream, bytes: usize, seed: u64) {
    let block = block(seed);
    let (mut sent, mut size) = (0, 1);
    while sent < bytes {
        let start = sent % block.len();
        // From one byte to more than a super-packet.
        size = size * 7 % 131_071;
        let end = (start + size).min(block.len()).min(start + bytes - sent);
        stream.write_all(&block[start..end]).unwrap();
        sent += end - start;
    }
}

/// Receives them.
pub(crate) fn receive(mut stream: &TcpStream, bytes: usize, seed: u64) {
    let block = block(seed);
    let mut buffer = vec![0; 1 << 17];
    let mut received = 0;
    while received < bytes {
        let start = received % block.len();
        let want = (bytes - received).min(buffer.len()).min(block.len() - start);
        let n = match stream.read(&mut buffer[..want]) {
            // With a timeout set, signal(7) promises no restart: other tests of this process handle signals.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert!(n > 0, "the connection ended after {received} of {bytes} bytes");
        assert!(buffer[..n] == block[start..start + n], "something else arrived, within {n} bytes after {received}");
        received += n;
    }
}

/// What is sent, over and over: random, and of a length that shares no factor with anything.
fn block(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..1_000_003).map(|_| next()).collect()
}
