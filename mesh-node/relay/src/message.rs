//! The messages to a relay.

use std::net::{IpAddr, SocketAddr};

use stun_types::{
    attribute::{Software, XorMappedAddress},
    message::{BINDING, Message, MessageClass, MessageType, MessageWriteVec, Method, TransactionId},
    prelude::{AttributeWrite, MessageWrite, MessageWriteExt},
};
use turn_types::{
    AddressFamily,
    attribute::{ChannelNumber, Data, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress},
    message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND},
};

/// A message with these attributes.
fn write(
    class: MessageClass,
    method: Method,
    id: TransactionId,
    attributes: &[&dyn AttributeWrite],
) -> MessageWriteVec {
    let kind = MessageType::from_class_method(class, method);
    let mut message = Message::builder(kind, id, MessageWriteVec::new());
    for attribute in attributes {
        // Fails for attributes that are there twice or don't fit, which these do. A relay refuses what lacks one.
        let _ = message.add_attribute(*attribute);
    }
    message
}

fn request(method: Method, id: TransactionId, attributes: &[&dyn AttributeWrite]) -> MessageWriteVec {
    write(MessageClass::Request, method, id, attributes)
}

/// The least length of a request without credentials. A relay that is no amplifier answers a stranger with no more bytes
/// than it was asked with, and its answers are longer than the bare requests.
const UNPROVEN: usize = 64;

/// Makes a request without credentials long enough for its answer.
fn pad(mut request: MessageWriteVec) -> MessageWriteVec {
    const FILL: &str = "mesh                                                            ";
    let missing = UNPROVEN.saturating_sub(request.len() + 4);
    if missing > 0
        && let Some(Ok(software)) = FILL.get(..missing.next_multiple_of(4)).map(Software::new)
    {
        let _ = request.add_attribute(&software);
    }
    request
}

/// Asks for the address that the relay sees (RFC 8489 §12).
pub(crate) fn binding(id: TransactionId) -> Vec<u8> {
    pad(request(BINDING, id, &[])).finish()
}

/// Asks for an address for UDP (RFC 8656 §7.1), of IPv6 if `v6`. `unproven`: without credentials.
pub(crate) fn allocate(id: TransactionId, v6: bool, unproven: bool) -> MessageWriteVec {
    let transport = RequestedTransport::new(RequestedTransport::UDP);
    let request = if v6 {
        request(ALLOCATE, id, &[&transport, &RequestedAddressFamily::new(AddressFamily::IPV6)])
    } else {
        request(ALLOCATE, id, &[&transport])
    };
    if unproven { pad(request) } else { request }
}

/// Asks for `seconds` more of the allocation; 0 ends it (RFC 8656 §8.1).
pub(crate) fn refresh(id: TransactionId, seconds: u32) -> MessageWriteVec {
    request(REFRESH, id, &[&Lifetime::new(seconds)])
}

/// Asks that datagrams from an address are let in (RFC 8656 §10.1).
pub(crate) fn permission(id: TransactionId, peer: IpAddr) -> MessageWriteVec {
    request(CREATE_PERMISSION, id, &[&XorPeerAddress::new(SocketAddr::new(peer, 0), id)])
}

/// Asks for a channel to a peer (RFC 8656 §12.1).
pub(crate) fn bind(id: TransactionId, number: u16, peer: SocketAddr) -> MessageWriteVec {
    request(CHANNEL_BIND, id, &[&ChannelNumber::new(number), &XorPeerAddress::new(peer, id)])
}

/// A datagram to a peer without a channel (RFC 8656 §11.1).
pub(crate) fn send(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let id = TransactionId::generate();
    write(MessageClass::Indication, SEND, id, &[&XorPeerAddress::new(peer, id), &Data::new(data)]).finish()
}

/// The address that the relay saw a request come from.
pub(crate) fn reflexive(answer: &Message<'_>) -> Option<SocketAddr> {
    let mapped = answer.attribute::<XorMappedAddress>().ok()?.addr(answer.transaction_id());
    Some(canonical(mapped))
}

/// IPv4 as IPv4, also where a server with one socket for both families says otherwise.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
