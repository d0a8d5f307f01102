//! The stream to the coordinator.

use std::{sync::Arc, time::Duration};

use mesh_lifecycle::{AskError, Input, Link, OpId, Outcome};
use mesh_proto::{
    Revision, View,
    message::{Answer, Ask, Have, Refusal},
};

use super::{
    Bug,
    coordinator::Presence,
    world::{Event, Life},
};

impl Life {
    pub(super) fn connect(&mut self) {
        if !self.started {
            self.waits_for_start = true;
            return;
        }
        self.coordinator.stream += 1;
        self.coordinator.presence = Presence::There;
        let held = self.core.hello();
        self.note(|| format!("the coordinator is there, and hears of {held:?}"));
        self.coordinator.hello(&held);
        self.input(Input::Link(Link { connected: true, ..Link::default() }));
        self.view_arrives(&Arc::new(self.coordinator.view.clone()));
        self.input(Input::Link(Link { connected: true, synced: true, unknown: false }));
    }

    pub(super) fn disconnect(&mut self) {
        self.note(|| "the coordinator is away".to_owned());
        self.coordinator.presence = Presence::Away;
        self.stream_ends(Link::default());
    }

    /// The coordinator refuses this runner from now on.
    pub(super) fn refuse(&mut self) {
        self.note(|| "the coordinator refuses this runner".to_owned());
        self.coordinator.presence = Presence::Refusing;
        self.stream_ends(Link { unknown: self.bug != Some(Bug::RefusalUnheard), ..Link::default() });
    }

    pub(super) fn stream_ends(&mut self, link: Link) {
        self.input(Input::Link(link));
        let lost: Vec<_> =
            self.events.iter().filter(|(_, e)| matches!(e, Event::Ask(..))).map(|(key, _)| *key).collect();
        for key in lost {
            let Some(Event::Ask(op, ask)) = self.events.remove(&key) else { continue };
            if self.rng.chance(50) {
                let _ = self.coordinator.answer(&ask);
            }
            self.soon(20, Event::Input(Input::Done(op, Outcome::Answered(Err(away())))));
        }
    }

    /// Sends the agent the view. Answers overtake views, and views don't overtake each other.
    pub(super) fn publish(&mut self) {
        if self.coordinator.presence.is_away() {
            return;
        }
        let sent = self.events.iter().filter(|(_, event)| matches!(event, Event::View(..))).map(|(key, _)| key.0);
        let from = sent.max().unwrap_or(self.now) - self.now;
        let delay = from + Duration::from_millis(self.rng.below(150));
        let view = Arc::new(self.coordinator.view.clone());
        self.after(delay, Event::View(self.coordinator.stream, view));
    }

    /// A view is there, and comes into force.
    pub(super) fn view_arrives(&mut self, view: &Arc<View>) {
        let have = Have { epoch: view.epoch, revision: view.revision };
        self.input(Input::View(Arc::clone(view)));
        self.soon(60, Event::Input(Input::Applied(have)));
    }

    pub(super) fn answer(&mut self, ask: &Ask) -> Result<Answer, Refusal> {
        if self.bug == Some(Bug::EndUntold) && matches!(ask, Ask::Detach { .. }) {
            return Ok(Answer::Detached { revision: self.coordinator.view.revision });
        }
        let answer = self.coordinator.answer(ask);
        match answer {
            Ok(Answer::Drained { .. }) if self.bug == Some(Bug::RevisionLost) => {
                Ok(Answer::Drained { revision: Revision(0) })
            }
            other => other,
        }
    }

    /// A question is at the coordinator.
    pub(super) fn asked(&mut self, op: OpId, ask: Ask) {
        match self.coordinator.presence {
            Presence::There => {
                let told = self.answer(&ask);
                self.publish();
                self.input(Input::Done(op, Outcome::Answered(told.map_err(AskError::Refused))));
            }
            // Until the stream breaks.
            Presence::Silent => self.soon(500, Event::Ask(op, ask)),
            Presence::Away | Presence::Refusing => {
                self.input(Input::Done(op, Outcome::Answered(Err(away()))));
            }
        }
    }
}

pub(super) fn away() -> AskError {
    AskError::Away(Refusal::bare("the coordinator is away"))
}
