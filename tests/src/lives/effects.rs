//! How effects are carried out.

use std::time::Duration;

use mesh_lifecycle::{CallId, Effect, Input, Notice, OpId, Outcome, Port};
use mesh_proto::InstanceId;

use super::{
    Bug,
    coordinator::Presence,
    machine::Generation,
    stream::away,
    world::{Event, Life},
};

impl Life {
    pub(super) fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(call, result) => self.replied(call, result.map_err(|error| error.to_string())),
            Effect::Close(call) => self.close(call),
            Effect::Save(save) => {
                let remembered = Box::new(self.core.remembered());
                // One after the other.
                let busy =
                    self.events.iter().filter(|(_, event)| matches!(event, Event::Disk(..))).map(|(key, _)| key.0);
                let from = busy.max().unwrap_or(self.now) - self.now;
                let delay = from + Duration::from_millis(1 + self.rng.below(10));
                self.after(delay, Event::Disk(save, remembered));
            }
            Effect::Log(notice) => {
                self.check_notice(&notice);
                self.note(|| format!("{notice:?}"));
            }
            Effect::Ask(op, ask) => match self.coordinator.presence {
                Presence::Away | Presence::Refusing => {
                    self.soon(2, Event::Input(Input::Done(op, Outcome::Answered(Err(away())))))
                }
                _ => self.soon(30, Event::Ask(op, ask)),
            },
            Effect::HurryStream | Effect::Departed(_) => {}
            Effect::Unwatch(watch) => drop(self.machine.watches.remove(&watch)),
            Effect::StopServing(port) => {
                for ns in self.machine.namespaces.values_mut() {
                    if let Some(mesh0) =
                        ns.mesh0.as_mut().filter(|mesh0| mesh0.served.is_some_and(|(at, _)| at == port))
                    {
                        (mesh0.served, mesh0.holds) = (None, false);
                    }
                }
                self.collect_all();
            }
            Effect::Serve(op, namespace, instance) => {
                let port = Port(self.machine.number() as u32);
                let generation = self.machine.by_id(namespace);
                self.serve(generation, port, instance);
                self.input(Input::Done(op, Outcome::Serving(port)));
            }
            Effect::Kernel(op, step) => {
                self.check_step(&step);
                self.soon(25, Event::Kernel(op, step));
            }
            hosts => self.at_hosts(hosts),
        }
    }

    pub(super) fn close(&mut self, call: CallId) {
        self.machine.opened.remove(&OpId(call.0));
        let generation = self.machine.of_call(call);
        if let Some(ns) = generation.and_then(|generation| self.machine.namespaces.get_mut(&generation)) {
            ns.open.remove(&call);
        }
        self.collect_all();
    }

    pub(super) fn collect_all(&mut self) {
        let all: Vec<Generation> = self.machine.namespaces.keys().copied().collect();
        for generation in all {
            if let Some(port) = self.machine.collect(generation)
                && self.bug != Some(Bug::TunGoneLost)
            {
                self.soon(100, Event::Input(Input::TunGone(port)));
            }
        }
    }

    /// *One place*: an instance is served once, and only where it was made.
    pub(super) fn serve(&mut self, generation: Option<Generation>, port: Port, instance: InstanceId) {
        let all = self.machine.namespaces.values();
        let served = all.filter_map(|ns| ns.mesh0.as_ref()?.served).any(|(_, other)| other == instance);
        if served {
            self.fail(format!("{instance} is served twice"));
        }
        let mesh0 = generation.and_then(|generation| self.machine.namespaces.get_mut(&generation)?.mesh0.as_mut());
        match mesh0 {
            Some(mesh0) if mesh0.served.is_some() => self.fail(format!("a TUN is served for {instance} and another")),
            Some(mesh0) => mesh0.served = Some((port, instance)),
            // It has gone just now.
            None => self.soon(50, Event::Input(Input::TunGone(port))),
        }
    }

    /// *No relapse*: what a caller was told of a drain stands until another one decides. *One owner*: what a coordinator that refuses this
    /// runner gave is another machine's.
    pub(super) fn check_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::DrainLearned { instance, draining, .. } => {
                let told = self.told_draining.get(instance).and_then(|(_, told)| *told);
                if told.is_some_and(|told| told != *draining) {
                    self.fail(format!("an earlier view has turned the drain of {instance} back"));
                }
            }
            Notice::TakingOver { instance, .. } if self.coordinator.presence == Presence::Refusing => {
                self.fail(format!("{instance} is taken over from a coordinator that refuses this runner"));
            }
            _ => {}
        }
    }
}
