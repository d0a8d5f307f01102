//! Whether a coordinator knows all that was confirmed.

use std::time::Duration;

use mesh_several::{
    etcd::{commit::known, position::Known},
    store::StoreError,
};

use super::{
    event::{Answer, Ask},
    member::{Ended, Pending, Refresh, Refreshed},
    requests::READ,
    world::World,
};

/// How long a request waits until all is known that was confirmed.
const PATIENCE: Duration = Duration::from_secs(3);

impl World {
    /// Goes on with `what` once all is known that was confirmed before.
    pub(super) fn refresh(&mut self, member: usize, what: Refreshed) {
        let began = self.now;
        let Some(program) = &mut self.members[member].program else { return };
        let before = program.position.known();
        self.ask(member, Ask::Head, Pending::Look(before, Refresh { began, what }), READ);
    }

    pub(super) fn looked(&mut self, member: usize, before: Option<Known>, refresh: Refresh, answer: Option<Answer>) {
        let now = self.instant();
        let Some(Answer::Head(head, at)) = answer else { return self.not_refreshed(member, refresh.what) };
        let head = head.and_then(|kv| known(&self.layout, &kv).ok());
        let Some(program) = &mut self.members[member].program else { return };
        match program.position.looked(before.as_ref(), (head.as_ref(), at), now) {
            Ok(looked) => {
                program.refreshing.push((looked.revision, refresh));
                if looked.is_behind {
                    program.watch = None;
                    self.ask(member, Ask::Head, Pending::Gap, READ);
                }
            }
            Err(error) => self.wrong(format!("coordinator {member} takes etcd for put back: {error}")),
        }
    }

    /// Goes on with what has waited for this revision.
    pub(super) fn refreshed(&mut self, member: usize) {
        let (now, start) = (self.now, self.instant_at(Duration::ZERO));
        let Some(program) = &mut self.members[member].program else { return };
        let reached = program.state.revision();
        for (revision, refresh) in std::mem::take(&mut program.refreshing) {
            let Some(program) = &mut self.members[member].program else { return };
            if now > refresh.began + PATIENCE {
                self.not_refreshed(member, refresh.what);
            } else if revision <= reached {
                program.contact.made(start + refresh.began);
                self.go_on_with(member, refresh.what);
            } else {
                program.refreshing.push((revision, refresh));
            }
        }
    }

    /// Goes on with what has waited.
    pub(super) fn go_on_with(&mut self, member: usize, what: Refreshed) {
        match what {
            Refreshed::Contact => {}
            Refreshed::Stream(opening) => self.begin(member, opening),
            Refreshed::Order(order) => self.order_fresh(member, order),
            Refreshed::Question(question) => self.answer_question(member, question),
        }
    }

    /// It can't be known now.
    fn not_refreshed(&mut self, member: usize, what: Refreshed) {
        match what {
            Refreshed::Contact | Refreshed::Question(_) => {}
            Refreshed::Order(order) => self.order_ended(member, order, Ended::Failed(StoreError::Away)),
            Refreshed::Stream(opening) => self.refuse(member, &opening),
        }
    }
}
