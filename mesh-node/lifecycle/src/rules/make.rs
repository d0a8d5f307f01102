//! How an instance is made: seen in the view, remembered, created, named, served.

use crate::{
    Attachment, Effect, Error, Lifecycle, NamespaceId, Notice, Port, SaveId,
    attachment::{one_line, service_address},
    patience,
    state::{
        Context, Owner,
        attaching::{Attaching, Prepared, Step},
        space::{Job, State},
        standing::{Doing, Said, Standing, Upkeep},
    },
};

impl Lifecycle {
    pub(super) fn advance_granted(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        let (Step::Granted { until }, Some(grant)) = (&mut attaching.step, &attaching.grant) else { return };
        match &attaching.prepared {
            Prepared::Failed(why) => {
                let why = Error::Refused(why.clone());
                return self.undo(namespace, attaching, why, cx);
            }
            Prepared::Pending(_) => return self.put(namespace, State::Attaching(Box::new(attaching))),
            Prepared::Unasked | Prepared::Ready | Prepared::Used => {}
        }
        let until = *until.get_or_insert(cx.now + patience::VIEW);
        let held = &grant.held;
        let seen = self.view.as_ref().and_then(|view| Some((service_address(view, held.instance)?, view.network)));
        let Some((service_address, network)) = seen else {
            let error = Error::Unseen(held.instance);
            return match until <= cx.now {
                true => self.undo(namespace, attaching, error, cx),
                false => self.put(namespace, State::Attaching(Box::new(attaching))),
            };
        };
        attaching.seen = self.view_at();
        let request = &attaching.attach.request;
        attaching.attachment = Some(Attachment {
            instance: held.instance,
            service: held.service.clone(),
            address: held.address,
            service_address,
            client: held.client,
            draining: held.draining,
            release: held.release.clone(),
            network,
            namespace,
            place: request.place.clone(),
            mark: Some(request.mark),
            hosts: attaching.hosts.iter().map(|hosts| hosts.place.clone()).collect(),
            unkept: request.unkept.as_ref().map(one_line),
            ending: None,
        });
        // Remembered before it is made, so that the next agent finds and finishes it.
        attaching.step = Step::Saving(SaveId(u64::MAX));
        self.put(namespace, State::Attaching(Box::new(attaching)));
        let save = self.save(cx);
        self.with_attaching(namespace, |attaching| attaching.step = Step::Saving(save));
    }

    pub(super) fn created(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        let names = match (&attaching.hosts, &attaching.attachment) {
            (Some(hosts), Some(attachment)) => {
                let names = self.lines_for(&hosts.place, attachment, &mut Said::default(), cx);
                names.map(|names| (hosts.handle, names))
            }
            _ => None,
        };
        let Some((handle, names)) = names else { return self.serve(namespace, attaching, cx) };
        let op = self.op(Owner::Space(namespace));
        cx.push(Effect::PutNames(op, handle, names));
        attaching.step = Step::Naming;
        self.put(namespace, State::Attaching(Box::new(attaching)));
    }

    pub(super) fn serve(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        if let Some(attachment) = &attaching.attachment {
            let op = self.op(Owner::Space(namespace));
            cx.push(Effect::Serve(op, namespace, attachment.instance));
        }
        attaching.step = Step::Serving;
        self.put(namespace, State::Attaching(Box::new(attaching)));
    }

    pub(super) fn stands(&mut self, namespace: NamespaceId, attaching: Attaching, port: Port, cx: &mut Context<'_>) {
        let Attaching { attach, hosts, grant, attachment: Some(attachment), seen, .. } = attaching else { return };
        let (instance, service, address) = (attachment.instance, attachment.service.clone(), attachment.address);
        cx.push(Effect::Log(Notice::Attached { instance, service, address }));
        let since = grant.and_then(|grant| grant.since);
        let mut said = Said::default();
        // Names that are left out were logged when the names were written.
        let _ = self.names_of(&attachment, &mut said, &mut Context { now: cx.now, out: &mut vec![] });
        let standing = Standing {
            attachment,
            port,
            watch: attach.request.watch,
            hosts: hosts.into_iter().collect(),
            since,
            said,
            upkeep: Some(Upkeep::begun(cx.now)),
            doing: Doing::Nothing,
        };
        let shown = standing.shown();
        if seen != self.view_at() {
            self.queue(namespace, Job::Reconcile);
        }
        if let Some(watch) = standing.watch.filter(|watch| self.ended_processes.remove(watch)) {
            self.queue(namespace, Job::ProcessEnded(watch));
        }
        self.stand(namespace, standing);
        self.begun(attach, shown, since, cx);
    }
}
