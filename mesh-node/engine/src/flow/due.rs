//! What is forgotten of flows, and when.

use std::time::{Duration, Instant};

use super::{Flow, Flows, Phase, entry::GoesOn};

/// How long the end of a flow is remembered: TIME-WAIT, as Linux has it (include/net/tcp.h, `TCP_TIMEWAIT_LEN`).
const LINGER: Duration = Duration::from_secs(60);

/// How long an attempt is remembered after its last SYN: longer than the wait between any two SYNs that are not the very
/// last (RFC 6298 §2; 1, 2, 4 … 32 s). What one end only claims is remembered as long.
pub(super) const ATTEMPT: Duration = Duration::from_secs(70);

/// How many more entries the lists of what is due may have than there are flows, four times over.
pub(super) const SLACK: usize = 1024;

/// How long an established flow may be silent (net/netfilter/nf_conntrack_proto_tcp.c, five days), and how long one in
/// which both ends have said all, and one waits for the acknowledgment of that: longer than Linux sends it again
/// (`tcp_retries2`, a quarter of an hour). And how often that is looked at.
const SILENCE: Duration = Duration::from_secs(5 * 24 * 3600);
const CLOSING: Duration = Duration::from_secs(3600);
pub(super) const LOOK: Duration = Duration::from_secs(3600);

/// When something is due for a slot, if it still holds the same flow.
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) slot: u32,
    pub(super) generation: u64,
}

impl Flows {
    /// Forgets what has come due by `now`. Gives the flows that have been silent for so long that they end, which their
    /// ends have to be told.
    #[must_use]
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<u32> {
        self.forget_ended(now);
        while self.opening.front().is_some_and(|due| due.at <= now)
            && let Some(Due { slot, generation, .. }) = self.opening.pop_front()
        {
            let Some(flow) = self.get(slot).filter(|flow| flow.generation == generation) else { continue };
            let (phase, again) = (flow.pin.phase, flow.since + ATTEMPT);
            match phase {
                Phase::Claimed => self.forget(slot),
                Phase::Opening if again <= now => self.forget(slot),
                Phase::Opening => self.opening.push_back(Due { at: again, slot, generation }),
                _ => {}
            }
        }
        if self.look > now {
            return vec![];
        }
        self.look = now + LOOK;
        let silent = |flow: &Flow| {
            let limit = if flow.pin.fins == 3 { CLOSING } else { SILENCE };
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

    /// When [`Self::tick`] wants to be called. (It isn't called for the sake of silent ones: where nothing happens at all,
    /// they are in no other's way.)
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let fronts = [self.ended.front(), self.reset.front(), self.opening.front()];
        fronts.into_iter().flatten().map(|due| due.at).min()
    }

    pub(super) fn schedule(&mut self, slot: u32, phase: Phase, generation: u64, now: Instant) {
        let (all, after) = match phase {
            Phase::Opening | Phase::Claimed => (&mut self.opening, ATTEMPT),
            Phase::Open => return,
            Phase::Ended => (&mut self.ended, LINGER),
            Phase::Reset => (&mut self.reset, LINGER),
        };
        // Those whose slot has another flow by now are in the way if the same is opened again and again.
        if all.len() > 4 * self.slots.len() + SLACK {
            let slots = &self.slots;
            let holds =
                |due: &Due| slots.get(due.slot as usize)?.as_ref().map(|flow| flow.generation == due.generation);
            all.retain(|due| holds(due) == Some(true));
        }
        all.push_back(Due { at: now + after, slot, generation });
    }

    /// Ends a flow, and remembers it for a while.
    pub(crate) fn end(&mut self, slot: u32, phase: Phase, now: Instant) {
        self.end_unless(slot, phase, None, now);
    }

    /// The same, where it may be that an end goes on.
    pub(super) fn end_unless(&mut self, slot: u32, phase: Phase, goes_on: Option<GoesOn>, now: Instant) {
        let Some(Some(flow)) = self.slots.get_mut(slot as usize) else { return };
        self.counts.leave(flow);
        flow.pin.phase = phase;
        (flow.attempt, flow.goes_on) = (None, goes_on);
        let generation = flow.generation;
        self.pins.write(slot, &flow.pin);
        self.schedule(slot, phase, generation, now);
    }

    /// Sees to it that a flow that has ended is remembered for as long as it is held, if there is room for it.
    pub(crate) fn hold(&mut self, slot: u32, held: bool) {
        if let Some(Some(flow)) = self.slots.get_mut(slot as usize) {
            flow.held = held;
        }
    }
}
