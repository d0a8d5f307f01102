//! What happens to an instance that the coordinator does not have any more.

use std::time::Instant;

use mesh_proto::message::{Answer, Ask, Have, Held};

use crate::{
    AskError, Attachment, Effect, EndReason, Error, Farewell, KernelStep, Lifecycle, NamespaceId, Notice, Outcome,
    Port,
    attachment::service_address,
    patience,
    state::{
        Context, Owner,
        attaching::Grant,
        ending::{Departed, Then},
        standing::{Doing, Standing, Upkeep},
    },
};

impl Lifecycle {
    pub(crate) fn anew_done(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        doing: Doing,
        outcome: Outcome,
        cx: &mut Context<'_>,
    ) {
        match (doing, outcome) {
            (Doing::AskingAnew, Outcome::Answered(answer)) => self.given_anew(namespace, standing, answer, cx),
            (Doing::Replacing { next, since }, Outcome::Did(Ok(()))) => {
                let serve = self.op(Owner::Space(namespace));
                cx.push(Effect::Serve(serve, namespace, next.instance));
                standing.doing = Doing::ServingAnew { next, since };
                self.stand(namespace, standing);
            }
            (Doing::Replacing { next, .. }, Outcome::Did(Err(why))) => {
                self.not_anew(namespace, standing, next.held(), (None, why.error), cx);
            }
            (Doing::ServingAnew { next, since }, Outcome::Serving(port)) => {
                self.replaced(namespace, standing, *next, since, port, cx);
            }
            (Doing::DrainingAnew(instance), Outcome::Answered(answer)) => {
                if let Err(why) = answer {
                    cx.push(Effect::Log(Notice::DrainLost { instance, why: Error::from(why).into() }));
                }
                self.renew_names(namespace, standing, cx);
            }
            (doing, _) => {
                standing.doing = doing;
                self.stand(namespace, standing);
            }
        }
    }

    /// The database of the coordinator may be an older one, or the service was removed and made again.
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
                let held = Held { instance, address, ..there.held() };
                let since = self.view_at().map(|at| Have { revision, ..at });
                let until = cx.now + patience::VIEW;
                self.advance_anew(namespace, standing, Grant { held, since }, until, cx);
            }
            // The next stream is the next occasion.
            Ok(_) | Err(AskError::Away(_)) => self.renew_names(namespace, standing, cx),
            Err(AskError::Refused(why)) => {
                let (instance, service) = (there.instance, there.service.clone());
                cx.push(Effect::Log(Notice::NotGivenAnew { instance, service, why }));
                standing.doing = Doing::Nothing;
                self.end(namespace, standing, Farewell::Restored, EndReason::Unsaid, Then::Nothing, cx);
            }
        }
    }

    pub(super) fn advance_anew(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        grant: Grant,
        until: Instant,
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
