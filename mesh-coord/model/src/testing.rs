//! A state for tests, with short ways to submit commands.

use std::net::Ipv4Addr;

use mesh_proto::{
    Epoch, InstanceId, Label, Ports, PublicKey, Revision, RunnerId, Secret, ServicePath, TokenId, View,
    message::Held,
    view::{Ist, Network},
};

use crate::{
    Admin, AdminCommand, Change, Command, Decision, Enrolment, NewPurpose, NewToken, Now, Outcome, Record, Refusal,
    RunnerCommand, RunningSeconds, State, TrustChange, UnixSeconds,
    declare::{Declaration, Declared, Deployment, File, Trust},
    outcome::Plan,
    record::Meta,
};

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: UnixSeconds,
    /// How many seconds the time of day is off.
    pub(crate) off: i64,
    /// The administrator.
    pub(crate) admin: Admin,
}

/// The secret of every token and credential.
pub(crate) const SECRET: Secret = Secret::from_bytes([1; 32]);

impl World {
    pub(crate) fn new() -> Self {
        Self::with_range("100.112.0.0/12")
    }

    pub(crate) fn with_range(range: &str) -> Self {
        let meta = Meta::new(Network { range: range.parse().unwrap(), mtu: 1344 }).unwrap();
        let state = State::load(Revision(1), [Record::Meta(meta.into())]).unwrap();
        Self { state, now: UnixSeconds(1_000_000), off: 0, admin: Admin::socket(0) }
    }

    pub(crate) fn decide(&self, command: &Command) -> Result<Decision, Refusal> {
        let day = UnixSeconds(self.now.0.saturating_add_signed(self.off));
        self.state.decide(command, Now { day, running: RunningSeconds(self.now.0) })
    }

    pub(crate) fn run(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let decision = self.decide(command)?;
        self.commit(&decision.changes);
        Ok(decision.outcome)
    }

    pub(crate) fn commit(&mut self, changes: &[Change]) {
        if !changes.is_empty() {
            self.state.absorb(changes, self.state.revision().next());
        }
    }

    pub(crate) fn order(&mut self, what: AdminCommand) -> Result<Outcome, Refusal> {
        self.run(&Command::Admin { by: self.admin.clone(), what })
    }

    pub(crate) fn apply(&mut self, files: Vec<File>) -> Result<Plan, Refusal> {
        self.apply_with(files, false, false)
    }

    pub(crate) fn apply_with(&mut self, files: Vec<File>, dry_run: bool, force: bool) -> Result<Plan, Refusal> {
        match self.order(AdminCommand::Apply { files, dry_run, force, prune: None })? {
            Outcome::Planned(plan) => Ok(plan),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn trust(&mut self, callee: &str, callers: &[&str]) -> Result<Outcome, Refusal> {
        self.trust_on(callee, callers, None, Ports::All)
    }

    pub(crate) fn trust_on(
        &mut self,
        callee: &str,
        callers: &[&str],
        services: Option<&[&str]>,
        ports: Ports,
    ) -> Result<Outcome, Refusal> {
        let callers = callers.iter().map(|c| label(c)).collect();
        let services = services.map(|s| s.iter().map(|p| p.parse().unwrap()).collect());
        let change = TrustChange::Add { callers, services, ports };
        self.order(AdminCommand::Trust { deployment: label(callee), change })
    }

    pub(crate) fn token(&mut self, purpose: NewPurpose) -> TokenId {
        let token = NewToken { purpose, ttl: 3600, ephemeral: false, name: None };
        match self.run(&Command::CreateToken { by: self.admin.clone(), token, secret: SECRET.hash() }).unwrap() {
            Outcome::TokenCreated { token, .. } => token,
            other => panic!("{other:?}"),
        }
    }

    /// Joins a runner that may host any deployment. Its key is derived from its name.
    pub(crate) fn join(&mut self, name: &str) -> RunnerId {
        let token = self.token(NewPurpose::JoinAny { uses: 1 });
        self.join_with(token, name)
    }

    pub(crate) fn join_with(&mut self, token: TokenId, name: &str) -> RunnerId {
        match self.run(&Command::Enrol(enrolment(token, name))).unwrap() {
            Outcome::Enrolled { runner, .. } => runner,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn attach(&mut self, runner: RunnerId, service: &str) -> (InstanceId, Ipv4Addr) {
        match self
            .request(runner, RunnerCommand::Attach { service: path(service), client: false, release: None })
            .unwrap()
        {
            Outcome::Attached { instance, address, .. } => (instance, address),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn detach(&mut self, runner: RunnerId, instance: InstanceId) {
        self.request(runner, RunnerCommand::Detach { instance }).unwrap();
    }

    pub(crate) fn request(&mut self, by: RunnerId, what: RunnerCommand) -> Result<Outcome, Refusal> {
        self.run(&Command::Runner { by, what })
    }

    pub(crate) fn address(&self, service: &str) -> Ipv4Addr {
        self.state.service_at(&path(service)).unwrap().address
    }

    pub(crate) fn view(&self, runner: RunnerId) -> View {
        self.state.view(runner, Epoch([0; 16])).unwrap()
    }
}

/// A file with plain services: `shop: db app`.
pub(crate) fn whole(text: &str) -> File {
    let (name, services) = text.split_once(':').unwrap();
    file(declared(name, None, services.split_whitespace()))
}

pub(crate) fn declared<'a>(name: &str, team: Option<&str>, services: impl IntoIterator<Item = &'a str>) -> Deployment {
    Deployment {
        name: label(name),
        team: team.map(label),
        expose: None,
        trust: None,
        services: services.into_iter().map(|s| (s.parse().unwrap(), Declared::default())).collect(),
    }
}

/// The file `shop.toml` of a deployment `shop`.
pub(crate) fn file(deployment: Deployment) -> File {
    File { name: format!("{}.toml", deployment.name), declaration: Declaration::Whole(deployment) }
}

pub(crate) fn single(service: &str, declared: Declared) -> File {
    let ServicePath { deployment, service: name } = path(service);
    File { name: format!("{name}.js"), declaration: Declaration::Single { deployment, name, service: declared } }
}

pub(crate) fn trusting(caller: &str) -> Trust {
    Trust { caller: label(caller), services: None, ports: Ports::All }
}

pub(crate) fn ist(service: &str, variable: &str) -> Ist {
    Ist { service: service.parse().unwrap(), variables: vec![variable.to_owned()], hostnames: Vec::new() }
}

pub(crate) fn enrolment(token: TokenId, name: &str) -> Enrolment {
    let mut key = [0; 32];
    key.iter_mut().zip(name.bytes()).for_each(|(k, b)| *k = b);
    Enrolment {
        token,
        secret: SECRET,
        name: label(name),
        provider: label("aws"),
        public_key: PublicKey(key),
        proved: true,
        replace: false,
        credential: SECRET.hash(),
    }
}

pub(crate) fn held(instance: (InstanceId, Ipv4Addr), service: &str) -> Held {
    Held {
        instance: instance.0,
        service: path(service),
        address: instance.1,
        client: false,
        draining: false,
        release: None,
    }
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().unwrap()
}

pub(crate) fn path(text: &str) -> ServicePath {
    text.parse().unwrap()
}

/// A refusal as its reader sees it: class, text and hint.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    let refusal = result.unwrap_err();
    format!("{:?}: {refusal} | {}", refusal.class(), refusal.hint().unwrap_or_default())
}
