//! Parts of lists: filtered by team and words, and a page at a time.

use mesh_model::Admin;
use mesh_proto::Label;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Deployment, Deployments, Instance, Instances, Node, Nodes, Service, Services, Token, Tokens};

/// The most rows of a page.
pub(crate) const MOST: usize = 1000;

/// Which rows of a list are asked for. What isn't given leaves all.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// What an administrator of this team would see.
    team: Option<Label>,
    /// Those whose names contain this.
    q: Option<String>,
    /// A page of at most this many, in the order of their names or identifiers.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The page after the one that had this as `next`.
    cursor: Option<String>,
}

impl ListQuery {
    /// The reader, limited to the team that is asked for. `None`: it may not see that team.
    pub(crate) fn reader(&self, by: &Admin) -> Option<Admin> {
        match &self.team {
            Some(team) if !by.rules(team) => None,
            Some(team) => Some(Admin { team: Some(team.clone()), ..by.clone() }),
            None => Some(by.clone()),
        }
    }

    /// Takes out of a list what is asked for.
    pub(crate) fn take<L: Listed>(&self, list: &mut L) {
        let (rows, next) = list.parts();
        if let Some(words) = self.q.as_ref().map(|words| words.to_lowercase()) {
            rows.retain(|row| L::words(row).to_lowercase().contains(&words));
        }
        if self.limit.is_none() && self.cursor.is_none() {
            return;
        }
        let mut keyed: Vec<(Key, L::Row)> = rows.drain(..).map(|row| (L::key(&row), row)).collect();
        if let Some(cursor) = self.cursor.as_deref().map(Key::parse) {
            keyed.retain(|(key, _)| *key > cursor);
        }
        keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
        let limit = self.limit.unwrap_or(MOST).clamp(1, MOST);
        let more = keyed.len() > limit;
        keyed.truncate(limit);
        *next = keyed.last().filter(|_| more).map(|(key, _)| key.text());
        rows.extend(keyed.into_iter().map(|(_, row)| row));
    }
}

/// What tells a row from the others of its list, whatever changes in between: its name, and its number among those of
/// that name. The order of the fields is that of the rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    name: String,
    number: u64,
}

impl Key {
    /// As a part of a path that needs no escaping of ours.
    fn text(&self) -> String {
        format!("{}:{}", self.number, self.name)
    }

    /// Any text is a place in the list.
    fn parse(text: &str) -> Self {
        let (number, name) = text.split_once(':').unwrap_or(("0", text));
        Self { name: name.to_owned(), number: number.parse().unwrap_or_default() }
    }
}

/// A list that is answered in pages.
pub(crate) trait Listed {
    type Row;

    /// Its rows, and where the next page begins.
    fn parts(&mut self) -> (&mut Vec<Self::Row>, &mut Option<String>);

    fn key(row: &Self::Row) -> Key;

    /// What [`ListQuery::q`] is looked for in.
    fn words(row: &Self::Row) -> String;
}

impl Listed for Nodes {
    type Row = Node;

    fn parts(&mut self) -> (&mut Vec<Node>, &mut Option<String>) {
        (&mut self.nodes, &mut self.next)
    }

    fn key(row: &Node) -> Key {
        Key { name: row.name.to_string(), number: row.id.0 }
    }

    fn words(row: &Node) -> String {
        format!("{} {} {}", row.id, row.name, row.provider)
    }
}

impl Listed for Deployments {
    type Row = Deployment;

    fn parts(&mut self) -> (&mut Vec<Deployment>, &mut Option<String>) {
        (&mut self.deployments, &mut self.next)
    }

    fn key(row: &Deployment) -> Key {
        Key { name: row.deployment.to_string(), number: row.id.0 }
    }

    fn words(row: &Deployment) -> String {
        format!("{} {} {}", row.id, row.deployment, row.team)
    }
}

impl Listed for Services {
    type Row = Service;

    fn parts(&mut self) -> (&mut Vec<Service>, &mut Option<String>) {
        (&mut self.services, &mut self.next)
    }

    fn key(row: &Service) -> Key {
        Key { name: format!("{}/{}", row.deployment, row.service), number: 0 }
    }

    fn words(row: &Service) -> String {
        format!("{}/{} {} {}", row.deployment, row.service, row.team, row.address)
    }
}

impl Listed for Instances {
    type Row = Instance;

    fn parts(&mut self) -> (&mut Vec<Instance>, &mut Option<String>) {
        (&mut self.instances, &mut self.next)
    }

    fn key(row: &Instance) -> Key {
        Key { name: row.service.to_string(), number: row.id.0 }
    }

    fn words(row: &Instance) -> String {
        format!("{} {} {} {}", row.id, row.service, row.runner, row.address)
    }
}

impl Listed for Tokens {
    type Row = Token;

    fn parts(&mut self) -> (&mut Vec<Token>, &mut Option<String>) {
        (&mut self.tokens, &mut self.next)
    }

    fn key(row: &Token) -> Key {
        Key { name: String::new(), number: row.id.0 }
    }

    fn words(row: &Token) -> String {
        format!("{} {} {}", row.id, row.name.as_deref().unwrap_or_default(), row.scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::VERSION;

    fn list(names: &[&str]) -> Services {
        let row = |name: &&str| Service {
            deployment: "shop".parse().unwrap(),
            service: name.parse().unwrap(),
            team: "acme".parse().unwrap(),
            address: [100, 112, 0, 1].into(),
            public_port: None,
            instances: vec![],
        };
        Services { version: VERSION, services: names.iter().map(row).collect(), next: None }
    }

    fn page(names: &[&str], limit: usize, cursor: Option<&str>) -> (Vec<String>, Option<String>) {
        let mut list = list(names);
        let query = ListQuery { limit: Some(limit), cursor: cursor.map(str::to_owned), ..ListQuery::default() };
        query.take(&mut list);
        (list.services.into_iter().map(|row| row.service.to_string()).collect(), list.next)
    }

    #[test]
    fn pages_hold_each_row_once_also_where_rows_come_and_go() {
        let (first, next) = page(&["a", "b", "c", "d:1", "e"], 2, None);
        assert_eq!(first, ["a", "b"]);
        // The last row of the page is gone, and another one came before it.
        let (second, next) = page(&["a", "aa", "c", "d:1", "e"], 2, next.as_deref());
        assert_eq!(second, ["c", "d:1"]);
        let (third, next) = page(&["a", "aa", "c", "d:1", "e"], 2, next.as_deref());
        assert_eq!((third, next), (vec!["e".to_owned()], None));
    }

    #[test]
    fn any_text_is_a_cursor() {
        for cursor in ["", ":", "x", "99999999999999999999999:a", "\u{0}"] {
            assert!(page(&["a"], 1, Some(cursor)).0.len() <= 1, "{cursor}");
        }
        let mut all = list(&["Web", "db"]);
        ListQuery { q: Some("wEb".to_owned()), ..ListQuery::default() }.take(&mut all);
        assert_eq!(all.services.len(), 1);
    }
}
