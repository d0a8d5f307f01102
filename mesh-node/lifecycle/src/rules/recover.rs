//! After a restart of the agent: takes up what the earlier one left.

use mesh_proto::message::Held;

use crate::{
    Attachment, CallId, Effect, EndReason, KernelStep, Lifecycle, Notice, Outcome, Reply, Shown, TakenUp, patience,
    state::{
        Context,
        ending::{Departed, EndStep, Ending, Then},
        space::{Job, Space, State},
        standing::{Doing, Said, Standing, Upkeep},
        starting::Starting,
    },
};

impl Lifecycle {
    pub(crate) fn start(&mut self, call: CallId, cx: &mut Context<'_>) {
        let Starting::Remembering(remembered) = std::mem::replace(&mut self.starting, Starting::Over) else { return };
        // Views hold them until the coordinator has heard of their end. No connection is to wait for them.
        for held in &remembered.ended {
            cx.push(Effect::Departed(held.instance));
            self.bury(held.clone());
        }
        // Held from now on: a call that comes early, or a write of the file, must not miss them.
        for (id, holder) in remembered.containers.clone() {
            self.containers.hold_again(id, holder);
        }
        for attachment in remembered.attachments.clone() {
            let (namespace, service) = (attachment.namespace, attachment.service.clone());
            // Their hosts files come after that: opening one can take long, and no connection is to wait for that.
            let hosts = attachment.hosts.clone();
            match attachment.ending {
                Some(_) => self.go_on_ending(attachment, cx),
                None => {
                    self.kernel(namespace, KernelStep::TakeUp(Box::new(attachment.clone())), cx);
                    self.put(namespace, State::TakingUp(Box::new(attachment)));
                }
            }
            hosts.iter().for_each(|place| self.seek_left(namespace, service.clone(), place.clone(), cx));
        }
        for left in remembered.hosts_left.clone() {
            self.seek_left(left.namespace, left.service, left.place, cx);
        }
        let taking = |space: &Space| matches!(space.state, State::TakingUp(_));
        let left = self.spaces.values().filter(|space| taking(space)).count();
        self.starting = Starting::Looking { call, left, until: cx.now + patience::TAKE_UP };
        for (id, holder) in &remembered.containers {
            if !self.spaces.get(&holder.namespace).is_some_and(taking) {
                self.take_up_container(id, cx);
            }
        }
    }

    fn bury(&mut self, held: Held) {
        self.departed.retain(|departed| departed.held.instance != held.instance);
        self.departed.push(Departed { held, told: false });
    }

    /// An earlier agent was killed while it took this instance out.
    fn go_on_ending(&mut self, attachment: Attachment, cx: &mut Context<'_>) {
        let Some(farewell) = attachment.ending else { return };
        let namespace = attachment.namespace;
        cx.push(Effect::Departed(attachment.instance));
        let removing = self.kernel(namespace, KernelStep::Remove(Box::new(attachment.clone()), farewell), cx);
        let ending = Ending {
            shown: Shown::of(attachment),
            hosts: vec![],
            port: None,
            reason: EndReason::Asked,
            farewell,
            step: EndStep::Removing([(removing, None)].into()),
            then: Then::Nothing,
        };
        self.put(namespace, State::Ending(Box::new(ending)));
    }

    /// An instance of an earlier agent is there, or has ended.
    pub(crate) fn looked_for(&mut self, attachment: Attachment, outcome: Outcome, cx: &mut Context<'_>) {
        let (instance, namespace, service) = (attachment.instance, attachment.namespace, attachment.service.clone());
        match outcome {
            Outcome::TakenUp(Ok(TakenUp { port, mark, watch })) => {
                cx.push(Effect::Log(Notice::TakenUp { instance, service }));
                let standing = Standing {
                    attachment: Attachment { mark, ..attachment },
                    port,
                    watch,
                    hosts: vec![],
                    since: None,
                    said: Said::default(),
                    upkeep: Some(Upkeep::begun(cx.now)),
                    doing: Doing::Nothing,
                };
                self.stand(namespace, standing);
                // A view that came meanwhile was not applied to it.
                if self.view.is_some() {
                    self.queue(namespace, Job::Reconcile);
                }
            }
            Outcome::TakenUp(Err(why)) => {
                cx.push(Effect::Log(Notice::NotTakenUp { instance, service, why }));
                cx.push(Effect::Departed(instance));
                self.bury(attachment.held());
                self.put(namespace, State::Free);
            }
            _ => return self.put(namespace, State::TakingUp(Box::new(attachment))),
        }
        for id in self.containers.of(namespace) {
            self.take_up_container(&id, cx);
        }
        if self.starting.is_over() {
            self.save(cx);
        }
        self.starting.one_less();
    }

    /// Goes on with the start if what it waits for has come.
    pub(crate) fn advance_start(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.starting {
            Starting::Looking { call, left, until } => {
                let (call, left) = (*call, *left);
                if left > 0 {
                    if *until > cx.now {
                        return false;
                    }
                    cx.push(Effect::Log(Notice::TakeUpSlow { left }));
                }
                self.starting = Starting::Hosts(call, cx.now + patience::HOSTS_AT_START);
                self.save(cx);
                true
            }
            Starting::Hosts(call, until) => {
                let (call, is_late) = (*call, *until <= cx.now);
                if self.seeks_at_start() {
                    if !is_late {
                        return false;
                    }
                    cx.push(Effect::Log(Notice::HostsSlow));
                }
                self.starting = Starting::Over;
                self.reply(call, Ok(Reply::Started), cx);
                true
            }
            Starting::Remembering(_) | Starting::Over => false,
        }
    }
}
