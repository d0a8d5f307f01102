//! The audit: what was changed or refused, and by whom. Administrators, runners and refusals have separate rings, and
//! each ring is shared by team and runner: the holder of most entries loses its oldest one first, so no actor can
//! push out the entries of others.

use std::{collections::BTreeMap, sync::Arc};

use mesh_proto::{Label, Revision, RunnerId};
use serde::{Deserialize, Serialize};

use crate::{
    Admin, Decision, Key, Now, Outcome, Record, State, UnixSeconds, Via,
    draft::Draft,
    limits,
    record::{Audit, By, Runner, Verdict},
    state::{Ring, Whose, holder},
};

/// Which entries of the audit are asked for. What isn't given leaves all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct AuditQuery {
    /// How many at most.
    pub limit: Option<usize>,
    /// Those with a smaller number.
    pub before: Option<u64>,
    /// Those from this time on, in Unix seconds.
    pub since: Option<UnixSeconds>,
    /// Those of this actor: a token's name or identifier, `uid 0`, a runner's identifier.
    pub by: Option<String>,
    /// Those of this action.
    pub action: Option<String>,
    /// Those about this object.
    pub object: Option<String>,
    /// Those with this result.
    pub result: Option<Verdict>,
}

impl AuditQuery {
    /// Whether it leaves an entry.
    fn leaves(&self, entry: &Audit) -> bool {
        let is_actor = |by: &String| {
            let actor = entry.by.to_string();
            entry.by_name.as_ref() == Some(by) || actor == *by || actor.rsplit(' ').next() == Some(by)
        };
        self.since.is_none_or(|since| entry.at >= since)
            && self.by.as_ref().is_none_or(is_actor)
            && self.action.as_ref().is_none_or(|action| entry.action == *action)
            && self.object.as_ref().is_none_or(|object| entry.object.as_ref() == Some(object))
            && self.result.is_none_or(|result| entry.result == result)
    }
}

/// For how many seconds a repeated event is not noted again.
const HOUR: u64 = 3600;

/// An entry before it has a number and a time.
pub(crate) struct Note(Audit);

impl Note {
    fn new(by: By, action: &str, detail: String) -> Self {
        Self(Audit {
            number: 0,
            at: UnixSeconds(0),
            by,
            action: action.to_owned(),
            detail,
            result: Verdict::Done,
            by_name: None,
            by_team: None,
            team: None,
            object: None,
            runner: None,
        })
    }

    /// A change by an administrator.
    pub(crate) fn admin(state: &State, by: &Admin, action: &str, detail: String) -> Self {
        let mut note = Self::new(by.via.into(), action, detail);
        if let Via::Token(id) = by.via {
            note.0.by_name = state.tokens.get(&id).and_then(|token| token.name.clone());
        }
        note.0.by_team.clone_from(&by.team);
        note
    }

    /// An action of a runner, or one of the coordinator on its behalf.
    pub(crate) fn runner(by: By, runner: &Runner, action: &str, detail: String) -> Self {
        let mut note = Self::new(by, action, detail);
        let team = runner.owner().cloned();
        (note.0.by_team, note.0.team, note.0.runner) = (team.clone(), team, Some(runner.id));
        note
    }

    /// A change by another actor.
    pub(crate) fn by(by: By, action: &str, detail: String) -> Self {
        Self::new(by, action, detail)
    }

    /// Sets the team that owns the changed object: its administrators see the entry.
    pub(crate) fn of(mut self, team: Option<&Label>) -> Self {
        self.0.team = team.cloned();
        self
    }

    /// Sets the name of the token that authorised the action.
    pub(crate) fn named(&mut self, name: Option<&String>) {
        self.0.by_name = name.cloned();
    }

    /// Sets the name of the changed object.
    pub(crate) fn on(mut self, object: impl ToString) -> Self {
        self.0.object = Some(object.to_string());
        self
    }
}

impl Draft<'_> {
    /// Adds an entry.
    pub(crate) fn audit(&mut self, Note(entry): Note) {
        let entry = Audit { number: self.audit_number(), at: self.now.day, ..entry };
        *self.noted.entry(Ring::of(&entry)).or_default().entry(holder(&entry)).or_default() += 1;
        self.put(Record::Audit(Arc::new(entry)));
    }

    /// Deletes entries of rings that are over their limit.
    pub(crate) fn make_room_in_audit(&mut self) {
        for (ring, noted) in std::mem::take(&mut self.noted) {
            let held = self.state.index.rings.entries.get(&ring);
            let mut sizes: BTreeMap<Option<&Label>, usize> = BTreeMap::new();
            let each = held.into_iter().flatten().map(|(holder, numbers)| (holder, numbers.len()));
            for ((team, _), size) in each.chain(noted.iter().map(|(holder, size)| (holder, *size))) {
                *sizes.entry(team.as_ref()).or_default() += size;
            }
            let surplus = sizes.values().sum::<usize>().saturating_sub(ring.limit());
            let mut left: BTreeMap<&Whose, _> =
                held.into_iter().flatten().map(|(holder, numbers)| (holder, numbers.iter())).collect();
            for _ in 0..surplus {
                let most = left.iter().filter(|(_, numbers)| numbers.len() > 0).max_by_key(|((team, _), numbers)| {
                    (sizes.get(&team.as_ref()).copied().unwrap_or_default(), numbers.len())
                });
                let Some(holder) = most.map(|(holder, _)| *holder) else { break };
                if let Some(number) = left.get_mut(holder).and_then(Iterator::next) {
                    self.delete(Key::Audit(*number));
                }
                if let Some(size) = sizes.get_mut(&holder.0.as_ref()) {
                    *size -= 1;
                }
            }
        }
    }
}

impl Audit {
    /// A team's administrator sees entries about the team's objects, and those that the team's administrators caused.
    pub(crate) fn is_seen_by(&self, reader: &Admin) -> bool {
        match &reader.team {
            None => true,
            team => self.team == *team || self.by_team == *team,
        }
    }
}

/// An administrator was refused. The same refusal is noted once an hour, and only a limited number per team.
pub(crate) fn refused(state: &State, by: &Admin, action: &str, detail: &str, now: Now) -> Decision {
    let mut note = Note::admin(state, by, action, detail.chars().take(limits::REFUSED_DETAIL).collect());
    note.0.result = Verdict::Refused;
    note.0.team.clone_from(&by.team);
    let same = |entry: &Audit| (&entry.action, &entry.detail, entry.by) == (&note.0.action, &note.0.detail, note.0.by);
    let recent: Vec<_> = state.recent(Ring::Refused, &holder(&note.0), now).collect();
    if recent.len() >= limits::REFUSALS_NOTED || recent.into_iter().any(|entry| same(entry)) {
        return Draft::unchanged(Outcome::Noted);
    }
    let mut draft = Draft::new(state, now);
    draft.audit(note);
    draft.decided(Outcome::Noted)
}

/// The database was put back to an earlier state: `runner` has seen the revision `seen`.
pub(crate) fn put_back(state: &State, runner: &Runner, seen: Revision, now: Now) -> Decision {
    let mut draft = Draft::new(state, now);
    let detail = format!(
        "{} `{}` has seen revision {seen}, and the database is at {}: all maps begin anew",
        runner.id, runner.name, state.revision
    );
    draft.audit(Note::by(By::Coordinator, "database-put-back", detail));
    draft.decided(Outcome::Noted)
}

impl State {
    fn recent(&self, ring: Ring, holder: &Whose, now: Now) -> impl Iterator<Item = &Arc<Audit>> + use<'_> {
        let numbers = self.index.rings.entries.get(&ring).and_then(|holders| holders.get(holder));
        let entries = numbers.into_iter().flatten().rev().filter_map(|number| self.audit.get(number));
        entries.take_while(move |entry| now.day.since(entry.at) < HOUR)
    }

    /// The runner's entries of the last hour, newest first.
    pub(crate) fn recent_of(&self, runner: &Runner, now: Now) -> impl Iterator<Item = &Arc<Audit>> {
        self.recent(Ring::Runners, &(runner.owner().cloned(), Some(runner.id)), now)
    }

    /// Whether the audit already holds an entry that this runner hosts this service.
    pub(crate) fn is_noted_to_host(&self, runner: RunnerId, service: &str) -> bool {
        self.index.rings.hosting.contains_key(&(runner, service.to_owned()))
    }

    /// The last `limit` entries, newest first. A team's administrator sees those about the team's objects, and those
    /// that the team's administrators caused.
    #[must_use]
    pub fn audit(&self, reader: &Admin, limit: usize) -> Vec<Audit> {
        self.audit_of(reader, &AuditQuery { limit: Some(limit), ..AuditQuery::default() })
    }

    /// The number of the newest entry; 0 if there was none.
    #[must_use]
    pub fn newest_audit(&self) -> u64 {
        self.meta.next.audit - 1
    }

    /// The first `most` entries with larger numbers, in their order.
    #[must_use]
    pub fn audit_after(&self, number: u64, most: usize) -> Vec<Arc<Audit>> {
        let after = (std::ops::Bound::Excluded(number), std::ops::Bound::Unbounded);
        self.audit.range(after).take(most).map(|(_, entry)| Arc::clone(entry)).collect()
    }

    /// The last entries that are asked for, newest first.
    #[must_use]
    pub fn audit_of(&self, reader: &Admin, query: &AuditQuery) -> Vec<Audit> {
        let (end, limit) = (query.before.unwrap_or(u64::MAX), query.limit.unwrap_or(usize::MAX));
        let entries = self.audit.range(..end).rev().map(|(_, entry)| entry);
        entries
            .filter(|entry| entry.is_seen_by(reader) && query.leaves(entry))
            .take(limit)
            .map(|entry| (**entry).clone())
            .collect()
    }
}

#[cfg(test)]
mod tests;
