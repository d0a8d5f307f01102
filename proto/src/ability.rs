//! What an agent can do that older ones can't. An agent gets nothing new from others unless it has said that it can.

use serde::{Deserialize, Serialize};

/// Something that an agent can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// It answers pings inside of the tunnel, and sends them: `paths-1`.
    Paths = 1,
    /// It takes [`crate::message::Down::Relays`], and can be reached by a relay: `relays-1`.
    Relays = 2,
    /// It takes [`crate::message::Down::Telemetry`], and then reports what passes: `telemetry-1`. Only between an agent
    /// and its coordinator.
    Telemetry = 4,
    /// It takes [`crate::message::Down::Coordinators`]: `coordinators-1`. Only between an agent and its coordinator.
    Coordinators = 8,
    /// It takes [`crate::message::Down::Probe`]: `probes-1`. Only between an agent and its coordinator.
    Probes = 16,
    /// It has several sessions with a runner, each of a lane, and tells them apart by the low bits of their indices:
    /// `lanes-1`. An agent with a single lane doesn't say so.
    Lanes = 32,
}

/// What an agent can do. On the wire it is a list of names, of which those that this version doesn't know are left out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<&'static str>", from = "Vec<String>")]
pub struct Abilities(u8);

impl Ability {
    const ALL: [Self; 6] = [Self::Paths, Self::Relays, Self::Telemetry, Self::Coordinators, Self::Probes, Self::Lanes];

    const fn name(self) -> &'static str {
        match self {
            Self::Paths => "paths-1",
            Self::Relays => "relays-1",
            Self::Telemetry => "telemetry-1",
            Self::Coordinators => "coordinators-1",
            Self::Probes => "probes-1",
            Self::Lanes => "lanes-1",
        }
    }
}

impl Abilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// All that matters to other runners.
    pub const ALL: Self = Self::NONE.with(Ability::Paths).with(Ability::Relays).with(Ability::Lanes);

    /// What the agent of this version says of itself, unless the operator has switched relays off, or it has one lane.
    pub const AGENT: Self = Self::ALL.with(Ability::Telemetry).with(Ability::Coordinators).with(Ability::Probes);

    /// These and one more.
    #[must_use]
    pub const fn with(self, ability: Ability) -> Self {
        Self(self.0 | ability as u8)
    }

    /// These without that one.
    #[must_use]
    pub const fn without(self, ability: Ability) -> Self {
        Self(self.0 & !(ability as u8))
    }

    /// Those of them that matter to other runners.
    #[must_use]
    pub const fn shown(self) -> Self {
        Self(self.0 & Self::ALL.0)
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, ability: Ability) -> bool {
        self.0 & ability as u8 != 0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl From<Abilities> for Vec<&'static str> {
    fn from(abilities: Abilities) -> Self {
        Ability::ALL.into_iter().filter(|one| abilities.has(*one)).map(Ability::name).collect()
    }
}

impl From<Vec<String>> for Abilities {
    fn from(names: Vec<String>) -> Self {
        let known = Ability::ALL.into_iter().filter(|one| names.iter().any(|name| name == one.name()));
        Self(known.fold(0, |all, one| all | one as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_frozen_and_unknown_ones_are_left_out() {
        assert_eq!(serde_json::to_string(&Abilities::ALL).unwrap(), r#"["paths-1","relays-1","lanes-1"]"#);
        let agent = serde_json::to_string(&Abilities::AGENT).unwrap();
        assert_eq!(agent, r#"["paths-1","relays-1","telemetry-1","coordinators-1","probes-1","lanes-1"]"#);
        let paths = Abilities::NONE.with(Ability::Paths);
        assert_eq!(serde_json::to_string(&paths).unwrap(), r#"["paths-1"]"#);
        assert_eq!(serde_json::to_string(&Abilities::NONE).unwrap(), "[]");
        let read = |text| serde_json::from_str::<Abilities>(text).unwrap();
        assert_eq!(read(r#"["moon-1","paths-1","paths-2"]"#), paths);
        assert_eq!(read(r#"["paths-1","relays-1"]"#), Abilities::ALL.without(Ability::Lanes));
        assert_eq!(read(r#"["moon-1"]"#), Abilities::NONE);
        assert!(Abilities::ALL.has(Ability::Paths) && !Abilities::NONE.has(Ability::Paths));
        assert!(Abilities::ALL.has(Ability::Relays) && !paths.has(Ability::Relays));
        assert_eq!(Abilities::AGENT.shown(), Abilities::ALL);
    }
}
