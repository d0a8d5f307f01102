//! What happens: one random operation after the other.

use std::time::Duration;

use mesh_lifecycle::{
    AttachRequest, CallId, ContainerStart, HostsPlace, Input, Mark, NamespaceId, NamespacePlace, Nsid, OpId,
};
use mesh_proto::InstanceId;

use super::{
    Bug,
    coordinator::{Presence, SERVICES},
    machine::Generation,
    world::{Event, Life, Must},
};

/// Namespaces at a time, and identities for them.
const NAMESPACES: usize = 8;
const IDENTITIES: u64 = 10;
pub(super) const PATHS: u64 = 5;

impl Life {
    pub(super) fn operate(&mut self) {
        self.count.operations += 1;
        match self.rng.below(100) {
            0..26 => self.attach(),
            26..44 => self.start_container(),
            44..52 => self.detach(),
            52..56 => self.detach_container(),
            56..59 => self.drain(),
            59..61 => self.drain_elsewhere(),
            61..68 => self.end_process(),
            68..74 => self.end_namespace(),
            74..76 => self.hang_up(),
            76..80 => self.come_or_go(),
            80..82 => self.fall_silent(),
            82..85 => self.move_service(),
            85..87 => self.restore(),
            87..90 => self.change_hosts(),
            90..91 => self.detach_all(),
            91..94 => self.damage(),
            94..95 => self.input(Input::Changed(Nsid(self.count.operations as i32 % 40))),
            95..97 => self.turn_disk(),
            _ => {
                let pause = Duration::from_millis(self.rng.below(8000));
                self.run_for(pause);
            }
        }
    }

    fn living(&self) -> Vec<Generation> {
        self.machine.namespaces.iter().filter(|(_, ns)| ns.alive).map(|(generation, _)| *generation).collect()
    }

    /// One that is there, or a new one, perhaps with the identity of one that is gone.
    fn some_namespace(&mut self) -> Option<Generation> {
        let living = self.living();
        if living.len() < NAMESPACES && self.rng.chance(50) {
            let taken = |id: &u64| self.machine.namespaces.values().any(|ns| ns.id == *id && !ns.gone);
            let free: Vec<u64> = (0..IDENTITIES).filter(|id| !taken(id)).collect();
            let id = *self.rng.pick(&free)?;
            return Some(self.machine.add_namespace(id));
        }
        self.rng.pick(&living).copied()
    }

    fn start_process(&mut self, generation: Generation) -> i32 {
        let pid = i32::try_from(self.machine.number()).unwrap_or(1);
        self.machine.processes.insert(pid, generation);
        pid
    }

    fn request(&mut self, generation: Generation) -> AttachRequest {
        let id = self.machine.namespaces[&generation].id;
        let listed = self.core.list();
        let there = listed.iter().map(|shown| &shown.attachment).find(|there| there.namespace.ino == id);
        // Mostly the same once more, as the containers of one namespace are.
        let service = match there.filter(|_| self.rng.chance(60)) {
            Some(there) => there.service.clone(),
            None => format!("shop/{}", SERVICES[self.rng.below(4) as usize]).parse().expect("a service"),
        };
        let hosts = self.rng.chance(40).then(|| HostsPlace::Path(format!("/h{}", self.rng.below(PATHS)).into()));
        AttachRequest {
            service,
            client: self.rng.chance(10),
            release: ["v1", "v2"].get(id as usize % 3).and_then(|release| release.parse().ok()),
            namespace: NamespaceId { dev: 4, ino: id },
            place: NamespacePlace::Path(format!("/run/netns/{id}").into()),
            hosts,
            unkept: None,
            watch: None,
            mark: Mark(u128::from(self.rng.next())),
            container: None,
        }
    }

    fn submit(&mut self, generation: Generation, request: AttachRequest) {
        let call = self.call(vec![generation]);
        if let Some(ns) = self.machine.namespaces.get_mut(&generation) {
            ns.open.insert(call);
        }
        if let Some(place) = &request.hosts {
            let file = self.machine.file_at(place);
            self.machine.opened.insert(OpId(call.0), file);
        }
        if self.must.get(&generation) != Some(&Must::Stand) {
            self.must.insert(generation, Must::Either);
        }
        let (service, container) = (request.service.clone(), request.container.as_ref().map(|c| c.id.to_string()));
        self.note(|| format!("{call:?}: attach {service} to {generation} for {container:?}"));
        self.input(Input::Attach(call, Box::new(request)));
    }

    fn attach(&mut self) {
        let Some(generation) = self.some_namespace() else { return };
        self.plain.insert(generation);
        let mut request = self.request(generation);
        if self.rng.chance(40) {
            let pid = self.start_process(generation);
            request.place = NamespacePlace::Process(pid);
            request.watch = Some(self.watch(pid));
        }
        self.submit(generation, request);
    }

    fn start_container(&mut self) {
        let Some(generation) = self.some_namespace() else { return };
        let number = self.rng.below(6);
        let name = format!("c{number}");
        // It has started again, perhaps before its last end was heard of.
        if let Some((former, pid)) = self.containers.remove(&name) {
            self.lose_container(former);
            // No agent that is killed now hears that it has ended there.
            if pid.is_none() && self.must.contains_key(&former) {
                self.must.insert(former, Must::Either);
                self.plain.insert(former);
            }
            pid.into_iter().for_each(|pid| self.end(pid));
        }
        let pid = self.rng.chance(80).then(|| self.start_process(generation));
        self.containers.insert(name.clone(), (generation, pid));
        let mut request = self.request(generation);
        let watch = pid.map(|pid| self.watch(pid));
        // Each container has a hosts file of its own.
        if self.rng.chance(80) {
            request.hosts = Some(HostsPlace::Path(format!("/h{}", PATHS + number).into()));
        }
        request.container = Some(ContainerStart { id: name.parse().expect("an identifier"), pid, watch });
        self.submit(generation, request);
    }

    /// A namespace may have lost the last of its containers.
    fn lose_container(&mut self, generation: Generation) {
        self.touch(generation);
        let others = self.containers.values().any(|(at, _)| *at == generation);
        // Whether those others hold it depends on answers that may not be there yet.
        if self.is_waited_for(generation) {
            // What is attached meanwhile may go with the container.
            self.bereft.insert(generation);
        }
        let is_over = !others && !self.plain.contains(&generation) && !self.is_waited_for(generation);
        let must = if is_over { Must::Gone } else { Must::Either };
        if self.must.contains_key(&generation) {
            self.must.insert(generation, must);
        }
    }

    fn is_waited_for(&self, generation: Generation) -> bool {
        self.calls.values().any(|issued| issued.concerns.iter().any(|(at, _)| *at == generation))
    }

    fn listed(&self) -> Vec<(InstanceId, Option<Generation>)> {
        let all = self.core.list();
        all.iter().map(|shown| (shown.attachment.instance, self.machine.by_id(shown.attachment.namespace))).collect()
    }

    fn detach(&mut self) {
        let Some((instance, generation)) = self.rng.pick(&self.listed()).copied() else { return };
        let concerns: Vec<Generation> = generation.into_iter().collect();
        concerns.iter().for_each(|generation| {
            self.must.insert(*generation, Must::Either);
        });
        let call = self.call(concerns);
        self.note(|| format!("{call:?}: detach {instance}"));
        self.input(Input::Detach(call, instance));
    }

    fn detach_container(&mut self) {
        let names: Vec<String> = self.containers.keys().cloned().collect();
        let Some(name) = self.rng.pick(&names).cloned() else { return };
        let Some((generation, pid)) = self.containers.remove(&name) else { return };
        self.lose_container(generation);
        // An agent that is killed meanwhile hears of it by the end of the process only.
        let concerns = if pid.is_none() { vec![generation] } else { vec![] };
        let call = self.call(concerns);
        self.note(|| format!("{call:?}: {name} has ended in {generation}"));
        self.input(Input::DetachContainer(call, name.parse().expect("an identifier")));
        pid.into_iter().for_each(|pid| self.end(pid));
    }

    fn drain(&mut self) {
        let Some((instance, _)) = self.rng.pick(&self.listed()).copied() else { return };
        let call = self.call(vec![]);
        // A view from before may be on its way.
        if self.rng.chance(50) {
            self.move_service();
        }
        let draining = self.rng.chance(60);
        self.told_draining.insert(instance, (call, None));
        self.note(|| format!("{call:?}: draining of {instance} is {draining}"));
        self.input(Input::SetDraining(call, instance, draining));
    }

    /// An administrator of the coordinator does it.
    fn drain_elsewhere(&mut self) {
        let all = self.coordinator.instances();
        let Some(instance) = self.rng.pick(&all).copied() else { return };
        let draining = self.rng.chance(60);
        self.note(|| format!("an administrator: draining of {instance} is {draining}"));
        self.told_draining.remove(&instance);
        self.coordinator.turn(instance, draining);
        self.publish();
    }

    fn end(&mut self, pid: i32) {
        self.machine.processes.remove(&pid);
        let watching: Vec<_> =
            self.machine.watches.iter().filter(|(_, watched)| **watched == pid).map(|(watch, _)| *watch).collect();
        for watch in watching {
            if !(self.bug == Some(Bug::ProcessEndLost) && self.rng.chance(50)) {
                self.soon(100, Event::Input(Input::ProcessEnded(watch)));
            }
        }
    }

    fn end_process(&mut self) {
        let all: Vec<(i32, Generation)> = self.machine.processes.iter().map(|(pid, at)| (*pid, *at)).collect();
        let Some((pid, generation)) = self.rng.pick(&all).copied() else { return };
        self.note(|| format!("the process {pid} in {generation} ends"));
        let container = self.containers.iter().find(|(_, (_, at))| *at == Some(pid)).map(|(name, _)| name.clone());
        match container {
            Some(name) => {
                self.containers.remove(&name);
                self.lose_container(generation);
            }
            // Whether the instance goes with it depends on which attachment came first.
            None => {
                self.touch(generation);
                self.bereft.insert(generation);
                self.must.insert(generation, Must::Either);
            }
        }
        self.end(pid);
    }

    fn end_namespace(&mut self) {
        let Some(generation) = self.rng.pick(&self.living()).copied() else { return };
        self.note(|| format!("the namespace {generation} ends"));
        self.touch(generation);
        self.must.remove(&generation);
        if let Some(ns) = self.machine.namespaces.get_mut(&generation) {
            ns.alive = false;
        }
        self.containers.retain(|_, (at, _)| *at != generation);
        let inside: Vec<i32> =
            self.machine.processes.iter().filter(|(_, at)| **at == generation).map(|(p, _)| *p).collect();
        inside.into_iter().for_each(|pid| self.end(pid));
        self.collect_all();
    }

    fn hang_up(&mut self) {
        let waiting: Vec<CallId> =
            self.calls.iter().filter(|(_, issued)| !issued.hung).map(|(call, _)| *call).collect();
        let Some(call) = self.rng.pick(&waiting).copied() else { return };
        self.note(|| format!("{call:?} hangs up"));
        // Its answer may come or not, and says nothing.
        if let Some(issued) = self.calls.remove(&call) {
            for (generation, _) in &issued.concerns {
                self.touch(*generation);
                self.must.insert(*generation, Must::Either);
            }
            self.hung.insert(call);
        }
        self.input(Input::HungUp(call));
    }

    fn come_or_go(&mut self) {
        match self.coordinator.presence {
            Presence::Away | Presence::Refusing => self.connect(),
            _ if self.rng.chance(30) => self.refuse(),
            _ => self.disconnect(),
        }
    }

    fn fall_silent(&mut self) {
        if self.coordinator.presence == Presence::There {
            self.note(|| "the coordinator falls silent".to_owned());
            self.coordinator.presence = Presence::Silent;
            self.after(Duration::from_secs(6), Event::Silence(self.coordinator.stream));
        }
    }

    fn move_service(&mut self) {
        let n = self.rng.below(4) as usize;
        let to = self.rng.below(250) as u8 + 1;
        self.note(|| format!("{} has another address", SERVICES[n]));
        self.coordinator.move_service(n, to);
        if self.coordinator.presence == Presence::There {
            self.publish();
        }
    }

    fn restore(&mut self) {
        if self.coordinator.back_up_or_restore() {
            self.note(|| "the coordinator is an older one".to_owned());
            // It may have no room for another instance.
            self.must.values_mut().filter(|must| **must == Must::Stand).for_each(|must| *must = Must::Either);
            self.told_draining.clear();
            if !self.coordinator.presence.is_away() {
                self.disconnect();
            }
            self.connect();
        }
    }

    /// The state directory is full or read-only, or is so no longer.
    fn turn_disk(&mut self) {
        let fails = !self.machine.disk_fails && self.rng.chance(50);
        self.note(|| format!("the state directory can't be written: {fails}"));
        self.machine.disk_fails = fails;
        self.write_later();
    }

    /// What could not be written is written when that is possible.
    pub(super) fn write_later(&mut self) {
        if !self.machine.disk_fails && self.bug != Some(Bug::LaterForgotten) {
            self.machine.disk = self.machine.unwritten.take().or(self.machine.disk.take());
        }
    }

    /// Another program changes the network of a namespace. Mostly that is heard.
    fn damage(&mut self) {
        let Some(generation) = self.rng.pick(&self.living()).copied() else { return };
        self.note(|| format!("the network of {generation} is changed"));
        if let Some(ns) = self.machine.namespaces.get_mut(&generation) {
            ns.damaged = true;
        }
        self.hear_damage(generation);
    }

    pub(super) fn hear_damage(&mut self, generation: Generation) {
        match self.rng.below(10) {
            _ if self.bug == Some(Bug::ChangeUnheard) => {}
            0 => self.input(Input::ChangesLost),
            _ => self.input(Input::Changed(Nsid(generation as i32))),
        }
    }

    fn detach_all(&mut self) {
        if !self.rng.chance(30) {
            return;
        }
        let all = self.living();
        let concerned: Vec<Generation> =
            all.into_iter().filter(|generation| self.must.contains_key(generation)).collect();
        concerned.iter().for_each(|generation| {
            self.must.insert(*generation, Must::Either);
        });
        let call = self.call(concerned);
        self.note(|| format!("{call:?}: all are to go"));
        self.input(Input::DetachAll(call));
    }
}
