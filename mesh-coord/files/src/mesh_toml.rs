//! `mesh.toml`: a whole deployment. Unknown keys are errors.

use std::{
    borrow::{Borrow, Cow},
    collections::BTreeMap,
    fmt,
    str::FromStr,
};

use mesh_model::declare::{Declaration, Declared, Deployment, Expect, Pattern, Trust};
use mesh_proto::{
    Label, Ports, ServiceName,
    label::NameError,
    names::{check_host_name, check_variable},
    view::Ist,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{FileError, Parsed, Source, nearest, port, shown};

type Value<'i> = Spanned<DeValue<'i>>;
type Result<T> = std::result::Result<T, FileError>;

/// Parses a `mesh.toml`. `deployment` is the value of `--deployment`.
pub(super) fn parse(source: &Source<'_>, deployment: Option<&Label>) -> Result<Parsed> {
    let document = DeTable::parse(source.text).map_err(|error| {
        let message = error.message().trim().replace('\n', ", ");
        source.error(error.span().map(|span| span.start), format!("not TOML: {message}"))
    })?;
    let mut top = Table::new(source, "the file".to_owned(), 0, document.get_ref());
    let [name, team, expose, trusted, services, expected] =
        ["deployment", "team", "expose", "trust", "services", "expect"].map(|key| top.take(key));
    // Before missing keys, because a missing key may only be misspelt.
    top.done()?;
    let Some(name) = name else {
        return Err(source.error(None, "no `deployment`: begin with `deployment = \"NAME\"`"));
    };
    let name = parsed::<Label>(source, "deployment", name)?;
    if let Some(wanted) = deployment.filter(|wanted| **wanted != name) {
        let message = format!("declares the deployment `{name}`, but --deployment says `{wanted}`: leave it out");
        return Err(source.error(None, message));
    }
    let team = team.map(|value| parsed(source, "team", value)).transpose()?;
    let expose = expose.map(|value| list(source, "expose", value, parsed)).transpose()?;
    let trust = trusted.map(|value| list(source, "trust", value, trust)).transpose()?;
    let services = services.map(|value| self::services(source, value)).transpose()?.unwrap_or_default();
    let declaration = Declaration::Whole(Deployment { name, team, expose, trust, services });
    let expectations = expected.map(|value| list(source, "expect", value, expect)).transpose()?.unwrap_or_default();
    Ok(Parsed { declarations: vec![declaration], expectations, warnings: Vec::new() })
}

fn services(source: &Source<'_>, value: &Value<'_>) -> Result<BTreeMap<ServiceName, Declared>> {
    let table = as_table(source, "`services`", value)?;
    let mut services = BTreeMap::new();
    for (key, value) in in_order(table) {
        let at = key.span().start;
        let name: ServiceName =
            key.get_ref().parse().map_err(|error: NameError| source.error(Some(at), error.to_string()))?;
        services.insert(name, (at, value));
    }
    services
        .iter()
        .map(|(name, (at, value))| Ok((name.clone(), service(source, name, *at, value, &services)?)))
        .collect()
}

fn service<T>(
    source: &Source<'_>,
    name: &ServiceName,
    at: usize,
    value: &Value<'_>,
    all: &BTreeMap<ServiceName, T>,
) -> Result<Declared> {
    let whose = format!("the service {}", shown(name));
    let mut table = Table::new(source, whose.clone(), at, as_table(source, &whose, value)?);
    let declared = Declared {
        aliases: table.take("aliases").map(|v| list(source, "aliases", v, host_name)).transpose()?.unwrap_or_default(),
        port: table.take("port").map(|v| a_port(source, "port", v)).transpose()?,
        public_port: table.take("public_port").map(|v| a_port(source, "public_port", v)).transpose()?,
        manual_names: table.take("names").map(|v| manual(source, v)).transpose()?.is_some(),
        ist: table
            .take("ist")
            .map(|v| list(source, "ist", v, |source, _, v| ist(source, &whose, v, all)))
            .transpose()?
            .unwrap_or_default(),
    };
    table.done()?;
    Ok(declared)
}

fn manual(source: &Source<'_>, value: &Value<'_>) -> Result<()> {
    match text(source, "names", value)? {
        "manual" => Ok(()),
        other => {
            let message = format!("`names` is {}: it can be \"manual\", or be left out", shown(other));
            Err(source.error(Some(value.span().start), message))
        }
    }
}

fn ist<T>(source: &Source<'_>, whose: &str, value: &Value<'_>, all: &BTreeMap<ServiceName, T>) -> Result<Ist> {
    let at = value.span().start;
    let mut table = Table::new(source, format!("`ist` of {whose}"), at, as_table(source, "an entry of `ist`", value)?);
    let Some(target) = table.take("service") else {
        return Err(
            source.error(Some(at), format!("an entry in `ist` of {whose} has no `service`: say which one it leads to"))
        );
    };
    let service: ServiceName = parsed(source, "service", target)?;
    if !all.contains_key(&service) {
        let near = shown(nearest(&service, all.keys().map(Borrow::borrow)));
        let message = format!(
            "`ist` of {whose} leads to {}, which this file doesn't declare: the nearest is {near}",
            shown(&service)
        );
        return Err(source.error(Some(target.span().start), message));
    }
    let variables = table.take("variables").map(|v| list(source, "variables", v, variable)).transpose()?;
    let hostnames = table.take("hostnames").map(|v| list(source, "hostnames", v, host_name)).transpose()?;
    table.done()?;
    Ok(Ist { service, variables: variables.unwrap_or_default(), hostnames: hostnames.unwrap_or_default() })
}

fn trust(source: &Source<'_>, key: &str, value: &Value<'_>) -> Result<Trust> {
    if value.get_ref().is_str() {
        return Ok(Trust { caller: parsed(source, key, value)?, services: None, ports: Ports::All });
    }
    let at = value.span().start;
    let DeValue::Table(table) = value.get_ref() else {
        let message = format!(
            "an entry of `trust` is {}: write the name of a deployment, or `{{ deployment = \"NAME\", … }}`",
            article(value)
        );
        return Err(source.error(Some(at), message));
    };
    let mut table = Table::new(source, "an entry of `trust`".to_owned(), at, table);
    let Some(caller) = table.take("deployment") else {
        return Err(source.error(Some(at), "an entry of `trust` has no `deployment`: say whose services may call"));
    };
    let caller = parsed(source, "deployment", caller)?;
    // An empty list could mean all or none.
    let empty = |key: &str, value: &Value<'_>| {
        source.error(Some(value.span().start), format!("`{key}` is empty: leave it out to mean all of them"))
    };
    let mut services = None;
    if let Some(value) = table.take("services") {
        let patterns: Vec<Pattern> = list(source, "services", value, parsed)?;
        if patterns.is_empty() {
            return Err(empty("services", value));
        }
        services = Some(patterns);
    }
    let mut ports = Ports::All;
    if let Some(value) = table.take("ports") {
        let numbers = list(source, "ports", value, a_port)?;
        if numbers.is_empty() {
            return Err(empty("ports", value));
        }
        ports = Ports::Only(numbers.into_iter().collect());
    }
    table.done()?;
    Ok(Trust { caller, services, ports })
}

fn expect(source: &Source<'_>, _: &str, value: &Value<'_>) -> Result<Expect> {
    let at = value.span().start;
    let mut table = Table::new(source, "`expect`".to_owned(), at, as_table(source, "an entry of `expect`", value)?);
    let [from, to, port, allow] = ["from", "to", "port", "allow"].map(|key| table.take(key));
    table.done()?;
    let missing =
        |key: &str, what: &str| source.error(Some(at), format!("an entry of `expect` has no `{key}`: {what}"));
    let service = "write DEPLOYMENT/SERVICE";
    let allow = allow.ok_or_else(|| missing("allow", "say true or false"))?;
    Ok(Expect {
        from: parsed(source, "from", from.ok_or_else(|| missing("from", service))?)?,
        to: parsed(source, "to", to.ok_or_else(|| missing("to", service))?)?,
        port: a_port(source, "port", port.ok_or_else(|| missing("port", "say which one is called"))?)?,
        allow: allow.get_ref().as_bool().ok_or_else(|| mismatch(source, "allow", allow, "true or false"))?,
        place: source.place(Some(at)),
    })
}

/// A table whose keys are taken one by one. Keys that are left at the end are unknown.
struct Table<'a, 'i> {
    source: &'a Source<'a>,
    /// What the table is, for messages.
    what: String,
    at: usize,
    entries: &'a DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'a, 'i> Table<'a, 'i> {
    const fn new(source: &'a Source<'a>, what: String, at: usize, entries: &'a DeTable<'i>) -> Self {
        Self { source, what, at, entries, known: Vec::new() }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Value<'i>> {
        self.known.push(key);
        self.entries.get(key)
    }

    fn done(self) -> Result<()> {
        let unknown = in_order(self.entries).into_iter().find(|(key, _)| !self.known.contains(&&**key.get_ref()));
        let Some((key, _)) = unknown else { return Ok(()) };
        let near = nearest(key.get_ref(), self.known.iter().copied());
        // Keys of dotted headers may have no place in the file.
        let at = if key.span().is_empty() { self.at } else { key.span().start };
        let message = format!("{} has no key {}: the nearest one is `{near}`", self.what, shown(key.get_ref()));
        Err(self.source.error(Some(at), message))
    }
}

/// The entries in the order of the file, so that its first mistake is reported.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<Cow<'i, str>>, &'a Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn article(value: &Value<'_>) -> String {
    let kind = value.get_ref().type_str();
    let article = if kind.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {kind}")
}

fn mismatch(source: &Source<'_>, key: &str, value: &Value<'_>, expected: &str) -> FileError {
    source.error(Some(value.span().start), format!("`{key}` is {}: expected {expected}", article(value)))
}

fn as_table<'a, 'i>(source: &Source<'_>, key: &str, value: &'a Value<'i>) -> Result<&'a DeTable<'i>> {
    value.get_ref().as_table().ok_or_else(|| {
        let message = format!("{} is {}: expected a table", key, article(value));
        source.error(Some(value.span().start), message)
    })
}

fn list<T>(
    source: &Source<'_>,
    key: &str,
    value: &Value<'_>,
    item: impl Fn(&Source<'_>, &str, &Value<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let items = value.get_ref().as_array().ok_or_else(|| mismatch(source, key, value, "an array"))?;
    items.iter().map(|value| item(source, key, value)).collect()
}

fn text<'a>(source: &Source<'_>, key: &str, value: &'a Value<'_>) -> Result<&'a str> {
    value.get_ref().as_str().ok_or_else(|| mismatch(source, key, value, "a string"))
}

fn parsed<T>(source: &Source<'_>, key: &str, value: &Value<'_>) -> Result<T>
where
    T: FromStr<Err: fmt::Display>,
{
    let at = value.span().start;
    text(source, key, value)?.parse().map_err(|error| source.error(Some(at), format!("`{key}`: {error}")))
}

fn a_port(source: &Source<'_>, key: &str, value: &Value<'_>) -> Result<u16> {
    let expected = "a port, 1 to 65535";
    let Some(integer) = value.get_ref().as_integer() else { return Err(mismatch(source, key, value, expected)) };
    i64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .and_then(port)
        .ok_or_else(|| source.error(Some(value.span().start), format!("`{key}` is {integer}: expected {expected}")))
}

fn host_name(source: &Source<'_>, key: &str, value: &Value<'_>) -> Result<String> {
    let name = text(source, key, value)?;
    check_host_name(name)
        .map_err(|why| source.error(Some(value.span().start), format!("`{key}`: {} {why}", shown(name))))?;
    Ok(name.to_owned())
}

fn variable(source: &Source<'_>, key: &str, value: &Value<'_>) -> Result<String> {
    let name = text(source, key, value)?;
    check_variable(name)
        .map_err(|why| source.error(Some(value.span().start), format!("`{key}`: {} {why}", shown(name))))?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests;
