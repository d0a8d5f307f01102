//! One life at a time, by hand: what the simulation in `tests/` does at random.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_proto::{
    DeploymentId, Epoch, InstanceId, Range, Record, Revision, RunnerId, ServiceId, View,
    message::{Answer, Ask, Refusal},
    view::{Deployment, Instance, InstanceState, Network, Service},
};

use super::*;

struct Played {
    core: Lifecycle,
    now: Instant,
    view: View,
    effects: Vec<Effect>,
}

impl Played {
    fn new(connected: bool) -> Self {
        Self::with(Remembered::nothing("boot".to_owned()), connected)
    }

    fn with(remembered: Remembered, connected: bool) -> Self {
        let network = Network { range: Range::DEFAULT, mtu: 1344 };
        let mut view = View::empty(Epoch([1; 16]), Revision(1), RunnerId(1), network);
        let (name, team) = ("shop".parse().unwrap(), "acme".parse().unwrap());
        view.put(Record::Deployment(Arc::new(Deployment { id: DeploymentId(1), name, team, trust_source: None })));
        view.put(Record::Service(Arc::new(Service {
            id: ServiceId(1),
            deployment: DeploymentId(1),
            name: "db".parse().unwrap(),
            address: Ipv4Addr::new(100, 112, 0, 1),
            automatic_names: true,
        })));
        let now = Instant::now();
        let mut this = Self { core: Lifecycle::new(remembered, now), now, view, effects: vec![] };
        this.tell(Input::Start(CallId(1000)));
        if connected {
            this.tell(Input::Link(Link { connected: true, synced: true, unknown: false }));
        }
        this.tell(Input::View(Arc::new(this.view.clone())));
        this
    }

    fn tell(&mut self, input: Input) {
        self.core.handle(input, self.now, &mut self.effects);
        // The disk is quick.
        let saved = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Save(save, _) => Some(*save),
            _ => None,
        });
        if let Some(save) = saved.filter(|_| !self.core.is_saved()) {
            self.tell(Input::Saved(save));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.core.handle_timeout(self.now, &mut self.effects);
    }

    fn attach(&mut self, call: u64, ino: u64) {
        let request = AttachRequest {
            service: "shop/db".parse().unwrap(),
            client: false,
            namespace: NamespaceId { dev: 4, ino },
            place: NamespacePlace::Path("/run/netns/x".into()),
            hosts: None,
            unkept: None,
            watch: None,
            mark: Mark(u128::from(call)),
            container: None,
        };
        self.tell(Input::Attach(CallId(call), Box::new(request)));
    }

    /// Ends the steps in the kernel and the questions that are under way, well.
    fn work(&mut self) {
        loop {
            let all = std::mem::take(&mut self.effects);
            let mut left = vec![];
            for effect in all {
                match effect {
                    Effect::Kernel(op, KernelStep::Mend(..)) => {
                        self.tell(Input::Done(op, Outcome::Looked(Some(Look { nsid: None, mended: Ok(vec![]) }))));
                    }
                    Effect::Kernel(op, KernelStep::Holds(..) | KernelStep::IsInhabited(_)) => {
                        self.tell(Input::Done(op, Outcome::Is(true)));
                    }
                    Effect::Kernel(op, _) => self.tell(Input::Done(op, Outcome::Did(Ok(())))),
                    Effect::Serve(op, _, instance) => {
                        self.tell(Input::Done(op, Outcome::Serving(Port(instance.0 as u32))));
                    }
                    Effect::Ask(op, ask) => self.answer(op, &ask),
                    other => left.push(other),
                }
            }
            let is_over = self
                .effects
                .iter()
                .all(|effect| !matches!(effect, Effect::Kernel(..) | Effect::Serve(..) | Effect::Ask(..)));
            left.append(&mut self.effects);
            self.effects = left;
            if is_over {
                return;
            }
        }
    }

    fn answer(&mut self, op: OpId, ask: &Ask) {
        self.view.revision = self.view.revision.next();
        let revision = self.view.revision;
        let answer = match ask {
            Ask::Attach { .. } => {
                let (instance, address) = (InstanceId(revision.0), Ipv4Addr::new(100, 112, 1, revision.0 as u8));
                let (runner, state) = (RunnerId(1), InstanceState::Live);
                let record = Instance { id: instance, service: ServiceId(1), runner, address, state };
                self.view.put(Record::Instance(Arc::new(record)));
                Answer::Attached { instance, address, revision }
            }
            Ask::Detach { .. } => Answer::Detached { revision },
            _ => Answer::Settled { pending: vec![] },
        };
        self.tell(Input::View(Arc::new(self.view.clone())));
        self.tell(Input::Applied(mesh_proto::message::Have { epoch: self.view.epoch, revision }));
        self.tell(Input::Done(op, Outcome::Answered(Ok(answer))));
    }

    fn reply(&self, call: u64) -> Option<&Result<Reply, Error>> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Reply(at, result) if *at == CallId(call) => Some(result),
            _ => None,
        })
    }

    fn ops(&self) -> Vec<OpId> {
        let op = |effect: &Effect| match effect {
            Effect::Kernel(op, _) | Effect::Ask(op, _) => Some(*op),
            _ => None,
        };
        self.effects.iter().filter_map(op).collect()
    }
}

fn attached(reply: Option<&Result<Reply, Error>>) -> u64 {
    match reply {
        Some(Ok(Reply::Attached(shown, _))) => shown.attachment.instance.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_attachment_of_the_same_is_the_same_and_detaching_leaves_nothing() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.attach(2, 7);
    played.work();
    assert_eq!(attached(played.reply(1)), attached(played.reply(2)));
    let instance = played.core.list()[0].attachment.instance;
    played.tell(Input::Detach(CallId(3), instance));
    played.work();
    assert!(matches!(played.reply(3), Some(Ok(Reply::Detached(_)))));
    assert!(played.core.list().is_empty() && played.core.remembered().attachments.is_empty());
    played.tell(Input::Detach(CallId(4), instance));
    assert_eq!(played.reply(4), Some(&Err(Error::Missing(instance))));
}

#[test]
fn what_is_made_is_remembered_first_and_told_before_it_is_made() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    let at = |is_it: &dyn Fn(&Effect) -> bool| played.effects.iter().position(is_it);
    let remembers = |effect: &Effect| matches!(effect, Effect::Save(_, file) if file.attachments.len() == 1);
    assert!(at(&remembers).is_some());
    assert_eq!(played.core.hello().len(), 1);
}

#[test]
fn what_ended_in_the_coordinators_absence_is_taken_over_once() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    let first = attached(played.reply(1));
    played.tell(Input::Link(Link::default()));
    played.tell(Input::Detach(CallId(2), InstanceId(first)));
    // The disk is told, then the coordinator, which is away.
    let op = *played.ops().last().unwrap();
    played.tell(Input::Done(op, Outcome::Answered(Err(AskError::Away(Refusal::bare("away"))))));
    played.effects.retain(|effect| !matches!(effect, Effect::Ask(..)));
    played.work();
    assert_eq!(played.core.remembered().ended.len(), 1);
    played.attach(3, 8);
    played.work();
    assert_eq!(attached(played.reply(3)), first, "the same instance, elsewhere");
    assert_eq!(played.core.hello().len(), 1);
    assert!(played.core.remembered().ended.is_empty());
}

#[test]
fn a_caller_that_hangs_up_in_time_leaves_nothing() {
    let mut played = Played::new(false);
    played.attach(1, 7);
    let ops = played.ops();
    played.effects.clear();
    played.tell(Input::HungUp(CallId(1)));
    ops.into_iter().for_each(|op| played.tell(Input::Done(op, Outcome::Did(Ok(())))));
    played.work();
    assert_eq!(played.reply(1), Some(&Err(Error::HungUp)));
    assert!(played.effects.iter().any(|effect| matches!(effect, Effect::Close(_))));
    assert_eq!(played.core.poll_timeout(), None);
}

#[test]
fn every_wait_has_its_reason_and_its_end() {
    let mut played = Played::new(false);
    played.attach(1, 7);
    let clash = played.ops()[1];
    played.tell(Input::Done(clash, Outcome::Did(Ok(()))));
    let (at, why) = played.core.poll_timeout().unwrap();
    assert_eq!((at - played.now, why), (Duration::from_secs(3), "the coordinator is connected to"));
    played.pass(Duration::from_secs(3));
    let asked = played.effects.iter().any(|effect| matches!(effect, Effect::Ask(_, Ask::Attach { .. })));
    assert!(asked, "its answer says why it is away");
}

#[test]
fn an_agent_that_was_killed_at_an_end_finishes_it() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    let instance = InstanceId(attached(played.reply(1)));
    played.tell(Input::Detach(CallId(2), instance));
    let remembered = played.core.remembered();
    assert_eq!(remembered.attachments[0].ending, Some(Farewell::Restored));
    let next = Played::with(remembered, false);
    let removes = |effect: &Effect| matches!(effect, Effect::Kernel(_, KernelStep::Remove(there, Farewell::Restored)) if there.instance == instance);
    assert!(next.effects.iter().any(removes) && next.core.list().is_empty());
}
