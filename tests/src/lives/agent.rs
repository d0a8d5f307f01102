//! The agent: how it starts, is killed, and answers calls.

use std::sync::Arc;

use mesh_lifecycle::{CallId, Input, Lifecycle, Remembered, Reply};

use super::{
    coordinator::Presence,
    machine::Generation,
    world::{BOOT, Event, Issued, Life, Must},
};

impl Life {
    /// An agent starts, and takes up what is on the disk.
    pub(super) fn boot(&mut self) {
        let remembered = self.machine.disk.clone().unwrap_or_else(|| Remembered::nothing(BOOT.to_owned()));
        let text = remembered.attachments.iter().map(|a| (a.instance, a.namespace.ino, a.ending)).collect::<Vec<_>>();
        self.note(|| format!("an agent starts with {text:?}"));
        self.core = Lifecycle::new(remembered, self.start + self.now);
        if let Some(view) = Some(self.coordinator.view.clone()).filter(|_| self.count.kills > 0) {
            self.input(Input::View(Arc::new(view)));
        }
        self.input(Input::Hearing(true));
        let call = self.call(vec![]);
        self.input(Input::Start(call));
    }

    /// The agent is killed: what is under way ends somehow.
    pub(super) fn kill(&mut self) {
        self.count.kills += 1;
        self.kill_at = None;
        self.note(|| "the agent is killed".to_owned());
        let mut disk_works = true;
        for event in std::mem::take(&mut self.events).into_values() {
            let done = self.rng.chance(50);
            match event {
                Event::Kernel(_, step) if done => drop(self.in_kernel(&step)),
                Event::Ask(_, ask) if done && self.coordinator.presence == Presence::There => {
                    let _ = self.coordinator.answer(&ask);
                }
                Event::Disk(_, remembered) => {
                    // One after the other.
                    disk_works &= done;
                    if disk_works {
                        self.machine.disk = Some(*remembered);
                    }
                }
                Event::Written(_, file) | Event::Cleared(_, file) if done => self.machine.write(file),
                _ => {}
            }
        }
        self.machine.agent_gone();
        // What is mounted over is out of reach of the next agent.
        self.machine.mounts.clear();
        self.started = false;
        self.waits_for_start |= !self.coordinator.presence.is_away();
        self.coordinator.presence = Presence::Away;
        self.hung.clear();
        for issued in std::mem::take(&mut self.calls).into_values() {
            for (generation, _) in issued.concerns {
                self.must.insert(generation, Must::Either);
            }
        }
        // Containers that had no answer are started again by their runtimes, or not: their ends must be noticed all the same.
        self.boot();
    }

    pub(super) fn call(&mut self, concerns: Vec<Generation>) -> CallId {
        let call = CallId(self.machine.number());
        let concerns = concerns.into_iter().map(|generation| (generation, self.touch(generation))).collect();
        self.calls.insert(call, Issued { concerns, hung: false });
        call
    }

    /// *One answer*: each call gets one.
    pub(super) fn replied(&mut self, call: CallId, result: Result<Reply, String>) {
        self.note(|| format!("{call:?} is answered {}", short(&result)));
        // An agent opens its stream when it has taken up what there was.
        if matches!(result, Ok(Reply::Started)) {
            self.soon(20, Event::Started);
        }
        if let Ok(Reply::DrainingSet(shown, _)) = &result
            && let Some((asked, told)) = self.told_draining.get_mut(&shown.attachment.instance)
            && *asked == call
        {
            *told = Some(shown.attachment.draining);
        }
        let Some(issued) = self.calls.remove(&call) else {
            if self.hung.remove(&call) {
                return;
            }
            return self.fail(format!("{call:?} was not waiting for an answer"));
        };
        for (generation, touched) in issued.concerns {
            let must = match &result {
                Ok(_) if self.touched.get(&generation) != Some(&touched) => Must::Either,
                Ok(Reply::Attached(..)) if self.bereft.contains(&generation) => Must::Either,
                Ok(Reply::Attached(..)) => Must::Stand,
                Ok(Reply::Detached(_) | Reply::AllDetached(_)) => Must::Gone,
                _ => continue,
            };
            if self.machine.namespaces.get(&generation).is_some_and(|ns| ns.alive) {
                self.must.insert(generation, must);
            }
        }
    }
}

fn short(result: &Result<Reply, String>) -> String {
    match result {
        Ok(Reply::Attached(shown, _)) => format!("attached {}", shown.attachment.instance),
        Ok(Reply::Detached(shown)) => format!("detached {}", shown.attachment.instance),
        Ok(Reply::ContainerDetached(shown)) => format!("let go {:?}", shown.as_ref().map(|s| s.attachment.instance)),
        Ok(other) => format!("{:.20}", format!("{other:?}")),
        Err(why) => why.clone(),
    }
}
