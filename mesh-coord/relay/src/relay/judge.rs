//! Requests: who may ask what. This changes nothing; what it lets pass, [`Relay::change`] does.

use std::net::SocketAddr;

use mesh_proto::relay::Pseudonym;
use stun_types::{
    attribute::{AttributeType, MessageIntegrity, Nonce, Realm, Username},
    message::{BINDING, IntegrityAlgorithm, LongTermKeyCredentials, Message},
    prelude::{Attribute as _, AttributeStaticType as _},
};
use turn_types::{
    AddressFamily,
    attribute::{ChannelNumber, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress},
    message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH},
};

use super::Relay;
use crate::{
    answer::{CHALLENGE, Question, REALM, Signed, mapped_length},
    limits::REQUEST,
    message::whole,
    nonce::Freshness,
    time::Now,
    way::Way,
};

/// What becomes of a request.
#[derive(Debug)]
pub enum Asked {
    /// No answer.
    Nothing,
    /// An answer.
    Answer(Vec<u8>),
    /// A change, which answers.
    Change(Change),
}

/// A change that an authentic client asks for.
#[derive(Debug)]
pub struct Change {
    pub(super) from: Way,
    pub(super) name: Pseudonym,
    pub(super) wish: Wish,
    pub(super) reply: Signed,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Allocate { family: Option<Family> },
    Refresh,
    End,
    Permit,
    Bind { number: u16, peer: SocketAddr },
}

/// The family of a relayed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// Attributes that a relay must know or refuse (RFC 8489 §14), by number: USERNAME, MESSAGE-INTEGRITY, CHANNEL-NUMBER,
/// LIFETIME, XOR-PEER-ADDRESS, REALM, NONCE, REQUESTED-ADDRESS-FAMILY, REQUESTED-TRANSPORT, DONT-FRAGMENT.
const KNOWN: [u16; 10] = [0x0006, 0x0008, 0x000c, 0x000d, 0x0012, 0x0014, 0x0015, 0x0017, 0x0019, 0x001a];

impl Relay {
    /// Looks at a request. A sender that hasn't proved its address gets no answer that is longer than the question.
    #[must_use]
    pub fn ask(&self, from: &Way, request: &[u8], now: Now) -> Asked {
        let message = if request.len() <= REQUEST { whole(request) } else { None };
        let Some(message) = message else {
            self.counters.dropped_malformed.add(1);
            return Asked::Nothing;
        };
        let (remote, question) = (from.remote(), Question::of(&message));
        if message.has_method(BINDING) {
            let answer = || question.mapped(remote);
            return self.unproven(from, (request.len(), mapped_length(remote)), now, answer);
        }
        if ![ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND].contains(&message.method()) {
            self.counters.dropped_malformed.add(1);
            return Asked::Nothing;
        }
        let challenge = |code| {
            let answer = || question.challenge(code, &self.nonces.of(remote, now));
            self.unproven(from, (request.len(), CHALLENGE), now, answer)
        };
        if !message.has_attribute(MessageIntegrity::TYPE) {
            self.counters.challenged.add(1);
            return challenge(401);
        }
        let Ok(nonce) = message.attribute::<Nonce>() else { return challenge(401) };
        match self.nonces.check(nonce.nonce(), remote, now) {
            Freshness::Stale => challenge(438),
            Freshness::Fresh if !self.strangers.admit_proven(remote, now) => {
                self.counters.dropped_limited.add(1);
                Asked::Nothing
            }
            Freshness::Fresh => match self.authentic(&message) {
                Ok((name, until, reply)) => self.authorised(from, &message, (name, until), reply, now),
                Err(Stranger) => {
                    self.counters.denied.add(1);
                    Asked::Answer(question.challenge(401, &self.nonces.of(remote, now)))
                }
            },
        }
    }

    /// An answer to who may have forged the address, given the lengths of the question and of the answer.
    fn unproven(
        &self,
        from: &Way,
        (question, answer): (usize, usize),
        now: Now,
        make: impl FnOnce() -> Vec<u8>,
    ) -> Asked {
        let proven = matches!(from, Way::Stream { .. }) || self.knows(from.client());
        let admitted = match proven {
            true => self.strangers.admit_proven(from.remote(), now),
            false if answer > question => {
                self.counters.dropped_short.add(1);
                return Asked::Nothing;
            }
            false => self.strangers.admit(from.remote(), now),
        };
        if !admitted {
            self.counters.dropped_limited.add(1);
            return Asked::Nothing;
        }
        Asked::Answer(make())
    }

    /// Whether a request is signed with the password of its name. (HMACs are compared in constant time.)
    fn authentic(&self, message: &Message<'_>) -> Result<(Pseudonym, u64, Signed), Stranger> {
        let username = message.attribute::<Username>().map_err(|_| Stranger)?;
        let realm = message.attribute::<Realm>().map_err(|_| Stranger)?;
        let (until, name) = Pseudonym::of_username(username.username()).map_err(|_| Stranger)?;
        if realm.realm() != REALM {
            return Err(Stranger);
        }
        let password = self.secret.password(username.username()).expose().to_owned();
        let key = LongTermKeyCredentials::new(username.username().to_owned(), password, REALM.to_owned())
            .make_key(IntegrityAlgorithm::Sha1);
        message.validate_integrity_with_key(&key).map_err(|_| Stranger)?;
        Ok((name, until, Question::of(message).signed(key)))
    }

    /// What an authentic request asks for, if its sender may.
    fn authorised(
        &self,
        from: &Way,
        message: &Message<'_>,
        (name, until): (Pseudonym, u64),
        reply: Signed,
        now: Now,
    ) -> Asked {
        let allocates = message.has_method(ALLOCATE);
        if self.is_revoked(name, now) {
            self.counters.denied.add(1);
            return Asked::Answer(reply.error(403));
        }
        if allocates && until <= now.unix {
            self.counters.denied.add(1);
            return Asked::Answer(reply.question.challenge(401, &self.nonces.of(from.remote(), now)));
        }
        let known = self.table.of(from.client());
        let verdict = match known {
            _ if allocates => self.wish(message),
            None => Err(437),
            Some(known) if known.name != name => Err(441),
            // Where the coordinator is away from the relay too, no one has better credentials: that is no outage.
            Some(_) if until <= self.informed => Err(437),
            Some(_) => self.wish(message),
        };
        match verdict {
            Ok(wish) => Asked::Change(Change { from: *from, name, wish, reply }),
            Err(code) => {
                self.counters.refused.add(1);
                Asked::Answer(reply.error(code))
            }
        }
    }

    /// What a request says, or the code of the refusal.
    fn wish(&self, message: &Message<'_>) -> Result<Wish, u16> {
        let known = |kind: AttributeType| !kind.comprehension_required() || KNOWN.contains(&kind.value());
        if !message.iter_attributes().all(|(_, attribute)| known(attribute.get_type())) {
            return Err(420);
        }
        match message.method() {
            ALLOCATE => {
                let transport = message.attribute::<RequestedTransport>().map_err(|_| 400_u16)?;
                if transport.protocol() != RequestedTransport::UDP {
                    return Err(442);
                }
                Ok(Wish::Allocate { family: family(message)? })
            }
            REFRESH => match message.attribute::<Lifetime>() {
                Ok(lifetime) if lifetime.seconds() == 0 => Ok(Wish::End),
                _ => Ok(Wish::Refresh),
            },
            CREATE_PERMISSION => {
                message.attribute::<XorPeerAddress>().map_err(|_| 400_u16)?;
                // One that is none of ours refuses them all (RFC 8656 §10.2).
                let ours = peers(message).all(|peer| self.public.contains(&peer.ip()));
                if ours { Ok(Wish::Permit) } else { Err(403) }
            }
            _ => {
                let number = message.attribute::<ChannelNumber>().map_err(|_| 400_u16)?.channel();
                let peer = message.attribute::<XorPeerAddress>().map_err(|_| 400_u16)?;
                if !(0x4000..=0x4fff).contains(&number) {
                    return Err(400);
                }
                Ok(Wish::Bind { number, peer: peer.addr(message.transaction_id()) })
            }
        }
    }
}

/// A request that is not signed with what its sender would know.
struct Stranger;

fn family(message: &Message<'_>) -> Result<Option<Family>, u16> {
    if !message.has_attribute(RequestedAddressFamily::TYPE) {
        return Ok(None);
    }
    match message.attribute::<RequestedAddressFamily>().map(|wanted| wanted.family()) {
        Ok(AddressFamily::IPV4) => Ok(Some(Family::V4)),
        Ok(AddressFamily::IPV6) => Ok(Some(Family::V6)),
        Err(_) => Err(440),
    }
}

/// Every peer that a request names (RFC 8656 §10.1).
fn peers<'a>(message: &'a Message<'a>) -> impl Iterator<Item = SocketAddr> + 'a {
    let transaction = message.transaction_id();
    (0..).map_while(move |n| Some(message.nth_attribute::<XorPeerAddress>(n).ok()?.addr(transaction)))
}
