//! A coordinator reads all, and carries out what its sessions decide.

use std::time::Duration;

use mesh_sessions::Effect;
use mesh_several::{etcd::commit::known, feed::Recent};

use super::{
    Bug,
    event::{Answer, Ask, Input},
    life::state,
    member::{Pending, Stage, Writer},
    requests::READ,
    world::World,
};

/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_millis(250);

impl World {
    pub(super) fn load(&mut self, member: usize) {
        self.ask(member, Ask::Load, Pending::Load, READ);
    }

    pub(super) fn loaded(&mut self, member: usize, answer: Option<Answer>) {
        let now = self.instant();
        let Some(Answer::Load { head: Some(head), records }) = answer else {
            self.input_after(PAUSE, member, Input::Load);
            return;
        };
        let Ok(head) = known(&self.layout, &head) else { return };
        self.advance(member, &head, None);
        let state = state(&self.layout, head, &records);
        self.tally.loads += 1;
        let uptime = self.members[member].uptime(self.now);
        let follows = self.bug != Some(Bug::ClocksApart);
        let Some(program) = &mut self.members[member].program else { return };
        if program.recent.next(state.revision()).is_err() {
            if self.bug == Some(Bug::GapIgnored) {
                program.recent = Recent::after(state.revision());
            } else {
                return self.load(member);
            }
        }
        program.state = state;
        program.sessions.reloaded(&program.state, now);
        if follows {
            program.running.advance(head.top.running, uptime);
        }
        let reached = program.state.revision();
        match &mut program.writer {
            Writer::Reloading => program.writer = Writer::Idle,
            Writer::Busy(busy) => match busy.stage {
                Stage::Reloading(to) if reached >= to => self.caught_up(member, false),
                Stage::Reloading(_) => self.load(member),
                _ => {}
            },
            Writer::Idle => {}
        }
    }

    /// Carries out what the sessions have decided.
    pub(super) fn carry_out(&mut self, member: usize) {
        loop {
            let Some(program) = &mut self.members[member].program else { return };
            match program.sessions.poll_effect() {
                None => return,
                Some(Effect::Outdated(id)) => {
                    if let Some(link) = program.stream_of(id)
                        && let Some(stream) = program.streams.get_mut(&link)
                    {
                        stream.outdated = true;
                    }
                }
                Some(Effect::End(id)) => {
                    if let Some(link) = program.stream_of(id)
                        && let Some(stream) = program.streams.get_mut(&link)
                    {
                        stream.ended = true;
                    }
                }
                Some(Effect::Waited(id, _)) => self.waited_here(member, id),
                Some(Effect::Switches(..) | Effect::Removed(_)) => {}
            }
        }
    }
}
