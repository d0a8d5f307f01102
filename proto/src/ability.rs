//! What an agent can do that older ones can't. An agent gets nothing new from others unless it has said that it can.

use serde::{Deserialize, Serialize};

/// Something that an agent can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// It answers pings inside of the tunnel, and sends them: `paths-1`.
    Paths = 1,
}

/// What an agent can do. On the wire it is a list of names, of which those that this version doesn't know are left out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<&'static str>", from = "Vec<String>")]
pub struct Abilities(u8);

impl Ability {
    const ALL: [Self; 1] = [Self::Paths];

    const fn name(self) -> &'static str {
        match self {
            Self::Paths => "paths-1",
        }
    }
}

impl Abilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// All that an agent of this version has.
    pub const ALL: Self = Self(Ability::Paths as u8);

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
        assert_eq!(serde_json::to_string(&Abilities::ALL).unwrap(), r#"["paths-1"]"#);
        assert_eq!(serde_json::to_string(&Abilities::NONE).unwrap(), "[]");
        let read = |text| serde_json::from_str::<Abilities>(text).unwrap();
        assert_eq!(read(r#"["moon-1","paths-1","paths-2"]"#), Abilities::ALL);
        assert_eq!(read(r#"["moon-1"]"#), Abilities::NONE);
        assert!(Abilities::ALL.has(Ability::Paths) && !Abilities::NONE.has(Ability::Paths));
    }
}
