//! Whether two runners reach each other, whatever is between them, simulated: their real engines, NATs and firewalls as
//! state machines, relays, a coordinator, and transfers by a small TCP. Time is virtual and randomness comes from a seed.
//!
//! Three promises are checked. *Reach*: two runners with a living common relay always reach each other, from the first SYN
//! on. *Kind*: what is between them decides whether they come to a direct path. *Calm*: no transfer stands still for longer
//! than it takes to notice that a path is dead, and paths change seldom.

use std::time::Duration;

use crate::{Failure, failure};

mod carry;
mod life;
mod old;
mod places;
mod plan;
mod scenes;
mod transfers;
mod world;

pub use self::plan::{Between, Hairpin};
pub use crate::nat::Kind;
use world::World;

/// A mistake to be planted, for the tests of the simulation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The runners don't tell that they can use relays.
    Untold,
    /// Agents tell their reflexive addresses as those of interfaces only, to which handshakes go before the meeting.
    ReflexiveAsEndpoint,
    /// An agent doesn't care that a relay no longer has its allocation.
    RelayDeathUnnoticed,
    /// Long pings pass where data of that length doesn't.
    LongPingsPass,
    /// An agent goes to the first relay of another runner only, as they did once.
    FirstRelayOnly,
    /// The coordinator tells of an agent of 0.1 that it can do whatever others can.
    Overstated,
}

/// What happens after two runners have reached each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Nothing: they stay as they are.
    Nothing,
    /// They talk for twelve minutes, and then not at all.
    Long,
    /// The direct path dies under load, and comes back.
    DirectDies,
    /// A third of what one sends directly is lost for ten minutes.
    Lossy,
    /// One of two relays dies.
    RelayDies,
    /// The only relay dies, and comes back.
    RelayReturns,
    /// All boxes forget what they know.
    Flushed,
    /// Random things happen one after another.
    Life,
    /// Each is at two relays at which the other one isn't, and reaches only some of the other one's.
    NoneShared,
    /// One of them has an agent of 0.1, which knows neither pings nor relays, while random things happen.
    Old,
}

/// Two runners with this between them meet, and something happens. Fails unless everything is as it should be.
///
/// # Errors
/// The first thing that was not as it should be.
pub fn run(between: Between, scene: Scene, seed: u64, bug: Option<Bug>) -> Result<(), Failure> {
    let relays = match scene {
        Scene::RelayReturns => 1,
        Scene::RelayDies | Scene::Life => 2,
        Scene::NoneShared => 4,
        _ => 1 + seed as usize % 2,
    };
    let life = || {
        let mut world = World::new(between, relays, seed, scene, bug);
        match scene {
            Scene::Old => return world.beside_old(),
            Scene::NoneShared => return world.none_shared(between),
            _ => {}
        }
        world.meet()?;
        match scene {
            Scene::Nothing => world.stay(between, Duration::from_secs(20)),
            Scene::Long => world.stay_long(between),
            Scene::DirectDies => world.direct_dies(between),
            Scene::Lossy => world.lossy(between),
            Scene::RelayDies => world.relay_dies(between),
            Scene::RelayReturns => world.relay_returns(between),
            Scene::Flushed => world.flushed(between),
            Scene::Life | Scene::Old | Scene::NoneShared => world.life(),
        }
    };
    failure::watched(life, |()| vec![])
}
