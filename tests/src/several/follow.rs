//! How a coordinator follows the commits, by etcd's watch.

use std::time::Duration;

use mesh_several::{
    etcd::{
        events::{What, commits},
        layout::{Named, Texts},
        position::{Advance, Known},
        wire::{Event as Change, WatchResponse},
    },
    feed::Recent,
    store::{Commit, Nonce},
};

use super::{
    Bug,
    event::{Ask, Input},
    member::Pending,
    requests::READ,
    world::World,
};

/// The pause before etcd is tried again.
const RETRY: Duration = Duration::from_millis(250);

impl World {
    /// Begins etcd's watch after what is known.
    pub(super) fn follow(&mut self, member: usize) {
        let machine = &self.members[member];
        if machine.cut_store || self.now < self.away_until {
            self.input_after(RETRY, member, Input::Follow);
            return;
        }
        let watch = self.number();
        let Some(program) = &mut self.members[member].program else { return };
        program.watch = Some(watch);
        match self.etcd.since(program.from) {
            Ok(all) => {
                for mut events in all {
                    // etcd before 3.5.18 can lose deletes in a watch that goes on.
                    let deletes: Vec<usize> = events
                        .iter()
                        .enumerate()
                        .filter(|(_, event)| event.kind == 1)
                        .map(|(place, _)| place)
                        .collect();
                    if let Some(place) = self.rng.pick(&deletes).copied().filter(|_| !self.calm && self.rng.chance(30))
                    {
                        events.remove(place);
                    }
                    self.tell_one(member, watch, WatchResponse { events, ..WatchResponse::default() });
                }
            }
            Err(compact_revision) => {
                self.tell_one(member, watch, WatchResponse { compact_revision, ..WatchResponse::default() });
            }
        }
    }

    /// The watch's connection breaks.
    pub(super) fn unfollow(&mut self, member: usize) {
        if let Some(program) = &mut self.members[member].program {
            program.watch = None;
            self.input_after(RETRY, member, Input::Follow);
        }
    }

    pub(super) fn told(&mut self, member: usize, watch: u64, message: &WatchResponse) {
        if self.members[member].program.as_ref().is_none_or(|program| program.watch != Some(watch)) {
            return;
        }
        if self.members[member].cut_store {
            return self.unfollow(member);
        }
        if message.compact_revision > 0 {
            return self.gap(member);
        }
        let told = match commits(&self.layout, &message.events) {
            Ok(told) => told,
            Err(error) => return self.wrong(format!("coordinator {member} cannot read what etcd tells: {error}")),
        };
        for told in told {
            let Some(program) = &self.members[member].program else { return };
            if !program.position.is_news(&told.known) {
                continue;
            }
            let texts = match told.what {
                What::Whole(texts) => texts,
                What::Lost if self.bug == Some(Bug::LossBelieved) => self.texts(&message.events),
                What::Lost | What::InParts => {
                    self.tally.losses += 1;
                    return self.gap(member);
                }
            };
            let changes = texts.changes().expect("what coordinators have written can be read");
            self.advance(member, &told.known, Some(changes));
        }
        let last = message.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).max();
        if let Some(program) = &mut self.members[member].program {
            program.from = last.map_or(program.from, |last| last.max(program.from));
        }
    }

    fn texts(&self, events: &[Change]) -> Texts {
        let text = |event: &Change| {
            let kv = event.kv.as_ref()?;
            let Named::Record(key) = self.layout.named(&kv.key) else { return None };
            Some((key.to_owned(), (event.kind == 0).then(|| String::from_utf8_lossy(&kv.value).into_owned())))
        };
        Texts(events.iter().filter_map(text).collect())
    }

    pub(super) fn gap(&mut self, member: usize) {
        if let Some(program) = &mut self.members[member].program {
            program.watch = None;
        }
        self.ask(member, Ask::Head, Pending::Gap, READ);
    }

    /// Takes a head in, with its changes if they are known.
    pub(super) fn advance(&mut self, member: usize, head: &Known, changes: Option<Vec<mesh_model::Change>>) {
        let (now, bug) = (self.instant(), self.bug);
        let Some(program) = &mut self.members[member].program else { return };
        let top = head.top;
        match (program.position.advance(head, changes.is_some(), now), changes) {
            (Ok(Advance::Old), _) => {}
            (Ok(Advance::Next), Some(changes)) => program.recent.push(Commit {
                revision: top.revision,
                nonce: Nonce(top.nonce),
                epoch: top.epoch,
                running: top.running,
                changes: changes.into(),
            }),
            (Ok(_), _) if bug == Some(Bug::GapIgnored) => {}
            (Ok(_), _) => program.recent = Recent::after(top.revision),
            (Err(error), _) => self.wrong(format!("coordinator {member} takes etcd for put back: {error}")),
        }
    }
}
