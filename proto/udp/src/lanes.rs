//! Several sockets on one port, each for the data messages of one lane (`SO_REUSEPORT`, socket(7)). A classic BPF program,
//! which the kernel runs on what follows the UDP header, chooses the socket by its place in the order of binding.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
};

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_RET, BPF_W,
};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Sharing, Udp, set};

/// The most lanes of a port: three bits of a receiver index say the lane.
pub const MAX_LANES: usize = 8;

/// The beginning of a data message of WireGuard (type 4, and three zeros), and the least length of one.
const DATA: u32 = 0x0400_0000;
const DATA_LENGTH: u32 = 32;

/// The hop limit of the first lane: Linux's default (`IPDEFTTL`). Each further lane has one of its own.
const HOPS: libc::c_int = 64;

/// Where the receiver index of a data message says the lane, in the low bits.
const LANE_AT: u32 = 5;

/// The sockets of a port with lanes.
#[derive(Debug)]
pub struct Lanes {
    /// The socket of each lane. That of lane 0, which is always there, also gets everything that is no data message of
    /// another lane. Two things can be at any socket: what arrived while they were being bound; and what is in a batch after
    /// its first datagram, since the kernel batches what comes from one address, with one hop limit, before it looks for
    /// lanes. So they are also
    /// to be alike in [`Udp::set_gro`], and to be closed together, as the kernel goes by their order.
    pub sockets: Vec<Udp>,
    /// Why the kernel can't tell lanes apart, if it can't. There is one socket then.
    pub unsteered: Option<io::Error>,
}

impl Udp {
    /// Binds a port as [`Udp::bind`] does, with a socket for each of 1 to [`MAX_LANES`] lanes.
    ///
    /// # Errors
    /// `AddrInUse`, also if those that have the port share it; `InvalidInput` for another number of lanes; or another error
    /// of bind(2).
    pub fn bind_lanes(port: u16, lanes: usize) -> io::Result<Lanes> {
        if !(1..=MAX_LANES).contains(&lanes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Self::bind(port)?.with_lanes(lanes)
    }

    /// This socket, which has its port alone, and others beside it.
    pub(super) fn with_lanes(self, lanes: usize) -> io::Result<Lanes> {
        let mut others = Vec::new();
        let mut unsteered = None;
        while 1 + others.len() < lanes && unsteered.is_none() {
            others.push(self.beside(1 + others.len())?);
            // The program needs a second socket. It is there before a third one, so that little arrives without it.
            if others.len() == 1
                && let Err(error) = self.steer(lanes)
            {
                others.clear();
                setsockopt(&self.socket, sockopt::ReusePort, &false)?;
                unsteered = Some(error);
            }
        }
        let mut sockets = vec![self];
        sockets.append(&mut others);
        Ok(Lanes { sockets, unsteered })
    }

    /// The socket of another lane on the same port. This one shares it only now: it was refused a port in use.
    fn beside(&self, lane: usize) -> io::Result<Self> {
        setsockopt(&self.socket, sockopt::ReusePort, &true)?;
        let port = self.port()?;
        let other = if self.dual {
            Self::bind_dual((Ipv6Addr::UNSPECIFIED, port), Sharing::Port)?
        } else {
            Self::bind_v4((Ipv4Addr::UNSPECIFIED, port), Sharing::Port)?
        };
        // The receiver's kernel batches only what has one hop limit (`inet_gro_receive`, `ipv6_gro_receive`).
        let hops = HOPS + lane as libc::c_int;
        set(&other.socket, libc::IPPROTO_IP, libc::IP_TTL, hops)?;
        if self.dual {
            set(&other.socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, hops)?;
        }
        Ok(other)
    }

    /// Has the kernel choose the port's socket by the program. If it chooses one that isn't there, the kernel takes any.
    fn steer(&self, lanes: usize) -> io::Result<()> {
        let mut program = program(lanes as u32);
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        Ok(setsockopt(&self.socket, sockopt::AttachReusePortCbpf, &program)?)
    }
}

/// Returns the lane of a data message, and 0 for everything else. (So does a load beyond the end.)
fn program(lanes: u32) -> [libc::sock_filter; 9] {
    let step = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // Both count the instructions to leave out.
    let test = |code: u32, k, jt, jf| libc::sock_filter { code: (BPF_JMP | code | BPF_K) as u16, jt, jf, k };
    [
        step(BPF_LD | BPF_W | BPF_LEN, 0),
        test(BPF_JGE, DATA_LENGTH, 0, 6),
        step(BPF_LD | BPF_W | BPF_ABS, 0),
        test(BPF_JEQ, DATA, 0, 4),
        step(BPF_LD | BPF_B | BPF_ABS, LANE_AT),
        step(BPF_ALU | BPF_AND | BPF_K, MAX_LANES as u32 - 1),
        test(BPF_JGE, lanes, 1, 0),
        step(BPF_RET | BPF_A, 0),
        step(BPF_RET | BPF_K, 0),
    ]
}
