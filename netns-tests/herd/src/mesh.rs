//! The mesh: as many deployments of ten services as runners, each with two instances of each service on five runners.
//! A deployment trusts two others, and the first one, the hub, trusts 1,000.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use mesh_model::{
    Record, UnixSeconds,
    record::{Deployment, Instance, Meta, Runner, Scope, Service, TrustSource},
};
use mesh_proto::{
    Abilities, DeploymentId, InstanceId, Label, Ports, PrivateKey, RunnerId, Secret, ServiceId, TokenId,
    message::{Held, Switches},
    token::Credential,
    view::InstanceState,
};
use rusqlite::Connection;

/// The database's file in the data directory.
pub(crate) const DATABASE: &str = "mesh-coord.db";
/// What agents call themselves, as in the records, so that a hello changes nothing.
pub(crate) const VERSION: &str = "herd";
const SERVICES: usize = 10;
const INSTANCES: usize = 2;
const HOMES: usize = 5;
/// The most callers that the hub trusts.
const CALLERS: usize = 1000;

pub(crate) struct Mesh {
    pub(crate) runners: usize,
}

impl Mesh {
    pub(crate) const fn of(runners: usize) -> Self {
        Self { runners }
    }

    pub(crate) const fn services(&self) -> usize {
        self.runners * SERVICES
    }

    pub(crate) const fn instances(&self) -> usize {
        self.services() * INSTANCES
    }

    /// The name of a deployment; that of number 0 is the hub.
    pub(crate) fn deployment(number: usize) -> Label {
        label(&format!("app-{number}"))
    }

    /// The runners of a deployment, which are spread so that each runner is the home of five deployments.
    pub(crate) fn homes(&self, deployment: usize) -> [usize; HOMES] {
        std::array::from_fn(|place| (deployment + place * self.runners / HOMES + place * place) % self.runners)
    }

    /// A runner's instances as its agent reports them.
    pub(crate) fn held(&self, runner: usize) -> Vec<Held> {
        let at_home = (0..HOMES).map(|place| {
            let back = place * self.runners / HOMES + place * place;
            (place, (runner + self.runners * 2 - back) % self.runners)
        });
        let of = |(place, deployment): (usize, usize)| {
            let here = (0..SERVICES * INSTANCES).filter(move |number| number % HOMES == place);
            here.map(move |number| {
                let service = format!("s-{}", number / INSTANCES).parse().expect("a name");
                Held {
                    instance: InstanceId(id(deployment * SERVICES * INSTANCES + number)),
                    service: mesh_proto::ServicePath { deployment: Self::deployment(deployment), service },
                    address: self.instance_address(deployment * SERVICES * INSTANCES + number),
                    client: false,
                    draining: false,
                    release: None,
                }
            })
        };
        at_home.flat_map(of).collect()
    }

    /// The services of which a runner has an instance, each once.
    pub(crate) fn hosted(&self, runner: usize) -> Vec<ServiceId> {
        let of = |held: Held| ServiceId(id((held.instance.0 - id(0)) as usize / INSTANCES));
        let mut services: Vec<ServiceId> = self.held(runner).into_iter().map(of).collect();
        services.dedup();
        services
    }

    pub(crate) fn credential(runner: usize) -> Credential {
        Credential { runner: RunnerId(id(runner)), secret: secret(runner) }
    }

    fn service_address(number: usize) -> Ipv4Addr {
        address(number + 1)
    }

    fn instance_address(&self, number: usize) -> Ipv4Addr {
        address(self.services() + 1 + number)
    }

    fn trusted(&self, deployment: usize) -> Vec<usize> {
        if deployment == 0 {
            return (1..self.runners.min(CALLERS + 1)).collect();
        }
        [1, 7].map(|step| (deployment + step) % self.runners).into()
    }

    /// Writes the records into a database that a coordinator has made. Returns how many there are then.
    pub(crate) fn write(&self, database: &Path) -> Result<usize, String> {
        let mut connection = Connection::open(database).map_err(|error| error.to_string())?;
        self.write_to(&mut connection).map_err(|error| format!("{}: {error}", database.display()))
    }

    fn write_to(&self, connection: &mut Connection) -> Result<usize, Box<dyn std::error::Error>> {
        let text: String = connection.query_row("SELECT value FROM record WHERE key = 'meta'", [], |row| row.get(0))?;
        let Record::Meta(meta) = serde_json::from_str(&text)? else { return Err("no meta record".into()) };
        let transaction = connection.transaction()?;
        let mut number = 0;
        {
            let mut put = transaction.prepare("INSERT OR REPLACE INTO record VALUES (?1, 1, ?2)")?;
            for record in self.records(&meta) {
                put.execute((record.key().to_string(), serde_json::to_string(&record)?))?;
                number += 1;
            }
        }
        transaction.commit()?;
        Ok(number)
    }

    fn records(&self, meta: &Meta) -> impl Iterator<Item = Record> {
        let mut meta = meta.clone();
        meta.next.runner = id(self.runners);
        meta.next.deployment = id(self.runners);
        meta.next.service = id(self.services());
        meta.next.instance = id(self.instances());
        meta.next.service_address = address(self.services() + self.instances() + 1);
        let runners = (0..self.runners).map(|number| Record::Runner(Arc::new(runner(number))));
        let deployments = (0..self.runners).map(|number| Record::Deployment(Arc::new(self.deployment_record(number))));
        let services = (0..self.services()).map(|number| Record::Service(Arc::new(service(number))));
        let instances = (0..self.instances()).map(|number| Record::Instance(Arc::new(self.instance(number))));
        std::iter::once(Record::Meta(Arc::new(meta))).chain(runners).chain(deployments).chain(services).chain(instances)
    }

    fn deployment_record(&self, number: usize) -> Deployment {
        let trust = self.trusted(number).into_iter().map(|caller| mesh_model::declare::Trust {
            caller: Self::deployment(caller),
            services: None,
            ports: Ports::All,
        });
        Deployment {
            id: DeploymentId(id(number)),
            name: Self::deployment(number),
            team: label("default"),
            expose: None,
            trust: trust.collect(),
            trust_source: TrustSource::Command,
        }
    }

    fn instance(&self, number: usize) -> Instance {
        let (deployment, place) = (number / (SERVICES * INSTANCES), number % HOMES);
        Instance {
            id: InstanceId(id(number)),
            service: ServiceId(id(number / INSTANCES)),
            runner: RunnerId(id(self.homes(deployment)[place])),
            address: self.instance_address(number),
            state: InstanceState::Live,
            release: None,
        }
    }
}

fn runner(number: usize) -> Runner {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&id(number).to_be_bytes());
    Runner {
        id: RunnerId(id(number)),
        name: label(&format!("machine-{number}")),
        provider: label("herd"),
        public_key: PrivateKey::from_bytes(key).public(),
        credential: secret(number).hash(),
        enrolled: UnixSeconds(1_700_000_000),
        token: TokenId(1),
        scope: Scope::Any,
        version: VERSION.to_owned(),
        endpoints: vec![endpoint(number)],
        seen: None,
        removed: None,
        ephemeral: false,
        silent: false,
        can: Abilities::NONE,
        switches: Switches::default(),
        team: None,
        drained: false,
        undrained: [].into(),
        drained_apart: [].into(),
        outside: mesh_model::record::Outside::default(),
    }
}

pub(crate) fn endpoint(runner: usize) -> std::net::SocketAddr {
    let [.., high, low] = u32::try_from(runner).unwrap_or_default().to_be_bytes();
    ([198, 18, high, low], 51820).into()
}

fn service(number: usize) -> Service {
    Service {
        id: ServiceId(id(number)),
        deployment: DeploymentId(id(number / SERVICES)),
        name: format!("s-{}", number % SERVICES).parse().expect("a name"),
        address: Mesh::service_address(number),
        declared: mesh_model::declare::Declared::default(),
    }
}

fn secret(runner: usize) -> Secret {
    let mut bytes = [3; 32];
    bytes[..8].copy_from_slice(&id(runner).to_be_bytes());
    Secret::from_bytes(bytes)
}

/// Numbers begin with 1.
pub(crate) const fn id(number: usize) -> u64 {
    number as u64 + 1
}

fn address(number: usize) -> Ipv4Addr {
    // The default range is 100.112.0.0/12.
    Ipv4Addr::from_bits(u32::from_be_bytes([100, 112, 0, 0]) + u32::try_from(number).expect("within the range"))
}

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}
