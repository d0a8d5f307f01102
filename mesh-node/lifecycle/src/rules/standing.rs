//! What is under way with an instance that is there, and what comes of it.

use crate::{
    EndReason, Farewell, Lifecycle, NamespaceId, OpId, Outcome, SaveId, Shown,
    state::{
        Context,
        request::HostsWait,
        settling::Subject,
        standing::{Doing, Standing},
    },
};

impl Lifecycle {
    /// Has the instance written down, and goes on when that is done.
    pub(super) fn save_standing(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        doing: impl FnOnce(SaveId) -> Doing,
        cx: &mut Context<'_>,
    ) {
        standing.doing = doing(SaveId(u64::MAX));
        self.stand(namespace, standing);
        let save = self.save(cx);
        let Some(standing) = self.standing_mut(namespace) else { return };
        match &mut standing.doing {
            Doing::Saving(_, at) | Doing::SavingDrain(_, at, _) | Doing::SavingHosts(_, _, _, at) => *at = save,
            _ => {}
        }
    }

    /// Goes on if what it waits for has come.
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
            (doing @ (Doing::Checking(_) | Doing::KeepingHosts(..) | Doing::Naming(..)), outcome) => {
                self.joining_done(namespace, standing, doing, (op, outcome), cx);
            }
            (
                doing @ (Doing::AskingAnew
                | Doing::Replacing { .. }
                | Doing::ServingAnew { .. }
                | Doing::DrainingAnew(_)),
                outcome,
            ) => self.anew_done(namespace, standing, doing, outcome, cx),
            (Doing::AskingDrain(call, draining), Outcome::Answered(answer)) => {
                self.drained(namespace, standing, (call, draining), answer, cx);
            }
            (Doing::Readdressing(next), Outcome::Did(result)) => {
                self.readdressed(namespace, standing, *next, result, cx);
            }
            (Doing::FindingProcesses(then), Outcome::Is(inhabited)) => {
                let farewell = if inhabited { Farewell::Barred } else { Farewell::Restored };
                self.end(namespace, standing, farewell, EndReason::ContainerEnded, then, cx);
            }
            (Doing::LettingGo { left, container, caller }, outcome) => {
                self.one_cleared(namespace, standing, (left, container, caller), (op, outcome), cx);
            }
            (Doing::Renaming(place), Outcome::Hosts(answer)) => {
                self.kept_again(namespace, standing, place, op, answer, cx);
            }
            (Doing::Renaming(place), Outcome::Did(result)) => self.renamed(namespace, standing, place, result, cx),
            (Doing::Mending, Outcome::Looked(look)) => self.looked(namespace, standing, look, cx),
            (doing, _) => {
                standing.doing = doing;
                self.stand(namespace, standing);
            }
        }
    }
}
