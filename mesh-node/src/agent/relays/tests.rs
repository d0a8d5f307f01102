//! What is known of relays.

use mesh_proto::{
    RunnerId,
    relay::{RelaySecret, wire::RelayPublic},
};

use super::*;
use crate::state::tests::Scratch;

fn relay(id: u64, udp: &[&str]) -> Relay {
    let udp = udp.iter().map(|place| place.parse().unwrap()).collect();
    Relay {
        id: RelayId(id),
        name: format!("relay-{id}").parse().unwrap(),
        public: RelayPublic { udp, tcp: vec![], tls: vec![], fingerprint: None },
    }
}

fn credential(relay: u64, until: u64) -> RelayCredential {
    let secret: RelaySecret = "a secret of the relay's".replace(' ', "-").parse().unwrap();
    secret.credential(RunnerId(1), RelayId(relay), until)
}

fn provided(until: u64) -> Provided {
    let relays = vec![relay(1, &["192.0.2.1:3478", "relay.example.net:3478"]), relay(2, &["100.112.0.9:3478"])];
    Provided { relays, credentials: vec![credential(1, until), credential(2, until)] }
}

#[tokio::test]
async fn relays_outlive_the_coordinator_in_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("relays");
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    assert_eq!(Known::load(&state), Known::default());
    let mut known = Known::default();
    assert!(known.take(&provided(1)) && !known.take(&provided(1)));
    state.write(FILE, &known).unwrap();
    assert_eq!(Known::load(&state), known);
    let mode = std::fs::metadata(scratch.0.join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(scratch.0.join(FILE), "garbage").unwrap();
    assert_eq!(Known::load(&state), Known::default());
}

#[test]
fn the_credential_before_is_kept_while_it_may_be_needed() {
    let mut known = Known::default();
    for until in 1..=3 {
        assert!(known.take(&provided(until)));
    }
    assert_eq!(known.earlier, [credential(1, 2), credential(2, 2)]);
    let mut fewer = provided(3);
    fewer.credentials.pop();
    assert!(known.take(&fewer));
    assert_eq!(known.earlier, [credential(1, 2)], "the relay of the other is no longer ours");
    assert!(!format!("{known:?}").contains(credential(1, 3).password.expose()));
}

#[test]
fn a_relay_is_used_where_it_has_an_address_outside_of_the_mesh_and_a_credential() {
    let mut known = Known::default();
    known.take(&provided(1));
    let named: Place = "relay.example.net:3478".parse().unwrap();
    let mut addresses: BTreeMap<Place, Vec<SocketAddr>> =
        known.places().filter_map(|place| Some((place.clone(), vec![place.address()?]))).collect();
    addresses.insert(named, vec!["[2001:db8::1]:3478".parse().unwrap()]);
    let view = crate::dataplane::lab::view(1, &[], &[]);
    let configs = known.configs(&addresses, Some(&view));
    let found: Vec<_> = configs.iter().map(|config| (config.id.0, config.addresses.len())).collect();
    assert_eq!(found, [(1, 2)]);
    known.credentials.clear();
    assert_eq!(known.configs(&addresses, Some(&view)), []);
}

#[tokio::test]
async fn a_name_keeps_its_addresses_while_it_cannot_be_resolved() {
    let place: Place = "no-such-relay.invalid:3478".parse().unwrap();
    let address = "192.0.2.1:3478".parse().unwrap();
    let mut known = BTreeMap::from([(place.clone(), vec![address])]);
    resolve([&place].into_iter(), &mut known).await;
    assert_eq!(known.get(&place), Some(&vec![address]));
    resolve([].into_iter(), &mut known).await;
    assert!(known.is_empty());
}
