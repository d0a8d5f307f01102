//! Views and deltas, as an agent gets them from its coordinator or finds them on its disk.

use std::{collections::BTreeMap, time::Instant};

use mesh_engine::{Engine, Map, Port, Switches};
use mesh_proto::{
    Delta, PrivateKey, View,
    names::names,
    rules::{Segment, verdict},
    view::{Key, Record},
};

use crate::{messages::round_trip, sink::Counting};

/// Reads lines of JSON: a view, then deltas. Each delta applies whole or not at all; every view that comes of it can be
/// written, compiled, named and put into force.
pub fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    if !round_trip::<View>(first) {
        return;
    }
    let mut view: View = serde_json::from_slice(first).expect("it was read a moment ago");
    let now = Instant::now();
    let mut engine = Engine::new(PrivateKey::from_bytes([1; 32]), [0; 32], Box::new(vec![0; 1 << 12]), now);
    take(&mut engine, &view, now);
    for line in lines {
        let Ok(delta) = serde_json::from_slice::<Delta>(line) else { continue };
        round_trip::<Delta>(line);
        let before = view.clone();
        if view.apply(&delta).is_err() {
            assert_eq!(view, before, "a delta that doesn't fit was applied in part");
            continue;
        }
        assert_eq!(view, applied(&before, &delta));
        let mut again = before.clone();
        again.apply(&before.delta_to(&view)).expect("it leads from there to there");
        assert_eq!(again, view);
        take(&mut engine, &view, now);
    }
}

/// What a delta should lead to, by another road.
fn applied(before: &View, delta: &Delta) -> View {
    let mut records: BTreeMap<Key, Record> = before.records().map(|record| (record.key(), record.clone())).collect();
    records.retain(|key, _| !delta.remove.contains(key));
    records.extend(delta.put.iter().map(|record| (record.key(), record.clone())));
    let mut view = View::empty(before.epoch, delta.to, before.runner, before.network);
    records.into_values().for_each(|record| view.put(record));
    view
}

/// Uses a view for all that one is used for.
fn take(engine: &mut Engine, view: &View, now: Instant) {
    let map = Map::compile(view);
    assert_eq!(map.revision(), view.revision);
    let mut sink = Counting::default();
    engine.handle_map(map, now, &mut sink);
    for instance in view.instances().take(4) {
        engine.handle_attach(Port(instance.id.0 as u32), instance.id);
    }
    let _ = engine.report(now);
    engine.handle_switches(Switches::default());
    if let Some((at, _)) = engine.next_timeout() {
        engine.handle_timeout(at, &mut sink);
    }
    assert_eq!(sink.delivered, 0, "no instance has sent anything");
    for service in view.services().take(16) {
        if let Some(names) = names(view, service.id) {
            // One name, one address.
            let hosts: BTreeMap<_, _> = names.hosts.iter().map(|(address, name)| (name, address)).collect();
            assert_eq!(hosts.len(), names.hosts.len());
        }
        for other in view.services().take(16) {
            let ask =
                |opens| verdict(view, service.id, other.id, Segment { source_port: 1, destination_port: 1, opens });
            // A service that may open a connection may go on with it.
            assert!(ask(true).is_err() || ask(false).is_ok());
        }
    }
}
