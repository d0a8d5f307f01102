use std::{net::Ipv4Addr, time::Duration};

use mesh_proto::RelayId;

use super::*;

/// The `n`th address of a network without runners.
fn stranger(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + n).into()
}

/// The addresses of runners.
fn runner(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xc000_0200 + n).into()
}

/// Admissions with the addresses of runners 1 to 100, and the time.
fn admissions() -> (Admissions, Instant) {
    let mut admissions = Admissions::new(7);
    admissions.set_known((1..=100).map(runner));
    (admissions, Instant::now())
}

/// How many of 10,000 initiations a second are admitted in ten seconds. The `n`th comes from `from(n)`; `between` is called
/// after each.
fn flood(
    admissions: &mut Admissions,
    start: Instant,
    proven: bool,
    from: impl Fn(u32) -> IpAddr,
    mut between: impl FnMut(&mut Admissions, u32, Instant),
) -> u32 {
    let mut granted = 0;
    for n in 0..100_000 {
        let now = start + Duration::from_micros(100) * n;
        granted += u32::from(admissions.admit(from(n), proven, now) == Admission::Granted);
        between(admissions, n, now);
    }
    granted
}

/// The most that a share admits in ten seconds.
const IN_TEN_SECONDS: u32 = 10 * SHARE.each_second + SHARE.at_once;

#[test]
fn a_flood_from_many_addresses_is_bounded_and_leaves_the_runners_their_share() {
    for proven in [false, true] {
        let (mut admissions, start) = admissions();
        let mut refused = 0;
        let granted = flood(
            &mut admissions,
            start,
            proven,
            |n| stranger(n % 65536),
            |admissions, n, now| {
                // Each of the hundred runners comes twice in the ten seconds.
                if n % 500 == 250 {
                    refused += u32::from(admissions.admit(runner(1 + n / 500 % 100), false, now) != Admission::Granted);
                }
            },
        );
        assert_eq!(refused, 0);
        assert!(granted <= IN_TEN_SECONDS, "{granted} Diffie-Hellmans");
    }
}

#[test]
fn a_flood_in_the_name_of_runners_leaves_them_what_needs_proof() {
    let (mut admissions, start) = admissions();
    let mut outcomes = vec![];
    let granted = flood(
        &mut admissions,
        start,
        false,
        |n| runner(1 + n % 100),
        |admissions, n, now| {
            if n % 500 == 250 {
                let from = runner(1 + n / 500 % 100);
                // It probably has to prove its address, and comes again with the cookie.
                let first = admissions.admit(from, false, now);
                outcomes.push(if first == Admission::Unproven { admissions.admit(from, true, now) } else { first });
            }
        },
    );
    assert!(outcomes.iter().all(|outcome| *outcome == Admission::Granted), "{outcomes:?}");
    assert!(granted <= IN_TEN_SECONDS, "{granted} Diffie-Hellmans");
}

#[test]
fn a_flood_without_proof_leaves_strangers_what_needs_proof() {
    let (mut admissions, start) = admissions();
    let mut outcomes = vec![];
    flood(&mut admissions, start, false, stranger, |admissions, n, now| {
        if n % 5000 == 2500 {
            outcomes.push(admissions.admit(stranger(9_000_000), true, now));
        }
    });
    assert!(outcomes.iter().all(|outcome| *outcome == Admission::Granted), "{outcomes:?}");
}

#[test]
fn one_address_has_its_own_limit_only() {
    let limit = 10 * ADDRESS.each_second + ADDRESS.at_once;
    for from in [runner(1), stranger(1)] {
        let (mut admissions, start) = admissions();
        let other = if from == runner(1) { runner(2) } else { stranger(2) };
        let mut refused = 0;
        let granted = flood(
            &mut admissions,
            start,
            true,
            |_| from,
            |admissions, n, now| {
                if n % 10_000 == 5000 {
                    refused += u32::from(admissions.admit(other, true, now) != Admission::Granted);
                }
            },
        );
        assert!(granted <= limit && refused == 0, "{from}: {granted} granted, {refused} of the other refused");
    }
}

#[test]
fn an_ipv6_sender_is_its_network() {
    let (mut admissions, now) = admissions();
    let of = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
    let granted = (0..1000).filter(|host| admissions.admit(of(*host), true, now) == Admission::Granted).count();
    assert_eq!(granted, ADDRESS.at_once as usize);
    assert_eq!(admissions.admit(of(0), false, now), Admission::Granted, "what is only claimed is another matter");
}

#[test]
fn a_new_map_forgets_no_limit() {
    let (mut admissions, now) = admissions();
    let take = |admissions: &mut Admissions| {
        (0..100).filter(|_| admissions.admit(runner(1), true, now) == Admission::Granted).count()
    };
    assert_eq!(take(&mut admissions), ADDRESS.at_once as usize);
    admissions.set_known((1..=2).map(runner));
    assert_eq!(take(&mut admissions), 0);
    assert_eq!((admissions.known.len(), admissions.limits.len()), (2, 1), "nothing has come from the other one");
    admissions.set_known((2..=2).map(runner));
    assert!(admissions.limits.is_empty());
}

#[test]
fn copies_of_what_was_answered_are_told() {
    let (mut admissions, _) = admissions();
    let macs = [[1; 16], [2; 16]];
    assert!(macs.iter().all(|mac| admissions.answerer(mac).is_none()));
    admissions.answered(macs[0], TunnelIx(7));
    assert_eq!((admissions.answerer(&macs[0]), admissions.answerer(&macs[1])), (Some(TunnelIx(7)), None));
    assert_eq!(admissions.answerer(&[0; 16].map(|_| 3)), None);
}

#[test]
fn runners_behind_one_relay_have_limits_of_their_own() {
    let (mut admissions, now) = admissions();
    let relay = Ipv4Addr::new(198, 51, 100, 7);
    let by = |relay_id, port| Hop::Relayed { relay: RelayId(relay_id), peer: (relay, port).into() };
    let hops = [by(1, 1000), by(1, 1001), by(2, 1000), Hop::Direct((relay, 1000).into())];
    let sources = hops.map(|hop| admissions.source(hop));
    assert_eq!((admissions.source(hops[0]), sources[3]), (sources[0], relay.into()), "one is always the same");
    for source in sources {
        let admitted = (0..1000).filter(|_| admissions.admit(source, true, now) == Admission::Granted).count();
        assert_eq!(admitted as u32, ADDRESS.at_once, "{source}");
    }
    assert_ne!(Admissions::new(8).source(hops[0]), sources[0], "a place in the limits can't be chosen");
}
