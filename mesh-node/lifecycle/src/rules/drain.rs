//! How an instance is drained and undrained.

use mesh_proto::{
    InstanceId,
    message::{Answer, Ask, Have},
};

use crate::{
    AskError, CallId, Effect, Error, Lifecycle, NamespaceId, Notice,
    state::{
        Context,
        space::{Job, State},
        standing::{Doing, Standing},
    },
};

impl Lifecycle {
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

    pub(super) fn drained(
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
}
