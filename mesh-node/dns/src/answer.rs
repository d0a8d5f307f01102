//! Answers: the rules of the protocol (RFC 1035, 2308, 6891, 8020, 8482).

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Record, RecordType},
    serialize::binary::{BinDecodable as _, BinDecoder},
};
use mesh_proto::InstanceId;

use crate::{
    directory::{Directory, Seat},
    find::{Found, TTL, find, soa},
};

/// The longest answer by UDP in bytes, which every path carries whole (DNS flag day 2020).
const LONGEST_BY_UDP: u16 = 1232;
/// The longest that every client takes (RFC 1035 §4.2.1).
const LEAST_BY_UDP: u16 = 512;
/// The length of a header (RFC 1035 §4.1.1).
const HEADER: usize = 12;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram: a long answer is truncated.
    Udp,
    /// By a connection.
    Tcp,
}

/// The answer to a question that an instance has sent. `None`: there is none, because it isn't a question, or the
/// directory doesn't hold the instance.
#[must_use]
pub fn answer(question: &[u8], directory: &Directory, asker: InstanceId, transport: Transport) -> Option<Vec<u8>> {
    answer_for(question, directory.seat(asker)?, transport)
}

pub(crate) fn answer_for(question: &[u8], seat: Seat<'_>, transport: Transport) -> Option<Vec<u8>> {
    // The third byte begins with the bit that marks a response; two resolvers must never answer each other.
    if question.len() < HEADER || question[2] & 0x80 != 0 {
        return None;
    }
    let Ok(message) = Message::from_vec(question) else { return malformed(question) };
    let mut reply = Message::response(message.id, message.op_code);
    reply.metadata = Metadata::response_from_request(&message.metadata);
    reply.metadata.checking_disabled = false;
    reply.queries.clone_from(&message.queries);
    let (mut longest, mut code) = (LEAST_BY_UDP, None);
    if let Some(asked) = &message.edns {
        longest = asked.max_payload().clamp(LEAST_BY_UDP, LONGEST_BY_UDP);
        let mut edns = Edns::new();
        edns.set_max_payload(LONGEST_BY_UDP).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
        reply.edns = Some(edns);
        code = (asked.version() > 0).then_some(ResponseCode::BADVERS);
    }
    match (code, &*message.queries) {
        (Some(code), _) => reply.metadata.response_code = code,
        _ if message.op_code != OpCode::Query => reply.metadata.response_code = ResponseCode::NotImp,
        (None, [query]) => fill(&mut reply, seat, query),
        _ => reply.metadata.response_code = ResponseCode::FormErr,
    }
    encode(reply, if transport == Transport::Udp { usize::from(longest) } else { usize::from(u16::MAX) })
}

/// Fills in what is known of a question.
fn fill(reply: &mut Message, seat: Seat<'_>, query: &Query) {
    let kind = query.query_type();
    let refused = matches!(kind, RecordType::AXFR | RecordType::IXFR) || query.query_class() != DNSClass::IN;
    let found = match kind {
        // It may only stand among the additional records (RFC 6891 §6.1.1).
        RecordType::OPT => return reply.metadata.response_code = ResponseCode::FormErr,
        _ if refused => Found::NotOurs,
        _ => find(seat, query.name(), kind),
    };
    reply.metadata.authoritative = found != Found::NotOurs;
    match found {
        Found::Records { answers, further } => {
            let own = |data| Record::from_rdata(query.name().clone(), TTL, data);
            reply.answers = answers.into_iter().map(own).collect();
            reply.additionals = further;
        }
        Found::NoData(zone) => reply.authorities = vec![soa(seat, zone)],
        Found::NoName(zone) => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.authorities = vec![soa(seat, zone)];
        }
        // So that a client goes on to the next server of its list at once.
        Found::NotOurs => reply.metadata.response_code = ResponseCode::Refused,
    }
}

/// An answer of at most so many bytes: without the records that only save a question, or marked as truncated.
fn encode(mut reply: Message, longest: usize) -> Option<Vec<u8>> {
    let fits = |reply: &Message| {
        let bytes = reply.to_vec().ok()?;
        // More than any message may have is left out by the codec, which marks it.
        let whole = reply.metadata.truncation || bytes.get(2).is_some_and(|flags| flags & 0x02 == 0);
        (whole && bytes.len() <= longest).then_some(bytes)
    };
    if let Some(bytes) = fits(&reply) {
        return Some(bytes);
    }
    reply.additionals.clear();
    if let Some(bytes) = fits(&reply) {
        return Some(bytes);
    }
    // A part of the records would be taken for all of them.
    reply.answers.clear();
    reply.metadata.truncation = true;
    fits(&reply)
}

/// The answer to what can't be read: its header, if that can be.
fn malformed(question: &[u8]) -> Option<Vec<u8>> {
    let header = hickory_proto::op::Header::read(&mut BinDecoder::new(question)).ok()?;
    let mut metadata = Metadata::response_from_request(&header.metadata);
    metadata.response_code = ResponseCode::FormErr;
    let mut reply = Message::new(metadata.id, MessageType::Response, metadata.op_code);
    reply.metadata = metadata;
    reply.to_vec().ok()
}

#[cfg(test)]
mod tests;
