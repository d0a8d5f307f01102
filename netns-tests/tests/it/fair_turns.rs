//! The data plane's turn is shared by cost: super-packets of the smallest segments don't delay others.

use mesh_netns_tests::{
    Rogue, Stack, World, isolated,
    traffic::{Answer, exchange},
};

use crate::common::{SHOP, declare, reaches};

const BYTES: u64 = 4 << 20;

#[test]
fn a_flood_of_the_smallest_segments_keeps_no_other_from_connecting_and_transferring() {
    const EVIL: &str = "deployment = \"evil\"\nteam = \"mallory\"\n[services.a]\n[services.b]\n";
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, EVIL]);
        let [here, there] = ["here", "there"].map(|name| world.runner(&coordinator, name, Stack::Dual));
        let (app, near, far) = (here.attach("shop/app"), here.attach("shop/db"), there.attach("shop/app"));
        let (a, b) = (here.attach("evil/a"), there.attach("evil/b"));
        let callees = [&near, &far];
        let _echoes = callees.map(|callee| callee.serve(9002, Answer::Echo));
        let _bulks = callees.map(|callee| callee.serve(9001, Answer::Exchange(BYTES)));
        let rogue = Rogue::new(&a);
        let target = (b.service_address, 9);
        let before = here.drops("tiny-segments");
        let flood = || {
            rogue.crumble(target, 60_000, 8, 100);
            rogue.wait_read(&here);
        };
        std::thread::scope(|scope| {
            let transfers = scope.spawn(|| {
                for callee in callees {
                    reaches(&app, callee.address, 9002);
                    let mut stream = app.connect(callee.address, 9001).expect("a connection");
                    exchange(&mut stream, BYTES).expect("every byte, both ways");
                }
            });
            flood();
            while !transfers.is_finished() {
                flood();
            }
        });
        assert!(here.drops("tiny-segments") >= before + 100, "each of them is dropped, and counted");
        assert_eq!(there.drops("no-connection"), 0, "none of them has been sent");
    });
}
