//! In namespaces, inspected from outside by `ip` and by sockets.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    time::Duration,
};

mod others;

use super::{
    lab::{abandoned, addressing, all_users, eventually, ip, namespace, neighbours, owner, picture, within},
    *,
};

/// The error of `connect` to an address of the range in a namespace.
fn connect(ns: &Namespace, to: &str) -> ErrorKind {
    let to = format!("{to}:80").parse().unwrap();
    within(ns, || TcpStream::connect_timeout(&to, Duration::from_secs(5))).unwrap_err().kind()
}

/// Makes a whole attachment.
fn create(staging: &Staging, ns: &Namespace, a: &Addressing) -> Result<OwnedFd, AttachError> {
    let prepared = prepare(staging, ns, Birthplace::Staging)?;
    super::create(staging, ns, a, prepared).map(|made| made.queue)
}

/// What a new agent does with it.
fn recover(staging: &Staging, ns: &Namespace, a: &Addressing) -> Result<OwnedFd, AttachError> {
    super::recover(staging, ns, a).map(|made| made.queue)
}

/// Addresses of another range.
fn elsewhere() -> Addressing {
    Addressing {
        instance: [10, 9, 1, 8].into(),
        service: [10, 9, 0, 2].into(),
        range: "10.9.0.0/16".parse().unwrap(),
        mtu: 1280,
        mark: None,
    }
}

/// The first packet in a queue.
fn first_packet(queue: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = vec![0; mesh_engine::TUN_BUFFER];
    let mut file: File = queue.as_fd().try_clone_to_owned().unwrap().into();
    file.read(&mut buffer).ok().map(|length| buffer[mesh_engine::VNET..length].to_vec())
}

#[test]
fn what_is_prepared_carries_nothing_and_is_gone_when_it_is_not_wanted() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    let before = picture(&ns);
    for at in [Birthplace::Staging, Birthplace::There] {
        let prepared = prepare(&staging, &ns, at).unwrap();
        let link = ip(&ns, "-br addr show mesh0");
        assert!(link.contains("DOWN") && !link.contains("100."), "{link}");
        assert!(matches!(prepare(&staging, &ns, at), Err(AttachError::Served)), "another process serves it");
        drop(prepared);
        // Another test's child has a copy of its descriptor until it executes its program.
        eventually("it is gone", || picture(&ns) == before);
    }
}

#[test]
fn wherever_it_is_made_it_is_the_same() {
    let staging = Staging::new().unwrap();
    let pictures = [Birthplace::Staging, Birthplace::There].map(|at| {
        let ns = namespace();
        let _made = super::create(&staging, &ns, &addressing(7), prepare(&staging, &ns, at).unwrap()).unwrap();
        picture(&ns)
    });
    assert_eq!(pictures[0], pictures[1]);
}

#[test]
fn attaching_makes_exactly_this_and_removing_undoes_it() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    let before = picture(&ns);
    let queue = create(&staging, &ns, &addressing(7)).unwrap();

    let link = ip(&ns, "-d -o link show mesh0");
    for part in ["mtu 1344", "qlen 1000", "gso_max_segs 47", "<POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP>", "type tun"] {
        assert!(link.contains(part), "`{part}` is not in: {link}");
    }
    assert!(link.contains(&format!("user {}", owner())) && link.contains("persist on"), "{link}");
    assert_eq!(
        ip(&ns, "-br addr show mesh0").split_whitespace().skip(2).collect::<Vec<_>>(),
        ["100.112.1.7/32", "100.112.0.1/32"],
        "and no IPv6 address"
    );
    assert_eq!(
        ip(&ns, "rule"),
        "0:\tfrom all to 100.112.0.0/12 iif lo lookup 1835365224 proto 109\n\
         0:\tfrom all to 100.112.0.0/12 iif mesh0 lookup 1835365224 proto 109\n\
         0:\tfrom all to 100.112.0.0/12 blackhole proto 109\n\
         0:\tfrom all lookup local\n\
         32766:\tfrom all lookup main\n\
         32767:\tfrom all lookup default"
    );
    let range = "100.112.0.0/12 dev mesh0 proto 109 scope link src 100.112.1.7\n\
         unreachable 100.112.0.0/12 proto 109 metric 4294967295";
    assert_eq!(ip(&ns, "-4 route show table main"), range);
    assert_eq!(
        ip(&ns, "-4 route show table 1835365224"),
        format!(
            "{range}\nlocal 100.112.0.1 dev mesh0 proto 109 scope host\nlocal 100.112.1.7 dev mesh0 proto 109 scope host"
        )
    );

    remove(&ns).unwrap();
    assert_eq!(picture(&ns), before);
    remove(&ns).unwrap();
    assert_eq!(picture(&ns), before, "a second time changes nothing");
    assert_eq!(
        (&File::from(queue)).read(&mut [0; 2048]).unwrap_err().raw_os_error(),
        Some(libc::EBADFD),
        "the queue tells that its device is gone"
    );
}

#[test]
fn what_goes_to_the_range_comes_out_of_the_queue_with_the_instances_address() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    let queue = create(&staging, &ns, &addressing(7)).unwrap();
    let sent = within(&ns, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "100.127.9.9:9"));
    sent.unwrap();
    let packet = first_packet(&queue).expect("nothing came out, or not before the call returned");
    assert_eq!((packet[0] >> 4, &packet[12..16], &packet[16..20]), (4, &[100, 112, 1, 7][..], &[100, 127, 9, 9][..]));
    assert_eq!(first_packet(&queue), None, "something else is sent on mesh0 unasked");
}

#[test]
fn an_instance_reaches_itself_without_the_mesh() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    ip(&ns, "link set lo down");
    let queue = create(&staging, &ns, &addressing(7)).unwrap();
    for own in ["100.112.1.7:0", "100.112.0.1:0", "127.0.0.1:0"] {
        within(&ns, || {
            let listener = TcpListener::bind(own).unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap();
        });
    }
    assert_eq!(first_packet(&queue), None);
}

#[test]
fn connections_of_an_instance_that_ends_are_ended_and_no_others() {
    let (ns, staging) = (namespace(), Staging::new().unwrap());
    let addressing = addressing(7);
    let _queue = create(&staging, &ns, &addressing).unwrap();
    let pair = |listen: &str, dial: &str| {
        within(&ns, || {
            let listener = TcpListener::bind((listen, 0)).unwrap();
            let stream = TcpStream::connect((dial, listener.local_addr().unwrap().port())).unwrap();
            (listener.accept().unwrap().0, stream)
        })
    };
    let (mut other, mut own) = pair("127.0.0.1", "127.0.0.1");
    // By IPv4, and by IPv6 with a mapped address.
    let ours = [pair("0.0.0.0", &addressing.service.to_string()), pair("::", &addressing.instance.to_string())];
    let count = end_connections(&ns, &[addressing.instance, addressing.service]).unwrap();
    assert_eq!(count, 2, "the other end of each hears of it before it is its turn");
    for (mut accepted, mut dialled) in ours {
        accepted.read(&mut [0]).unwrap_err();
        dialled.read(&mut [0]).unwrap_err();
    }
    own.write_all(b"x").unwrap();
    other.read_exact(&mut [0]).unwrap();
    assert_eq!(end_connections(&ns, &[addressing.instance]).unwrap(), 0);
}

#[test]
fn the_machines_own_namespace_is_refused() {
    let (staging, host) = (Staging::new().unwrap(), Namespace::host().unwrap());
    let error = create(&staging, &host, &addressing(7)).unwrap_err();
    assert!(matches!(error, AttachError::Host) && error.to_string().contains("--network host"), "{error}");
    assert!(matches!(recover(&staging, &host, &addressing(7)), Err(AttachError::Host)));
}

#[test]
fn a_clash_is_named_and_nothing_is_changed() {
    let (staging, [ns, _other]) = (Staging::new().unwrap(), neighbours());
    ip(&ns, "route add default via 192.0.2.2");
    ip(&ns, "route add 0.0.0.0/1 via 192.0.2.2");
    ip(&ns, "route add 100.96.0.0/12 via 192.0.2.2");
    ip(&ns, "route add 100.64.0.0/10 via 192.0.2.2 table 52");
    ip(&ns, "route add 100.0.0.0/8 dev veth");
    assert_eq!(clash_in(&ns, addressing(7).range).unwrap(), None, "less specific routes and neighbours are no clash");
    for (make, unmake, what) in [
        (
            "addr add 100.113.0.5/16 dev veth",
            "addr delete 100.113.0.5/16 dev veth",
            "100.113.0.5/16 is an address of veth",
        ),
        (
            "route add 100.112.0.0/12 via 192.0.2.2 table 52",
            "route delete 100.112.0.0/12 table 52",
            "100.112.0.0/12 is routed via 192.0.2.2 to veth (table 52)",
        ),
        (
            "route add blackhole 100.112.3.0/24",
            "route delete blackhole 100.112.3.0/24",
            "100.112.3.0/24 is routed nowhere",
        ),
    ] {
        ip(&ns, make);
        let before = picture(&ns);
        let error = create(&staging, &ns, &addressing(7)).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(picture(&ns), before);
        ip(&ns, unmake);
    }
    let _queue = create(&staging, &ns, &addressing(7)).unwrap();
    assert_eq!(clash_in(&ns, addressing(7).range).unwrap(), None, "mesh0 itself is no clash");
}

#[test]
fn what_fails_half_way_leaves_nothing() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    let before = picture(&ns);
    // More rules than are read.
    (1..=70).for_each(|n| drop(ip(&ns, &format!("rule add pref 0 from 192.0.2.{n} lookup 7"))));
    let crowded = picture(&ns);
    let error = create(&staging, &ns, &addressing(7)).unwrap_err();
    assert!(matches!(error, AttachError::Step { .. }), "{error}");
    assert_eq!(picture(&ns), crowded);
    (1..=70).for_each(|n| drop(ip(&ns, &format!("rule delete pref 0 from 192.0.2.{n} lookup 7"))));
    assert_eq!(picture(&ns), before);
    assert_eq!(within_staging(&staging), "lo", "a device is left in staging");
}

#[test]
fn what_no_coordinator_gives_is_not_set_up() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    let before = picture(&ns);
    for broken in [
        Addressing { mtu: 575, ..addressing(7) },
        Addressing { instance: Ipv4Addr::BROADCAST, ..addressing(7) },
        Addressing { service: [192, 0, 2, 1].into(), ..addressing(7) },
        Addressing { service: addressing(7).range.first(), ..addressing(7) },
    ] {
        let error = create(&staging, &ns, &broken).unwrap_err();
        assert!(matches!(error, AttachError::Mtu(_) | AttachError::Address { .. }), "{error}");
        assert_eq!(picture(&ns), before);
    }
    let _queue = create(&staging, &ns, &addressing(7)).unwrap();
    let before = picture(&ns);
    readdress(&ns, &Addressing { mtu: 0, ..addressing(7) }).unwrap_err();
    assert_eq!(picture(&ns), before);
}

fn within_staging(staging: &Staging) -> String {
    let ns = Namespace::from_fd(staging.as_fd().try_clone_to_owned().unwrap()).unwrap();
    ip(&ns, "-br link").split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn an_ended_agents_mesh0_is_taken_over_as_it_was() {
    let ns = namespace();
    let first = create(&Staging::new().unwrap(), &ns, &addressing(7)).unwrap();
    let before = picture(&ns);
    drop(first);
    abandoned(&ns);
    assert!(ip(&ns, "-4 route").contains("dev mesh0"), "mesh0 went with its agent");

    // By the function for it, and by a plain attach.
    for attempt in [recover, create] {
        let queue = attempt(&Staging::new().unwrap(), &ns, &addressing(7)).unwrap();
        assert_eq!(picture(&ns), before);
        within(&ns, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "100.127.9.9:9")).unwrap();
        assert!(first_packet(&queue).is_some());
        drop(queue);
        abandoned(&ns);
    }
    ip(&ns, "link delete mesh0");
    let queue = recover(&Staging::new().unwrap(), &ns, &addressing(7)).unwrap();
    assert!(ip(&ns, "-br addr show mesh0").contains("100.112.1.7/32"), "made anew where there was none");
    drop(queue);
    abandoned(&ns);

    let _queue = recover(&Staging::new().unwrap(), &ns, &elsewhere()).unwrap();
    assert!(!picture(&ns).contains("100.112"), "the mesh got another range meanwhile");
}

#[test]
fn a_mesh0_of_another_make_is_replaced() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    ip(&ns, &format!("tuntap add dev mesh0 mode tun user {} multi_queue", owner()));
    let _queue = recover(&staging, &ns, &addressing(7)).unwrap();
    assert!(!ip(&ns, "-d -o link show mesh0").contains("multi_queue"));
}

#[test]
fn other_addresses_take_the_place_of_the_old_ones() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    assert!(readdress(&ns, &addressing(7)).is_err(), "there is nothing to readdress");
    let before = picture(&ns);
    let _queue = create(&staging, &ns, &addressing(7)).unwrap();
    let other = elsewhere();
    readdress(&ns, &other).unwrap();
    let changed = picture(&ns);
    assert!(!changed.contains("100.112"), "{changed}");
    for part in [
        "10.9.0.0/16 dev mesh0 proto 109 scope link src 10.9.1.8",
        "unreachable 10.9.0.0/16",
        "0:\tfrom all to 10.9.0.0/16 blackhole",
        "mtu 1280",
    ] {
        assert!(changed.contains(part), "`{part}` is not in: {changed}");
    }
    readdress(&ns, &other).unwrap();
    assert_eq!(picture(&ns), changed, "a second time changes nothing");
    remove(&ns).unwrap();
    assert_eq!(picture(&ns), before);
}

#[test]
fn a_namespace_is_known_by_its_identity() {
    let (a, b) = (namespace(), namespace());
    assert_ne!(a.id(), b.id());
    let again = Namespace::from_fd(a.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(a.id(), again.id());
    assert_eq!(Namespace::of_pid(std::process::id()).unwrap().id(), Namespace::host().unwrap().id());
    assert!(!a.is_host());

    assert!(Namespace::find(a.id()).is_none(), "no process is in it");
    let mut sleeper = within(&a, || std::process::Command::new("sleep").arg("60").spawn()).unwrap();
    let found = Namespace::find(a.id());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(found.expect("a process is in it").id(), a.id());

    for (other, what) in [("/proc/self/ns/mnt", "not a network namespace"), ("/none", "can't open")] {
        let error = Namespace::open(std::path::Path::new(other)).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}
