//! The system calls that std and nix don't offer in safe form: entering a namespace between fork and exec, packet
//! sockets (packet(7)), and TUNs.

#![allow(unsafe_code, reason = "system calls; nothing else stands here")]

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use nix::{
    fcntl::OFlag,
    sched::{CloneFlags, setns},
    sys::{prctl, signal::Signal, stat::Mode},
};

/// Makes `command` start in the network namespace that `namespace` is open on.
pub(crate) fn in_namespace(command: &mut Command, namespace: OwnedFd) {
    // SAFETY: setns is async-signal-safe and touches no memory of the parent's.
    unsafe {
        command.pre_exec(move || Ok(setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?));
    }
}

/// Makes `command` be killed when the thread that started it ends, however that comes about.
pub(crate) fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches no memory of the parent's.
    unsafe {
        command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
}

/// One packet as a packet socket saw it, from the network header on.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Whether this machine sent it (and did not receive it).
    pub outgoing: bool,
    /// The interface's index.
    pub interface: u32,
    /// The protocol by its EtherType: 0x0800 is IPv4, 0x86dd IPv6.
    pub ethertype: u16,
    /// From the network header on.
    pub bytes: Vec<u8>,
}

/// linux/if_packet.h.
const PACKET_VNET_HDR: libc::c_int = 15;

/// A packet socket of the calling thread's namespace, on one interface or on all.
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    pub(crate) fn open(interface: Option<u32>) -> io::Result<Self> {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: no pointers are passed.
        let fd =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open and has no other owner.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // For root; others get at most rmem_max.
        let size: libc::c_int = 64 << 20;
        for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
            // SAFETY: the pointer and the length are those of `size`, which lives through the call.
            unsafe {
                libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const size).cast(), size_of_val(&size) as u32)
            };
        }
        let address = link_address(all, interface.unwrap_or(0));
        // SAFETY: the pointer and the length are those of `address`, which lives through the call.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    /// One that only sends, over interfaces without a link layer.
    pub(crate) fn open_mute() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next packet, if there is one. `buffer` is scratch space, of the size of the largest packet.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Frame>> {
        let mut from = link_address(0, 0);
        let mut length = size_of_val(&from) as u32;
        // SAFETY: the buffer and the address are ours, with their true lengths, and live through the call.
        let got = unsafe {
            let into = buffer.as_mut_ptr().cast();
            libc::recvfrom(self.0.as_raw_fd(), into, buffer.len(), 0, (&raw mut from).cast(), &raw mut length)
        };
        if got < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        Ok(Some(Frame {
            outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
            interface: from.sll_ifindex as u32,
            ethertype: u16::from_be(from.sll_protocol),
            bytes: buffer[..got as usize].to_vec(),
        }))
    }

    /// Sends an IPv4 packet over an interface, past the routes; to this Ethernet address, if the interface has a link
    /// layer.
    pub(crate) fn send(&self, interface: u32, station: [u8; 6], packet: &[u8]) -> io::Result<()> {
        let mut address = link_address((libc::ETH_P_IP as u16).to_be(), interface);
        address.sll_addr[..6].copy_from_slice(&station);
        address.sll_halen = 6;
        // SAFETY: the packet and the address live through the call, with their true lengths.
        let sent = unsafe {
            let to = (&raw const address).cast();
            libc::sendto(self.0.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, to, size_of_val(&address) as u32)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// From now on every packet that is sent has a `virtio_net_hdr` before it (packet(7), `PACKET_VNET_HDR`).
    pub(crate) fn expect_vnet(&self) -> io::Result<()> {
        let on: libc::c_int = 1;
        // SAFETY: the pointer and the length are those of `on`, which lives through the call.
        let set = unsafe {
            let value = (&raw const on).cast();
            libc::setsockopt(self.0.as_raw_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, value, size_of_val(&on) as u32)
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// How many packets were lost since the last call because they were not fetched in time.
    pub(crate) fn lost(&self) -> io::Result<u32> {
        // struct tpacket_stats (linux/if_packet.h): tp_packets, tp_drops.
        let mut statistics = [0u32; 2];
        let mut length = size_of_val(&statistics) as u32;
        // SAFETY: the buffer is ours, with its true length.
        let got = unsafe {
            let into = statistics.as_mut_ptr().cast();
            libc::getsockopt(self.0.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, into, &raw mut length)
        };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(statistics[1]) }
    }
}

/// Opens a TUN of this name in the calling thread's namespace, without packet information (tuntap.rst): it is gone with
/// its descriptor. Reads don't block.
pub(crate) fn tun(name: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let device = nix::fcntl::open("/dev/net/tun", flags, Mode::empty())?;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let kind = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
    request[16..18].copy_from_slice(&kind.to_ne_bytes());
    // SAFETY: the request is a struct ifreq (40 bytes: 16 of a name, here shorter, then the flags) that outlives the
    // call.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, request.as_mut_ptr()) };
    if made < 0 { Err(io::Error::last_os_error()) } else { Ok(device) }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn link_address(protocol: u16, interface: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: interface as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
