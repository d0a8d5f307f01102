use mesh_model::record::Outside;
use mesh_proto::{Abilities, InstanceId};

use super::*;

fn hello() -> RunnerCommand {
    RunnerCommand::Hello {
        version: "1".to_owned(),
        can: Abilities::NONE,
        endpoints: vec![],
        seen: None,
        outside: Outside::default(),
        instances: vec![],
    }
}

fn endpoints(port: u16) -> Vec<SocketAddr> {
    vec![([198, 51, 100, 1], port).into()]
}

fn is_hello(command: Option<Command>) -> bool {
    matches!(command, Some(Command::Runner { what: RunnerCommand::Hello { .. }, .. }))
}

#[test]
fn the_first_message_is_stored_first_and_tried_again_after_a_failure() {
    let now = Instant::now();
    let mut report = Report::new(RunnerId(1), hello(), now);
    report.endpoints(endpoints(1), Outside::default(), now, || Some(now));
    assert!(is_hello(report.next()) && report.due() == Some(now));
    report.failed(now);
    assert!(is_hello(report.next()) && report.due() == Some(now + RETRY));
    report.stored(now);
    assert!(matches!(report.next(), Some(Command::Runner { what: RunnerCommand::Endpoints { .. }, .. })));
    report.stored(now);
    assert!(report.next().is_none() && report.due().is_none());
}

#[test]
fn the_last_endpoints_are_stored_and_the_next_ones_a_second_later() {
    let now = Instant::now();
    let mut report = Report::new(RunnerId(1), hello(), now);
    report.stored(now);
    report.endpoints(endpoints(1), Outside::default(), now, || Some(now));
    report.endpoints(endpoints(2), Outside::default(), now, || panic!("one turn is enough"));
    let Some(Command::Runner { what: RunnerCommand::Endpoints { endpoints: stored, .. }, .. }) = report.next() else {
        panic!()
    };
    assert_eq!(stored, endpoints(2));
    report.stored(now);
    report.endpoints(endpoints(3), Outside::default(), now, || Some(now));
    assert_eq!(report.due(), Some(now + PACE));
}

#[test]
fn a_question_about_the_runners_instances_comes_after_the_first_message() {
    let now = Instant::now();
    let mut report = Report::new(RunnerId(1), hello(), now);
    let (detach, settle) = (Ask::Detach { instance: InstanceId(1) }, Ask::Settle { revision: mesh_proto::Revision(1) });
    assert!(report.precedes(&detach) && !report.precedes(&settle));
    report.stored(now);
    assert!(!report.precedes(&detach));
}
