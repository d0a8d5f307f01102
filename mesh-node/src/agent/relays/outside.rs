//! What a runner tells of its way to the outside, by what its relays see.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use mesh_proto::{
    Range, View, endpoint,
    relay::{MAX_REFLEXIVE, MAX_RELAYED, Nat, Relayed},
};
use mesh_relay_client::{Standing, Transport, mapping};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    control::{Offered, Outside},
    dataplane::{Dataplane, RelayNews},
};

/// How long an address that is lost is told still: most are had again at once, and peers are better off with it.
const HOPE: Duration = Duration::from_secs(10);

/// Tells the coordinator, by what is returned, and the engine what other runners may try, whenever it changes.
pub(in crate::agent) fn tell(
    dataplane: Arc<Dataplane>,
    mut news: watch::Receiver<RelayNews>,
    mut endpoints: watch::Receiver<Offered>,
    views: watch::Receiver<Option<Arc<View>>>,
) -> watch::Receiver<Outside> {
    let (told, receiver) = watch::channel(Outside::default());
    tokio::spawn(async move {
        let (mut latest, mut late) = (RelayNews::default(), None);
        endpoints.mark_changed();
        loop {
            tokio::select! {
                changed = news.changed() => match changed {
                    Ok(()) => latest = news.borrow_and_update().clone(),
                    Err(_) => return,
                },
                Ok(()) = endpoints.changed() => {}
                () = until(late) => {}
            }
            let own = endpoints.borrow_and_update().addresses.clone();
            let range = views.borrow().as_ref().map(|view| view.network.range);
            let mut now = outside(&latest, &own, dataplane.port(), range);
            // A peer is named the first of them.
            dataplane.set_own_addresses(now.reflexive.iter().chain(&own).copied().collect());
            let hoped = hoped(&told.borrow(), &latest);
            if hoped.is_empty() || late.is_some_and(|at| at <= Instant::now()) {
                late = None;
            } else {
                late = late.or(Some(Instant::now() + HOPE));
                now.relayed.extend(hoped);
            }
            told.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
        }
    });
    receiver
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The addresses that were told, and are lost at relays that are still there.
fn hoped(told: &Outside, news: &RelayNews) -> Vec<Relayed> {
    let is_hoped = |at: &&Relayed| {
        news.reports.iter().any(|report| report.id == at.relay) && news.relayed.iter().all(|now| now.relay != at.relay)
    };
    told.relayed.iter().filter(is_hoped).copied().collect()
}

/// What there is to tell, of what the relays say.
fn outside(news: &RelayNews, endpoints: &[SocketAddr], port: u16, range: Option<Range>) -> Outside {
    let seen: Vec<SocketAddr> = news.reports.iter().filter_map(|report| report.reflexive).collect();
    let mut reflexive: Vec<SocketAddr> = vec![];
    for address in &seen {
        let is_relays = news.places().any(|place| place == *address);
        let is_told = endpoints.contains(address) || reflexive.contains(address);
        if !is_told && !is_relays && endpoint::check(*address, range).is_ok() && reflexive.len() < MAX_REFLEXIVE {
            reflexive.push(*address);
        }
    }
    let own: Vec<IpAddr> = endpoints.iter().map(SocketAddr::ip).collect();
    let asked = news.reports.iter().filter(|report| report.reflexive.is_some() || report.standing.is_some());
    // A relay that is reached by a connection hasn't answered to datagrams.
    let unanswered = |report: &mesh_relay_client::RelayReport| {
        report.transport == Transport::Stream || report.standing == Some(Standing::Unanswered)
    };
    let nat = if !seen.is_empty() {
        Some(Nat { udp: true, mapping: mapping(&seen, &own, port) })
    } else if asked.clone().count() > 0 && asked.clone().all(unanswered) {
        Some(Nat { udp: false, mapping: mapping(&[], &own, port) })
    } else {
        None
    };
    Outside { reflexive, relayed: news.relayed.iter().take(MAX_RELAYED).copied().collect(), nat }
}

#[cfg(test)]
mod tests {
    use mesh_proto::{RelayId, relay::Mapping};
    use mesh_relay_client::RelayReport;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn report(n: u64, reflexive: Option<&str>, standing: Standing) -> RelayReport {
        let address = Some(SocketAddr::from(([203, 0, 113, n as u8], 3478)));
        let (standing, reflexive) = (Some(standing), reflexive.map(at));
        RelayReport { id: RelayId(n), address, transport: Transport::Datagram, standing, rtt: None, reflexive }
    }

    fn told(reflexive: &[Option<&str>], own: &[&str]) -> Outside {
        let relayed = Relayed { relay: RelayId(1), address: at("203.0.113.1:50000") };
        let reports = (1..).zip(reflexive);
        let reports = reports.map(|(n, seen)| report(n, *seen, Standing::Allocated(relayed.address))).collect();
        let own: Vec<SocketAddr> = own.iter().map(|text| at(text)).collect();
        outside(&RelayNews { relayed: vec![relayed], reports }, &own, 51820, Some(Range::DEFAULT))
    }

    #[test]
    fn what_relays_see_is_told_unless_peers_know_it_or_can_do_nothing_with_it() {
        let seen = told(&[Some("198.51.100.7:1024"), Some("198.51.100.7:1024")], &["192.168.1.5:51820"]);
        assert_eq!(seen.reflexive, [at("198.51.100.7:1024")]);
        assert_eq!(seen.nat, Some(Nat { udp: true, mapping: Mapping::Same }));
        let public = told(&[Some("198.51.100.7:51820")], &["198.51.100.7:51820"]);
        assert_eq!((public.reflexive, public.nat.unwrap().mapping), (vec![], Mapping::None));
        let varies = told(&[Some("198.51.100.7:1024"), Some("198.51.100.7:1025")], &[]);
        assert_eq!((varies.reflexive.len(), varies.nat.unwrap().mapping), (2, Mapping::Varies));
        for useless in ["127.0.0.1:1024", "100.112.0.9:1024", "169.254.1.1:5", "203.0.113.1:3478", "203.0.113.1:50000"]
        {
            assert_eq!(told(&[Some(useless)], &[]).reflexive, [], "{useless}");
        }
    }

    #[test]
    fn an_address_that_is_lost_is_told_still_unless_there_is_another_or_no_such_relay() {
        let place = |relay, port| Relayed { relay: RelayId(relay), address: ([203, 0, 113, 1], port).into() };
        let told = Outside { relayed: vec![place(1, 50000), place(2, 50000)], ..Outside::default() };
        let news = |ids: &[u64], relayed: Vec<Relayed>| {
            let reports = ids.iter().map(|id| report(*id, None, Standing::Unanswered)).collect();
            hoped(&told, &RelayNews { relayed, reports })
        };
        assert_eq!(news(&[1, 2], vec![place(1, 50000)]), [place(2, 50000)]);
        assert_eq!(news(&[1, 2], vec![place(1, 50000), place(2, 50001)]), []);
        assert_eq!(news(&[1], vec![]), [place(1, 50000)]);
    }

    #[test]
    fn udp_is_said_to_be_blocked_only_when_all_relays_are_silent() {
        let nat = |standings: &[Standing]| {
            let reports = (1..).zip(standings).map(|(n, standing)| report(n, None, *standing)).collect();
            outside(&RelayNews { relayed: vec![], reports }, &[], 51820, None).nat.map(|nat| nat.udp)
        };
        assert_eq!(nat(&[]), None);
        assert_eq!(nat(&[Standing::Asking]), None);
        assert_eq!(nat(&[Standing::Unanswered, Standing::Asking]), None);
        assert_eq!(nat(&[Standing::Unanswered, Standing::Unanswered]), Some(false));
    }
}
