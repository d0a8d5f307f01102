//! What a name has, for an instance that asks.

use std::net::Ipv4Addr;

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, NS, PTR, SOA, SRV},
};
use mesh_proto::{InstanceId, Range, ServiceId, names::is_reserved};

use crate::{
    directory::{Holder, Seat},
    zone::{TOP, is_ours},
};

/// For how long an answer counts, in seconds: names follow the view.
pub(crate) const TTL: u32 = 5;

/// The most addresses in one answer: as many as a service may have instances.
const MOST: usize = 256;

/// The same for all. HAProxy sends nothing to a server of weight 0.
const WEIGHT: u16 = 1;

/// The names of the resolver itself, as far as the names of services leave them.
const SERVER: &str = "ns.dns.warp";
const SERVERS: &str = "dns.warp";
/// The first label of the name of all instances.
const ALL: &str = "all.";
/// The first labels of the name of a service's declared port (RFC 2782), and of what is between.
const PORT: &str = "_port._tcp.";
const PROTOCOL: &str = "_tcp.";
const REVERSE: &str = "in-addr.arpa";

/// What a name has.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// Records of the type that is asked for, and others that lead on.
    Records { answers: Vec<RData>, further: Vec<Record> },
    /// The name is there, without records of that type (RFC 2308 §2.2), in the zone of this name.
    NoData(Name),
    /// Neither the name nor any beneath it is there, in the zone of this name.
    NoName(Name),
    /// Not for us to say.
    NotOurs,
}

/// What a name of the table stands for.
enum Subject {
    Address(Ipv4Addr),
    /// All instances of a service.
    All(ServiceId),
    /// A port, at these names and their addresses.
    Port(u16, Vec<(Name, Ipv4Addr)>),
    /// Nothing, but there are names beneath.
    Between,
}

/// What is known of a name.
pub(crate) fn find(seat: Seat<'_>, asked: &Name, kind: RecordType) -> Found {
    let is_of =
        |text: &str, top: &str| text.strip_suffix(top).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let last = asked.iter().next_back().unwrap_or_default();
    let Some(text) = plain(asked) else {
        return if last.eq_ignore_ascii_case(TOP.as_bytes()) { Found::NoName(top()) } else { Found::NotOurs };
    };
    if text == TOP {
        return apex(seat, kind);
    }
    if is_of(&text, REVERSE) {
        return reverse(seat, asked, &text, kind);
    }
    let zone = || if is_ours(&text) { top() } else { asked.clone() };
    match subject(seat, &text) {
        Some(subject) => of_subject(seat, subject, kind).unwrap_or_else(|| Found::NoData(zone())),
        None if is_ours(&text) => Found::NoName(top()),
        None => Found::NotOurs,
    }
}

/// The record with which a negative answer is kept (RFC 2308 §3).
pub(crate) fn soa(seat: Seat<'_>, zone: Name) -> Record {
    let every = TTL as i32;
    let serial = seat.view().revision.0 as u32;
    let (server, keeper) = (name(SERVER), name("hostmaster.warp"));
    let data = SOA::new(server, keeper, serial, every, every, every, TTL);
    Record::from_rdata(zone, TTL, RData::SOA(data))
}

/// A name in lower case, if it may be one of the table.
fn plain(asked: &Name) -> Option<String> {
    let mut text = String::with_capacity(asked.len());
    for label in asked.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        let is_plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if label.is_empty() || !label.iter().all(is_plain) {
            return None;
        }
        text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    (!text.is_empty()).then_some(text)
}

fn subject(seat: Seat<'_>, text: &str) -> Option<Subject> {
    // As in a hosts file: what a name of the table means is not changed by the others.
    if let Some(address) = seat.zone.address(text) {
        return Some(Subject::Address(address));
    }
    if let Some(of) = text.strip_prefix(PORT) {
        return port(seat, of).map(|(port, at)| Subject::Port(port, at));
    }
    if let Some(of) = text.strip_prefix(PROTOCOL) {
        return port(seat, of).map(|_| Subject::Between);
    }
    if let Some(service) = text.strip_prefix(ALL).and_then(|of| service(seat, of)) {
        return Some(Subject::All(service));
    }
    if text == SERVER {
        return Some(Subject::Address(seat.view().network.range.resolver()));
    }
    if seat.zone.is_between(text) || text == SERVERS {
        return Some(Subject::Between);
    }
    let label = text.strip_suffix(TOP)?.strip_suffix('.')?;
    let id: InstanceId = label.parse().ok().filter(|id: &InstanceId| id.to_string() == label)?;
    seat.instance(id).map(|instance| Subject::Address(instance.address))
}

/// The service of a name of the table, if names beneath it are ours too: `all.app` belongs to others where `app` is a
/// top-level domain.
fn service(seat: Seat<'_>, text: &str) -> Option<ServiceId> {
    let last = text.rsplit('.').next().unwrap_or(text);
    let address = seat.zone.address(text).filter(|_| is_ours(text) || !is_reserved(last))?;
    seat.service_at(address)
}

/// The declared port of a service and where it is: at its name, or at those of all its instances.
fn port(seat: Seat<'_>, text: &str) -> Option<(u16, Vec<(Name, Ipv4Addr)>)> {
    if let Some(service) = service(seat, text) {
        let address = seat.zone.address(text)?;
        let at = seat.zone.known_by(address).unwrap_or(text);
        return Some((seat.port(service)?, vec![(name(at), address)]));
    }
    let service = service(seat, text.strip_prefix(ALL)?)?;
    let at = seat.live(service).take(MOST).map(|at| (name(&format!("{}.{TOP}", at.id)), at.address));
    Some((seat.port(service)?, at.collect()))
}

/// `None` if there is no record of this type.
fn of_subject(seat: Seat<'_>, subject: Subject, kind: RecordType) -> Option<Found> {
    let a = |address| RData::A(A(address));
    let is = |wanted: RecordType| kind == wanted || kind == RecordType::ANY;
    let (answers, further) = match subject {
        Subject::Address(address) if is(RecordType::A) => (vec![a(address)], vec![]),
        Subject::All(service) if is(RecordType::A) => {
            (seat.live(service).take(MOST).map(|instance| a(instance.address)).collect(), vec![])
        }
        Subject::Port(port, at) if is(RecordType::SRV) => {
            let further = at.iter().map(|(name, address)| Record::from_rdata(name.clone(), TTL, a(*address)));
            let further = further.collect();
            (at.into_iter().map(|(name, _)| RData::SRV(SRV::new(0, WEIGHT, port, name))).collect(), further)
        }
        _ => return None,
    };
    (!answers.is_empty()).then_some(Found::Records { answers, further })
}

/// The records of `warp` itself.
fn apex(seat: Seat<'_>, kind: RecordType) -> Found {
    let data = match kind {
        RecordType::SOA | RecordType::ANY => soa(seat, top()).data,
        RecordType::NS => RData::NS(NS(name(SERVER))),
        _ => return Found::NoData(top()),
    };
    Found::Records { answers: vec![data], further: vec![] }
}

/// The name of an address (RFC 1035 §3.5). The zone is the largest one that lies in the range whole.
fn reverse(seat: Seat<'_>, asked: &Name, text: &str, kind: RecordType) -> Found {
    let range = seat.view().network.range;
    let Some(labels) = text.strip_suffix(REVERSE).and_then(|rest| rest.strip_suffix('.')) else {
        return Found::NotOurs;
    };
    let labels: Vec<&str> = labels.rsplit('.').collect();
    let depth = usize::from(range.prefix().div_ceil(8));
    let byte = |label: &&str| label.parse::<u8>().ok().filter(|byte| byte.to_string() == **label);
    let Some(bytes) = labels.iter().take(4).map(byte).collect::<Option<Vec<u8>>>() else {
        return not_there(range, &labels, depth, asked);
    };
    let mut parts = [0; 4];
    parts.iter_mut().zip(&bytes).for_each(|(part, byte)| *part = *byte);
    let address = Ipv4Addr::from(parts);
    if bytes.len() < depth || !range.contains(address) {
        return Found::NotOurs;
    }
    let zone = asked.trim_to(depth + 2);
    if labels.len() < 4 {
        return Found::NoData(zone);
    }
    if labels.len() > 4 {
        return Found::NoName(zone);
    }
    let known_by = match seat.holder(address) {
        _ if address == range.resolver() => Some(name(SERVER)),
        Some(Holder::Service(_)) => seat.zone.known_by(address).map(name),
        Some(Holder::Instance(instance)) => Some(name(&format!("{instance}.{TOP}"))),
        None => None,
    };
    match known_by {
        None => Found::NoName(zone),
        Some(name) if matches!(kind, RecordType::PTR | RecordType::ANY) => {
            Found::Records { answers: vec![RData::PTR(PTR(name))], further: vec![] }
        }
        Some(_) => Found::NoData(zone),
    }
}

/// Of labels that are no address: they may still be beneath a zone of ours.
fn not_there(range: Range, labels: &[&str], depth: usize, asked: &Name) -> Found {
    let mut parts = [0; 4];
    for (part, label) in parts.iter_mut().zip(labels.iter().take(depth)) {
        let Ok(byte) = label.parse() else { return Found::NotOurs };
        *part = byte;
    }
    match labels.len() > depth && range.contains(parts.into()) {
        true => Found::NoName(asked.trim_to(depth + 2)),
        false => Found::NotOurs,
    }
}

pub(crate) fn top() -> Name {
    name(TOP)
}

/// A name of labels that the table allows.
fn name(text: &str) -> Name {
    let mut name = Name::from_labels(text.split('.').map(str::as_bytes)).unwrap_or_else(|_| Name::root());
    name.set_fqdn(true);
    name
}
