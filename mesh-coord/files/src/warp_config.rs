//! `warp.config.js`: services declared one by one, as on ScaleDynamics' platform. The file is parsed as JavaScript
//! and never run, so what it exports must be written out.

use mesh_model::declare::{Declaration, Declared};
use mesh_proto::{
    Label, ServiceName,
    names::{check_host_name, check_variable},
    view::Ist,
};

use super::{FileError, Parsed, Source, nearest, port, shown};

mod bounds;
mod literal;

use literal::{Node, Property, Value};

/// The largest file, in bytes. The parser's stack grows with it.
pub(super) const MAX: usize = 1 << 16;

/// The end of messages about values that only running the script would reveal.
const RUNS: &str = "would need JavaScript to run, and this file is only read: write the value itself";

/// An error at a byte offset.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    at: usize,
    message: String,
}

type Result<T> = std::result::Result<T, Fault>;

fn fault<T>(at: usize, message: impl Into<String>) -> Result<T> {
    Err(Fault { at, message: message.into() })
}

/// Parses a `warp.config.js`. `deployment` is the value of `--deployment`.
pub(super) fn parse(source: &Source<'_>, deployment: Option<&Label>) -> std::result::Result<Parsed, FileError> {
    let Some(deployment) = deployment else {
        return Err(source.error(None, "doesn't name its deployment: give it with --deployment NAME"));
    };
    let mut reader = Reader {
        source,
        deployment,
        parsed: Parsed { expectations: Vec::new(), declarations: Vec::new(), warnings: Vec::new() },
    };
    match literal::exports(source.text).and_then(|exports| reader.exports(exports)) {
        Ok(()) => Ok(reader.parsed),
        Err(Fault { at, message }) => Err(source.error(Some(at), message)),
    }
}

struct Reader<'a> {
    source: &'a Source<'a>,
    deployment: &'a Label,
    parsed: Parsed,
}

impl Reader<'_> {
    fn exports(&mut self, exports: Node) -> Result<()> {
        let at = exports.at;
        match exports.value {
            Value::Object(properties) => self.container(at, properties),
            Value::List(nodes) if nodes.is_empty() => fault(at, "`module.exports` is empty: it declares no service"),
            Value::List(nodes) => nodes.into_iter().try_for_each(|node| match node.value {
                Value::Object(properties) => self.container(node.at, properties),
                other => fault(node.at, format!("`module.exports` holds {}: expected objects", other.kind())),
            }),
            other => {
                fault(at, format!("`module.exports` is {}: expected an object, or an array of them", other.kind()))
            }
        }
    }

    /// An object declares a service.
    fn container(&mut self, at: usize, properties: Vec<Property>) -> Result<()> {
        let mut name: Option<ServiceName> = None;
        let mut service = Declared::default();
        for Property { at, key, node } in properties {
            match &*key {
                "container" | "docker" if name.is_some() => {
                    return fault(at, "both `container` and `docker` are given: they mean the same, keep one");
                }
                "container" | "docker" => {
                    let node_at = node.at;
                    let parsed = text(&key, node)?.parse();
                    name = Some(parsed.or_else(|error| fault(node_at, format!("`{key}`: {error}")))?);
                }
                "ist" => service.ist = list("ist", node)?.into_iter().map(ist).collect::<Result<_>>()?,
                "deployment" => service.public_port = self.deployment(node)?,
                _ => self.pass_over(at, &key),
            }
        }
        let Some(name) = name else {
            return fault(at, "this object names no service: give it `container` (or `docker`)");
        };
        let declares = |d: &Declaration| matches!(d, Declaration::Single { name: other, .. } if *other == name);
        if self.parsed.declarations.iter().any(declares) {
            return fault(at, format!("the service {} is declared twice", shown(&name)));
        }
        self.parsed.declarations.push(Declaration::Single { deployment: self.deployment.clone(), name, service });
        Ok(())
    }

    /// The port at which the platform's ingress finds the service.
    fn deployment(&mut self, node: Node) -> Result<Option<u16>> {
        let Value::Object(properties) = node.value else {
            return fault(node.at, format!("`deployment` is {}: expected an object", node.value.kind()));
        };
        let mut found = None;
        for Property { at, key, node } in properties {
            match (&*key, node.value) {
                ("port", Value::Number(number)) => {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "the cast saturates, and what it changed is told"
                    )]
                    let whole = number as i64;
                    #[expect(clippy::cast_precision_loss, reason = "ports are small")]
                    let exact = (whole as f64).to_bits() == number.to_bits();
                    found = port(whole).filter(|_| exact);
                    if found.is_none() {
                        return fault(node.at, format!("`deployment.port` is {number}: expected a port, 1 to 65535"));
                    }
                }
                ("port", other) => {
                    return fault(
                        node.at,
                        format!("`deployment.port` is {}: expected a port, 1 to 65535", other.kind()),
                    );
                }
                _ => self.pass_over(at, &format!("deployment.{key}")),
            }
        }
        Ok(found)
    }

    fn pass_over(&mut self, at: usize, key: &str) {
        self.parsed.warnings.push(format!("{}: {} means nothing to mesh", self.source.place(Some(at)), shown(key)));
    }
}

const IST_KEYS: [&str; 3] = ["service", "variables", "hostnames"];

fn ist(node: Node) -> Result<Ist> {
    let at = node.at;
    let Value::Object(properties) = node.value else {
        return fault(at, format!("`ist` holds {}: expected objects", node.value.kind()));
    };
    let mut service = None;
    let (mut variables, mut hostnames) = (Vec::new(), Vec::new());
    for Property { at, key, node } in properties {
        match &*key {
            "service" => {
                let node_at = node.at;
                let parsed = text("service", node)?.parse::<ServiceName>();
                service = Some(parsed.or_else(|error| fault(node_at, format!("`service`: {error}")))?);
            }
            "variables" => variables = list("variables", node)?.into_iter().map(variable).collect::<Result<_>>()?,
            "hostnames" => hostnames = list("hostnames", node)?.into_iter().map(hostname).collect::<Result<_>>()?,
            // Ignoring it could lose a name that was meant.
            other => {
                let near = nearest(other, IST_KEYS);
                return fault(
                    at,
                    format!("an entry of `ist` has no key {}: the nearest one is `{near}`", shown(other)),
                );
            }
        }
    }
    match service {
        Some(service) => Ok(Ist { service, variables, hostnames }),
        None => fault(at, "an entry of `ist` has no `service`: say which one it leads to"),
    }
}

fn variable(node: Node) -> Result<String> {
    let at = node.at;
    let name = text("variables", node)?;
    match check_variable(&name) {
        Ok(()) => Ok(name),
        Err(why) => fault(at, format!("`variables`: {} {why}", shown(&name))),
    }
}

fn hostname(node: Node) -> Result<String> {
    let at = node.at;
    let name = text("hostnames", node)?;
    match check_host_name(&name) {
        Ok(()) => Ok(name),
        Err(why) => fault(at, format!("`hostnames`: {} {why}", shown(&name))),
    }
}

fn text(key: &str, node: Node) -> Result<String> {
    match node.value {
        Value::Text(text) => Ok(text),
        other => fault(node.at, format!("`{key}` is {}: expected a string", other.kind())),
    }
}

fn list(key: &str, node: Node) -> Result<Vec<Node>> {
    match node.value {
        Value::List(nodes) => Ok(nodes),
        other => fault(node.at, format!("`{key}` is {}: expected an array", other.kind())),
    }
}

#[cfg(test)]
mod tests;
