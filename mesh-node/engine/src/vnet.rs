//! `struct virtio_net_hdr` (linux/virtio_net.h) in front of each packet of a TUN, in the machine's byte order.

use crate::{Reason, VNET};

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
/// Set in addition if the first segment has CWR (RFC 3168 §6.1.2).
const GSO_ECN: u8 = 0x80;

/// What the kernel says of a packet. `hdr_len` is ignored: forwarded packets have other values in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vnet {
    /// Whether the checksum still has to be completed.
    pub(crate) partial: bool,
    /// For a super-packet, the bytes of payload in each segment but the last; never zero.
    pub(crate) size: Option<usize>,
}

impl Vnet {
    /// Splits a read into the header and the packet.
    ///
    /// # Errors
    /// If it is too short, or a kind of super-packet that isn't enabled.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Reason> {
        let (header, packet) = bytes.split_first_chunk::<VNET>().ok_or(Reason::Malformed)?;
        let size = usize::from(u16::from_ne_bytes([header[4], header[5]]));
        let size = match header[1] & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 if size > 0 => Some(size),
            _ => return Err(Reason::Malformed),
        };
        Ok((Self { partial: header[0] & NEEDS_CSUM != 0, size }, packet))
    }
}

/// Whether the kernel has verified the checksum of a packet, or left it to be completed.
pub(crate) fn is_vouched_for(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|flags| flags & (NEEDS_CSUM | DATA_VALID) != 0)
}

/// The header of a complete packet.
pub(crate) const COMPLETE: [u8; VNET] = [0; VNET];

/// The header of a super-packet: `headers` bytes of IPv4 without options and TCP, then segments of `size`, with only
/// the pseudo-header's sum in the checksum field.
pub(crate) fn super_packet(headers: usize, size: usize) -> [u8; VNET] {
    let mut header = COMPLETE;
    header[0] = NEEDS_CSUM;
    header[1] = GSO_TCPV4;
    header[2..4].copy_from_slice(&(headers as u16).to_ne_bytes());
    header[4..6].copy_from_slice(&(size as u16).to_ne_bytes());
    header[6..8].copy_from_slice(&(crate::packet::IPV4 as u16).to_ne_bytes());
    header[8..10].copy_from_slice(&TCP_CHECKSUM.to_ne_bytes());
    header
}

/// The offset of the checksum in a TCP header.
const TCP_CHECKSUM: u16 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let read = |kind: u8, size: u16| {
            let mut bytes = [0; VNET + 3];
            (bytes[0], bytes[1]) = (NEEDS_CSUM, kind);
            bytes[2..4].copy_from_slice(&9999u16.to_ne_bytes());
            bytes[4..6].copy_from_slice(&size.to_ne_bytes());
            Vnet::parse(&bytes).map(|(vnet, packet)| (vnet.size, packet.len()))
        };
        assert_eq!(read(GSO_NONE, 0), Ok((None, 3)));
        assert_eq!(read(GSO_NONE, 7), Ok((None, 3)), "without a type the size means nothing");
        assert_eq!(read(GSO_TCPV4, 1292), Ok((Some(1292), 3)));
        assert_eq!(read(GSO_TCPV4 | GSO_ECN, 1292), Ok((Some(1292), 3)));
        for (kind, size) in [(GSO_TCPV4, 0), (3, 1), (4, 1), (5, 1), (0x7f, 1)] {
            assert_eq!(read(kind, size), Err(Reason::Malformed), "{kind}");
        }
        assert_eq!(Vnet::parse(&[0; VNET - 1]), Err(Reason::Malformed));
        assert_eq!(Vnet::parse(&super_packet(52, 1292)), Ok((Vnet { partial: true, size: Some(1292) }, &[][..])));
    }
}
