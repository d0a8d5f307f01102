//! The control stream of one runner at both ends: what the coordinator has sent, and what the agent has.

use mesh_proto::{Delta, View};

pub(crate) enum Message {
    Snapshot(View),
    Delta(Delta),
}

/// The agent's side: the view in force.
#[derive(Default)]
pub(crate) struct Agent {
    pub(crate) view: Option<View>,
}

/// The coordinator's side: the view that the agent will have once everything has arrived.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) view: Option<View>,
    /// Grows with each stream: messages of an earlier one are lost.
    pub(crate) stream: u64,
}

impl Sent {
    /// The message that leads from the last one to `next`; none if that is equal.
    pub(crate) fn advance(&mut self, next: View) -> Option<Message> {
        let message = match &self.view {
            Some(last) if last.epoch == next.epoch => {
                let delta = last.delta_to(&next);
                if delta.is_empty() {
                    return None;
                }
                Message::Delta(delta)
            }
            _ => Message::Snapshot(next.clone()),
        };
        self.view = Some(next);
        Some(message)
    }
}

impl Agent {
    /// Handles a message. Returns false if it doesn't continue the agent's view, so that a snapshot has to be
    /// requested.
    pub(crate) fn receive(&mut self, message: Message) -> bool {
        match (message, &mut self.view) {
            (Message::Snapshot(view), mine) => *mine = Some(view),
            (Message::Delta(delta), Some(view)) => return view.apply(&delta).is_ok(),
            (Message::Delta(_), None) => return false,
        }
        true
    }
}
