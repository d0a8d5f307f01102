//! How an attachment obtains an instance: from the coordinator; while that is away, by taking over one that ended here.

use mesh_proto::{
    Release, ServicePath,
    message::{Answer, Ask, Have, Held},
};

use crate::{
    AskError, AttachRequest, Effect, Error, Lifecycle, NamespaceId, Notice, patience,
    state::{
        Context,
        attaching::{Attaching, Grant, Step},
        ending::Departed,
        space::State,
    },
};

impl Lifecycle {
    /// Asks the coordinator for an instance; while the coordinator is away, takes over one that ended here.
    pub(super) fn obtain(&mut self, namespace: NamespaceId, attaching: Attaching, cx: &mut Context<'_>) {
        if self.link.connected {
            return self.connect(namespace, attaching, cx);
        }
        self.take_over_or(namespace, attaching, None, cx);
    }

    pub(super) fn take_over_or(
        &mut self,
        namespace: NamespaceId,
        mut attaching: Attaching,
        why: Option<Error>,
        cx: &mut Context<'_>,
    ) {
        let (service, client) = (attaching.attach.request.service.clone(), attaching.attach.request.client);
        let release = attaching.attach.request.release.clone();
        if let Some(held) = self.take_over(&service, client, release) {
            cx.push(Effect::Log(Notice::TakingOver { instance: held.instance, service }));
            return self.granted(namespace, attaching, Grant { held, since: None }, cx);
        }
        let until = match attaching.step {
            Step::TakingOver { until, .. } => until,
            _ => cx.now + patience::TAKE_OVER,
        };
        let may_come = !self.link.unknown && self.view.is_some() && self.is_leaving(&service, client);
        if until > cx.now && may_come {
            let why = why.map(Into::into);
            attaching.step = Step::TakingOver { until, why };
            return self.put(namespace, State::Attaching(Box::new(attaching)));
        }
        match why {
            Some(why) => self.undo(namespace, attaching, why, cx),
            None => self.connect(namespace, attaching, cx),
        }
    }

    /// Takes over an instance of `service` that ended here, of whose end the coordinator has not heard, nor is about to:
    /// a hello that doesn't name it may be on its way. The view must still hold it, and it must not be drained: it would
    /// get no connections. One of the same release comes first; of another one it counts as that until the coordinator
    /// hears of it.
    fn take_over(&mut self, service: &ServicePath, client: bool, release: Option<Release>) -> Option<Held> {
        let view = self.view.clone().filter(|_| !self.link.unknown)?;
        let fits = |held: &Held| {
            is_like(held, service, client)
                && view.instance(held.instance).is_some()
                && self.space_of(held.instance).is_none()
        };
        let may = |departed: &Departed| !departed.told && fits(&departed.held);
        let same = self.departed.iter().position(|departed| departed.held.release == release && may(departed));
        let found = same.or_else(|| self.departed.iter().position(may))?;
        Some(Held { release, ..self.departed.remove(found).held })
    }

    fn is_leaving(&self, service: &ServicePath, client: bool) -> bool {
        let mut leaving = self.spaces.values().filter_map(|space| space.leaving());
        leaving.any(|attachment| is_like(&attachment.held(), service, client))
    }

    fn connect(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        if self.link.connected {
            return self.ask_for_instance(namespace, attaching, cx);
        }
        cx.push(Effect::HurryStream);
        attaching.step = Step::Connecting { until: cx.now + patience::CONNECT };
        self.put(namespace, State::Attaching(Box::new(attaching)));
    }

    pub(super) fn ask_for_instance(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        let AttachRequest { service, client, release, .. } = attaching.attach.request.clone();
        self.ask(namespace, Ask::Attach { service, client, release }, cx);
        attaching.step = Step::Asking;
        self.put(namespace, State::Attaching(Box::new(attaching)));
    }

    fn granted(&mut self, namespace: NamespaceId, mut attaching: Attaching, grant: Grant, cx: &mut Context<'_>) {
        attaching.grant = Some(grant);
        attaching.step = Step::Granted { until: None };
        self.advance_attaching(namespace, attaching, cx);
    }

    pub(super) fn given(
        &mut self,
        namespace: NamespaceId,
        mut attaching: Attaching,
        answer: Result<Answer, AskError>,
        cx: &mut Context<'_>,
    ) {
        let AttachRequest { service, client, release, .. } = attaching.attach.request.clone();
        match answer {
            Ok(Answer::Attached { address, .. }) if !self.is_of_the_mesh(address) => {
                self.undo(namespace, attaching, Error::Foreign(address), cx);
            }
            Ok(Answer::Attached { instance, address, revision }) => {
                let held = Held { instance, service, address, client, draining: false, release };
                let since = self.view.as_ref().map(|view| Have { epoch: view.epoch, revision });
                self.granted(namespace, attaching, Grant { held, since }, cx);
            }
            Ok(_) => self.undo(namespace, attaching, Error::Unfit, cx),
            // The coordinator had fallen silent, which shows only now. An instance that it may have given ends with the
            // next stream.
            Err(AskError::Away(why)) => {
                attaching.step = Step::FindingOut { until: cx.now + patience::AWAY, why };
                self.advance_attaching(namespace, attaching, cx);
            }
            Err(AskError::Refused(why)) => self.undo(namespace, attaching, why.into(), cx),
        }
    }
}

/// Whether it can become the next instance of `service`. A drained one would get no connections.
fn is_like(held: &Held, service: &ServicePath, client: bool) -> bool {
    held.service == *service && held.client == client && !held.draining
}
