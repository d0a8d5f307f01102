//! What the relay answers.

use std::time::{Duration, Instant};

use stun_types::{
    attribute::ErrorCode,
    message::{Message, MessageClass},
};
use turn_types::attribute::{Lifetime, XorRelayedAddress};

use super::{Allocation, CHALLENGES, Event, Lease, PERMISSION, Phase, Purpose, REFUSED, RELEASED};
use crate::{
    auth::{Auth, Signature},
    message,
};

/// The bounds of a lifetime that a relay says.
const LIVES: (u32, u32) = (120, 3600);

/// An answer, as far as its class goes.
enum Answer {
    Success,
    /// Other credentials are asked for.
    Challenge,
    Error(u16),
}

impl Allocation {
    /// Handles a STUN message of the relay's that isn't a datagram of a peer's. Returns false if it answers nothing that
    /// was asked, or has a wrong signature.
    pub(crate) fn handle_answer(&mut self, answer: &Message<'_>, now: Instant) -> bool {
        let id = answer.transaction_id();
        let Some(purpose) = self.requests.purpose(id) else { return false };
        let Some(answered) = class(&self.auth, answer) else { return false };
        let Some(ended) = self.requests.end(id, now) else { return false };
        self.rtt = ended.rtt.or(self.rtt);
        self.unanswered = false;
        match answered {
            Answer::Challenge => self.challenged(purpose, answer, now),
            Answer::Success => {
                self.challenges = 0;
                self.granted(purpose, answer, now);
            }
            Answer::Error(code) => {
                self.challenges = 0;
                self.refused(purpose, code, now);
            }
        }
        self.bind_wanted_if_standing(now);
        true
    }

    fn bind_wanted_if_standing(&mut self, now: Instant) {
        if self.phase == Phase::Standing {
            self.bind_wanted(now);
        }
    }

    fn challenged(&mut self, purpose: Purpose, answer: &Message<'_>, now: Instant) {
        self.challenges = self.challenges.saturating_add(1);
        let news = self.auth.challenge(answer);
        // Requests that crossed on their way are told of the same nonce one after another.
        let renewed = matches!(purpose, Purpose::Refresh | Purpose::Permit | Purpose::Bind(_));
        if self.challenges <= CHALLENGES && news || renewed && self.challenges <= 8 * CHALLENGES {
            self.request(purpose, now);
        } else {
            self.challenges = 0;
            self.refused(purpose, ErrorCode::UNAUTHORIZED, now);
        }
    }

    fn granted(&mut self, purpose: Purpose, answer: &Message<'_>, now: Instant) {
        match purpose {
            Purpose::Allocate => self.allocated(answer, now),
            Purpose::Release | Purpose::ReleaseEarlier => {
                self.requests.clear();
                self.phase = Phase::Waiting { until: now + RELEASED };
            }
            Purpose::Admit => self.stand(now),
            Purpose::Permit => {}
            Purpose::Refresh => {
                if let Some(lease) = &mut self.lease {
                    lease.ends = now + lifetime(answer);
                }
                if matches!(self.phase, Phase::Silent { .. }) {
                    self.request(Purpose::Admit, now);
                }
            }
            Purpose::Bind(ix) => self.channels.bound(ix, now),
        }
    }

    fn allocated(&mut self, answer: &Message<'_>, now: Instant) {
        let Ok(relayed) = answer.attribute::<XorRelayedAddress>() else {
            return self.refused(Purpose::Allocate, ErrorCode::SERVER_ERROR, now);
        };
        let relayed = message::canonical(relayed.addr(answer.transaction_id()));
        self.lease = Some(Lease { relayed, ends: now + lifetime(answer), permission: now + PERMISSION });
        self.reflexive = message::reflexive(answer);
        self.earlier = None;
        self.phase = Phase::Admitting;
        self.request(Purpose::Admit, now);
    }

    /// Datagrams pass.
    fn stand(&mut self, now: Instant) {
        let Some(lease) = &mut self.lease else { return };
        lease.permission = now + PERMISSION;
        let relayed = lease.relayed;
        self.phase = Phase::Standing;
        (self.refused, self.asked, self.doubted) = (None, None, None);
        self.events.push_back(Event::Allocated { relayed, reflexive: self.reflexive });
    }

    fn refused(&mut self, purpose: Purpose, code: u16, now: Instant) {
        match (purpose, code) {
            // The address has an allocation of an earlier process, which only its login can end.
            (Purpose::Allocate, ErrorCode::ALLOCATION_MISMATCH) => self.request(Purpose::Release, now),
            (Purpose::Allocate, ErrorCode::WRONG_CREDENTIALS) if self.earlier.is_some() => self.release_as_earlier(now),
            (Purpose::Allocate, ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED) if !self.v6 => {
                self.v6 = true;
                self.request(Purpose::Allocate, now);
            }
            (Purpose::Release, _) if self.earlier.is_some() => self.release_as_earlier(now),
            (Purpose::Allocate | Purpose::Release | Purpose::ReleaseEarlier | Purpose::Admit, _) => {
                if self.refused.replace(code) != Some(code) {
                    self.events.push_back(Event::Refused(code));
                }
                self.requests.clear();
                self.phase = Phase::Waiting { until: now + self.rng.between(REFUSED.0, REFUSED.1) };
            }
            (Purpose::Bind(ix), _) if code != ErrorCode::ALLOCATION_MISMATCH => self.channels.failed(ix, now),
            (Purpose::Refresh | Purpose::Permit | Purpose::Bind(_), _) => self.lose(now),
        }
    }

    /// Ends what an earlier process asked for by another login.
    fn release_as_earlier(&mut self, now: Instant) {
        let Some(earlier) = self.earlier.take() else { return };
        // The next allocation is asked for by the login of now.
        self.next_login = Some(self.auth.login().clone());
        self.auth.replace(earlier);
        self.request(Purpose::ReleaseEarlier, now);
    }
}

/// The class of an answer, if it is to be believed. A success has the relay's signature. An error may have none: not all
/// servers sign theirs, and who can guess the identifier of the request is on the way and could drop it as well.
fn class(auth: &Auth, answer: &Message<'_>) -> Option<Answer> {
    let signature = auth.signature(answer);
    match answer.class() {
        MessageClass::Success => (signature == Signature::Valid).then_some(Answer::Success),
        MessageClass::Error => match answer.attribute::<ErrorCode>().ok()?.code() {
            ErrorCode::UNAUTHORIZED | ErrorCode::STALE_NONCE => Some(Answer::Challenge),
            code => (signature != Signature::Wrong).then_some(Answer::Error(code)),
        },
        MessageClass::Request | MessageClass::Indication => None,
    }
}

fn lifetime(answer: &Message<'_>) -> Duration {
    let seconds = answer.attribute::<Lifetime>().map_or(super::LIFE, |lifetime| lifetime.seconds());
    Duration::from_secs(seconds.clamp(LIVES.0, LIVES.1).into())
}
