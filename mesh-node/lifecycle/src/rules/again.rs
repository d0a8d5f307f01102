//! A further attachment to a namespace that holds an instance.

use mesh_proto::message::Refusal;

use crate::{
    Difference, Effect, EndReason, Error, Farewell, HostsAnswer, HostsPlace, Lifecycle, NamespaceId, OpId, Outcome,
    attachment::one_line,
    effect::KeptHosts,
    state::{
        Context, Owner,
        ending::Then,
        request::{Attach, HostsWait},
        standing::{Doing, Standing},
    },
};

impl Lifecycle {
    pub(crate) fn joining_done(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        doing: Doing,
        (op, outcome): (OpId, Outcome),
        cx: &mut Context<'_>,
    ) {
        match (doing, outcome) {
            (Doing::Checking(attach), Outcome::Is(holds)) => self.checked(namespace, standing, attach, holds, cx),
            (Doing::KeepingHosts(attach, wait), Outcome::Hosts(answer)) => {
                self.further_hosts(namespace, standing, (attach, wait), (op, answer), cx);
            }
            (Doing::Naming(attach, place, is_new), Outcome::Did(result)) => {
                self.named(namespace, standing, (attach, place, is_new), result, cx);
            }
            (doing, _) => {
                standing.doing = doing;
                self.stand(namespace, standing);
            }
        }
    }

    /// The kernel gives identities of namespaces again: this may be another namespace than that of the instance, whose
    /// end was not heard yet.
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
        let difference = if there.service != request.service {
            Some(Difference::Service)
        } else if there.client != request.client {
            Some(Difference::Client(there.client))
        } else if request.release.is_some() && there.release != request.release {
            Some(Difference::Release(there.release.clone()))
        } else {
            None
        };
        if let Some(difference) = difference {
            let error = Error::Occupied { instance: there.instance, service: there.service.clone(), difference };
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
        standing.doing = Doing::KeepingHosts(attach, HostsWait::begun(cx.now));
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

    pub(crate) fn name_further(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        attach: Box<Attach>,
        (place, is_new): (HostsPlace, bool),
        cx: &mut Context<'_>,
    ) {
        let names = self.lines_for(&place, &standing.attachment, &mut standing.said, cx);
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

    /// The names are in its hosts file, or can't be written there.
    fn named(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        (attach, place, is_new): (Box<Attach>, HostsPlace, bool),
        result: Result<(), Refusal>,
        cx: &mut Context<'_>,
    ) {
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

    /// A further attachment is there.
    pub(crate) fn joined(
        &mut self,
        namespace: NamespaceId,
        standing: Standing,
        attach: Box<Attach>,
        cx: &mut Context<'_>,
    ) {
        let shown = standing.shown();
        self.stand(namespace, standing);
        if let Some(watch) = attach.request.watch {
            self.unwatch(watch, cx);
        }
        self.begun(*attach, shown, None, cx);
    }
}
