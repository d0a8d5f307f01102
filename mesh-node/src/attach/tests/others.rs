//! Other interfaces, neighbours and programs.

use super::*;

#[test]
fn nothing_for_the_range_leaves_by_another_interface() {
    let (staging, [ns, gateway]) = (Staging::new().unwrap(), neighbours());
    ip(&ns, "route add default via 192.0.2.2");
    ip(&gateway, "addr add 100.112.9.9/32 dev lo");
    assert_eq!(connect(&ns, "100.112.9.9"), ErrorKind::ConnectionRefused, "the default route leads there beforehand");

    let queue = create(&staging, &ns, &addressing(7)).unwrap();
    ip(&ns, "link set mesh0 down");
    assert_eq!(connect(&ns, "100.112.9.9"), ErrorKind::HostUnreachable, "with mesh0 down");
    drop(queue);
    ip(&ns, "link delete mesh0");
    assert_eq!(connect(&ns, "100.112.9.9"), ErrorKind::HostUnreachable, "without mesh0");
    remove(&ns).unwrap();
    assert_eq!(connect(&ns, "100.112.9.9"), ErrorKind::ConnectionRefused);
}

#[test]
fn nothing_for_the_range_comes_in_by_another_interface() {
    let (staging, [ns, neighbour]) = (Staging::new().unwrap(), neighbours());
    for range in ["100.112.1.7", "100.112.0.1"] {
        ip(&neighbour, &format!("route add {range} via 192.0.2.1"));
    }
    let socket = within(&ns, || UdpSocket::bind("0.0.0.0:9")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let arrives_first = || {
        let sender = within(&neighbour, || UdpSocket::bind("0.0.0.0:0")).unwrap();
        for (to, what) in [("100.112.1.7:9", b"i"), ("100.112.0.1:9", b"s"), ("192.0.2.1:9", b"n")] {
            sender.send_to(what, to).unwrap();
        }
        let mut what = [0];
        // With a timeout set, signal(7) promises no restart, and other tests of this process handle signals.
        while socket.recv_from(&mut what).is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
        what
    };
    let _queue = create(&staging, &ns, &addressing(7)).unwrap();
    assert_eq!(&arrives_first(), b"n", "the neighbour got in past the mesh");
    // The purpose of the rules: without them Linux accepts it.
    ip(&ns, "rule delete pref 0 blackhole");
    assert_eq!(&arrives_first(), b"i");
}

#[test]
fn a_neighbour_gets_no_arp_answer_for_the_address() {
    let (staging, [ns, neighbour]) = (Staging::new().unwrap(), neighbours());
    let _queue = create(&staging, &ns, &addressing(7)).unwrap();
    ip(&neighbour, "route add 100.112.0.0/12 dev veth");
    // Three ARP requests are sent.
    within(&neighbour, || fs::write("/proc/sys/net/ipv4/neigh/veth/retrans_time_ms", "50")).unwrap();
    assert_eq!(connect(&neighbour, "100.112.1.7"), ErrorKind::HostUnreachable, "ARP was answered");
}

#[test]
fn a_mesh0_of_another_program_is_left_alone() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    for (make, what) in [
        ("link add mesh0 type veth peer name other", "of kind `veth`"),
        ("tuntap add dev mesh0 mode tun user 1234", "a TUN device of user 1234"),
        ("tuntap add dev mesh0 mode tun", "a TUN device without owner"),
    ] {
        if what.ends_with("1234") && !all_users() {
            continue; // there is no such user
        }
        ip(&ns, make);
        let before = picture(&ns);
        for attempt in [create, recover] {
            let error = attempt(&staging, &ns, &addressing(7)).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        remove(&ns).unwrap();
        assert_eq!(picture(&ns), before);
        ip(&ns, "link delete mesh0");
    }
}

#[test]
fn a_served_mesh0_is_not_taken_from_its_agent() {
    let (staging, ns) = (Staging::new().unwrap(), namespace());
    let _queue = create(&staging, &ns, &addressing(7)).unwrap();
    let before = picture(&ns);
    for attempt in [create, recover] {
        assert!(matches!(attempt(&staging, &ns, &addressing(7)), Err(AttachError::Served)));
    }
    assert_eq!(picture(&ns), before);
}
