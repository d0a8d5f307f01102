use super::*;

fn machine() -> Machine {
    let eth0 = Found { interface: "eth0".into(), address: "192.0.2.10".parse().unwrap(), way_out: true, own: true };
    Machine {
        has_systemd: true,
        may_write: true,
        has_unit: true,
        runs: false,
        options: Options::None,
        has_mesh: false,
        listening: Ok(()),
        free_ports: 1024,
        addresses: vec![eth0],
        program: "/usr/bin/mesh-coord".into(),
    }
}

fn wish(listen: Option<&str>, range: Option<&str>, names: &[&str], advertise: &[&str]) -> Wish {
    Wish {
        listen: listen.map(|text| text.parse().unwrap()),
        range: range.map(|text| text.parse().unwrap()),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        advertise: advertise.iter().map(|url| url.parse().unwrap()).collect(),
    }
}

fn written(plan: &Plan) -> String {
    plan.options.as_ref().map(|options| options.concat().join(" ")).unwrap_or_default()
}

fn ours(text: &str) -> Options {
    Options::Ours(text.to_owned())
}

#[test]
fn a_new_coordinator_is_told_where_it_is() {
    let plan = Wish::default().on(machine()).unwrap();
    assert_eq!(written(&plan), "--advertise https://192.0.2.10:7443");
    assert_eq!(plan.origin, Origin::Own("192.0.2.10".parse().unwrap(), "eth0".into()));
    let given = wish(Some("[::]:8443"), Some("100.80.0.0/16"), &["a.example", "b.example"], &[]);
    let all =
        "--listen [::]:8443 --range 100.80.0.0/16 --name a.example --name b.example --advertise https://a.example:8443";
    assert_eq!(written(&given.on(machine()).unwrap()), all);
    let plan =
        wish(None, None, &[], &["https://x:1", "https://y"]).on(Machine { has_unit: false, ..machine() }).unwrap();
    assert_eq!((&*written(&plan), plan.unit), ("--advertise https://x:1,https://y:7443", true));
    assert_eq!(Wish::default().listens(), "[::]:7443".parse().unwrap());
}

#[test]
fn once_more_changes_nothing() {
    let there = || ours("--advertise https://192.0.2.10:7443 --mtu 1300");
    for runs in [true, false] {
        let again = Machine {
            runs,
            has_mesh: true,
            options: there(),
            listening: Err(io::ErrorKind::AddrInUse.into()),
            ..machine()
        };
        let plan = Wish::default().on(again).unwrap();
        assert_eq!((plan.options, plan.unit), (None, false));
        let same = wish(None, None, &[], &["https://192.0.2.10:7443"]);
        let again = Machine { runs, has_mesh: true, options: there(), ..machine() };
        assert_eq!(same.on(again).unwrap().options, None);
    }
    // By hand, and without any option.
    assert_eq!(Wish::default().on(Machine { runs: true, ..machine() }).unwrap().options, None);
    // What failed before may be put right.
    let other = wish(Some("[::]:9443"), None, &[], &[]);
    let plan = other.on(Machine { options: there(), ..machine() }).unwrap();
    assert_eq!(written(&plan), "--listen [::]:9443 --advertise https://192.0.2.10:9443");
}

#[test]
fn the_operators_own_options_count() {
    let theirs = || Options::Theirs("--range 100.80.0.0/16".to_owned());
    let plan = Wish::default().on(Machine { options: theirs(), ..machine() }).unwrap();
    assert_eq!(plan.options, None);
    let range = wish(None, Some("100.80.0.0/16"), &[], &[]);
    assert_eq!(range.on(Machine { options: theirs(), has_mesh: true, ..machine() }).unwrap().options, None);
    let other = wish(None, None, &["a"], &[]).on(Machine { options: theirs(), ..machine() }).unwrap_err();
    assert!(matches!(other, Obstacle::Theirs(_)), "{other}");
}

#[test]
fn what_is_in_the_way_is_said_before_anything_is_written() {
    let range = || wish(None, Some("100.80.0.0/16"), &[], &[]);
    let low = || wish(Some("[::]:443"), None, &[], &[]);
    let in_use = || Err(io::Error::from(io::ErrorKind::AddrInUse));
    for (wish, machine, words) in [
        (
            Wish::default(),
            Machine { has_systemd: false, may_write: false, ..machine() },
            "serve --advertise https://192.0.2.10:7443;",
        ),
        (
            Wish::default(),
            Machine { has_systemd: false, addresses: vec![], ..machine() },
            "serve --advertise https://HOST:7443;",
        ),
        (
            wish(Some("127.0.0.1:8443"), None, &[], &[]),
            Machine { has_systemd: false, ..machine() },
            "serve --listen 127.0.0.1:8443 --advertise https://HOST:8443;",
        ),
        (Wish::default(), Machine { may_write: false, ..machine() }, "sudo"),
        (Wish::default(), Machine { addresses: vec![], ..machine() }, "--advertise"),
        (Wish::default(), Machine { listening: in_use(), ..machine() }, "--listen [::]:PORT"),
        (range(), Machine { has_mesh: true, ..machine() }, "leave --range out"),
        (range(), Machine { runs: true, options: ours("--mtu 1300"), ..machine() }, "init --undo"),
        (range(), Machine { runs: true, ..machine() }, "init --undo"),
        (low(), machine(), "ip_unprivileged_port_start"),
        (wish(None, None, &["a b"], &[]), machine(), "letters"),
        (
            Wish::default(),
            Machine { has_unit: false, program: "/root/mesh-coord".into(), ..machine() },
            "/usr/local/bin",
        ),
    ] {
        let obstacle = wish.on(machine).unwrap_err();
        assert!(obstacle.hint().contains(words), "{obstacle}: {}", obstacle.hint());
    }
    low().on(Machine { free_ports: 0, ..machine() }).unwrap();
}
