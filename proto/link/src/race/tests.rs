use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::*;

fn places(texts: &[&str]) -> Vec<Place> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_address_that_swallows_packets_costs_less_than_a_second() {
    let begun = Instant::now();
    let places = places(&["192.0.2.1:7443", "192.0.2.2:7443", "192.0.2.3:7443"]);
    let attempt = |place, _| async move {
        if place < 2 {
            std::future::pending::<()>().await;
        }
        Ok::<_, io::Error>("up")
    };
    assert_eq!(race(&places, attempt).await.unwrap(), ("up", 2));
    assert_eq!(begun.elapsed().as_millis(), 2 * STAGGER.as_millis());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_refuses_costs_nothing_and_every_failure_is_named() {
    let begun = Instant::now();
    let refuse = |_, _| async { Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)) };
    let failures = race(&places(&["192.0.2.1:1", "[2001:db8::1]:2"]), refuse).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let text = words(&failures);
    assert!(text.contains("192.0.2.1:1: connection refused; [2001:db8::1]:2: connection refused"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_only_slow_wins_all_the_same_and_no_attempt_lasts_for_ever() {
    let tries = Arc::new(AtomicU32::new(0));
    let slow = |place, _| {
        let tries = Arc::clone(&tries);
        async move {
            tries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(if place == 0 { 5 } else { 60 })).await;
            Ok::<_, io::Error>(())
        }
    };
    let two = places(&["192.0.2.1:7443", "192.0.2.2:7443"]);
    assert_eq!(race(&two, slow).await.unwrap(), ((), 0));
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    let begun = Instant::now();
    let never = |_, _| std::future::pending::<Result<(), io::Error>>();
    let failures = race(&two, never).await.unwrap_err();
    assert!(words(&failures).contains("no answer within 10 s") && begun.elapsed() < LIMIT + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_comes_back_is_found_while_another_address_is_waited_for() {
    let begun = Instant::now();
    let attempt = |place, _| async move {
        match place {
            0 => std::future::pending().await,
            _ if begun.elapsed() < Duration::from_secs(3) => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            _ => Ok("back"),
        }
    };
    let two = places(&["192.0.2.1:7443", "192.0.2.2:7443"]);
    assert_eq!(race(&two, attempt).await.unwrap(), ("back", 1));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn families_take_turns() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (a, b, c, d) = (address("[::1]:1"), address("[::2]:1"), address("[::3]:1"), address("192.0.2.1:1"));
    assert_eq!(interleaved(vec![a, b, c, d]), [a, d, b, c]);
    assert_eq!(interleaved(vec![d, a, b]), [d, a, b]);
    assert!(interleaved((0..99).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect()).len() <= MOST + 1);
}
