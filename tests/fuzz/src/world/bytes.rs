//! Random bytes and segments.

use arbitrary::{Result, Unstructured};

use crate::{
    mesh::addresses,
    packet::{self, RST, SYN, Segment},
};

/// Random bytes, up to some thousands.
pub(super) fn some_bytes(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (length, fill) = (usize::from(u.arbitrary::<u16>()?), u.int_in_range(0..=3u8)?);
    match fill {
        // A few by the input, or many by a pattern.
        0 => Ok(vec![0; length]),
        _ => Ok(u.bytes(u.len().min(length % 256))?.to_vec()),
    }
}

pub(super) fn some_flags(u: &mut Unstructured<'_>) -> Result<u8> {
    const SYN_ACK: u8 = SYN | packet::ACK;
    let common = [SYN, SYN_ACK, packet::ACK, packet::ACK, packet::ACK | 8, packet::ACK | packet::FIN, RST, RST | 16];
    if u.ratio(1, 16)? { u.arbitrary() } else { Ok(*u.choose(&common)?) }
}

/// A segment, its options and its payload.
pub(super) fn a_segment(u: &mut Unstructured<'_>) -> Result<(Segment, Vec<u8>, Vec<u8>)> {
    let addresses = addresses();
    let ports = [40000, 40001, 5432, 80, 0];
    let end = |u: &mut Unstructured<'_>| Ok((*u.choose(&addresses)?, *u.choose(&ports)?));
    let number =
        |u: &mut Unstructured<'_>| if u.ratio(1, 8)? { u.arbitrary() } else { Ok(*u.choose(&[0, 1000, 7000, 7001])?) };
    let segment = Segment {
        source: end(u)?,
        destination: end(u)?,
        sequence: number(u)?,
        acknowledgment: number(u)?,
        flags: some_flags(u)?,
    };
    let options = vec![1; 4 * *u.choose(&[0, 0, 0, 3, 10])?];
    let payload = vec![0; *u.choose(&[0, 0, 1, 100, 1292, 1304, 5000, 65000])?];
    Ok((segment, options, payload))
}
