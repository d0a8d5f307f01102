//! An instance whose program writes to `mesh0` past its kernel's TCP: CAP_NET_RAW and CAP_NET_ADMIN in its own
//! namespace are enough.

use std::{fs, net::Ipv4Addr, ops::RangeInclusive};

use crate::{
    Instance, Runner,
    packet::{Ipv4, Segment, flag, protocol, udp},
    sys::PacketSocket,
    wait,
};

/// The socket of such an instance.
pub struct Rogue {
    address: Ipv4Addr,
    interface: u32,
    plain: PacketSocket,
    offloading: PacketSocket,
}

/// All ports, including those from which no kernel opens a connection.
const ALL: RangeInclusive<u16> = 0..=u16::MAX;

/// virtio_net_hdr (linux/virtio_net.h): the checksum is partial, and the packet is TCP over IPv4 to be cut.
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;

impl Rogue {
    /// In an instance. The queue of its `mesh0` becomes so long that no packet is lost before its runner reads it.
    ///
    /// # Panics
    /// If it has no `mesh0`, or no right to do so.
    #[must_use]
    pub fn new(instance: &Instance) -> Self {
        Self::lengthen(instance);
        let interface = instance.namespace.interface("mesh0").expect("an instance has mesh0");
        let open = || PacketSocket::open_mute().expect("cannot open a packet socket");
        let [plain, offloading] = instance.namespace.enter(|| [open(), open()]);
        offloading.expect_vnet().expect("PACKET_VNET_HDR");
        Self { address: instance.address, interface, plain, offloading }
    }

    /// Makes the queue of an instance's `mesh0` so long that no packet is lost before its runner reads it.
    pub fn lengthen(instance: &Instance) {
        instance.namespace.ip(&["link set mesh0 txqueuelen 200000"]);
    }

    /// Makes the kernel of an instance accept every SYN for a port that it listens on without remembering any (tcp(7),
    /// `tcp_syncookies`).
    ///
    /// # Panics
    /// If the setting can't be changed.
    pub fn accept_without_memory(instance: &Instance) {
        let setting = "/proc/sys/net/ipv4/tcp_syncookies";
        instance.namespace.enter(|| fs::write(setting, "2")).unwrap_or_else(|e| panic!("{setting}: {e}"));
        Self::lengthen(instance);
    }

    /// Keeps the kernel of an instance from sending anything by itself: unexpected segments get no RST.
    pub fn silence(instance: &Instance) {
        instance.namespace.ip(&["rule add pref 1 blackhole"]);
    }

    /// Sends a segment without data from each port of one of its addresses.
    ///
    /// # Panics
    /// If the interface doesn't take it.
    pub fn sweep(&self, from: Ipv4Addr, to: (Ipv4Addr, u16), flags: u8) {
        self.sweep_ports(from, ALL, to, flags);
    }

    fn sweep_ports(&self, from: Ipv4Addr, ports: RangeInclusive<u16>, to: (Ipv4Addr, u16), flags: u8) {
        for port in ports {
            let (source, ack) = ((from, port), u32::from(flags & flag::ACK != 0));
            let segment = Segment { source, destination: to, seq: 1, ack, flags, payload: &[] };
            self.send(&segment.packet());
        }
    }

    /// Sends SYNs from more and more ports, until its runner refuses some: then it has its full share. The callee may
    /// answer or not. Its own kernel must be silent ([`Rogue::silence`]), or it would end the connections.
    ///
    /// # Panics
    /// If its runner never refuses any.
    pub fn take_all(&self, runner: &Runner, to: (Ipv4Addr, u16)) {
        const STEP: usize = 4096;
        let refused = || runner.drops("too-many-connections");
        let before = refused();
        for first in ALL.step_by(STEP) {
            let last = first.saturating_add(STEP as u16 - 1);
            self.sweep_ports(self.address, first..=last, to, flag::SYN);
            self.wait_read(runner);
            if refused() > before {
                return;
            }
        }
        // It has used every port.
    }

    /// Waits until its runner has read everything that it has sent.
    #[track_caller]
    pub fn wait_read(&self, runner: &Runner) {
        const REASON: &str = "not-tcp";
        let before = runner.drops(REASON);
        let (source, destination) = ((self.address, 9), (self.address, 9));
        let last = udp(source, destination, b"the last");
        self.send(&Ipv4::new(self.address, self.address, protocol::UDP, last));
        wait::true_within(4 * wait::PATIENCE, "the runner to have read what was sent", || {
            runner.drops(REASON) > before
        });
    }

    /// Sends super-packets with `bytes` bytes of data, to be cut into segments of `size`.
    ///
    /// # Panics
    /// If the interface doesn't take them.
    pub fn crumble(&self, to: (Ipv4Addr, u16), bytes: usize, size: u16, count: usize) {
        let payload = vec![b'x'; bytes];
        let source = (self.address, 1);
        let segment = Segment { source, destination: to, seq: 1, ack: 1, flags: flag::ACK, payload: &payload };
        let mut whole = vec![NEEDS_CSUM, GSO_TCPV4];
        // Headers, size, and the start and the offset of the checksum.
        whole.extend([40, size, 20, 16].into_iter().flat_map(u16::to_ne_bytes));
        whole.extend(segment.packet().encode());
        for _ in 0..count {
            self.offloading.send(self.interface, [0; 6], &whole).expect("the interface did not take a super-packet");
        }
    }

    fn send(&self, packet: &Ipv4) {
        let sent = self.plain.send(self.interface, [0; 6], &packet.encode());
        sent.expect("the interface did not take a packet");
    }
}
