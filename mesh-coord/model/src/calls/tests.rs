use super::*;
use crate::{
    AdminCommand, Command,
    record::Hour,
    testing::{World, declared, file, label, path, whole},
};

const HOUR: u64 = 3600;

fn passed(opened: u64) -> Passed {
    Passed { opened, bytes: 10 * opened }
}

impl World {
    fn service(&self, text: &str) -> ServiceId {
        self.state.service_at(&path(text)).unwrap().id
    }

    /// What a caller's runner and a callee's runner report of connections that were opened just now.
    fn called(&self, caller: &str, callee: &str, opened: [u64; 2]) -> Noted {
        let [by_callers, by_callees] = opened.map(passed);
        let hour = Hour { hour: hour_of(self.now), by_callers, by_callees };
        Noted { caller: self.service(caller), callee: self.service(callee), used: self.now, hour }
    }

    fn note(&mut self, noted: Vec<Noted>) {
        self.run(&Command::NoteCalls(noted)).unwrap();
        // What a restarted coordinator knows.
        let records: Vec<Record> = self.state.records().collect();
        assert_eq!(State::load(self.state.revision(), records).unwrap(), self.state);
    }

    fn noted(&self, caller: &str, callee: &str) -> Option<&Callee> {
        self.state.call(self.service(caller), self.service(callee))
    }
}

fn world() -> World {
    let mut world = World::new();
    world.apply(vec![whole("shop: db web"), whole("api: grpc")]).unwrap();
    world
}

#[test]
fn what_several_coordinators_note_of_an_hour_is_added_by_each_end() {
    let mut world = world();
    let noted = world.called("api/grpc", "shop/db", [5, 0]);
    world.note(vec![noted, world.called("api/grpc", "shop/web", [0, 1])]);
    // The callee's runners are at another coordinator, with one caller's runner more.
    world.note(vec![world.called("api/grpc", "shop/db", [2, 6])]);
    let callee = world.noted("api/grpc", "shop/db").unwrap();
    assert_eq!(
        callee.hours.iter().map(|hour| (hour.by_callers, hour.by_callees)).collect::<Vec<_>>(),
        [(passed(7), passed(6))]
    );
    assert_eq!((callee.first, callee.last, callee.hours[0].passed()), (world.now, world.now, passed(7)));
    assert_eq!(world.state.calls().count(), 2);
}

#[test]
fn a_day_is_kept_by_hours_and_a_month_since_the_last_call() {
    let mut world = world();
    let begin = world.now;
    for _ in 0..30 {
        world.note(vec![world.called("api/grpc", "shop/db", [1, 1])]);
        world.now = world.now.plus(HOUR);
    }
    let callee = world.noted("api/grpc", "shop/db").unwrap();
    let last = begin.plus(29 * HOUR);
    assert_eq!((callee.hours.len(), callee.first, callee.last), (24, begin, last));
    assert_eq!(callee.hours[23].hour, hour_of(last));
    // A connection that stands is in use, and nothing has passed.
    world.note(vec![world.called("api/grpc", "shop/db", [0, 0])]);
    assert_eq!(world.noted("api/grpc", "shop/db").unwrap().last, world.now);

    world.now = world.now.plus(limits::CALLS_KEPT);
    world.note(vec![world.called("api/grpc", "shop/web", [1, 1])]);
    assert!(world.noted("api/grpc", "shop/db").is_none() && world.noted("api/grpc", "shop/web").is_some());
    world.now = world.now.plus(limits::CALLS_KEPT);
    world.note(vec![]);
    assert_eq!(world.state.calls().count(), 0);
    assert!(!world.state.records().any(|record| matches!(record, Record::Calls(_))));
}

#[test]
fn nothing_is_written_while_nothing_passes() {
    let mut world = world();
    world.note(vec![world.called("api/grpc", "shop/db", [1, 1])]);
    world.now = world.now.plus(HOUR);
    assert_eq!(world.decide(&Command::NoteCalls(vec![])).unwrap().changes, []);
}

#[test]
fn a_service_that_is_gone_leaves_nothing_and_its_successor_inherits_nothing() {
    let mut world = world();
    let before = [world.called("api/grpc", "shop/db", [1, 1]), world.called("shop/db", "api/grpc", [1, 1])];
    world.note(before.to_vec());
    world.apply_with(vec![whole("shop: web")], false, true).unwrap();
    // A runner may report late.
    world.note(before.to_vec());
    world.apply(vec![whole("shop: db web")]).unwrap();
    assert_eq!(world.state.calls().count(), 0);
    world.order(AdminCommand::Delete { deployment: label("api"), force: true }).unwrap();
    assert!(world.state.calls.is_empty());
}

#[test]
fn a_clock_that_was_wrong_once_does_not_stay_wrong() {
    let mut world = world();
    let early = world.now;
    let mut noted = world.called("api/grpc", "shop/db", [1, 1]);
    noted.used = early.plus(1_000_000);
    world.note(vec![noted]);
    assert_eq!(world.noted("api/grpc", "shop/db").unwrap().last, early);
    // The system's clock is put back.
    world.now = UnixSeconds(early.0 - 50 * HOUR);
    world.note(vec![world.called("api/grpc", "shop/db", [1, 1])]);
    let callee = world.noted("api/grpc", "shop/db").unwrap();
    assert_eq!((callee.last, callee.hours.len()), (world.now, 1));
}

#[test]
fn a_team_that_calls_much_takes_its_own_room_only() {
    let mut world = World::new();
    let names: Vec<String> = (0..300).map(|n| format!("s-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world
        .apply(vec![
            file(declared("big", Some("many"), names.iter().copied())),
            file(declared("shop", Some("acme"), ["app", "db"])),
        ])
        .unwrap();
    world.note(vec![world.called("shop/app", "shop/db", [1, 1])]);
    world.now = world.now.plus(60);
    let all = names.iter().flat_map(|caller| names.iter().map(move |callee| (caller, callee)));
    let all = all.map(|(caller, callee)| world.called(&format!("big/{caller}"), &format!("big/{callee}"), [1, 1]));
    let all = all.collect();
    world.note(all);
    let of_caller = world.state.calls[&world.service("big/s-299")].callees.len();
    assert!(of_caller <= limits::CALLEES, "{of_caller}");
    assert_eq!(world.state.calls().count(), limits::CALLS);
    assert!(world.noted("shop/app", "shop/db").is_some(), "although it is the oldest one");
}

#[test]
fn the_parts_are_even_and_what_one_leaves_is_for_others() {
    assert_eq!(part_of_each(vec![3, 4], 10), 10);
    assert_eq!(part_of_each(vec![1, 100, 100], 21), 10);
    assert_eq!(part_of_each(vec![100, 2, 3], 10), 5);
    assert_eq!(part_of_each(vec![9, 9, 9], 2), 0);
}

#[test]
fn a_preview_knows_what_was_noted() {
    let mut world = world();
    world.trust("shop", &["api"]).unwrap();
    world.note(vec![world.called("api/grpc", "shop/db", [1, 1]), world.called("api/grpc", "shop/web", [1, 1])]);
    world.now = world.now.plus(HOUR);
    let pair = |callee: &str, open, seconds| crate::Used {
        caller: world.service("api/grpc"),
        callee: world.service(callee),
        open,
        seconds,
    };
    let command = Command::Admin {
        by: world.admin.clone(),
        what: AdminCommand::Delete { deployment: label("shop"), force: true },
    };
    let in_use = |now, pairs| {
        let usage = crate::Usage { pairs, oldest: Some(0), at_removed: None };
        let effect = world.state.preview(&world.admin, &command, now, Some(&usage)).unwrap().effect;
        let of = |pair: &crate::InUse| format!("{} {} {}", pair.to, pair.open, pair.used_seconds);
        effect.in_use.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(in_use(world.now, vec![]), ["shop/db 0 3600", "shop/web 0 3600"], "after a restart of the coordinator");
    assert_eq!(in_use(world.now, vec![pair("shop/db", 4, 5000)]), ["shop/db 4 3600", "shop/web 0 3600"]);
    assert_eq!(in_use(world.now, vec![pair("shop/web", 0, 7)]), ["shop/web 0 7", "shop/db 0 3600"]);
    assert_eq!(in_use(world.now.plus(limits::IN_USE), vec![]), [""; 0]);
}
