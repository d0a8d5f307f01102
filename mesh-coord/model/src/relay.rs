//! Relays: TURN servers that an administrator adds, and own ones that enrol with a token. They are the whole mesh's, so
//! no team's administrator changes or lists them.

use std::{collections::BTreeSet, sync::Arc};

use mesh_proto::{
    Label, RelayId, RunnerId,
    endpoint::{self, EndpointError, Fault},
    relay::{Place, wire::RelayPublic},
};

use crate::{
    Admin, Decision, Key, NewRelay, Now, Outcome, Record, Refusal, RelayEnrolment, Role, State, UnixSeconds,
    audit::Note,
    auth::{check_time, purpose_word},
    draft::Draft,
    limits,
    record::{By, Purpose, Relay, RelayKind, SecretHandle, Token},
    refusal::{RelayRefusal, TokenRefusal, at_most},
    tables::RelayRow,
    words::Candidates,
};

/// Adds a TURN server.
pub(crate) fn add(
    state: &State,
    by: &Admin,
    new: &NewRelay,
    secret: SecretHandle,
    now: Now,
) -> Result<Decision, Refusal> {
    state.check_relay(by, new)?;
    let mut draft = Draft::new(state, now);
    let relay = Relay {
        id: draft.relay_id(),
        name: new.name.clone(),
        relay: RelayKind::Turn,
        public: new.public.clone(),
        added: now.day,
        secret,
    };
    let detail = format!("{} `{}` at {}", relay.id, relay.name, places_in_words(&relay));
    draft.audit(Note::admin(state, by, "relay-add", detail).on(&relay.name));
    let outcome = Outcome::RelayAdded { relay: relay.id, name: relay.name.clone() };
    draft.put(Record::Relay(Arc::new(relay)));
    Ok(draft.decided(outcome))
}

/// Removes a relay. Its runners learn it at once, and an own one is cut off.
pub(crate) fn remove(state: &State, by: &Admin, name: &Label, now: Now) -> Result<Decision, Refusal> {
    check_operator(by)?;
    let Some(relay) = state.relay_named(name) else {
        let nearest = Candidates::of(name, state.relays.values().map(|relay| &*relay.name));
        return Err(RelayRefusal::NoRelay { name: name.clone(), nearest }.into());
    };
    let mut draft = Draft::new(state, now);
    draft.delete(Key::Relay(relay.id));
    draft.audit(Note::admin(state, by, "relay-remove", format!("{} `{name}`", relay.id)).on(name));
    let left = state.relays.len() - 1;
    Ok(draft.decided(Outcome::RelayRemoved { relay: relay.id, name: name.clone(), left }))
}

/// Makes a process a relay of the mesh. Its token has its name, and enrols it once.
pub(crate) fn enrol(state: &State, request: &RelayEnrolment, now: Now) -> Result<Decision, Refusal> {
    let token = state.token_shown(request.token, &request.secret)?;
    let Purpose::Relay { name, used } = &token.purpose else {
        return Err(TokenRefusal::NotRelay { token: token.id, is: purpose_word(&token.purpose) }.into());
    };
    check_time(token, now.day)?;
    if *used {
        return Err(TokenRefusal::RelayUsedUp { token: token.id }.into());
    }
    check_new(state, name)?;
    check_places(name, &request.public)?;

    let mut draft = Draft::new(state, now);
    let purpose = Purpose::Relay { name: name.clone(), used: true };
    draft.put(Record::Token(Arc::new(Token { purpose, ..token.clone() })));
    let relay = Relay {
        id: draft.relay_id(),
        name: name.clone(),
        relay: RelayKind::Own { credential: request.credential.clone(), version: String::new() },
        public: request.public.clone(),
        added: now.day,
        secret: request.handle,
    };
    let detail = format!("{} `{name}` at {}", relay.id, places_in_words(&relay));
    let mut note = Note::by(By::Token(token.id), "relay-enrol", detail).on(name);
    note.named(token.name.as_ref());
    draft.audit(note);
    let outcome = Outcome::RelayEnrolled { relay: relay.id, name: name.clone() };
    draft.put(Record::Relay(Arc::new(relay)));
    Ok(draft.decided(outcome))
}

/// Takes what an own relay tells of itself.
pub(crate) fn hello(
    state: &State,
    by: RelayId,
    version: &str,
    public: &RelayPublic,
    now: Now,
) -> Result<Decision, Refusal> {
    let known = state.relays.get(&by).ok_or_else(Refusal::unknown_relay)?;
    let RelayKind::Own { credential, .. } = &known.relay else { return Err(Refusal::unknown_relay()) };
    if version.len() > limits::VERSION || version.chars().any(char::is_control) {
        return Err(RelayRefusal::BadVersion.into());
    }
    check_places(&known.name, public)?;
    let told = Relay {
        relay: RelayKind::Own { credential: credential.clone(), version: version.to_owned() },
        public: public.clone(),
        ..(**known).clone()
    };
    let mut draft = Draft::new(state, now);
    if told != **known {
        draft.put(Record::Relay(Arc::new(told)));
    }
    Ok(draft.decided(Outcome::Noted))
}

/// Checks that there may be one more relay, of this name.
pub(crate) fn check_new(state: &State, name: &Label) -> Result<(), Refusal> {
    at_most(limits::RELAYS, state.relays.len() + 1, "relays", "the mesh")?;
    if state.relay_named(name).is_some() {
        return Err(RelayRefusal::NameTaken { name: name.clone() }.into());
    }
    Ok(())
}

fn check_operator(by: &Admin) -> Result<(), RelayRefusal> {
    by.team.as_ref().map_or(Ok(()), |team| Err(RelayRefusal::Operators { team: team.clone() }))
}

/// Checks where a relay is said to be. A loopback address is taken, as the whole mesh may be on one machine.
fn check_places(name: &Label, public: &RelayPublic) -> Result<(), Refusal> {
    let RelayPublic { udp, tcp, tls, fingerprint } = public;
    for (what, places) in [("UDP addresses", udp), ("TCP addresses", tcp), ("TLS addresses", tls)] {
        at_most(limits::PLACES, places.len(), what, format!("the relay `{name}`"))?;
        for place in places {
            let Some(Err(why)) = place.address().map(|at| endpoint::check(at, None)) else { continue };
            if why != EndpointError::Is(Fault::Loopback) {
                let (name, place, why) = (name.clone(), place.clone(), why.to_string());
                return Err(RelayRefusal::BadPlace { name, place, why }.into());
            }
        }
    }
    if udp.is_empty() && tcp.is_empty() && tls.is_empty() {
        return Err(RelayRefusal::NoPlace { name: name.clone() }.into());
    }
    if !tls.is_empty() && fingerprint.is_none() {
        return Err(RelayRefusal::NoFingerprint { name: name.clone() }.into());
    }
    Ok(())
}

fn places_in_words(relay: &Relay) -> String {
    let of = |scheme: &'static str, places: &[Place]| -> Vec<String> {
        places.iter().map(|place| format!("{scheme} {place}")).collect()
    };
    let RelayPublic { udp, tcp, tls, .. } = &relay.public;
    [of("udp", udp), of("tcp", tcp), of("tls", tls)].concat().join(", ")
}

/// Until when a runner's credentials for relays are good that it gets now: for at most [`limits::RELAY_CREDENTIAL`]
/// seconds and at least half of it. It is the same for half of that time, so that a new stream changes nothing; runners
/// change theirs at different times.
#[must_use]
pub const fn credential_until(runner: RunnerId, now: UnixSeconds) -> UnixSeconds {
    const HALF: u64 = limits::RELAY_CREDENTIAL / 2;
    let offset = runner.0.wrapping_mul(7919) % HALF;
    let begun = now.0.saturating_add(offset) / HALF;
    UnixSeconds(begun.saturating_add(2).saturating_mul(HALF).saturating_sub(offset))
}

impl State {
    /// The relays, by identifier.
    pub fn relays(&self) -> impl Iterator<Item = &Arc<Relay>> {
        self.relays.values()
    }

    /// The relay with this identifier.
    #[must_use]
    pub fn relay(&self, id: RelayId) -> Option<&Arc<Relay>> {
        self.relays.get(&id)
    }

    /// The relay with this name.
    #[must_use]
    pub fn relay_named(&self, name: &str) -> Option<&Arc<Relay>> {
        self.relays.values().find(|relay| &*relay.name == name)
    }

    /// Whether the administrator may add this relay, before it is tried.
    ///
    /// # Errors
    /// If not.
    pub fn check_new_relay(&self, by: &Admin, new: &NewRelay) -> Result<(), Refusal> {
        by.is_at_least(Role::Admin)?;
        self.check_relay(by, new)
    }

    fn check_relay(&self, by: &Admin, new: &NewRelay) -> Result<(), Refusal> {
        check_operator(by)?;
        check_new(self, &new.name)?;
        if new.public.udp.is_empty() {
            return Err(RelayRefusal::NoPlace { name: new.name.clone() }.into());
        }
        check_places(&new.name, &new.public)
    }

    /// The relays, by name.
    ///
    /// # Errors
    /// If the administrator is limited to a team.
    pub fn relay_rows(&self, reader: &Admin) -> Result<Vec<RelayRow>, Refusal> {
        check_operator(reader)?;
        let at = |relay: RelayId| {
            self.active_runners().filter(|runner| runner.outside.relayed.iter().any(|at| at.relay == relay)).count()
        };
        let row = |relay: &Arc<Relay>| RelayRow { relay: Arc::clone(relay), runners: at(relay.id) };
        let mut rows: Vec<RelayRow> = self.relays.values().map(row).collect();
        rows.sort_by(|a, b| a.relay.name.cmp(&b.relay.name));
        Ok(rows)
    }

    /// The runners that were removed and whose credentials for relays may still be good, each with when they aren't any
    /// more.
    #[must_use]
    pub fn revoked(&self, now: UnixSeconds) -> BTreeSet<(RunnerId, UnixSeconds)> {
        let revoked = self.index.removed.iter().filter(|(at, _)| limits::may_hold_credentials(*at, now));
        revoked.map(|(at, id)| (*id, at.plus(limits::RELAY_CREDENTIAL))).collect()
    }
}

#[cfg(test)]
mod tests;
