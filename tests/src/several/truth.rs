//! What was committed, as etcd has it: the reference for all coordinators. Each commit is checked when etcd takes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use mesh_model::{
    Admin, AdminCommand, Change, Command, Enrolment, Key, NewPurpose, NewToken, Outcome, Record, RunningSeconds, State,
    UnixSeconds,
    record::{Meta, StreamKey},
};
use mesh_proto::{Epoch, InstanceId, PrivateKey, PublicKey, Revision, RunnerId, Secret, ServiceId, view::Network};
use mesh_several::{
    etcd::{
        commit::plan,
        events::{What, commits},
        layout::Layout,
        wire::Event,
    },
    store::{Draft, Nonce},
};

use super::{
    clients::{SERVICES, whole},
    etcd::Etcd,
    world::World,
};
use crate::{reference::Reference, rng::Rng, waits::world::label};

pub(super) const PREFIX: &str = "mesh";
pub(super) const EPOCH: [u8; 16] = [1; 16];
pub(super) const RUNNERS: usize = 5;
pub(super) const DEPLOYMENTS: usize = 3;
/// How long freed addresses rest.
const QUARANTINE: Duration = Duration::from_secs(20);
/// How many addresses no one has had at first, so that freed ones are needed soon.
const FRESH: u32 = 14;

/// A commit that a coordinator has sent.
pub(super) struct Sent {
    pub(super) job: u64,
    /// The runner's stream by which its command came.
    pub(super) by: Option<(RunnerId, StreamKey)>,
    /// The client's order that it carries out.
    pub(super) order: Option<u64>,
}

pub(super) struct Truth {
    pub(super) state: State,
    nonce: u64,
    /// The commits that were sent, by their nonces.
    pub(super) sent: BTreeMap<u64, Sent>,
    /// The commits of each command.
    landed: BTreeMap<u64, Vec<Revision>>,
    /// Commands of which it was said that they have changed nothing.
    pub(super) denied: BTreeSet<u64>,
    /// What the operators have asked for, as of each revision that changed it.
    pub(super) history: BTreeMap<Revision, Reference>,
    /// The latest revision that any client knows of.
    pub(super) floor: Revision,
    /// Up to which revision all have confirmed what was taken back from a deployment's callers.
    pub(super) settled: BTreeMap<usize, Revision>,
    /// Whose each number is, for good.
    instances: BTreeMap<InstanceId, (RunnerId, Ipv4Addr)>,
    services: BTreeMap<ServiceId, Ipv4Addr>,
    runners: BTreeMap<RunnerId, PublicKey>,
    audit: u64,
    held: BTreeSet<Ipv4Addr>,
    freed: BTreeMap<Ipv4Addr, Duration>,
    pub(super) reused: u32,
}

/// A token for one machine, and its request to join, but for the token's identifier.
pub(super) fn joining(rng: &mut Rng, name: &str) -> (Command, Enrolment) {
    let secret = Secret::from_bytes(rng.bytes());
    let token = NewToken { purpose: NewPurpose::JoinAny { uses: 1 }, ttl: 86_400, ephemeral: false, name: None };
    let create = Command::CreateToken { by: Admin::socket(0), token, secret: secret.hash() };
    let enrolment = Enrolment {
        token: mesh_proto::TokenId(0),
        secret,
        name: label(name),
        provider: label("basement"),
        public_key: PrivateKey::from_bytes(rng.bytes()).public(),
        proved: true,
        replace: false,
        credential: Secret::from_bytes(rng.bytes()).hash(),
    };
    (create, enrolment)
}

impl Truth {
    /// A mesh with some runners and deployments, as etcd has it.
    pub(super) fn first(rng: &mut Rng) -> (Self, Etcd, Vec<RunnerId>) {
        let network = Network { range: "100.112.0.0/24".parse().expect("a range"), mtu: 1344 };
        let mut meta = Meta::new(network).expect("the default MTU is one");
        meta.quarantine = QUARANTINE.as_secs();
        let last = meta.next.instance_address.to_bits();
        meta.next.service_address = Ipv4Addr::from_bits(last - FRESH);
        let mut state = State::load(Revision(0), [Record::Meta(meta.into())]).expect("there is a `meta` record");
        let mut run = |command: &Command| {
            let decision = state.decide(command, UnixSeconds(1_700_000_000)).expect("it is allowed");
            state.absorb(&decision.changes, Revision(1));
            decision.outcome
        };
        let mut runners = Vec::new();
        for number in 0..RUNNERS {
            let (create, enrolment) = joining(rng, &format!("runner{number}"));
            let Outcome::TokenCreated { token, .. } = run(&create) else { panic!("no token") };
            let Outcome::Enrolled { runner, .. } = run(&Command::Enrol(Enrolment { token, ..enrolment })) else {
                panic!("not enrolled")
            };
            runners.push(runner);
        }
        let services: BTreeSet<usize> = (0..SERVICES).collect();
        let files = (0..DEPLOYMENTS).map(|app| whole(app, &services)).collect();
        let apply = AdminCommand::Apply { files, dry_run: false, force: true, prune: None };
        run(&Command::Admin { by: Admin::socket(0), what: apply });
        let mut reference = Reference::default();
        for app in 0..DEPLOYMENTS {
            reference.teams.insert(app, 0);
            reference.services.extend(services.iter().map(|service| (app, *service)));
        }
        let changes: Vec<Change> = state.records().map(Change::Put).collect();
        let (epoch, running, nonce) = (Epoch(EPOCH), RunningSeconds(0), Nonce(1));
        let draft = Draft { changes: changes.clone(), epoch, running, nonce, right: None };
        let first = plan(&Layout::new(PREFIX), None, &draft).expect("it can be written");
        let mut etcd = Etcd::default();
        assert!(first.parts.is_empty() && etcd.txn(&first.swap).succeeded, "etcd is empty");
        let mut truth = Self {
            state,
            nonce: 1,
            sent: BTreeMap::new(),
            landed: BTreeMap::new(),
            denied: BTreeSet::new(),
            history: BTreeMap::from([(Revision(1), reference)]),
            floor: Revision(1),
            settled: BTreeMap::new(),
            instances: BTreeMap::new(),
            services: BTreeMap::new(),
            runners: BTreeMap::new(),
            audit: 0,
            held: BTreeSet::new(),
            freed: BTreeMap::new(),
            reused: 0,
        };
        truth.numbers(&changes, Duration::ZERO).expect("they are the first");
        (truth, etcd, runners)
    }

    /// No number is given twice, and no address before it has rested.
    fn numbers(&mut self, changes: &[Change], now: Duration) -> Result<(), String> {
        for change in changes {
            let freed = match change {
                Change::Delete(Key::Instance(id)) => self.instances.get(id).map(|(_, address)| *address),
                Change::Delete(Key::Service(id)) => self.services.get(id).copied(),
                _ => None,
            };
            if let Some(address) = freed.filter(|address| self.held.remove(address)) {
                self.freed.insert(address, now);
            }
        }
        for change in changes {
            match change {
                Change::Put(Record::Instance(one)) => {
                    let whose = (one.runner, one.address);
                    if *self.instances.entry(one.id).or_insert(whose) != whose {
                        return Err(format!("the number of {} is given twice", one.id));
                    }
                    self.take(one.address, one.id, now)?;
                }
                Change::Put(Record::Service(one)) => {
                    if *self.services.entry(one.id).or_insert(one.address) != one.address {
                        return Err(format!("the number of {} is given twice", one.id));
                    }
                    self.take(one.address, one.id, now)?;
                }
                Change::Put(Record::Runner(one))
                    if *self.runners.entry(one.id).or_insert(one.public_key) != one.public_key =>
                {
                    return Err(format!("the number of {} is given twice", one.id));
                }
                _ => {}
            }
        }
        let audit = changes.iter().filter_map(|change| match change {
            Change::Put(Record::Audit(entry)) => Some(entry.number),
            _ => None,
        });
        for number in audit.collect::<BTreeSet<_>>() {
            if number <= self.audit {
                return Err(format!("the number of the audit's entry {number} is given twice"));
            }
            self.audit = number;
        }
        Ok(())
    }

    /// An address is held from now on, unless it was before.
    fn take(&mut self, address: Ipv4Addr, id: impl std::fmt::Display, now: Duration) -> Result<(), String> {
        if self.held.insert(address)
            && let Some(freed) = self.freed.remove(&address)
        {
            self.reused += 1;
            if now - freed < QUARANTINE {
                return Err(format!(
                    "{address} is given to {id} in its quarantine, {:?} after it was freed",
                    now - freed
                ));
            }
        }
        Ok(())
    }

    /// What the operators have asked for at `from` or later.
    pub(super) fn references_since(&self, from: Revision) -> impl Iterator<Item = &Reference> {
        let before = self.history.range(..=from).next_back();
        before.into_iter().chain(self.history.range(from.next()..)).map(|(_, reference)| reference)
    }
}

impl World {
    /// etcd has taken a commit.
    pub(super) fn landed(&mut self, events: &[Event]) {
        for told in commits(&self.layout, events).expect("what coordinators write can be read") {
            let top = told.known.top;
            let follows = top.revision == self.truth.state.revision().next() && top.previous == self.truth.nonce;
            if !follows {
                return self.wrong(format!("revision {} is committed over another one", top.revision));
            }
            let What::Whole(texts) = told.what else {
                return self.wrong(format!("revision {} deletes what is not there", top.revision));
            };
            let changes = texts.changes().expect("what coordinators write can be read");
            self.tally.commits += 1;
            if let Some(Sent { job, by, order }) = self.truth.sent.remove(&top.nonce) {
                self.check_landing(job, by, top.revision);
                if let Some(order) = order {
                    self.refer(order, top.revision);
                }
            }
            if let Err(what) = self.truth.numbers(&changes, self.now) {
                return self.wrong(what);
            }
            self.truth.state.absorb(&changes, top.revision);
            self.truth.nonce = top.nonce;
        }
    }

    fn check_landing(&mut self, job: u64, by: Option<(RunnerId, StreamKey)>, revision: Revision) {
        let landed = self.truth.landed.entry(job).or_default();
        landed.push(revision);
        if landed.len() > 1 {
            let what = format!("a command takes effect twice, at {landed:?}");
            self.wrong(what);
        }
        if self.truth.denied.contains(&job) {
            self.wrong("a command takes effect of which was said that it has changed nothing");
        }
        let newest = |runner| self.truth.state.session(runner).map(|session| session.stream);
        if let Some((runner, stream)) = by
            && newest(runner) != Some(stream)
        {
            self.wrong(format!("what an earlier stream of {runner} has asked for takes effect"));
        }
    }

    /// A coordinator takes a command for committed.
    pub(super) fn check_confirmed(&mut self, member: usize, job: u64, revision: Revision) {
        if self.truth.landed.get(&job).is_none_or(|landed| *landed != [revision]) {
            self.wrong(format!("coordinator {member} confirms a command at {revision} that is not there"));
        }
    }
}
