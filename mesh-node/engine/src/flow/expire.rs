//! Ends flows and forgets them.

use std::time::Instant;

use super::{
    due::{ATTEMPT, CLOSING, Due, LINGER, SILENCE, SILENCE_CHECK, SLACK, TOGETHER},
    end::{Phase, Role},
    entry::{Flow, RstReceiver},
    pairs::Outcome,
    table::Flows,
};
use crate::index::Slot;

impl Flows {
    /// Forgets what is due by `now`. Returns the flows that were silent for too long: they have to be reset.
    #[must_use]
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Slot> {
        self.forget_ended(now);
        while self.opening.front().is_some_and(|due| due.at <= now)
            && let Some(Due { slot, generation, .. }) = self.opening.pop_front()
        {
            let Some(flow) = self.get(slot).filter(|flow| flow.generation == generation) else { continue };
            let (phase, again) = (flow.pin.phase, flow.since + ATTEMPT);
            let pair = flow.pair;
            match phase {
                Phase::Claimed => self.forget(slot),
                Phase::Opening if again <= now => {
                    self.counts.pairs.note(pair, Outcome::Unanswered);
                    self.forget(slot);
                }
                Phase::Opening => self.opening.push_back(Due { at: again, slot, generation }),
                _ => {}
            }
        }
        if self.next_silence_check > now {
            return vec![];
        }
        self.next_silence_check = now + SILENCE_CHECK;
        let silent = |flow: &Flow| {
            let limit = if flow.pin.progress.fins == 3 { CLOSING } else { SILENCE };
            flow.pin.phase == Phase::Open && now.saturating_duration_since(flow.since) >= limit
        };
        self.all().filter(|(_, flow)| silent(flow)).map(|(slot, _)| slot).collect()
    }

    fn forget_ended(&mut self, now: Instant) {
        for which in [Phase::Ended, Phase::Reset] {
            let queue = |flows: &mut Self| match which {
                Phase::Ended => std::mem::take(&mut flows.ended),
                _ => std::mem::take(&mut flows.reset),
            };
            let mut all = queue(self);
            while all.front().is_some_and(|due| due.at <= now)
                && let Some(Due { slot, generation, .. }) = all.pop_front()
            {
                let Some(flow) = self.get(slot).filter(|flow| flow.generation == generation) else { continue };
                match flow.pin.phase {
                    phase if phase.stands() => {}
                    _ if flow.held => all.push_back(Due { at: now + LINGER, slot, generation }),
                    _ => self.forget(slot),
                }
            }
            match which {
                Phase::Ended => self.ended = all,
                _ => self.reset = all,
            }
        }
    }

    /// When [`Self::tick`] is due: some time after the first flow, so that those that end one after another are forgotten
    /// in one go. (Silent flows don't need it: while nothing else happens, they do no harm.)
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let fronts = [self.ended.front(), self.reset.front(), self.opening.front()];
        fronts.into_iter().flatten().map(|due| due.at + TOGETHER).min()
    }

    pub(super) fn schedule(&mut self, slot: Slot, phase: Phase, generation: u64, now: Instant) {
        let (all, after) = match phase {
            Phase::Opening | Phase::Claimed => (&mut self.opening, ATTEMPT),
            Phase::Open => return,
            Phase::Ended => (&mut self.ended, LINGER),
            Phase::Reset => (&mut self.reset, LINGER),
        };
        // Entries whose slot holds another flow by now pile up if the same connection is opened again and again.
        if all.len() > 4 * self.slots.len() + SLACK {
            let slots = &self.slots;
            let holds = |due: &Due| slots.get(due.slot)?.as_ref().map(|flow| flow.generation == due.generation);
            all.retain(|due| holds(due) == Some(true));
        }
        all.push_back(Due { at: now + after, slot, generation });
    }

    /// Ends a flow, and remembers it for a while.
    pub(crate) fn end(&mut self, slot: Slot, phase: Phase, now: Instant) {
        self.end_by(slot, phase, None, now);
    }

    /// Ends a flow by a RST that its receiver may ignore.
    pub(super) fn end_by(&mut self, slot: Slot, phase: Phase, receiver: Option<RstReceiver>, now: Instant) {
        let Some(Some(flow)) = self.slots.get_mut(slot) else { return };
        self.counts.leave(flow);
        let by_caller = receiver.is_some_and(|receiver| receiver.role == Role::Callee);
        match (flow.pin.phase, receiver) {
            (Phase::Opening, _) if !by_caller => self.counts.pairs.note(flow.pair, Outcome::Refused),
            (Phase::Open, Some(_)) => self.counts.pairs.note(flow.pair, Outcome::Reset),
            (Phase::Open, None) if phase == Phase::Reset => self.counts.pairs.note(flow.pair, Outcome::Reset),
            _ => {}
        }
        flow.pin.phase = phase;
        (flow.attempt, flow.rst_receiver) = (None, receiver);
        let generation = flow.generation;
        self.pins.write(slot, &flow.pin);
        self.schedule(slot, phase, generation, now);
    }

    /// Holds an ended flow in memory beyond its time, if there is room, or lets it go.
    pub(crate) fn hold(&mut self, slot: Slot, held: bool) {
        if let Some(Some(flow)) = self.slots.get_mut(slot) {
            flow.held = held;
        }
    }
}
