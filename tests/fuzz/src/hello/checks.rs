//! What is checked after each thing that the hostile runner says.

use std::{collections::BTreeSet, net::Ipv4Addr};

use mesh_model::{Change, Record, State, record::Key};
use mesh_proto::{InstanceId, ServiceId, ServicePath, message::Held, view};

use super::{HONEST, HOSTILE};

/// How many look-ups a hello may cost: a few for each named instance, and one pass through the instances of each named
/// service. Other messages may search for similar names.
pub(super) fn allowed(state: &State, held: &[Held]) -> usize {
    let named: BTreeSet<_> = held.iter().map(|held| &held.service).collect();
    let of: BTreeSet<_> = services(state).filter(|(_, path)| named.contains(path)).map(|(id, _)| id).collect();
    let counted = state.records().filter(|record| matches!(record, Record::Instance(i) if of.contains(&i.service)));
    200 + 4 * held.len() + 2 * counted.count()
}

/// Checks that a change concerns only the hostile runner's records, common counts, resting addresses, or the audit.
pub(super) fn check_change(before: &State, change: &Change) {
    let key = change.key();
    match (&key, change) {
        (Key::Runner(HOSTILE) | Key::Meta | Key::Audit(_), _) => {}
        (Key::Freed(address), _) => {
            let held = before.instances_on(HONEST).any(|instance| instance.address == *address);
            assert!(!held, "{address} is freed, which is the honest runner's");
        }
        (Key::Instance(id), Change::Put(Record::Instance(instance))) => {
            assert!(*id == instance.id && instance.runner == HOSTILE, "{instance:?}");
        }
        (Key::Instance(id), Change::Delete(_)) => {
            assert!(before.instances_on(HOSTILE).any(|own| own.id == *id), "{id} is ended, and isn't its own");
        }
        _ => panic!("a runner changes {key}"),
    }
}

/// What is another's is as it was.
pub(super) fn check_others(before: &State, after: &State) {
    let others = |state: &State| {
        let is_others = |record: &Record| match record {
            Record::Meta(_) | Record::Freed(_) | Record::Audit(_) => false,
            Record::Runner(runner) => runner.id != HOSTILE,
            Record::Instance(instance) => instance.runner != HOSTILE,
            Record::Token(_) | Record::Deployment(_) | Record::Service(_) => true,
            Record::Relay(_) | Record::Session(_) | Record::Owed(_) | Record::Calls(_) => true,
        };
        state.records().filter(is_others).collect::<Vec<_>>()
    };
    assert!(others(before) == others(after), "a runner changed what another one has");
    assert_eq!(before.network(), after.network());
}

/// An honest runner sees the hostile one and its instances of what both know change, and nothing else.
pub(super) fn check_view(before: &view::View, after: &view::View) {
    let delta = before.delta_to(after);
    let is_its = |instance: InstanceId| {
        [before, after].iter().filter_map(|view| view.instance(instance)).all(|instance| instance.runner == HOSTILE)
    };
    for record in &delta.put {
        match record {
            view::Record::Runner(runner) => assert_eq!(runner.id, HOSTILE),
            view::Record::Instance(instance) => assert!(is_its(instance.id), "{instance:?}"),
            other => panic!("{other:?} is new to the honest runner"),
        }
    }
    for key in &delta.remove {
        match key {
            view::Key::Runner { id } => assert_eq!(*id, HOSTILE),
            view::Key::Instance { id } => assert!(is_its(*id), "{id}"),
            other => panic!("{other:?} is gone for the honest runner"),
        }
    }
}

pub(super) fn holder(record: &Record) -> Option<Ipv4Addr> {
    match record {
        Record::Service(service) => Some(service.address),
        Record::Instance(instance) => Some(instance.address),
        _ => None,
    }
}

pub(super) fn services(state: &State) -> impl Iterator<Item = (ServiceId, ServicePath)> {
    let records: Vec<Record> = state.records().collect();
    let name = |id| {
        records.iter().find_map(|record| match record {
            Record::Deployment(deployment) if deployment.id == id => Some(deployment.name.clone()),
            _ => None,
        })
    };
    let all: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Service(service) => {
                let deployment = name(service.deployment)?;
                Some((service.id, ServicePath { deployment, service: service.name.clone() }))
            }
            _ => None,
        })
        .collect();
    all.into_iter()
}
