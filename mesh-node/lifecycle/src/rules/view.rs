//! How instances follow the view: drains, addresses, names, and whether they are in it.

use std::sync::Arc;

use mesh_proto::{
    View,
    message::{Ask, Refusal},
};

use crate::{
    Attachment, Effect, FileKind, KernelStep, Lifecycle, Link, NamespaceId, Notice,
    attachment::service_address,
    effect::KeptHosts,
    state::{
        Context,
        space::{Job, State},
        standing::{Doing, Standing},
    },
};

/// What has to be done so that an instance is as the view has it.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Other addresses.
    Addresses(Box<Attachment>),
    /// Another instance in its place: the view does not hold it.
    Anew,
}

impl Lifecycle {
    pub(crate) fn take_view(&mut self, view: Arc<View>) {
        self.view = Some(view);
        self.names_before = std::mem::take(&mut self.names);
        self.reconcile_all();
    }

    pub(crate) fn take_link(&mut self, link: Link, cx: &mut Context<'_>) {
        let before = std::mem::replace(&mut self.link, link);
        if link.connected {
            // The stream has begun: instances that its hello did not name have ended at the coordinator too.
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
            // A view that an earlier agent remembered says nothing about what the coordinator has now.
            Need::Anew if self.link.synced => {
                let Attachment { service, client, release, .. } = standing.attachment.clone();
                self.ask(namespace, Ask::Attach { service, client, release }, cx);
                standing.doing = Doing::AskingAnew;
                self.stand(namespace, standing);
            }
            Need::Nothing | Need::Anew => self.renew_names(namespace, standing, cx),
        }
    }

    pub(super) fn renew_names(&mut self, namespace: NamespaceId, mut standing: Standing, cx: &mut Context<'_>) {
        // Also without a file, so that names that are left out are told.
        let names = self.names_of(&standing.attachment, &mut standing.said, cx);
        let instance = standing.attachment.instance;
        for KeptHosts { place, handle, .. } in &standing.hosts {
            let lines = match place.kind() {
                FileKind::Hosts => names.clone(),
                FileKind::Resolv => self.lines_for(place, &standing.attachment, &mut standing.said, cx),
            };
            cx.out.extend(lines.map(|lines| Effect::RenewNames(*handle, instance, lines)));
        }
        self.stand(namespace, standing);
    }

    pub(super) fn readdressed(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        next: Attachment,
        result: Result<(), Refusal>,
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
}

/// What has to be done so that an instance is as a view has it.
fn need(view: &View, standing: &Standing) -> Need {
    let attachment = &standing.attachment;
    if standing.is_new_to(view) {
        return Need::Nothing;
    }
    let here = view.instance(attachment.instance).filter(|instance| instance.runner == view.runner);
    let (Some(instance), Some(service_address)) = (here, service_address(view, attachment.instance)) else {
        return Need::Anew;
    };
    let (address, network) = (instance.address, view.network);
    if (attachment.address, attachment.service_address, attachment.network) == (address, service_address, network) {
        return Need::Nothing;
    }
    Need::Addresses(Box::new(Attachment { address, service_address, network, ..attachment.clone() }))
}
