use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const TOP: u16 = 1344;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The longest length that a path which carries packets of `most` bytes can have as its cut.
fn expected(top: u16, most: u16) -> u16 {
    longer(top, 0).find(|len| *len <= most).expect("the least fits")
}

/// A path, and the pings and pongs on it.
struct World {
    reach: Reach,
    top: u16,
    now: Instant,
    start: Instant,
    /// The longest packet that it carries.
    most: u16,
    /// How long a ping and its pong take together.
    rtt: Duration,
    /// When which pong arrives.
    pongs: VecDeque<(Instant, Pong)>,
    /// When pings were sent, and of which length.
    sent: Vec<(Duration, u16)>,
}

impl World {
    fn new(top: u16, most: u16, rtt: Duration) -> Self {
        let now = Instant::now();
        let pongs = VecDeque::new();
        Self { reach: Reach::default(), top, now, start: now, most, rtt, pongs, sent: vec![] }
    }

    fn send(&mut self, volley: Option<Volley>, lose: &mut impl FnMut() -> bool) {
        for Ping { path, serial, len } in volley.into_iter().flat_map(Volley::pings) {
            self.sent.push((self.now - self.start, len));
            if len <= self.most && !lose() {
                let pong = Pong { path, serial, len, seen: ([192, 0, 2, 1], 1).into() };
                self.pongs.push_back((self.now + self.rtt, pong));
            }
        }
    }

    /// Lets time pass. `lose` decides which pings are lost.
    fn run(&mut self, time: Duration, mut lose: impl FnMut() -> bool) {
        let end = self.now + time;
        loop {
            let due = self.reach.due().map(|at| at.max(self.now));
            let next = self.pongs.front().map(|(at, _)| *at).into_iter().chain(due).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = at;
            let volley = match self.pongs.front() {
                Some((arrives, pong)) if *arrives == at => {
                    let pong = *pong;
                    self.pongs.pop_front();
                    self.reach.pong(&pong, self.top, at)
                }
                _ => self.reach.poll(self.top, at),
            };
            self.send(volley, &mut lose);
        }
        self.now = end;
    }

    fn begin(&mut self) {
        let volley = self.reach.begin(self.now);
        self.send(volley, &mut || false);
    }

    /// An instance sends a long segment again.
    fn doubt(&mut self) {
        self.reach.doubt();
        let volley = self.reach.poll(self.top, self.now);
        self.send(volley, &mut || false);
    }

    fn lengths(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.sent).into_iter().map(|(_, len)| len).collect()
    }
}

#[test]
fn a_short_ping_comes_first_and_then_one_of_each_length() {
    let mut world = World::new(TOP, TOP, ms(20));
    assert_eq!((world.reach.cut(), world.reach.proven(), world.reach.due()), (None, None, None));
    world.begin();
    assert_eq!((world.reach.cut(), world.reach.proven()), (Some(START), None));
    assert!(world.reach.begin(world.now).is_none(), "once");
    assert_eq!(world.lengths(), [SHORT], "nothing long goes to a stranger");
    world.run(ms(20), || false);
    assert_eq!(world.lengths(), [1344, 1312, 1248, 1184, 1024, 576]);
    world.run(ms(20), || false);
    assert_eq!((world.reach.cut(), world.reach.proven()), (Some(TOP), Some(TOP)));
    world.run(AGAIN - ms(1), || false);
    assert_eq!(world.lengths(), [0; 0], "that is all for a minute");
    world.run(ms(1), || false);
    assert_eq!(world.lengths(), [TOP]);
}

#[test]
fn the_longest_that_comes_back_is_the_cut() {
    for (top, most, cut) in [
        (1344, 1344, 1344),
        (1344, 1343, 1312),
        (1344, 1220, 1184),
        (1344, 1064, 1024),
        (1344, 700, 576),
        (8920, 8920, 8920),
        (8920, 1440, 1408),
        (8920, 1420, 1408),
        (1200, 1190, 1184),
        (576, 576, 576),
    ] {
        let mut world = World::new(top, most, ms(1));
        world.begin();
        world.run(ms(3), || false);
        assert_eq!((world.reach.cut(), world.reach.proven()), (Some(cut), Some(cut)), "{top} {most}");
    }
}

#[test]
fn a_stranger_that_does_not_answer_gets_little() {
    let mut world = World::new(TOP, 0, ms(1));
    world.begin();
    world.run(Duration::from_secs(60), || false);
    let lengths = world.lengths();
    assert!(lengths.len() < 12 && lengths.iter().all(|len| *len == SHORT), "{lengths:?}");
    assert_eq!((world.reach.cut(), world.reach.proven()), (Some(START), None));
}

#[test]
fn a_path_that_shrinks_is_found_before_tcps_second_retransmission() {
    for rtt in [1, 30, 120] {
        let mut world = World::new(TOP, TOP, ms(rtt));
        world.begin();
        world.run(Duration::from_secs(5), || false);
        world.lengths();
        world.most = 1220;
        // TCP's first retransmission.
        world.run(ms(200 + rtt), || false);
        world.doubt();
        assert_eq!(world.lengths(), [TOP]);
        world.run(ms(200.max(2 * rtt) + rtt), || false);
        assert_eq!(world.reach.cut(), Some(1184), "{rtt} ms");
        world.run(Duration::from_secs(5), || false);
        let lengths = world.lengths();
        assert_eq!(
            lengths,
            [1344, 1312, 1248, 1184, 1024, 576, 1344, 1312, 1248, 1344, 1312, 1248],
            "tried twice more"
        );
        world.most = TOP;
        world.run(AGAIN, || false);
        assert_eq!(world.reach.cut(), Some(TOP), "longer ones are tried every minute");
    }
}

#[test]
fn a_lost_segment_makes_one_ping_and_a_lost_ping_no_shorter_cut() {
    let mut world = World::new(TOP, TOP, ms(20));
    world.begin();
    world.run(Duration::from_secs(5), || false);
    world.lengths();
    for _ in 0..50 {
        world.doubt();
        world.run(ms(10), || false);
    }
    let lengths = world.lengths();
    assert!(lengths.len() <= 4 && lengths.iter().all(|len| *len == TOP), "not more than one in 0.2 s: {lengths:?}");
    world.run(Duration::from_secs(1), || false);
    world.lengths();
    // The ping is lost, and then the longest of the volley.
    let mut pings = 0..;
    world.reach.doubt();
    world.run(ms(300), || pings.next() < Some(2));
    assert!(world.reach.cut() >= Some(1312));
    world.run(ms(500), || false);
    assert_eq!(world.reach.cut(), Some(TOP));
}

#[test]
fn an_outage_leaves_the_cut_and_is_asked_less_and_less() {
    let mut world = World::new(TOP, TOP, ms(20));
    world.begin();
    world.run(Duration::from_secs(5), || false);
    world.lengths();
    world.most = 0;
    world.doubt();
    world.run(Duration::from_secs(60), || false);
    assert_eq!(world.reach.cut(), Some(TOP));
    assert!(world.lengths().len() < 60);
    world.most = 1220;
    world.run(Duration::from_secs(15), || false);
    assert_eq!(world.reach.cut(), Some(1184));
}

#[test]
fn what_another_path_or_an_earlier_volley_has_carried_says_nothing() {
    let mut world = World::new(TOP, TOP, ms(20));
    world.begin();
    world.run(ms(20), || false);
    let (_, late) = world.pongs[0];
    world.reach = Reach { path: 1, serial: world.reach.serial, ..Reach::default() };
    assert!(world.reach.is_untried());
    world.pongs.clear();
    world.most = 1220;
    world.begin();
    assert!(world.reach.pong(&late, TOP, world.now).is_none(), "of another path");
    world.run(ms(40), || false);
    assert_eq!(world.reach.cut(), Some(1184));
    let mut forged = Pong { path: 1, ..late };
    assert!(world.reach.pong(&forged, TOP, world.now).is_none());
    assert_eq!(world.reach.cut(), Some(1184), "of an earlier volley");
    forged.len = u16::MAX;
    forged.serial = forged.serial.wrapping_add(20);
    world.reach.pong(&forged, TOP, world.now);
    assert_eq!(world.reach.cut(), Some(1184), "longer than any packet");
}

proptest! {
    /// Whatever was lost before: some seconds after the last change, without loss, the cut is right.
    #[test]
    fn the_cut_becomes_right(
        top in prop_oneof![Just(1344u16), Just(1408), Just(8920), 576..9000u16],
        changes in proptest::collection::vec((600..9000u16, 0..4000u64, 0..80u8), 1..6),
        rtt in 0..900u64,
        mut random in any::<u64>(),
    ) {
        let mut world = World::new(top, 9000, ms(rtt));
        world.begin();
        for (most, time, loss) in &changes {
            world.most = *most;
            world.reach.doubt();
            world.run(ms(*time), || {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % 100 < u64::from(*loss)
            });
        }
        // The segments that are sent again since the last change.
        let most = world.most;
        world.run(Duration::from_secs(60), || false);
        world.doubt();
        world.run(Duration::from_secs(200), || false);
        prop_assert_eq!(world.reach.cut(), Some(expected(top, most)));
    }
}
