//! What a command takes away: found by carrying it out on a copy of the state.

mod usage;

use std::collections::BTreeSet;

use mesh_proto::{
    InstanceId, Label, Ports, RunnerId, ServiceId, ServicePath,
    view::{Grant, Instance, InstanceState},
};
use serde::{Deserialize, Serialize};

pub use usage::{InUse, Usage, Used};

use crate::{Admin, AdminCommand, Apply, Command, Decision, Now, Outcome, Refusal, State, deploy, limits};

/// What a command would answer, and what it would take away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The answer that it would get.
    pub outcome: Outcome,
    /// What it would take away.
    pub effect: Effect,
}

/// What a change takes away. Connections within it are reset, or can't be opened any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Effect {
    /// The rights that end, those that may be in use first; at most [`limits::EFFECT`].
    pub cut: Vec<Cut>,
    /// How many more rights end.
    pub more_cut: usize,
    /// The instances that end; at most [`limits::EFFECT`].
    pub ended: Vec<Ended>,
    /// How many more instances end.
    pub more_ended: usize,
    /// The services that have no live instance any more.
    pub unserved: Vec<ServicePath>,
    /// How many connections stand in all this, by the runners' last reports; `None`: that isn't known.
    pub connections: Option<u64>,
    /// The pairs of services that are cut and were in use, as far as runners report it; at most [`limits::EFFECT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_use: Vec<InUse>,
    /// The age of the oldest of those reports, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_seconds: Option<u64>,
}

impl Effect {
    /// Whether nothing is taken away.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.cut.is_empty() && self.ended.is_empty() && self.unserved.is_empty()
    }
}

/// A right that ends: of all services of a deployment, to open connections to a service of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Cut {
    /// The calling deployment.
    pub caller: Label,
    /// The called service.
    pub callee: ServicePath,
    /// The ports; empty: all.
    pub ports: Vec<u16>,
    /// The ports that stay open, where `ports` is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<u16>,
    /// How many instances the caller's services have.
    pub caller_instances: usize,
    /// How many live or draining instances the called service has.
    pub callee_instances: usize,
    /// The runners with these instances.
    pub nodes: Vec<Label>,
}

impl Cut {
    /// Whether connections can stand there.
    #[must_use]
    pub const fn may_be_used(&self) -> bool {
        self.caller_instances > 0 && self.callee_instances > 0
    }
}

/// An instance that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Ended {
    /// The instance.
    pub id: InstanceId,
    /// Its service.
    pub service: ServicePath,
    /// Its runner.
    pub node: Label,
}

impl State {
    /// What an administrator's command would answer and take away, as far as `reader` may see it, and what of that is in
    /// use, if `usage` is known. Nothing changes, so every role may ask.
    ///
    /// # Errors
    /// Why the command would be refused.
    pub fn preview(
        &self,
        reader: &Admin,
        command: &Command,
        now: impl Into<Now>,
        usage: Option<&Usage>,
    ) -> Result<Preview, Refusal> {
        let now = now.into();
        let mut decision = match command {
            Command::Apply { by, what } => {
                let what = Apply { dry_run: false, prune: true, ..what.clone() };
                self.decide_for_any_role(&Command::Apply { by: by.clone(), what }, now)?
            }
            Command::Admin { by, what: AdminCommand::Apply { files, force, .. } } => {
                let (files, force, prune) = (files.clone(), *force, Some(true));
                let what = AdminCommand::Apply { files, dry_run: false, force, prune };
                self.decide_for_any_role(&Command::Admin { by: by.clone(), what }, now)?
            }
            _ => self.decide_for_any_role(command, now)?,
        };
        let after = self.after(&decision);
        deploy::as_dry_run(&mut decision.outcome);
        let mut effect = self.effect(reader, &after);
        if let Some(usage) = usage {
            self.add_usage(&mut effect, reader, &after, command, usage, now.day);
        }
        Ok(Preview { outcome: decision.outcome, effect })
    }

    /// The state after a decision.
    pub(crate) fn after(&self, decision: &Decision) -> Self {
        let mut after = self.clone();
        if !decision.changes.is_empty() {
            after.absorb(&decision.changes, self.revision.next());
        }
        after
    }

    /// What is in this state and not in `after`, as far as the reader may see it.
    fn effect(&self, reader: &Admin, after: &Self) -> Effect {
        let mut cut: Vec<Cut> =
            self.grants.all().filter_map(|grant| self.cut(reader, grant, after.left_of(grant))).collect();
        cut.sort_by(|a, b| (!a.may_be_used(), &a.callee, &a.caller).cmp(&(!b.may_be_used(), &b.callee, &b.caller)));
        let gone = self.instances.values().filter(|instance| !after.instances.contains_key(&instance.id));
        let mut ended: Vec<Ended> = gone.filter_map(|instance| self.ended(reader, instance)).collect();
        let served = |state: &Self, service: ServiceId| {
            state.instances_of(service).any(|instance| instance.state == InstanceState::Live)
        };
        let unserved = self.services.keys().copied().filter(|service| {
            after.services.contains_key(service) && served(self, *service) && !served(after, *service)
        });
        let unserved = unserved.filter_map(|service| self.path_for(reader, service)).take(limits::EFFECT).collect();
        let (more_cut, more_ended) = (over(&mut cut), over(&mut ended));
        Effect { cut, more_cut, ended, more_ended, unserved, ..Effect::default() }
    }

    /// What a right loses if these ports are left of it.
    fn cut(&self, reader: &Admin, grant: &Grant, left: Option<&Ports>) -> Option<Cut> {
        let (ports, except) = lost(&grant.ports, left)?;
        let callee = self.path_for(reader, grant.callee)?;
        let caller = &self.deployments.get(&grant.caller)?.record;
        let callers: Vec<&Instance> = self
            .services_of(caller.id)
            .flat_map(|service| self.instances_of(service.record.id))
            .map(|i| &**i)
            .collect();
        let callees: Vec<&Instance> =
            self.instances_of(grant.callee).map(|i| &**i).filter(|i| i.state != InstanceState::Client).collect();
        let runners: BTreeSet<RunnerId> = callers.iter().chain(&callees).map(|instance| instance.runner).collect();
        let nodes = runners.into_iter().filter_map(|id| self.runner(id)).map(|runner| runner.name.clone()).collect();
        Some(Cut {
            caller: caller.name.clone(),
            callee,
            ports,
            except,
            caller_instances: callers.len(),
            callee_instances: callees.len(),
            nodes,
        })
    }

    /// What is left here of a right in another state.
    fn left_of(&self, grant: &Grant) -> Option<&Ports> {
        let to = self.services.get(&grant.callee)?.record.deployment;
        self.grants.get(grant.caller, to, grant.callee).map(|grant| &grant.ports)
    }

    fn ended(&self, reader: &Admin, instance: &Instance) -> Option<Ended> {
        let service = self.path_for(reader, instance.service)?;
        Some(Ended { id: instance.id, service, node: self.runner(instance.runner)?.name.clone() })
    }
}

/// Cuts a list off. Returns how many were cut off.
fn over<T>(list: &mut Vec<T>) -> usize {
    let over = list.len().saturating_sub(limits::EFFECT);
    list.truncate(limits::EFFECT);
    over
}

/// The ports of `before` that are not in `after`, as [`Cut::ports`] and [`Cut::except`]; `None` if there are none.
fn lost(before: &Ports, after: Option<&Ports>) -> Option<(Vec<u16>, Vec<u16>)> {
    match (before, after) {
        (_, Some(Ports::All)) => None,
        (Ports::All, None) => Some((vec![], vec![])),
        (Ports::All, Some(Ports::Only(left))) => Some((vec![], left.iter().copied().collect())),
        (Ports::Only(had), left) => {
            let gone: Vec<u16> =
                had.iter().copied().filter(|port| !left.is_some_and(|left| left.contain(*port))).collect();
            (!gone.is_empty()).then_some((gone, vec![]))
        }
    }
}

#[cfg(test)]
mod tests;
