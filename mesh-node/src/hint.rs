//! Errors that say what to try next.

use mesh_process::{edit::EditError, systemd::SystemdError, written::WriteError};
use mesh_proto::{ServicePath, View, message::Refusal};

/// An error of this program. Its `Display` says what happened and where.
pub(crate) trait Hint: std::error::Error {
    /// What to try next, if anything is known to help.
    fn hint(&self) -> Option<String>;

    /// The error as it is sent and shown.
    fn refusal(&self) -> Refusal {
        Refusal { error: self.to_string(), hint: self.hint() }
    }
}

impl Hint for EditError {
    fn hint(&self) -> Option<String> {
        self.hint().map(str::to_owned)
    }
}

impl Hint for WriteError {
    fn hint(&self) -> Option<String> {
        self.hint().map(str::to_owned)
    }
}

impl Hint for SystemdError {
    fn hint(&self) -> Option<String> {
        Some(self.hint().to_owned())
    }
}

impl Hint for Refusal {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// A refusal because of names that the coordinator doesn't know, for the operator of a runner: the coordinator's commands are not
/// theirs to call, so the nearest name is looked for among those that the runner knows.
pub(crate) fn with_nearest(refusal: Refusal, asked: &[&ServicePath], view: Option<&View>) -> Refusal {
    let Some(lists) = refusal.hint.as_deref().filter(|hint| hint.starts_with("`mesh-coord ")) else { return refusal };
    let known: Vec<String> = view.map(services).unwrap_or_default();
    let unknown = asked.iter().map(ToString::to_string).filter(|path| !known.contains(path));
    let nearest = unknown
        .flat_map(|path| known.iter().map(move |name| (distance(&path, name), name)))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    let hint = match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("for an administrator of the coordinator {lists}"),
    };
    Refusal::new(refusal.error, hint)
}

/// The services of a view.
fn services(view: &View) -> Vec<String> {
    let name = |service: &std::sync::Arc<mesh_proto::view::Service>| {
        let deployment = view.deployments().find(|deployment| deployment.id == service.deployment)?;
        Some(format!("{}/{}", deployment.name, service.name))
    };
    view.services().filter_map(name).collect()
}

/// How many characters differ, were left out, put in or exchanged with the next one; less than that of long texts.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(128).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(x != y);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use mesh_proto::{
        DeploymentId, Epoch, Range, Record, Revision, RunnerId, ServiceId,
        view::{Deployment, Network, Service},
    };

    use super::*;

    fn view() -> View {
        let network = Network { range: Range::DEFAULT, mtu: 1344 };
        let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(1), network);
        let (name, team) = ("shop".parse().unwrap(), "acme".parse().unwrap());
        view.put(Record::Deployment(Arc::new(Deployment { id: DeploymentId(1), name, team, trust_source: None })));
        for (id, name) in [(1, "db"), (2, "app")] {
            let (id, name) = (ServiceId(id), name.parse().unwrap());
            let (deployment, address) = (DeploymentId(1), Ipv4Addr::new(100, 112, 0, 1));
            view.put(Record::Service(Arc::new(Service { id, deployment, name, address, automatic_names: true })));
        }
        view
    }

    #[test]
    fn the_operator_of_a_runner_is_told_the_nearest_name_and_not_to_call_the_coordinator() {
        let (view, app) = (view(), "shop/app".parse().unwrap());
        let hint = |asked: &str, hint: &str| {
            let refusal = Refusal::new("no such service", hint);
            with_nearest(refusal, &[&app, &asked.parse().unwrap()], Some(&view)).hint.unwrap()
        };
        let lists = "`mesh-coord services` lists them";
        assert_eq!(hint("shop/dbb", lists), "did you mean `shop/db`?");
        assert_eq!(hint("shpo/db", lists), "did you mean `shop/db`?");
        assert_eq!(hint("payroll/people", lists), format!("for an administrator of the coordinator {lists}"));
        assert_eq!(hint("shop/dbb", "did you mean `dbx`?"), "did you mean `dbx`?", "it knows more");
    }
}
