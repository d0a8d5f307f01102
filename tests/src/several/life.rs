//! How a coordinator begins and gives signs of life, and what it does again and again.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use mesh_model::{Command, RunningSeconds, State, record::MemberId};
use mesh_proto::{Epoch, Revision};
use mesh_sessions::{Sessions, Told};
use mesh_several::{
    clock::Running,
    contact::{Contact, Doubt, Heard},
    etcd::{
        commit::known,
        layout::{Layout, Named},
        position::{Known, Position},
        wire::KeyValue,
    },
    feed::Recent,
    members::Members,
};

use super::{
    Bug,
    agents::Down,
    event::{Ask, Event, Input},
    member::{Card, Job, Member, Pending, Program, Refreshed, Then, Writer},
    requests::READ,
    truth::EPOCH,
    world::World,
};

const SECOND: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_millis(1500);
/// After how long a stream counts as lost that the records have and this coordinator doesn't.
const LOST: Duration = Duration::from_secs(10);

impl World {
    /// A coordinator's process begins: it takes its place, and reads all.
    pub(super) fn start(&mut self, member: usize) {
        let machine = &self.members[member];
        if machine.program.is_some() {
            return;
        }
        if machine.cut_store || machine.paused_until > self.now || self.now < self.away_until {
            self.after(SECOND, Event::Start(member));
            return;
        }
        let (now, uptime, me) = (self.instant(), machine.uptime(self.now), MemberId(self.rng.next()));
        self.members[member].life += 1;
        let text = Card { beat: 1, running: RunningSeconds(0), revision: Revision(0), settled: Revision(0) }.text();
        let before = self.etcd.revision();
        self.etcd.expire(self.now);
        let (lease, seated) = self.seat(0, me, text, None);
        self.tell(before);
        let (first, end) = self.layout.records();
        let at = self.etcd.revision();
        let Some(head) = self.etcd.get(&self.layout.head()).and_then(|kv| known(&self.layout, kv).ok()) else { return };
        let state = state(&self.layout, head, &self.etcd.span(&first, &end));
        let (revision, top) = (state.revision(), head.top);
        let mut sessions = Sessions::resume(top.epoch, revision, now);
        sessions.share(me, &state, now);
        let running = top.running.max(state.running());
        let running = match self.bug {
            // The bound alone would hide the other bugs in almost all lives.
            Some(Bug::StandstillCounted | Bug::ClocksApart | Bug::RightUncompared) => Running::alone(running, uptime),
            _ => Running::shared(running, uptime),
        };
        self.members[member].program = Some(Program {
            me,
            state,
            sessions,
            position: Position::new(Some(head)),
            recent: Recent::after(revision),
            running,
            contact: Contact::new(now),
            was_stale: false,
            doubt: Doubt::default(),
            members: Members::new(me),
            beat: 1,
            lease,
            from: at,
            watch: None,
            streams: BTreeMap::new(),
            queue: VecDeque::new(),
            writer: Writer::Idle,
            pending: BTreeMap::new(),
            refreshing: vec![],
            lost: BTreeMap::new(),
            waits: BTreeMap::new(),
            here: BTreeMap::new(),
        });
        self.note(format!("coordinator {member} begins as {me} with revision {revision}"));
        self.take_in(member, &seated);
        for input in [Input::Follow, Input::Second, Input::Beat] {
            self.input_after(Duration::from_millis(1), member, input);
        }
    }

    /// A coordinator's process ends. A machine that was joining by it tries again.
    pub(super) fn kill(&mut self, member: usize) {
        let Some(Program { queue, writer, .. }) = self.members[member].program.take() else { return };
        let busy = match &writer {
            Writer::Busy(busy) => Some(&busy.job),
            Writer::Idle | Writer::Reloading => None,
        };
        let is_joining = |job: &&Job| matches!(job.then, Then::Token(_) | Then::Enrolled);
        for _ in queue.iter().chain(busy).filter(is_joining) {
            self.after(Duration::from_secs(2), Event::Enrol);
        }
    }

    // === Signs of life ===

    pub(super) fn beat(&mut self, member: usize) {
        self.input_after(BEAT, member, Input::Beat);
        let Some(now) = self.members[member].decides_at(self.now) else { return };
        let Some(program) = &mut self.members[member].program else { return };
        program.beat += 1;
        let (lease, me) = (program.lease, program.me);
        let (revision, settled) = (program.state.revision(), program.sessions.settled(&program.state));
        let text = Card { beat: program.beat, running: now.running, revision, settled }.text();
        self.ask(member, Ask::Beat { lease, me, text, running: now.running }, Pending::Beat, READ);
        self.close_lost(member);
        self.record_owed(member);
    }

    pub(super) fn take_in(&mut self, member: usize, seated: &[KeyValue]) {
        let (now, uptime) = (self.instant(), self.members[member].uptime(self.now));
        let seats = seated.iter().filter_map(|kv| match self.layout.named(&kv.key) {
            Named::Member(id) => Some((id.parse().ok()?, kv.create_revision, Card::read(&kv.value))),
            _ => None,
        });
        let seats: Vec<(MemberId, i64, Card)> = seats.collect();
        let follows = self.bug != Some(Bug::ClocksApart);
        let Some(program) = &mut self.members[member].program else { return };
        let clock = seated.iter().find_map(|kv| self.layout.clock_from(kv));
        let told = seats.iter().map(|(.., card)| card.running).chain(clock);
        if let Some(running) = told.max().filter(|_| follows) {
            program.running.advance(running, uptime);
        }
        let told = seats.iter().map(|(id, _, card)| (*id, Told { at: card.revision, settled: card.settled })).collect();
        program.members.take_in(seats, now);
        program.sessions.members(program.members.living(), now);
        program.sessions.told(&told);
    }

    /// Commits what runners owe and only this coordinator remembers, and ends the streams of coordinators that are gone.
    fn record_owed(&mut self, member: usize) {
        let now = self.instant();
        let Some(program) = &mut self.members[member].program else { return };
        let mut due = program.sessions.to_record(&program.state, now);
        if program.members.is_first(|_| true, now) {
            due.extend(program.sessions.abandoned(&program.state, now));
        }
        if !due.is_empty() {
            self.submit(member, Command::Owing(due), None, Then::Nothing);
        }
    }

    /// Whether the streams have to end, by what the other coordinators say of the database.
    fn is_cut_off(&mut self, member: usize) -> bool {
        let now = self.instant();
        let Some(program) = &self.members[member].program else { return false };
        let (me, living) = (program.me, program.members.living());
        let says = |other: &MemberId| {
            let theirs = |one: &&Member| one.program.as_ref().is_some_and(|program| program.me == *other);
            let there = self.members.iter().find(theirs).filter(|one| one.answers() && one.paused_until <= self.now);
            match there.filter(|_| self.members[member].answers()).and_then(|one| one.program.as_ref()) {
                None => Heard::Nothing,
                Some(program) if program.is_stale(now) => Heard::HasLostIt,
                Some(_) => Heard::HasIt,
            }
        };
        let heard: Vec<Heard> = living.iter().filter(|other| **other != me).map(says).collect();
        let Some(program) = &mut self.members[member].program else { return false };
        program.doubt.judge(program.contact.lost_for(now), &heard, now)
    }

    /// Commits the end of streams whose end could not be committed when they ended.
    fn close_lost(&mut self, member: usize) {
        let now = self.now;
        let Some(program) = &mut self.members[member].program else { return };
        let all = program.sessions.lost(&program.state);
        program.lost.retain(|stream, _| all.iter().any(|closed| closed.stream == *stream));
        let lost = &mut program.lost;
        let due = all.into_iter().filter(|closed| now - *lost.entry(closed.stream).or_insert(now) > LOST);
        let due: Vec<_> = due.collect();
        if !due.is_empty() {
            self.submit(member, Command::Owing(due), None, Then::Nothing);
        }
    }

    /// What is done once a second.
    pub(super) fn second(&mut self, member: usize) {
        self.input_after(SECOND, member, Input::Second);
        let now = self.instant();
        self.refresh(member, Refreshed::Contact);
        let Some(program) = &mut self.members[member].program else { return };
        let is_stale = program.is_stale(now);
        if std::mem::replace(&mut program.was_stale, is_stale) && !is_stale {
            program.sessions.unsettle(now);
        }
        if self.is_cut_off(member) {
            let Some(program) = &self.members[member].program else { return };
            let all: Vec<_> = program.streams.iter().map(|(link, stream)| (*link, stream.id.runner)).collect();
            for (link, runner) in all {
                self.down(member, runner, link, Down::Closed);
                self.close(member, link);
            }
        }
        let Some(program) = &mut self.members[member].program else { return };
        if program.members.is_first(|_| true, now) {
            for command in program.sessions.unheard(&program.state, now).commands {
                self.submit(member, command, None, Then::Nothing);
            }
        }
    }
}

/// The state with the records of this head.
pub(super) fn state(layout: &Layout, head: Known, records: &[KeyValue]) -> State {
    let records = records.iter().map(|kv| layout.record_in(kv).expect("what coordinators have written can be read").1);
    assert_eq!(head.top.epoch, Epoch(EPOCH), "nothing draws another one");
    State::load(head.top.revision, records).expect("there is a `meta` record")
}
