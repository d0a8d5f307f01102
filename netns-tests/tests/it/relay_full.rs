//! Our relay with as many allocations as it takes: what they cost, and who keeps its own.

use std::{fs, net::SocketAddr, time::Duration};

use mesh_netns_tests::{Guest, Namespace, Pass, Relay, Stack, Turn, World, isolated};

use crate::relays::now;

/// What `mesh-coord relay` takes by default.
const ALLOCATIONS: u32 = 16_384;

/// The most that the relay may keep for each.
const BYTES: u64 = 2048;

/// A guest of its own network: the relay answers few of one network that have proved nothing.
fn guest(machine: &Namespace, relay: &Relay, number: u32) -> Guest {
    let pass = Pass::new(relay.secret(), &format!("{number:032x}"), now() + 3600);
    let own = [10, 128 + (number >> 8) as u8, number as u8, 1];
    Guest::by_udp(machine, (own, 0).into(), relay.plain(false), &pass)
}

/// The resident memory of a process, in bytes (proc(5), VmRSS).
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn our_relay_has_an_address_for_sixteen_thousand_runners_in_two_kibibytes_each() {
    isolated(|| {
        let world = World::new();
        let (relay, machine) = (world.relay("relay", Turn::Own), Namespace::create("machine"));
        world.plug(&machine, Stack::V4);
        world.route("10.128.0.0/9", &machine);
        machine.ip(&["route add local 10.128.0.0/9 dev lo"]);
        let allocate = |number| -> (Guest, SocketAddr) {
            let mut guest = guest(&machine, &relay, number);
            let at = guest.allocate().expect("an address at the relay");
            (guest, at)
        };
        let ((mut one, at), (mut other, to)) = (allocate(0), allocate(1));
        one.permit(to).expect("a permission");
        other.permit(at).expect("a permission");
        let before = memory(relay.pid());
        // An allocation stays when its client is silent.
        (2..ALLOCATIONS).for_each(|number| drop(allocate(number)));
        let each = (memory(relay.pid()) - before) / u64::from(ALLOCATIONS - 2);
        assert!(each <= BYTES, "{each} bytes an allocation");

        let mut late = guest(&machine, &relay, ALLOCATIONS);
        assert_eq!(late.allocate(), Err(508), "there are so many");
        assert_eq!((one.refresh(), other.refresh()), (Ok(()), Ok(())));
        one.send(to, b"hello");
        assert_eq!(other.receive(Duration::from_secs(5)), Some((at, b"hello".to_vec())));
        // One that comes back has its address again, and one that leaves makes room.
        assert_eq!(allocate(1).1, to);
        one.leave().expect("it may go");
        assert!(late.allocate().is_ok());
    });
}
