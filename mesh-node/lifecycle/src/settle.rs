//! Who has asked for something that other runners must know waits for them, two seconds at most.

use std::time::Instant;

use mesh_proto::{
    Label,
    message::{Answer, Ask, Have},
};

use crate::{
    CallId, Effect, Lifecycle, Outcome, Reply, Shown,
    lifecycle::{Context, Owner},
    patience,
};

/// A call that waits.
#[derive(Debug)]
pub(crate) struct Settling {
    subject: Subject,
    since: Have,
    /// The view comes into force here first, for so long; `None`: the coordinator was asked for the others.
    until: Option<Instant>,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Subject {
    Attached(Shown),
    DrainingSet(Shown),
}

impl Settling {
    /// Until when this runner's own view is waited for.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.until
    }
}

impl Subject {
    fn reply(self, pending: Vec<Label>) -> Reply {
        match self {
            Self::Attached(shown) => Reply::Attached(shown, pending),
            Self::DrainingSet(shown) => Reply::DrainingSet(shown, pending),
        }
    }
}

impl Lifecycle {
    /// Answers when the view is in force at all runners concerned; at once if it is no news.
    pub(crate) fn settle(&mut self, call: CallId, subject: Subject, since: Option<Have>, cx: &mut Context<'_>) {
        match since {
            Some(since) => {
                let until = Some(cx.now + patience::APPLY);
                self.settling.insert(call, Settling { subject, since, until });
                self.stirred = true;
            }
            None => self.reply(call, Ok(subject.reply(vec![])), cx),
        }
    }

    /// Looks which views are in force by now.
    pub(crate) fn advance_settling(&mut self, cx: &mut Context<'_>) {
        let is_due = |settling: &Settling| {
            settling.until.is_some_and(|until| until <= cx.now || self.is_in_force(settling.since))
        };
        let due: Vec<CallId> = self.settling.iter().filter(|(_, one)| is_due(one)).map(|(call, _)| *call).collect();
        for call in due {
            let op = self.op(Owner::Settling(call));
            let Some(settling) = self.settling.get_mut(&call) else { continue };
            settling.until = None;
            cx.push(Effect::Ask(op, Ask::Settle { revision: settling.since.revision }));
        }
    }

    pub(crate) fn settled(&mut self, call: CallId, outcome: Outcome, cx: &mut Context<'_>) {
        let Some(Settling { subject, .. }) = self.settling.remove(&call) else { return };
        let pending = match outcome {
            Outcome::Answered(Ok(Answer::Settled { pending })) => pending,
            _ => vec![],
        };
        self.reply(call, Ok(subject.reply(pending)), cx);
    }

    pub(crate) fn forget_settling(&mut self, call: CallId) {
        self.settling.remove(&call);
    }

    /// Whether a view, or a later one, is in force. A coordinator that begins anew has later ones only.
    pub(crate) fn is_in_force(&self, since: Have) -> bool {
        self.applied.is_some_and(|applied| applied.epoch != since.epoch || applied.revision >= since.revision)
    }

    /// Which view there is.
    pub(crate) fn view_at(&self) -> Option<Have> {
        self.view.as_ref().map(|view| Have { epoch: view.epoch, revision: view.revision })
    }
}
