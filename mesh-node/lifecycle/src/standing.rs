//! What happens to an instance that is there: further attachments, drains, and what the view says of it.

use std::sync::Arc;

use mesh_proto::{
    InstanceId, View,
    message::{Answer, Ask, Have, Held},
    view::InstanceState,
};

use crate::{
    AskError, Attachment, CallId, Effect, EndReason, Error, Farewell, HostsAnswer, HostsPlace, KernelStep, Lifecycle,
    Link, NamespaceId, Notice, OpId, Outcome, Port, SaveId, Shown,
    attach::one_line,
    attachment::service_address,
    effect::KeptHosts,
    lifecycle::{Context, Departed, Owner},
    patience,
    settle::Subject,
    space::{Attach, Doing, Grant, HostsWait, Job, Standing, State, Then, Upkeep},
};

/// What an instance needs to be as the view has it.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Other addresses.
    Addresses(Box<Attachment>),
    /// To be attached anew: the view does not hold it.
    Anew,
}

impl Lifecycle {
    pub(crate) fn take_view(&mut self, view: Arc<View>) {
        self.view = Some(view);
        self.reconcile_all();
    }

    pub(crate) fn take_link(&mut self, link: Link, cx: &mut Context<'_>) {
        let before = std::mem::replace(&mut self.link, link);
        if link.connected {
            // The stream has begun: what the hello did not hold is ended at the coordinator too.
            let count = self.departed.len();
            self.departed.retain(|departed| !departed.told);
            if self.departed.len() != count {
                self.save(cx);
            }
        }
        if before.synced != link.synced {
            self.reconcile_all();
        }
        self.stirred = true;
    }

    fn reconcile_all(&mut self) {
        let concerned = self.spaces.iter().filter(|(_, space)| {
            matches!(space.state, State::Standing(_)) && !space.jobs.iter().any(|job| matches!(job, Job::Reconcile))
        });
        let concerned: Vec<NamespaceId> = concerned.map(|(namespace, _)| *namespace).collect();
        concerned.into_iter().for_each(|namespace| self.queue(namespace, Job::Reconcile));
        self.stirred = true;
    }

    /// Whether an address can be one of an instance's: any other one would take traffic that is none of the mesh's.
    pub(crate) fn is_of_the_mesh(&self, address: std::net::Ipv4Addr) -> bool {
        self.view.as_ref().is_none_or(|view| view.network.range.holds(address))
    }

    fn stand(&mut self, namespace: NamespaceId, standing: Standing) {
        self.put(namespace, State::Standing(Box::new(standing)));
    }

    /// Remembers what stands, and goes on from there.
    fn save_standing(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        doing: impl FnOnce(SaveId) -> Doing,
        cx: &mut Context<'_>,
    ) {
        standing.doing = doing(SaveId(u64::MAX));
        self.stand(namespace, standing);
        let save = self.save(cx);
        let Some(State::Standing(standing)) = self.spaces.get_mut(&namespace).map(|space| &mut space.state) else {
            return;
        };
        match &mut standing.doing {
            Doing::Saving(_, at) | Doing::SavingDrain(_, at, _) | Doing::SavingHosts(_, _, _, at) => *at = save,
            _ => {}
        }
    }

    /// Looks whether what it waits for has come.
    pub(crate) fn advance_standing(&mut self, namespace: NamespaceId, mut standing: Standing, cx: &mut Context<'_>) {
        match std::mem::take(&mut standing.doing) {
            Doing::KeepingHosts(attach, wait) if wait.retry.is_some_and(|at| at <= cx.now) => {
                self.try_hosts(namespace, &attach, cx);
                standing.doing = Doing::KeepingHosts(attach, HostsWait { retry: None, ..wait });
            }
            Doing::Saving(attach, save) if save <= self.saved => {
                return self.joined(namespace, standing, attach, cx);
            }
            Doing::SavingHosts(attach, place, is_new, save) if save <= self.saved => {
                return self.name_further(namespace, standing, attach, (place, is_new), cx);
            }
            Doing::SavingDrain(call, save, since) if save <= self.saved => {
                let shown = Shown::of(standing.attachment.clone());
                self.stand(namespace, standing);
                return self.settle(call, Subject::DrainingSet(shown), since, cx);
            }
            Doing::AwaitingAnew { grant, until } => return self.advance_anew(namespace, standing, grant, until, cx),
            other => standing.doing = other,
        }
        self.stand(namespace, standing);
    }

    pub(crate) fn standing_done(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        op: OpId,
        outcome: Outcome,
        cx: &mut Context<'_>,
    ) {
        match (std::mem::take(&mut standing.doing), outcome) {
            (Doing::Checking(attach), Outcome::Is(holds)) => self.checked(namespace, standing, attach, holds, cx),
            (Doing::KeepingHosts(attach, wait), Outcome::Hosts(answer)) => {
                self.further_hosts(namespace, standing, (attach, wait), (op, answer), cx);
            }
            (Doing::Naming(attach, place, is_new), Outcome::Did(result)) => {
                if let Err(why) = result {
                    let dropped = if is_new { standing.drop_hosts(&place) } else { vec![] };
                    self.let_go(&standing, dropped, cx);
                    self.stand(namespace, standing);
                    self.save(cx);
                    return self.refuse_attach(*attach, why.into(), cx);
                }
                let was_unkept = standing.attachment.unkept.take().is_some();
                self.joined(namespace, standing, attach, cx);
                if was_unkept {
                    self.save(cx);
                }
            }
            (Doing::AskingDrain(call, draining), Outcome::Answered(answer)) => {
                self.drained(namespace, standing, (call, draining), answer, cx);
            }
            (Doing::Readdressing(next), Outcome::Did(result)) => {
                self.readdressed(namespace, standing, *next, result, cx)
            }
            (Doing::AskingAnew, Outcome::Answered(answer)) => self.given_anew(namespace, standing, answer, cx),
            (Doing::Replacing { next, since }, Outcome::Did(result)) => match result {
                Ok(()) => {
                    let serve = self.op(Owner::Space(namespace));
                    cx.push(Effect::Serve(serve, namespace, next.instance));
                    standing.doing = Doing::ServingAnew { next, since };
                    self.stand(namespace, standing);
                }
                Err(why) => self.not_anew(namespace, standing, next.held(), (None, why.error), cx),
            },
            (Doing::ServingAnew { next, since }, Outcome::Serving(port)) => {
                self.replaced(namespace, standing, *next, since, port, cx);
            }
            (Doing::DrainingAnew(instance), Outcome::Answered(answer)) => {
                if let Err(why) = answer {
                    cx.push(Effect::Log(Notice::DrainLost { instance, why: Error::from(why).into() }));
                }
                self.renew_names(namespace, standing, cx);
            }
            (Doing::FindingProcesses(then), Outcome::Is(inhabited)) => {
                let farewell = if inhabited { Farewell::Barred } else { Farewell::Restored };
                self.end(namespace, standing, farewell, EndReason::ContainerEnded, then, cx);
            }
            (Doing::LettingGo { mut left, container, caller }, outcome) => {
                if let Some(place) = left.remove(&op) {
                    Self::say_not_cleared(place, outcome, cx);
                }
                match left.is_empty() {
                    true => {
                        self.stand(namespace, standing);
                        self.save(cx);
                        self.has_let_go(&container, caller, None, cx);
                    }
                    false => {
                        standing.doing = Doing::LettingGo { left, container, caller };
                        self.stand(namespace, standing);
                    }
                }
            }
            (Doing::Renaming(place), Outcome::Hosts(answer)) => {
                self.kept_again(namespace, standing, place, op, answer, cx)
            }
            (Doing::Renaming(place), Outcome::Did(result)) => self.renamed(namespace, standing, place, result, cx),
            (Doing::Mending, Outcome::Looked(look)) => self.looked(namespace, standing, look, cx),
            (doing, _) => {
                standing.doing = doing;
                self.stand(namespace, standing);
            }
        }
    }

    // === Further attachments ===

    /// The identities of namespaces are given again: the end of what had this one before may not have been heard of yet.
    fn checked(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        attach: Box<Attach>,
        holds: bool,
        cx: &mut Context<'_>,
    ) {
        if !holds {
            let then = Then::Attach(attach);
            return self.end(namespace, standing, Farewell::Barred, EndReason::InterfaceGone, then, cx);
        }
        Self::say_unkept(&attach.request, cx);
        let (there, request) = (&standing.attachment, &attach.request);
        let client = match there.service == request.service {
            true if there.client == request.client => None,
            true => Some(Some(there.client)),
            false => Some(None),
        };
        if let Some(client) = client {
            let error = Error::Occupied { instance: there.instance, service: there.service.clone(), client };
            self.stand(namespace, standing);
            return self.refuse_attach(*attach, error, cx);
        }
        if let Some(why) = &request.unkept {
            standing.attachment.unkept = Some(one_line(why));
        }
        if request.hosts.is_none() {
            return self.save_standing(namespace, standing, |save| Doing::Saving(attach, save), cx);
        }
        self.try_hosts(namespace, &attach, cx);
        standing.doing = Doing::KeepingHosts(attach, HostsWait { since: cx.now, retry: None });
        self.stand(namespace, standing);
    }

    fn further_hosts(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        (attach, mut wait): (Box<Attach>, HostsWait),
        (op, answer): (OpId, HostsAnswer),
        cx: &mut Context<'_>,
    ) {
        let file = match answer {
            HostsAnswer::Kept(file) => file,
            HostsAnswer::Taken { hosts, by, there } => {
                if self.wait_for_hosts(&mut wait, &by, cx) {
                    standing.doing = Doing::KeepingHosts(attach, wait);
                    return self.stand(namespace, standing);
                }
                self.stand(namespace, standing);
                let error = self.hosts_refused(hosts, by, there);
                return self.refuse_attach(*attach, error, cx);
            }
        };
        let Some(place) = attach.request.hosts.clone() else { return self.stand(namespace, standing) };
        let is_new = !standing.attachment.hosts.contains(&place);
        let replaced = standing.keep_hosts(KeptHosts { place: place.clone(), handle: op, file });
        self.let_go(&standing, replaced, cx);
        self.save_standing(namespace, standing, |save| Doing::SavingHosts(attach, place, is_new, save), cx);
    }

    fn name_further(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        attach: Box<Attach>,
        (place, is_new): (HostsPlace, bool),
        cx: &mut Context<'_>,
    ) {
        let names = self.names_of(&standing.attachment, &mut standing.said, cx);
        match names.zip(standing.latest(&place)) {
            Some((names, handle)) => {
                let put = self.op(Owner::Space(namespace));
                cx.push(Effect::PutNames(put, handle, names));
                standing.doing = Doing::Naming(attach, place, is_new);
                self.stand(namespace, standing);
            }
            None => self.joined(namespace, standing, attach, cx),
        }
    }

    /// A further attachment is there.
    fn joined(&mut self, namespace: NamespaceId, standing: Standing, attach: Box<Attach>, cx: &mut Context<'_>) {
        let shown = standing.shown();
        self.stand(namespace, standing);
        if let Some(watch) = attach.request.watch {
            self.unwatch(watch, cx);
        }
        self.begun(*attach, shown, None, cx);
    }

    // === Drains ===

    pub(crate) fn set_draining(&mut self, call: CallId, instance: InstanceId, draining: bool, cx: &mut Context<'_>) {
        match self.space_of(instance) {
            Some(namespace) => self.queue(namespace, Job::SetDraining(call, instance, draining)),
            None => self.reply(call, Err(Error::Missing(instance)), cx),
        }
    }

    pub(crate) fn begin_draining(
        &mut self,
        namespace: NamespaceId,
        call: CallId,
        instance: InstanceId,
        draining: bool,
        cx: &mut Context<'_>,
    ) {
        let there = match self.spaces.get_mut(&namespace).map(|space| &mut space.state) {
            Some(State::Standing(standing)) if standing.attachment.instance == instance => standing,
            _ => return self.reply(call, Err(Error::Missing(instance)), cx),
        };
        there.doing = Doing::AskingDrain(call, draining);
        let ask = if draining { Ask::Drain { instance } } else { Ask::Undrain { instance } };
        self.ask(namespace, ask, cx);
    }

    fn drained(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        (call, draining): (CallId, bool),
        answer: Result<Answer, AskError>,
        cx: &mut Context<'_>,
    ) {
        let revision = match (answer, draining) {
            (Ok(Answer::Drained { revision }), true) | (Ok(Answer::Undrained { revision }), false) => Ok(revision),
            (Ok(_), _) => Err(Error::Unfit),
            (Err(why), _) => Err(why.into()),
        };
        match revision {
            Ok(revision) => {
                standing.attachment.draining = draining;
                let (instance, service) = (standing.attachment.instance, standing.attachment.service.clone());
                cx.push(Effect::Log(Notice::DrainingSet { instance, service, draining }));
                let since = self.view_at().map(|at| Have { revision, ..at });
                // Earlier views say otherwise.
                standing.since = since.or(standing.since);
                self.save_standing(namespace, standing, |save| Doing::SavingDrain(call, save, since), cx);
            }
            Err(error) => {
                self.stand(namespace, standing);
                self.reply(call, Err(error), cx);
            }
        }
    }

    // === What the view says ===

    pub(crate) fn begin_reconcile(&mut self, namespace: NamespaceId, cx: &mut Context<'_>) {
        let Some(space) = self.spaces.get_mut(&namespace) else { return };
        let mut standing = match std::mem::take(&mut space.state) {
            State::Standing(standing) => *standing,
            other => return space.state = other,
        };
        let Some(view) = self.view.clone() else { return self.stand(namespace, standing) };
        if let Some(draining) = standing.draining_in(&view).filter(|_| self.link.synced)
            && draining != standing.attachment.draining
        {
            // An administrator did it; or it was requested here, and the answer was lost.
            standing.attachment.draining = draining;
            let (instance, service) = (standing.attachment.instance, standing.attachment.service.clone());
            cx.push(Effect::Log(Notice::DrainLearned { instance, service, draining }));
            self.queue(namespace, Job::Reconcile);
            self.stand(namespace, standing);
            self.save(cx);
            return;
        }
        match need(&view, &standing) {
            Need::Addresses(next) => {
                let new_range = standing.attachment.network.range != next.network.range;
                let step = KernelStep::Readdress { attachment: next.clone(), new_range };
                self.kernel(namespace, step, cx);
                standing.doing = Doing::Readdressing(next);
                self.stand(namespace, standing);
            }
            // What an earlier run remembers says nothing about what the coordinator has now.
            Need::Anew if self.link.synced => {
                let (service, client) = (standing.attachment.service.clone(), standing.attachment.client);
                self.ask(namespace, Ask::Attach { service, client }, cx);
                standing.doing = Doing::AskingAnew;
                self.stand(namespace, standing);
            }
            Need::Nothing | Need::Anew => self.renew_names(namespace, standing, cx),
        }
    }

    fn renew_names(&mut self, namespace: NamespaceId, mut standing: Standing, cx: &mut Context<'_>) {
        if let Some(names) = self.names_of(&standing.attachment, &mut standing.said, cx) {
            let instance = standing.attachment.instance;
            let renew = |hosts: &KeptHosts| Effect::RenewNames(hosts.handle, instance, names.clone());
            cx.out.extend(standing.hosts.iter().map(renew));
        }
        self.stand(namespace, standing);
    }

    fn readdressed(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        next: Attachment,
        result: Result<(), mesh_proto::message::Refusal>,
        cx: &mut Context<'_>,
    ) {
        let instance = next.instance;
        match result {
            Ok(()) => {
                standing.said.addresses = None;
                cx.push(Effect::Log(Notice::Readdressed { instance, address: next.address }));
                standing.attachment = next;
            }
            Err(why) => {
                standing.said.addresses = Some(format!("it cannot be given its new addresses: {}", why.error));
                cx.push(Effect::Log(Notice::NotReaddressed { instance, why }));
            }
        }
        self.renew_names(namespace, standing, cx);
        self.save(cx);
    }

    // === The coordinator doesn't have it ===

    /// Its database may be an older one, or the service was removed and made again.
    fn given_anew(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        answer: Result<Answer, AskError>,
        cx: &mut Context<'_>,
    ) {
        let there = &standing.attachment;
        match answer {
            Ok(Answer::Attached { instance, address, revision }) if self.is_of_the_mesh(address) => {
                let (service, client, draining) = (there.service.clone(), there.client, there.draining);
                let held = Held { instance, service, address, client, draining };
                let since = self.view_at().map(|at| Have { revision, ..at });
                let until = cx.now + patience::VIEW;
                self.advance_anew(namespace, standing, Grant { held, since }, until, cx);
            }
            // The next stream brings the next occasion.
            Ok(_) | Err(AskError::Away(_)) => self.renew_names(namespace, standing, cx),
            Err(AskError::Refused(why)) => {
                let (instance, service) = (there.instance, there.service.clone());
                cx.push(Effect::Log(Notice::NotGivenAnew { instance, service, why }));
                standing.doing = Doing::Nothing;
                self.end(namespace, standing, Farewell::Restored, EndReason::Unsaid, Then::Nothing, cx);
            }
        }
    }

    fn advance_anew(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        grant: Grant,
        until: std::time::Instant,
        cx: &mut Context<'_>,
    ) {
        let held = &grant.held;
        let seen = self.view.as_ref().and_then(|view| Some((service_address(view, held.instance)?, view.network)));
        let Some((service_address, network)) = seen else {
            if until <= cx.now {
                let why = Error::Unseen(held.instance).to_string();
                let port = Some(standing.port);
                return self.not_anew(namespace, standing, grant.held, (port, why), cx);
            }
            standing.doing = Doing::AwaitingAnew { grant, until };
            return self.stand(namespace, standing);
        };
        let next = Box::new(Attachment {
            instance: held.instance,
            address: held.address,
            service_address,
            network,
            ..standing.attachment.clone()
        });
        cx.push(Effect::StopServing(standing.port));
        self.kernel(namespace, KernelStep::Replace(next.clone()), cx);
        standing.doing = Doing::Replacing { next, since: grant.since };
        self.stand(namespace, standing);
    }

    fn replaced(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        next: Attachment,
        since: Option<Have>,
        port: Port,
        cx: &mut Context<'_>,
    ) {
        let (old, new, address) = (standing.attachment.instance, next.instance, next.address);
        let (service, draining) = (next.service.clone(), next.draining);
        (standing.attachment, standing.port, standing.since) = (next, port, since);
        standing.upkeep = Some(Upkeep::begun(cx.now));
        cx.push(Effect::Log(Notice::AttachedAnew { old, new, service, address }));
        if draining {
            self.ask(namespace, Ask::Drain { instance: new }, cx);
            standing.doing = Doing::DrainingAnew(new);
            self.stand(namespace, standing);
        } else {
            self.renew_names(namespace, standing, cx);
        }
        self.save(cx);
    }

    fn not_anew(
        &mut self,
        namespace: NamespaceId,
        standing: Standing,
        held: Held,
        (port, why): (Option<Port>, String),
        cx: &mut Context<'_>,
    ) {
        let (old, service) = (standing.attachment.instance, held.service.clone());
        cx.push(Effect::Log(Notice::NotAttachedAnew { old, service, why }));
        let instance = held.instance;
        self.departed.push(Departed { held, told: false });
        let op = self.op(Owner::Departed(instance));
        cx.push(Effect::Ask(op, Ask::Detach { instance }));
        self.end_served(namespace, standing, port, (Farewell::Restored, EndReason::Unsaid), Then::Nothing, cx);
    }
}

impl Standing {
    /// Whether it is drained, if the view says so.
    fn draining_in(&self, view: &View) -> Option<bool> {
        let here = view.instance(self.attachment.instance).filter(|instance| instance.runner == view.runner)?;
        (!self.is_new_to(view)).then_some(here.state == InstanceState::Draining)
    }
}

/// What has to be done about an instance, seen from a view.
fn need(view: &View, standing: &Standing) -> Need {
    let attachment = &standing.attachment;
    if standing.is_new_to(view) {
        return Need::Nothing;
    }
    let here = view.instance(attachment.instance).filter(|instance| instance.runner == view.runner);
    let (Some(instance), Some(service_address)) = (here, service_address(view, attachment.instance)) else {
        return Need::Anew;
    };
    let next = Attachment { address: instance.address, service_address, network: view.network, ..attachment.clone() };
    if next == *attachment { Need::Nothing } else { Need::Addresses(Box::new(next)) }
}
