use std::{net::Ipv4Addr, time::Duration};

use super::{client::Change, *};

const SECOND: Duration = Duration::from_secs(1);

fn relay() -> Relay {
    Relay::new(Ipv4Addr::new(198, 51, 100, 1).into())
}

fn access(client: usize) -> Access {
    Access::Udp(([203, 0, 113, client as u8], 51820).into())
}

/// Passes everything on at once. Returns the changes and the datagrams for each client.
fn exchange(relay: &mut Relay, clients: &mut [Client], now: Duration) -> Vec<(usize, Result<Change, Vec<u8>>)> {
    let mut seen = vec![];
    while let Some((number, request)) = clients.iter_mut().enumerate().find_map(|(i, c)| Some((i, c.out.pop_front()?)))
    {
        let Some((to, answer)) = relay.handle(number, access(number), request) else { continue };
        let to = (0..clients.len()).find(|number| access(*number) == to).expect("one of them");
        if let Answer::Data { bytes, .. } = answer.what {
            clients[to].heard();
            seen.push((to, Err(bytes)));
        } else if let Some(change) = clients[to].handle(&answer, now) {
            seen.push((to, Ok(change)));
        }
    }
    seen
}

fn pass_time(relay: &mut Relay, clients: &mut [Client], from: Duration, to: Duration) -> Vec<Duration> {
    let (mut now, mut changes) = (from, vec![]);
    while let Some(due) = clients.iter().map(Client::due).min().filter(|due| *due <= to) {
        now = now.max(due);
        changes.extend(clients.iter_mut().filter_map(|client| client.time_out(now)).map(|_| now));
        changes.extend(exchange(relay, clients, now).iter().filter(|(_, what)| what.is_ok()).map(|_| now));
    }
    changes
}

fn pair() -> (Relay, [Client; 2]) {
    let (mut relay, mut clients) = (relay(), [1, 2].map(|seed| Client::new(seed, Duration::ZERO)));
    assert_eq!(exchange(&mut relay, &mut clients, Duration::ZERO).len(), 2);
    (relay, clients)
}

#[test]
fn datagrams_pass_from_allocation_to_allocation() {
    let (mut relay, mut clients) = pair();
    let to = clients[1].relayed().expect("it is there");
    assert_eq!(clients[1].seen(), Some(([203, 0, 113, 1], 51820).into()));
    clients[0].send(to, vec![7], Duration::ZERO);
    assert_eq!(exchange(&mut relay, &mut clients, Duration::ZERO), [(1, Err(vec![7]))]);
    clients[0].send(([198, 51, 100, 1], 1).into(), vec![7], Duration::ZERO);
    assert_eq!(exchange(&mut relay, &mut clients, Duration::ZERO), []);
}

#[test]
fn an_allocation_is_kept_in_silence() {
    let (mut relay, mut clients) = pair();
    assert_eq!(pass_time(&mut relay, &mut clients, Duration::ZERO, 3600 * SECOND), [Duration::ZERO; 0]);
    assert!(relay.serves(0) && relay.serves(1));
}

#[test]
fn a_dead_relay_is_noticed_and_gone_back_to() {
    let (mut relay, mut clients) = pair();
    relay.die();
    let lost = pass_time(&mut relay, &mut clients, Duration::ZERO, 60 * SECOND);
    assert_eq!(lost.len(), 2);
    assert!(lost.iter().all(|at| *at <= 29 * SECOND), "{lost:?}");
    relay.rise();
    let back = pass_time(&mut relay, &mut clients, 60 * SECOND, 66 * SECOND);
    assert_eq!(back.len(), 2, "within 5 s and three round trips: {back:?}");
}

#[test]
fn data_that_goes_unanswered_is_a_reason_to_ask() {
    let (mut relay, mut clients) = pair();
    relay.die();
    relay.rise();
    clients[0].send(([198, 51, 100, 1], 49_154).into(), vec![7], Duration::ZERO);
    let changes = pass_time(&mut relay, &mut clients, Duration::ZERO, 2 * SECOND);
    assert_eq!(changes, [SECOND * 3 / 2; 2], "the old one is lost and another one is there");
}

#[test]
fn another_source_gets_another_allocation_and_the_old_one_ends() {
    let (mut relay, mut clients) = (relay(), [Client::new(1, Duration::ZERO)]);
    exchange(&mut relay, &mut clients, Duration::ZERO);
    let from = Access::Udp(([203, 0, 113, 99], 7).into());
    let ask = |what| Numbered { serial: 1, what };
    let mismatch = Numbered { serial: 1, what: Answer::Mismatch };
    assert_eq!(relay.handle(0, from, ask(Request::Refresh)), Some((from, mismatch.clone())));
    relay.handle(0, from, ask(Request::Allocate));
    assert_eq!(relay.handle(0, access(0), ask(Request::Refresh)), Some((access(0), mismatch)));
}
