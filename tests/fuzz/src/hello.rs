//! Messages of a hostile runner to the coordinator's model, beside an honest runner of another team.

mod checks;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::OnceLock,
};

use arbitrary::{Result, Unstructured};
use mesh_model::{
    Admin, AdminCommand, Command, Decision, Enrolment, NewPurpose, NewToken, Now, Outcome, Record, Refusal,
    RunnerCommand, RunningSeconds, State, TrustChange, UnixSeconds,
    declare::{Declaration, Declared, Deployment, File},
    limits,
    record::Meta,
    work,
};
use mesh_proto::{
    Abilities, Epoch, InstanceId, Label, Ports, PublicKey, Revision, RunnerId, Secret, ServicePath, TokenId,
    message::Held,
    view::{self, InstanceState, Network},
};

use self::checks::{allowed, check_change, check_others, check_view, holder, services};
use crate::reference::Reference;

const HONEST: RunnerId = RunnerId(1);
const HOSTILE: RunnerId = RunnerId(2);
const EPOCH: Epoch = Epoch([7; 16]);
const SECRET: Secret = Secret::from_bytes([1; 32]);

/// A longer run finds nothing new.
const STEPS: usize = 32;

/// The services that a hostile runner requests: its own, one that both may host, others', and none.
const PATHS: &[&str] =
    &["rig/web", "rig/s7", "common/api", "shop/db", "shop/app", "bank/vault", "other3/db", "rig/none", "nowhere/db"];

/// Whatever the hostile runner sends: the state of others doesn't change, the writer needs a few look-ups for each
/// named instance, the records restore the same state, every runner gets exactly its view, and the honest runner's
/// requests succeed.
pub fn run(data: &[u8]) {
    static BEFORE: OnceLock<World> = OnceLock::new();
    let mut world = BEFORE.get_or_init(World::new).clone();
    // The run ends with the input.
    let _ = world.live(&mut Unstructured::new(data));
    world.end();
}

#[derive(Clone)]
struct World {
    state: State,
    now: u64,
}

impl World {
    fn new() -> Self {
        let network = Network { range: "10.9.0.0/23".parse().expect("a range"), mtu: 1344 };
        let meta = Record::Meta(Meta::new(network).expect("a network").into());
        let mut world = Self { state: State::load(Revision(1), [meta]).expect("a state"), now: 1_000_000 };
        let many: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
        let mut rig: Vec<&str> = many.iter().map(String::as_str).collect();
        rig.push("web");
        let mut files = vec![
            declared("shop", "honest", &["db", "app"]),
            declared("bank", "honest", &["vault"]),
            declared("common", "honest", &["api"]),
            declared("rig", "hostile", &rig),
        ];
        files.extend((0..20).map(|n| declared(&format!("other{n}"), "third", &["db"])));
        world.order(AdminCommand::Apply { files, dry_run: false, force: false, prune: None });
        for (callee, caller) in [("bank", "shop"), ("common", "shop")] {
            let change =
                TrustChange::Add { callers: BTreeSet::from([label(caller)]), services: None, ports: Ports::All };
            world.order(AdminCommand::Trust { deployment: label(callee), change });
        }
        world.join(1, "honest", NewPurpose::JoinTeams { teams: BTreeSet::from([label("honest")]), uses: 1 });
        let deployments = BTreeSet::from([label("rig"), label("common")]);
        world.join(2, "hostile", NewPurpose::JoinDeployments { deployments, uses: 1 });
        for service in ["shop/db", "shop/db", "shop/app", "bank/vault", "common/api"] {
            world.attach(HONEST, service);
        }
        world.must(HONEST, RunnerCommand::Attach { service: path("shop/app"), client: true, release: None });
        world.must(HONEST, RunnerCommand::Drain { instance: InstanceId(2) });
        for service in ["rig/web", "common/api"] {
            world.attach(HOSTILE, service);
        }
        world
    }

    fn live(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..STEPS {
            if u.is_empty() {
                break;
            }
            self.now += u64::from(u.arbitrary::<u8>()?).pow(2) / 32;
            match u.int_in_range(0..=9u8)? {
                // The honest runner goes on meanwhile, and releases addresses.
                0 => self.honest_replaces(),
                1 => self.honest_says_the_same(),
                _ => {
                    let what = self.wish(u)?;
                    self.hostile(what);
                }
            }
        }
        Ok(())
    }

    /// The messages of the hostile runner.
    fn wish(&self, u: &mut Unstructured<'_>) -> Result<RunnerCommand> {
        Ok(match u.int_in_range(0..=15u8)? {
            0 => RunnerCommand::Endpoints {
                endpoints: some_endpoints(u)?,
                outside: mesh_model::record::Outside::default(),
            },
            1 => RunnerCommand::Attach { service: some_path(u)?, client: u.arbitrary()?, release: None },
            2 => RunnerCommand::Attach { service: path("rig/web"), client: false, release: None },
            3 => RunnerCommand::Detach { instance: self.some_instance(u)? },
            4 => RunnerCommand::Drain { instance: self.some_instance(u)? },
            5 => RunnerCommand::Undrain { instance: self.some_instance(u)? },
            6 => RunnerCommand::TakenOver { from: Ipv4Addr::from_bits(u.arbitrary()?).into() },
            7 => RunnerCommand::CopyRefused { first: some_text(u)?, from: Ipv4Addr::from_bits(u.arbitrary()?).into() },
            8 if u.ratio(1, 8)? => RunnerCommand::Leave,
            _ => RunnerCommand::Hello {
                version: some_text(u)?,
                can: Abilities::NONE,
                endpoints: some_endpoints(u)?,
                seen: some_endpoints(u)?.pop(),
                outside: mesh_model::record::Outside::default(),
                instances: self.some_instances(u)?,
            },
        })
    }

    /// The instances that the runner claims to hold: its own, others', and imaginary ones.
    fn some_instances(&self, u: &mut Unstructured<'_>) -> Result<Vec<Held>> {
        let mut told = vec![];
        if u.arbitrary()? {
            told.extend(self.held_by(HOSTILE));
        }
        if u.ratio(1, 4)? {
            told.extend(self.held_by(HONEST));
        }
        if u.ratio(1, 4)? {
            // Any number, of one service and in order.
            let (service, many, first) = (some_path(u)?, u.int_in_range(1..=600u64)?, self.some_instance(u)?.0);
            let bits = some_address(u)?.to_bits();
            told.extend((0..many).map(|n| Held {
                instance: InstanceId(first.wrapping_add(n)),
                service: service.clone(),
                address: Ipv4Addr::from_bits(bits.wrapping_add(n as u32)),
                client: false,
                draining: n % 7 == 0,
                release: None,
            }));
        }
        for _ in 0..u.int_in_range(0..=6u8)? {
            told.push(Held {
                instance: self.some_instance(u)?,
                service: some_path(u)?,
                address: some_address(u)?,
                client: u.arbitrary()?,
                draining: u.arbitrary()?,
                release: None,
            });
        }
        Ok(told)
    }

    fn some_instance(&self, u: &mut Unstructured<'_>) -> Result<InstanceId> {
        Ok(InstanceId(if u.ratio(1, 8)? { u.arbitrary()? } else { u.int_in_range(0..=40)? }))
    }

    fn hostile(&mut self, what: RunnerCommand) {
        let told = match &what {
            RunnerCommand::Hello { instances, .. } => instances.clone(),
            _ => vec![],
        };
        let before = self.state.clone();
        let steps = work::steps();
        let decision = self.decide(HOSTILE, what.clone());
        let steps = usize::try_from(work::steps() - steps).expect("few");
        assert!(steps <= allowed(&before, &told), "{steps} for {} instances: {what:?}", told.len());
        let decision = match decision {
            Ok(decision) => decision,
            Err(refusal) => {
                let text = refusal.to_string();
                assert!(text.len() > 10 && !text.contains('\n'), "{text}");
                return;
            }
        };
        for change in &decision.changes {
            check_change(&before, change);
        }
        let shown = self.honest_view();
        self.commit(&decision);
        check_others(&before, &self.state);
        check_view(&shown, &self.honest_view());
        self.check_addresses(&before);
        if matches!(what, RunnerCommand::Hello { .. }) {
            self.check_welcome(&before, &told, &decision.outcome);
        }
        let again = State::load(self.state.revision(), self.state.records()).expect("a state");
        assert!(again == self.state, "the records make another state");
    }

    /// After a hello the runner has exactly the instances that it was told to keep.
    fn check_welcome(&self, before: &State, told: &[Held], outcome: &Outcome) {
        let Outcome::Welcomed { ended, adopted, rejected } = outcome else { panic!("{outcome:?}") };
        let had: BTreeSet<_> = before.instances_on(HOSTILE).map(|i| i.id).collect();
        let has: BTreeSet<_> = self.state.instances_on(HOSTILE).map(|i| i.id).collect();
        let mut kept: BTreeSet<_> = told.iter().map(|told| told.instance).collect();
        rejected.iter().for_each(|id| assert!(kept.remove(id), "{id} was not named, or rejected twice"));
        assert_eq!(has, kept);
        assert_eq!(ended.iter().copied().collect::<BTreeSet<_>>(), &had - &has);
        assert_eq!(adopted.iter().copied().collect::<BTreeSet<_>>(), &has - &had);
    }

    /// No address has two holders, and a released one rests.
    fn check_addresses(&self, before: &State) {
        let holders = |state: &State| {
            let all: Vec<_> = state.records().filter_map(|record| holder(&record)).collect();
            let each: BTreeSet<_> = all.iter().copied().collect();
            assert_eq!(each.len(), all.len(), "an address has two holders");
            each
        };
        let (was, is) = (holders(before), holders(&self.state));
        let range = self.state.network().range;
        for address in is.difference(&was) {
            assert!(range.contains(*address) && *address != range.first() && *address != range.last());
        }
        for record in before.records() {
            let Record::Freed(freed) = record else { continue };
            assert!(
                !is.contains(&freed.address) || self.now - freed.at.0 >= limits::QUARANTINE,
                "{} didn't rest",
                freed.address
            );
        }
    }

    /// An instance of the honest runner is replaced.
    fn honest_replaces(&mut self) {
        let last = self.state.instances_on(HONEST).last().expect("it has some").id;
        self.must(HONEST, RunnerCommand::Detach { instance: last });
        self.attach(HONEST, "shop/app");
    }

    /// The honest runner's stream restarts: it keeps everything, and nothing changes.
    fn honest_says_the_same(&mut self) {
        let before = self.state.clone();
        let instances = self.held_by(HONEST);
        let hello = RunnerCommand::Hello {
            version: "1".to_owned(),
            can: Abilities::NONE,
            endpoints: vec![],
            seen: None,
            outside: mesh_model::record::Outside::default(),
            instances,
        };
        let outcome = self.must(HONEST, hello);
        assert_eq!(outcome, Outcome::Welcomed { ended: vec![], adopted: vec![], rejected: vec![] });
        let instances = |state: &State| state.instances_on(HONEST).cloned().collect::<Vec<_>>();
        assert_eq!(instances(&before), instances(&self.state));
    }

    fn end(&mut self) {
        self.honest_says_the_same();
        for service in ["shop/db", "common/api", "bank/vault"] {
            self.attach(HONEST, service);
        }
        let reference = Reference::new(&self.state);
        for runner in [HONEST, HOSTILE] {
            let expected = reference.view(runner, EPOCH, self.state.revision());
            assert!(self.state.view(runner, EPOCH) == expected, "{runner} knows something else than it should");
        }
        let texts = self.state.records().map(|record| serde_json::to_string(&record).expect("JSON"));
        let records: Vec<Record> = texts.map(|text| serde_json::from_str(&text).expect("a record")).collect();
        let again = State::load(self.state.revision(), records).expect("a state");
        assert!(again == self.state, "the records as text make another state");
    }

    fn held_by(&self, runner: RunnerId) -> Vec<Held> {
        let paths: BTreeMap<_, _> = services(&self.state).collect();
        let held = self.state.instances_on(runner).map(|i| Held {
            instance: i.id,
            service: paths[&i.service].clone(),
            address: i.address,
            client: i.state == InstanceState::Client,
            draining: i.state == InstanceState::Draining,
            release: i.release.clone(),
        });
        held.collect()
    }

    fn honest_view(&self) -> view::View {
        self.state.view(HONEST, EPOCH).expect("it stands")
    }

    fn decide(&self, by: RunnerId, what: RunnerCommand) -> std::result::Result<Decision, Refusal> {
        self.state.decide(&Command::Runner { by, what }, self.time())
    }

    fn time(&self) -> Now {
        Now { day: UnixSeconds(self.now), running: RunningSeconds(self.now) }
    }

    fn commit(&mut self, decision: &Decision) {
        if !decision.changes.is_empty() {
            self.state.absorb(&decision.changes, self.state.revision().next());
        }
    }

    /// A request that has to succeed.
    fn run(&mut self, command: &Command) -> Outcome {
        let decision =
            self.state.decide(command, self.time()).unwrap_or_else(|refusal| panic!("{command:?}: {refusal}"));
        self.commit(&decision);
        decision.outcome
    }

    fn must(&mut self, by: RunnerId, what: RunnerCommand) -> Outcome {
        self.run(&Command::Runner { by, what })
    }

    fn attach(&mut self, by: RunnerId, service: &str) {
        self.must(by, RunnerCommand::Attach { service: path(service), client: false, release: None });
    }

    fn order(&mut self, what: AdminCommand) {
        self.run(&Command::Admin { by: Admin::socket(0), what });
    }

    fn join(&mut self, number: u8, name: &str, purpose: NewPurpose) {
        let token = NewToken { purpose, ttl: 3600, ephemeral: false, name: None };
        self.run(&Command::CreateToken { by: Admin::socket(0), token, secret: SECRET.hash() });
        let enrolment = Enrolment {
            token: TokenId(number.into()),
            secret: SECRET,
            name: label(name),
            provider: label("here"),
            public_key: PublicKey([number; 32]),
            proved: true,
            replace: false,
            credential: Secret::from_bytes([number; 32]).hash(),
        };
        self.run(&Command::Enrol(enrolment));
    }
}

fn declared(name: &str, team: &str, services: &[&str]) -> File {
    let services = services.iter().map(|s| (s.parse().expect("a name"), Declared::default())).collect();
    let deployment = Deployment { name: label(name), team: Some(label(team)), expose: None, trust: None, services };
    File { name: format!("{name}.toml"), declaration: Declaration::Whole(deployment) }
}

fn some_path(u: &mut Unstructured<'_>) -> Result<ServicePath> {
    if u.ratio(1, 16)? {
        return Ok(some_text(u)?.parse().unwrap_or_else(|_| path("rig/web")));
    }
    Ok(path(u.choose(PATHS)?))
}

/// Mostly an address of the range.
fn some_address(u: &mut Unstructured<'_>) -> Result<Ipv4Addr> {
    if u.ratio(1, 16)? {
        return Ok(Ipv4Addr::from_bits(u.arbitrary()?));
    }
    Ok(Ipv4Addr::new(10, 9, u.int_in_range(0..=1)?, u.arbitrary()?))
}

fn some_endpoints(u: &mut Unstructured<'_>) -> Result<Vec<SocketAddr>> {
    let many = u.int_in_range(0..=3u8)?;
    let mut endpoints = vec![];
    for _ in 0..many {
        let port = u.arbitrary()?;
        endpoints.push(match u.int_in_range(0..=3u8)? {
            0 => (some_address(u)?, port).into(),
            1 => (Ipv6Addr::from_bits(u.arbitrary()?), port).into(),
            _ => ([192, 0, 2, 1], port).into(),
        });
    }
    Ok(endpoints)
}

fn some_text(u: &mut Unstructured<'_>) -> Result<String> {
    let length = usize::from(u.int_in_range(0..=70u8)?).min(u.len());
    Ok(String::from_utf8_lossy(u.bytes(length)?).into_owned())
}

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

fn path(text: &str) -> ServicePath {
    text.parse().expect("a path")
}
