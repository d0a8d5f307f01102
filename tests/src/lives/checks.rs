//! What must be so when all is calm.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Bug,
    coordinator::Presence,
    machine::{Generation, Machine},
    world::{Life, Must},
};

impl Life {
    /// The coordinator is there, and all that is under way comes to its end. Then it is checked.
    pub(super) fn calm(&mut self) {
        self.kill_at = None;
        self.machine.disk_fails = false;
        self.write_later();
        match self.coordinator.presence {
            Presence::There => {}
            Presence::Silent => {
                self.disconnect();
                self.connect();
            }
            Presence::Away | Presence::Refusing => self.connect(),
        }
        self.run_for(Duration::from_secs(90));
        // A change that is heard is put back long before the round.
        let living: Vec<Generation> = self.machine.namespaces.keys().copied().collect();
        for generation in living {
            if let Some(ns) = self.machine.namespaces.get_mut(&generation).filter(|ns| ns.alive && ns.mesh0.is_some()) {
                ns.damaged = true;
                self.hear_damage(generation);
            }
        }
        self.run_for(Duration::from_secs(8));
        if self.wrong.is_some() {
            return;
        }
        self.note(|| "all is calm".to_owned());
        if let Err(what) = self.check() {
            self.fail(what);
        }
    }

    fn check(&self) -> Result<(), String> {
        if let Some(call) = self.calls.keys().next() {
            return Err(format!("{call:?} has no answer; what is waited for: {:?}", self.core.poll_timeout()));
        }
        self.check_instances()?;
        self.check_namespaces()?;
        self.check_hosts()?;
        self.check_containers()?;
        let mut remembered = self.core.remembered();
        if self.bug == Some(Bug::ContainersForgotten) {
            // What comes of it is what is to be found.
            remembered.containers.clear();
        }
        if self.bug == Some(Bug::HostsLeftForgotten) {
            remembered.hosts_left.clear();
        }
        if self.machine.disk.as_ref().is_some_and(|disk| *disk != remembered) {
            return Err(format!("the disk holds {:?} instead of {remembered:?}", self.machine.disk));
        }
        if !remembered.ended.is_empty() {
            return Err(format!("the coordinator was not told of {:?}", remembered.ended));
        }
        let open = self.machine.namespaces.values().any(|ns| !ns.open.is_empty());
        if open || !self.machine.opened.is_empty() {
            return Err(format!("something that came with a call is still open: {:?}", self.machine.opened));
        }
        Ok(())
    }

    /// *Truth*: the same instances stand here, at the coordinator and in the kernel.
    fn check_instances(&self) -> Result<(), String> {
        let here: BTreeSet<_> = self.core.list().iter().map(|shown| shown.attachment.instance).collect();
        let there: BTreeSet<_> = self.coordinator.instances().into_iter().collect();
        if here != there {
            return Err(format!("{here:?} stand here, and {there:?} at the coordinator"));
        }
        let all = self.machine.namespaces.values().filter_map(|ns| ns.mesh0.as_ref());
        let served: BTreeSet<_> = all.filter_map(|mesh0| Some(mesh0.served?.1)).collect();
        if here != served {
            return Err(format!("{here:?} stand here, and {served:?} are served"));
        }
        for shown in self.core.list() {
            let attachment = &shown.attachment;
            let view = &self.coordinator.view;
            let service = view.instance(attachment.instance).and_then(|instance| view.service(instance.service));
            let addresses = service.map(|service| (attachment.address, service.address));
            let generation = self.machine.by_id(attachment.namespace);
            let mesh0 = generation.and_then(|generation| self.machine.namespaces[&generation].mesh0.as_ref());
            if mesh0.and_then(|mesh0| mesh0.addresses) != addresses {
                return Err(format!("{} has {mesh0:?} and not {addresses:?}", attachment.instance));
            }
            let draining = view.instance(attachment.instance).map(|i| i.state);
            if (draining == Some(mesh_proto::view::InstanceState::Draining)) != attachment.draining {
                return Err(format!("{} is {draining:?} at the coordinator", attachment.instance));
            }
        }
        Ok(())
    }

    /// *Promises*: what callers were told stands, and what they were told has gone is gone; nothing is left in a namespace.
    fn check_namespaces(&self) -> Result<(), String> {
        let list = self.core.list();
        let stands: BTreeSet<Generation> =
            list.iter().filter_map(|shown| self.machine.by_id(shown.attachment.namespace)).collect();
        for (generation, ns) in self.machine.namespaces.iter().filter(|(_, ns)| ns.alive) {
            match (self.must.get(generation), stands.contains(generation)) {
                (Some(Must::Stand), false) => return Err(format!("{generation} has lost its instance")),
                (Some(Must::Gone), true) => return Err(format!("the instance of {generation} has not ended")),
                _ => {}
            }
            match &ns.mesh0 {
                Some(mesh0) if !stands.contains(generation) => {
                    return Err(format!("{generation} is left with {mesh0:?}"));
                }
                Some(_) if ns.damaged => return Err(format!("the network of {generation} is not put back")),
                Some(_) if !ns.barred => return Err(format!("the range is not barred in {generation}")),
                _ => {}
            }
        }
        for (generation, barred) in &self.must_be_barred {
            let ns = &self.machine.namespaces[generation];
            if ns.alive && *barred && !ns.barred {
                return Err(format!("the process that is left in {generation} is not barred from the range"));
            }
        }
        Ok(())
    }

    /// *Names*: in the hosts files of instances, and in no others.
    fn check_hosts(&self) -> Result<(), String> {
        let mut expected = BTreeSet::new();
        for shown in self.core.list() {
            for place in shown.attachment.hosts.iter() {
                let Some(file) = self.machine.paths.get(&Machine::path(place)) else { continue };
                let names = self.machine.names.get(file).cloned().flatten();
                // It was not there when it was looked for, and `status` says so.
                if self.machine.missed.contains(&Machine::path(place)) {
                    continue;
                }
                let by_other = self.core.list().iter().any(|other| {
                    other.attachment.service != shown.attachment.service && other.attachment.hosts.contains(place)
                });
                if names.as_ref() != Some(&shown.attachment.service) && !by_other {
                    return Err(format!(
                        "{place:?} holds the names of {names:?} and not of {}",
                        shown.attachment.service
                    ));
                }
                expected.insert(*file);
            }
        }
        let kept = |file: &u64| self.machine.kept.contains_key(file);
        let mut left = self.machine.names.iter().filter(|(file, names)| names.is_some() && !kept(file));
        if let Some((file, names)) = left.find(|(file, _)| self.machine.paths.values().any(|at| at == *file)) {
            return Err(format!("the names of {names:?} are left in the file {file}"));
        }
        let standing = self.core.list().iter().map(|shown| shown.attachment.hosts.len()).sum::<usize>();
        if self.machine.handles.len() > standing * 2 {
            return Err(format!("hosts files are still kept: {:?}", self.machine.handles));
        }
        Ok(())
    }

    /// *Containers*: those that hold something run, if that can be seen.
    fn check_containers(&self) -> Result<(), String> {
        for (id, holder) in &self.core.remembered().containers {
            let pid = holder.pid.filter(|pid| !self.machine.processes.contains_key(pid));
            if pid.is_some() {
                return Err(format!("the container {id} has ended, and is still known"));
            }
            if holder.pid.is_none() && self.machine.by_id(holder.namespace).is_none() {
                return Err(format!("the namespace of the container {id} is gone, and it is still known"));
            }
        }
        Ok(())
    }
}
