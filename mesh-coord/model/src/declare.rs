//! Declarations: the contents of deployment files, parsed, with the form of every text checked. The crate
//! `mesh-files` makes them; `deploy` decides on them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use mesh_proto::{Label, Ports, ServiceName, ServicePath, view::Ist};
use serde::{Deserialize, Serialize};

/// What a file expects of the rules: a policy test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Expect {
    /// The service that opens connections.
    pub from: ServicePath,
    /// The service that accepts them.
    pub to: ServicePath,
    /// The port.
    pub port: u16,
    /// Whether it may.
    pub allow: bool,
    /// Where this is written: `FILE:LINE`.
    pub place: String,
}

/// With its place.
impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, port, allow, place } = self;
        let may = if *allow { "may" } else { "may not" };
        write!(f, "{place}: {from} {may} connect to port {port} of {to}")
    }
}

/// A pattern over service names: `*` matches any characters, or none; other characters match themselves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pattern(String);

/// A pattern that can match no service name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` can match no service: it is empty, too long, or holds `/` or a control character")]
pub struct PatternError(String);

impl Pattern {
    /// Whether it matches the whole of `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        crate::work::step();
        let Some((head, tail)) = self.0.split_once('*') else { return self.0 == name };
        let Some(mut rest) = name.strip_prefix(head) else { return false };
        let mut pieces: Vec<&str> = tail.split('*').collect();
        let last = pieces.pop().unwrap_or_default();
        for piece in pieces {
            // The leftmost match leaves the most room for the rest.
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }

    /// Whether it may match more than one name.
    pub(crate) fn is_wild(&self) -> bool {
        self.0.contains('*')
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.parse::<ServiceName>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(PatternError(text.chars().take(80).collect::<String>().escape_debug().to_string())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

/// A trusted caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = DeclaredTrust))]
pub struct Trust {
    /// The calling deployment, which need not exist yet.
    pub caller: Label,
    /// The services that it may call; `None`: those of the callee's `expose`.
    pub services: Option<Vec<Pattern>>,
    /// The ports.
    pub ports: Ports,
}

/// A declared service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Declared {
    /// More host names within the deployment.
    pub aliases: Vec<String>,
    /// The value of `PORT` in its instances.
    pub port: Option<u16>,
    /// For the platform's ingress; only recorded.
    pub public_port: Option<u16>,
    /// `names = "manual"`: it has no names but those of `ist` and `aliases`.
    pub manual_names: bool,
    /// Names that its instances see.
    pub ist: Vec<Ist>,
}

impl Declared {
    /// How many bytes its names have.
    pub(crate) fn bytes(&self) -> usize {
        let ist = |ist: &Ist| {
            let names = ist.variables.iter().chain(&ist.hostnames);
            ist.service.len() + names.map(String::len).sum::<usize>()
        };
        self.aliases.iter().map(String::len).sum::<usize>() + self.ist.iter().map(ist).sum::<usize>()
    }
}

/// How many bytes the patterns have.
pub(crate) fn bytes_of(patterns: Option<&Vec<Pattern>>) -> usize {
    patterns.into_iter().flatten().map(|pattern| pattern.0.len()).sum()
}

/// A deployment file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct File {
    /// Its name as the operator gave it, for messages.
    pub name: String,
    /// Its contents.
    pub declaration: Declaration,
}

/// The contents of one deployment file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Declaration {
    /// A `mesh.toml`: the whole deployment.
    Whole(Deployment),
    /// A `warp.config.js`: one service. The others stay as they are.
    Single {
        /// The deployment, which is created if it doesn't exist.
        deployment: Label,
        /// The name of the service.
        name: ServiceName,
        /// The service. Its `ist` may name services that are not declared yet.
        service: Declared,
    },
}

/// A whole deployment as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = DeclaredDeployment))]
pub struct Deployment {
    /// Its name.
    pub name: Label,
    /// Its team; `None`: unchanged, or `default` if it is new.
    pub team: Option<Label>,
    /// What a trust without services opens; `None`: all services.
    pub expose: Option<Vec<Pattern>>,
    /// Its trust list; `None`: the `trust` command sets it.
    pub trust: Option<Vec<Trust>>,
    /// Its services.
    pub services: BTreeMap<ServiceName, Declared>,
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Pattern {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let about = "A pattern over service names: `*` matches any characters, or none";
        mesh_proto::schema::text(about, r"^[^/\u0000-\u001f\u007f-\u009f]{1,255}$", "*-tcp")
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("*-tcp", "grpc-tcp", true),
            ("*-tcp", "-tcp", true),
            ("*-tcp", "grpc-tcp2", false),
            ("*", "anything at all", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXc", false),
            ("ab*ba", "aba", false),
            ("我*", "我的数据", true),
            ("web", "web", true),
            ("web", "webs", false),
            ("**", "x", true),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(name), expected, "{pattern} on {name}");
        }
        assert!("".parse::<Pattern>().is_err() && "a/b".parse::<Pattern>().is_err());
    }
}
