//! The paths to one runner, as the rest of the engine sees them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    Around, Contact, Errand, Path, Reach, State, Used,
    hops::{holds, tried},
};
use crate::hop::{Hop, Way};

/// No round trip takes longer.
const LONGEST: Duration = Duration::from_secs(3);

/// Many NATs forget whom nothing was sent to for 30 s.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// How good the address is that a runner had last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is from an earlier run.
    #[default]
    Recalled,
    /// The runner was authenticated there in this run.
    Authenticated,
    /// A relay is used since it went silent.
    Left,
}

/// What is known of the paths to a runner, apart from the map's candidates.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Where the runner was authenticated last without a relay between, perhaps in an earlier run.
    endpoint: Option<SocketAddr>,
    standing: Standing,
    /// Whether a meeting waits for data.
    pub(super) waits: bool,
    /// Made when it is needed, and dropped when the runner isn't in contact any more.
    pub(super) contact: Option<Box<Contact>>,
}

impl Link {
    /// Where the runner is asked first: its used path, or its last address.
    pub(crate) fn known(&self) -> Option<Way> {
        self.way().or_else(|| Some(self.endpoint?.into()))
    }

    /// Whether the last address worked until it was last used, and no NAT in front of it has forgotten this runner since
    /// it was heard there.
    pub(crate) fn is_remembered(&self, around: Around<'_>, heard: Option<Instant>, now: Instant) -> bool {
        let Some(at) = self.endpoint.filter(|_| self.standing != Standing::Left) else { return false };
        let forgotten = heard.is_some_and(|heard| now.saturating_duration_since(heard) >= FORGOTTEN);
        !forgotten || around.is_listed(at)
    }

    /// Whether more is known than the map.
    pub(crate) fn is_known(&self) -> bool {
        self.known().is_some() || self.claimed().is_some()
    }

    /// Where the runner was authenticated in this run, if no relay has taken its place.
    pub(crate) fn authenticated(&self) -> Option<SocketAddr> {
        self.endpoint.filter(|_| self.standing == Standing::Authenticated)
    }

    /// Takes new candidates. Returns whether the runner has left its used path. (Only an address that the map held before
    /// can be left; behind a NAT the map never holds it.)
    pub(crate) fn offer(&mut self, before: Around<'_>, after: Around<'_>, now: Instant) -> bool {
        let (old, new) = (&before.runner, &after.runner);
        let moved = old.endpoints != new.endpoints || old.reflexive != new.reflexive || old.relayed != new.relayed;
        let left = self.endpoint.is_some_and(|at| holds(&old.endpoints, at) && !holds(&new.endpoints, at));
        if left {
            let gone = self.endpoint.take().map(Hop::Direct);
            self.standing = Standing::Recalled;
            self.forget(|hop| Some(hop) == gone, after, now);
        }
        let relayed: Vec<Hop> = after.relayed().collect();
        let was = |hop| before.relayed().any(|known| known == hop) && !relayed.contains(&hop);
        let switched = self.way().is_some_and(|way| was(way.to));
        self.forget(was, after, now);
        if moved && self.contact.is_some() {
            self.renew_meetings(now);
        }
        left || switched
    }

    /// The relays at which this runner has an allocation, or those of the other one, have changed. Returns whether no path
    /// is left.
    pub(crate) fn change_relays(&mut self, around: Around<'_>, now: Instant) -> bool {
        let had = self.way().is_some();
        let is_gone = |hop| matches!(hop, Hop::Relayed { relay, .. } if !around.site.relays.contains(&relay));
        self.forget(is_gone, around, now);
        had && self.way().is_none()
    }

    /// Forgets paths. If the used one is among them, a relay takes its place at once, if there is one.
    fn forget(&mut self, gone: impl Fn(Hop) -> bool, around: Around<'_>, now: Instant) {
        let Some(contact) = &mut self.contact else { return };
        contact.others.retain(|path| !gone(path.hop));
        if contact.used.as_ref().is_some_and(|used| gone(used.hop)) {
            (contact.used, contact.state) = (None, State::Opening);
            if let Some(hop) = around.relayed().find(|hop| !gone(*hop)) {
                contact.switch(hop.into(), now);
                contact.state = State::Up;
                self.begin_relayed(now);
            }
        }
    }

    /// Takes the endpoint of an earlier run, unless this run knows better.
    pub(crate) fn recall(&mut self, endpoint: SocketAddr) {
        if self.standing == Standing::Recalled {
            self.endpoint = Some(endpoint);
        }
    }

    /// The used path is a direct one with this address. Returns whether that is new.
    pub(super) fn note_direct(&mut self, at: SocketAddr) -> Option<Errand> {
        let known = self.authenticated() == Some(at);
        (self.endpoint, self.standing) = (Some(at), Standing::Authenticated);
        (!known).then_some(Errand::Endpoint(at))
    }

    /// A relay has taken the place of the last address.
    pub(super) fn note_left(&mut self) {
        if self.endpoint.is_some() {
            self.standing = Standing::Left;
        }
    }

    /// Notes the way back to the sender of an initiation.
    pub(crate) fn claim(&mut self, way: Way) {
        self.contact().claimed = Some(way);
    }

    /// An authentic initiation has come by a relay: the runner can be asked there, whatever is used.
    pub(crate) fn note_relayed(&mut self, way: Way) {
        let used = self.way().map(|used| used.to);
        if way.to.is_relayed() && used != Some(way.to) {
            self.contact().other(way);
        }
    }

    /// There is no session any more.
    pub(crate) fn close(&mut self) {
        if let Some(contact) = &mut self.contact {
            contact.state = State::Opening;
        }
    }

    /// The runner isn't in contact any more.
    pub(crate) fn sleep(&mut self) {
        // It is asked there, and told when this machine moves, as where it was in an earlier run.
        if self.endpoint.is_none() {
            self.endpoint = self.claimed().and_then(|way| way.to.direct());
        }
        (self.contact, self.waits) = (None, false);
    }

    pub(super) fn contact(&mut self) -> &mut Contact {
        self.contact.get_or_insert_default()
    }

    // === The used path ===

    /// Where packets go.
    #[inline]
    pub(crate) fn way(&self) -> Option<Way> {
        Some(self.contact.as_ref()?.used.as_ref()?.way())
    }

    /// Whether what comes from there is no news: the used path works.
    #[inline]
    pub(crate) fn is_settled(&self, way: &Way) -> bool {
        let Some(contact) = &self.contact else { return false };
        let used = contact.used.as_ref();
        contact.state == State::Up && used.is_some_and(|used| used.hop == way.to && used.local == way.from)
    }

    /// Whether the used path works, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        self.contact.as_ref().is_some_and(|contact| contact.state == State::Up)
    }

    /// Whether data isn't answered.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let state = self.contact.as_ref().map(|contact| contact.state);
        matches!(state, Some(State::Doubtful { .. } | State::Lost))
    }

    fn used_reach(&self) -> Option<&Reach> {
        Some(&self.contact.as_ref()?.used.as_ref()?.reach)
    }

    /// How far the used path reaches.
    pub(crate) fn reach(&mut self) -> Option<&mut Reach> {
        Some(&mut self.contact.as_mut()?.used.as_mut()?.reach)
    }

    /// Whether something has to be found out with the next data: how far the path reaches, or whether there is a direct
    /// one.
    #[inline]
    pub(crate) fn waits_for_data(&self) -> bool {
        self.waits || self.used_reach().is_none_or(Reach::is_untried)
    }

    /// Whether a meeting waits for data.
    #[inline]
    pub(crate) const fn has_meeting(&self) -> bool {
        self.waits
    }

    /// The longest packet for the path, if that was tried.
    #[inline]
    pub(crate) fn cut(&self) -> Option<usize> {
        self.used_reach()?.cut().map(usize::from)
    }

    /// See [`Reach::proven`].
    pub(crate) fn proven(&self) -> Option<u16> {
        self.used_reach()?.proven()
    }

    /// A round trip on the used path was measured by a handshake.
    pub(crate) fn note_rtt(&mut self, rtt: Duration) {
        if let Some(reach) = self.reach().filter(|reach| reach.rtt().is_none() && rtt <= LONGEST) {
            reach.note_rtt(rtt);
        }
    }

    /// For `status`.
    pub(crate) fn used(&self) -> Option<Used> {
        let contact = self.contact.as_ref()?;
        let used = contact.used.as_ref()?;
        let (rtt, cut) = (used.reach.rtt(), used.reach.proven());
        Some(Used { hop: used.hop, rtt, cut, since: contact.since })
    }

    /// The path is measured anew, if it is.
    pub(crate) fn forget_reach(&mut self) {
        if let Some(reach) = self.reach() {
            reach.leave();
        }
    }

    /// The machine's own addresses have changed.
    pub(crate) fn forget_local(&mut self) {
        if let Some(contact) = &mut self.contact {
            contact.used.iter_mut().chain(&mut contact.others).for_each(|path| path.local = None);
        }
    }

    // === Addresses for handshakes ===

    pub(super) fn claimed(&self) -> Option<Way> {
        self.contact.as_ref()?.claimed
    }

    /// Where a handshake to an address goes.
    pub(crate) fn way_to(&self, to: SocketAddr) -> Way {
        let known = self.known().into_iter().chain(self.claimed()).find(|way| way.to == Hop::Direct(to));
        known.unwrap_or(to.into())
    }

    /// The ways by relays, with those by which the runner was heard.
    pub(crate) fn relayed(&self, around: Around<'_>) -> Vec<Way> {
        let heard = self.way().into_iter().chain(self.claimed()).filter(|way| way.to.is_relayed());
        let mut ways: Vec<Way> = heard.collect();
        ways.extend(around.relayed().map(Way::from));
        let mut seen: Vec<Hop> = vec![];
        ways.retain(|way| !seen.contains(&way.to) && (seen.push(way.to), true).1);
        ways
    }

    /// The direct paths besides the used one on which the runner has answered.
    pub(crate) fn spare(&self, now: Instant) -> impl Iterator<Item = Way> {
        let others = self.contact.iter().flat_map(|contact| &contact.others);
        let open = others.filter(move |path| path.reach.is_open() && !path.hop.is_relayed() && !path.is_shut(now));
        open.map(Path::way)
    }

    /// The direct addresses that were never proven. `everywhere`: with those where the outside sees the runner.
    pub(crate) fn unproven(&self, around: Around<'_>, everywhere: bool) -> impl Iterator<Item = SocketAddr> {
        let candidates = &around.runner.endpoints[..];
        let claimed = self.claimed().and_then(|way| way.to.direct()).filter(|at| !holds(candidates, *at));
        let outside = around.reflexive().filter(move |at| everywhere && Some(*at) != claimed);
        let known = self.known().and_then(|way| way.to.direct());
        let listed = tried(candidates).filter(move |at| everywhere || !around.is_outside(*at));
        claimed.into_iter().chain(listed).chain(outside).filter(move |at| Some(*at) != known)
    }

    /// All direct addresses.
    pub(crate) fn all(&self, around: Around<'_>) -> impl Iterator<Item = SocketAddr> {
        let known = self.known().and_then(|way| way.to.direct());
        known.into_iter().chain(self.unproven(around, true))
    }
}
