//! Pings, pongs and messages of meetings of the peer, right or nearly so: see mesh-node/engine/src/probe.rs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use arbitrary::{Result, Unstructured};

use super::World;
use crate::mesh::endpoint;

const HEADER: usize = 20;
const PING: u8 = 1;
const PONG: u8 = 2;
const MEET: u8 = 3;
/// Where the addresses of a pong and of a meeting begin.
const SEEN: usize = HEADER + 8;
const FIRST: usize = HEADER + 4;
const ADDRESS: usize = 18;

/// Whether a packet is one: from no address to no address, of protocol 253.
pub(super) fn is_one(ip: &[u8]) -> bool {
    ip.get(9) == Some(&253) && ip.get(12..20) == Some(&[0; 8])
}

impl World {
    pub(super) fn a_probe(&mut self, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let kind = *u.choose(&[PING, PONG, PONG, MEET, 0, 4])?;
        let len = *u.choose(&[48, 49, 168, 576, 1184, 1344, 20, 47])?;
        let mut ip = vec![0; len];
        (ip[0], ip[9]) = (0x45, 253);
        ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        let Some(body) = ip.get_mut(HEADER..).filter(|body| body.len() >= 26) else { return Ok(ip) };
        body[0] = kind;
        match kind {
            PONG if !self.pings.is_empty() && u.ratio(7, 8)? => {
                let ping = u.choose(&self.pings)?;
                body[2..6].copy_from_slice(&ping[HEADER + 2..HEADER + 6]);
                body[6..8].copy_from_slice(&ping[2..4]);
            }
            MEET => (body[1], body[2]) = (u.int_in_range(0..=2)?, u.int_in_range(0..=9)?),
            _ => {
                body[2..4].copy_from_slice(&u.int_in_range(0..=4u16)?.to_be_bytes());
                body[4..6].copy_from_slice(&u.int_in_range(0..=300u16)?.to_be_bytes());
                body[6..8].copy_from_slice(&u.arbitrary::<u16>()?.to_be_bytes());
            }
        }
        let from = if kind == MEET { FIRST } else { SEEN };
        for room in ip[from..].chunks_exact_mut(ADDRESS) {
            let (address, port) = an_address(u)?;
            room[..16].copy_from_slice(&address.to_ipv6_mapped().octets());
            room[16..].copy_from_slice(&port.to_be_bytes());
        }
        if u.ratio(1, 8)? {
            let at = u.choose_index(ip.len())?;
            ip[at] ^= *u.choose(&[1, 0x20, 0x80, 0xff])?;
        }
        let told = ip[from..].chunks_exact(ADDRESS).filter_map(read);
        self.told.extend(told.filter(|at| *at != endpoint(1) && can_be_had(at.ip())));
        Ok(ip)
    }
}

/// An address of a runner, or one that none can have.
fn an_address(u: &mut Unstructured<'_>) -> Result<(Ipv4Addr, u16)> {
    let all =
        [[198, 51, 100, 7], [10, 1, 2, 3], [192, 0, 2, 2], [192, 0, 2, 1], [127, 0, 0, 1], [224, 0, 0, 1], [0; 4]];
    Ok((Ipv4Addr::from(*u.choose(&all)?), *u.choose(&[51820, 4000, 0])?))
}

fn read(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_first_chunk::<16>()?;
    Some(SocketAddr::new(IpAddr::from(*address).to_canonical(), u16::from_be_bytes(*port.first_chunk()?)))
}

/// Whether a runner can have an address: not one that means this machine, many, or none.
fn can_be_had(at: IpAddr) -> bool {
    !at.is_loopback() && !at.is_multicast() && !at.is_unspecified()
}
