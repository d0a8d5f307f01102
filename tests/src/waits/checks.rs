//! What must hold when a wait ends.

use mesh_proto::{RunnerId, View, rules};
use mesh_sessions::WaitId;

use super::{
    agent::Received,
    operations::PORTS,
    world::{Waiting, World, deployment_name},
};
use crate::Failure;

impl World {
    /// Ends the waits that are over, and checks what their callers rely on.
    pub(super) fn check_waits(&mut self) -> Result<(), Failure> {
        for (id, unconfirmed) in std::mem::take(&mut self.coordinator.waited) {
            self.end_wait(id, &unconfirmed)?;
        }
        let over = |wait: &Waiting| self.coordinator.is_over_by(self.bug, &deployment_name(wait.app), wait.revision);
        let mistaken: Vec<WaitId> = self.waits.iter().filter(|(_, wait)| over(wait)).map(|(id, _)| *id).collect();
        for id in mistaken {
            self.coordinator.sessions.cancel(id);
            self.end_wait(id, &[])?;
        }
        // The writer's timer is as precise as the simulation's ticks.
        let late = std::time::Duration::from_millis(500);
        match self.waits.values().find(|wait| wait.deadline + late < self.now) {
            Some(wait) => Err(self.failure(format!("a wait for {} outlasts its deadline", wait.app))),
            None => Ok(()),
        }
    }

    fn end_wait(&mut self, id: WaitId, unconfirmed: &[RunnerId]) -> Result<(), Failure> {
        let Some(wait) = self.waits.remove(&id) else { return Ok(()) };
        if unconfirmed.is_empty() {
            self.succeeded += 1;
            self.note(format!("the wait for {} succeeds", wait.app));
            return self.check_success(&wait);
        }
        self.failed += 1;
        self.note(format!("the wait for {} fails: {unconfirmed:?}", wait.app));
        // *Honesty*: who is named exists.
        match unconfirmed.iter().find(|runner| !self.agents.contains_key(runner)) {
            Some(runner) => Err(self.failure(format!("{runner} was removed, and is named as unconfirmed"))),
            None => Ok(()),
        }
    }

    /// *Safety*: no runner acts on what was taken back.
    fn check_success(&self, wait: &Waiting) -> Result<(), Failure> {
        for (runner, agent) in &self.agents {
            let Some(Received { view, life }) = &agent.applied else { continue };
            // What a runner knew of a deployment that it lost sight of in an earlier life of the coordinator is
            // forgotten with that life, as documented; the deployment's own hosts refuse all the same.
            let forgotten = *life != self.coordinator.life && !wait.affected.contains(runner);
            if !forgotten && let Some(how) = self.taken_back(view, wait) {
                return Err(self.failure(format!("a wait for {} succeeded, and {runner} still lets {how}", wait.app)));
            }
            let gone = |id: &RunnerId| self.removed.get(id).is_some_and(|removed| *removed <= wait.revision);
            if wait.hosts.contains(runner)
                && let Some(gone) = view.runners().map(|runner| runner.id).find(gone)
            {
                let what = format!("a wait for {} succeeded, and {runner} still knows {gone}, removed", wait.app);
                return Err(self.failure(what));
            }
        }
        Ok(())
    }

    /// A right to call the deployment that the view grants, and that nothing has granted since the wait's revision.
    fn taken_back(&self, view: &View, wait: &Waiting) -> Option<String> {
        let number = |deployment| {
            let name = &view.deployment(deployment)?.name;
            (0..3).find(|number| deployment_name(*number) == *name)
        };
        let of_app = view.services().filter(|service| number(service.deployment) == Some(wait.app));
        for callee in of_app {
            for caller in view.services() {
                let Some(from) = number(caller.deployment).filter(|from| *from != wait.app) else { continue };
                for port in PORTS {
                    let granted = rules::may_open(view, caller.id, callee.id, port).is_ok();
                    let trusts = [(wait.app, from, None), (wait.app, from, Some(port))];
                    let mut since = self.references_since(wait.revision);
                    if granted && !since.any(|reference| trusts.iter().any(|trust| reference.trust.contains(trust))) {
                        return Some(format!("{from} call {} on {port}", wait.app));
                    }
                }
            }
        }
        None
    }
}
