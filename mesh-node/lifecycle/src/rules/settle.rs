//! How a call waits until the runners concerned know of a change: two seconds at most.

use mesh_proto::message::{Answer, Ask, Have};

use crate::{
    CallId, Effect, Lifecycle, Outcome, patience,
    state::{
        Context, Owner,
        settling::{Settling, Subject},
    },
};

impl Lifecycle {
    /// Answers when the view is in force at all runners concerned; at once if nothing has changed.
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

    /// Asks about the other runners where the view is in force here by now.
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

    /// Whether a view, or a later one, is in force. After a change of the epoch every view is a later one.
    pub(crate) fn is_in_force(&self, since: Have) -> bool {
        self.applied.is_some_and(|applied| applied.epoch != since.epoch || applied.revision >= since.revision)
    }
}
