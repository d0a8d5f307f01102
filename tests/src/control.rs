//! The control stream of one runner, seen from both ends: what the coordinator sent last, and what the agent has.

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

/// The coordinator's side: the view that the agent has once all that was sent has arrived.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) view: Option<View>,
    /// Grows with each stream: what was under way on an earlier one is lost.
    pub(crate) stream: u64,
}

impl Sent {
    /// What brings the agent from what it was sent to `next`; nothing if that is the same.
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
    /// Takes a message in; `false` if it doesn't follow on what is there, and a snapshot must be asked for.
    pub(crate) fn receive(&mut self, message: Message) -> bool {
        match (message, &mut self.view) {
            (Message::Snapshot(view), mine) => *mine = Some(view),
            (Message::Delta(delta), Some(view)) => return view.apply(&delta).is_ok(),
            (Message::Delta(_), None) => return false,
        }
        true
    }
}
