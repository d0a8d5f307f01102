use mesh_proto::{ServiceId, rules};
use proptest::prelude::*;

use crate::testing::Builder;

use super::*;

const ASKED: Segment = Segment { source_port: 40000, destination_port: 5432, opens: true };

#[test]
fn an_empty_map_grants_nothing() {
    assert_eq!(Filter::default().verdict(ServiceIx(0), ServiceIx(0), ASKED), Err(Denial::UnknownService));
    let empty = Builder::new(1).map();
    assert_eq!(empty.filter.verdict(ServiceIx(0), ServiceIx(0), ASKED), Err(Denial::UnknownService));
}

/// A view in which records may be missing or refer to missing ones.
fn view() -> impl Strategy<Value = View> {
    let ports = prop_oneof![Just(Ports::All), prop::collection::btree_set(0u16..4, 0..3).prop_map(Ports::Only),];
    (
        prop::collection::vec((0u64..4, prop::sample::select(vec!["acme", "other"])), 0..5),
        prop::collection::vec((0u64..6, 0u64..4), 0..8),
        prop::collection::vec((0u64..4, 0u64..6, ports), 0..8),
    )
        .prop_map(|(deployments, services, grants)| {
            let mut builder = Builder::new(1);
            for (id, team) in deployments {
                builder = builder.deployment(id, team);
            }
            for (id, deployment) in services {
                builder = builder.service(id, deployment);
            }
            for (caller, callee, ports) in grants {
                builder = builder.grant(caller, callee, ports);
            }
            builder.0
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_compiled_verdict_is_the_reference_verdict(view in view()) {
        let map = crate::Map::compile(&view);
        let index = |id: u64| {
            map.route.services.find_by(&ServiceId(id), |s| s.id).unwrap_or(ServiceIx(u32::MAX))
        };
        for (from, to) in (0..6).flat_map(|from| (0..6).map(move |to| (from, to))) {
            for (source_port, destination_port, opens) in
                (0..4).flat_map(|s| (0..4).flat_map(move |d| [(s, d, true), (s, d, false)]))
            {
                let segment = Segment { source_port, destination_port, opens };
                prop_assert_eq!(
                    map.filter.verdict(index(from), index(to), segment),
                    rules::verdict(&view, ServiceId(from), ServiceId(to), segment),
                    "{} to {}, {:?}", from, to, segment
                );
            }
        }
    }
}
