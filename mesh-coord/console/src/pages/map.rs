//! Which deployments may call which, and which do: a graph, a matrix, and a table of services.

mod picture;

use std::collections::BTreeMap;

use maud::{Markup, html};

use self::picture::picture;
use super::{coverage, deployment_link, deployment_of, head, service_link};
use crate::{
    frame::{Frame, Seen},
    model::{Deployments, Edges, Refusals},
    words::{ago, bytes},
};

/// The most deployments in the graph and in the matrix: more don't fit a screen.
const COLUMNS: usize = 60;

/// What is between two deployments.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Cell {
    may: bool,
    open: u64,
    opened: u64,
    refused: u64,
}

fn cells<'a>(
    deployments: &'a Deployments,
    edges: Option<&'a Edges>,
    refusals: Option<&'a Refusals>,
) -> BTreeMap<(&'a str, &'a str), Cell> {
    let mut cells: BTreeMap<(&str, &str), Cell> = BTreeMap::new();
    for callee in &deployments.deployments {
        cells.entry((&callee.deployment, &callee.deployment)).or_default().may = true;
        for caller in &callee.trusts {
            cells.entry((caller, &callee.deployment)).or_default().may = true;
        }
    }
    for edge in edges.iter().flat_map(|edges| &edges.edges) {
        let cell = cells.entry((deployment_of(&edge.from), deployment_of(&edge.to))).or_default();
        cell.open += edge.open;
        cell.opened += edge.opened;
    }
    for row in refusals.iter().flat_map(|refusals| &refusals.refused) {
        cells.entry((deployment_of(&row.from), deployment_of(&row.to))).or_default().refused += row.count;
    }
    cells
}

/// A cell in a few characters, and in words.
fn shown(cell: Cell) -> (String, String) {
    let (mark, mut words) = match cell {
        Cell { may: true, open: 1.., .. } => (format!("═ {}", cell.open), format!("may call, {} open", cell.open)),
        Cell { may: true, opened: 1.., .. } => ("─".to_owned(), "may call, and did".to_owned()),
        Cell { may: true, .. } => ("┄".to_owned(), "may call, unused".to_owned()),
        Cell { open: 1.., .. } => (format!("═ {}", cell.open), format!("{} open", cell.open)),
        _ => ("–".to_owned(), "may not call".to_owned()),
    };
    if cell.refused == 0 {
        return (mark, words);
    }
    words += &format!(", {} refused", cell.refused);
    (if cell.may { format!("{mark} ✖ {}", cell.refused) } else { format!("✖ {}", cell.refused) }, words)
}

/// The map. `edges` and `refusals`: if runners report.
#[must_use]
pub fn map(frame: &Frame<'_>, deployments: &Deployments, edges: Option<&Edges>, refusals: Option<&Refusals>) -> Markup {
    let names: Vec<&str> = deployments.deployments.iter().map(|deployment| &*deployment.deployment).collect();
    let content = html! {
        @if let Some(edges) = edges { (coverage(&edges.coverage)) } @else {
            p.note { "Runners don't report connections to this coordinator, so this is what may be." }
        }
        @if names.len() <= COLUMNS {
            @let cells = cells(deployments, edges, refusals);
            (picture(&names, &cells))
            (matrix(&names, &cells))
        } @else {
            p.note {
                "A graph and a matrix of " (names.len()) " deployments would not fit a screen, which takes " (COLUMNS) "; the "
                "table has all that are in use, and each deployment's page who may call it."
            }
        }
        @if let Some(edges) = edges {
            table {
                caption { "Who talks to whom" }
                (head(&["From", "To", "Open", "Accepted", "Refused there", "Unanswered", "Sent", "Received", "Used"]))
                tbody {
                    @for edge in &edges.edges {
                        tr {
                            th scope="row" { (service_link(&edge.from)) }
                            td { (service_link(&edge.to)) }
                            td { (edge.open) }
                            td { (edge.opened) }
                            td { (edge.refused) }
                            td { (edge.unanswered) }
                            td { (bytes(edge.sent_bytes)) }
                            td { (bytes(edge.received_bytes)) }
                            td { @if let Some(seconds) = edge.used_seconds { (ago(seconds)) } @else { "–" } }
                        }
                    }
                    @if edges.edges.is_empty() { tr { td colspan="9" { "no connection yet" } } }
                }
            }
        }
    };
    frame.listed(Seen::Live, &content)
}

fn matrix(names: &[&str], cells: &BTreeMap<(&str, &str), Cell>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Matrix" {
            table.matrix {
                caption { "Rows call columns: ═ open connections, ─ used, ┄ may call, ✖ refused" }
                thead { tr { th scope="col" { "Caller" } @for name in names { th scope="col" { (deployment_link(name)) } } } }
                tbody {
                    @for caller in names {
                        tr {
                            th scope="row" { (caller) }
                            @for callee in names {
                                @let (mark, words) = shown(cells.get(&(*caller, *callee)).copied().unwrap_or_default());
                                td { span aria-hidden="true" { (mark) } span.hidden { (words) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_says_what_may_be_what_is_and_what_is_refused() {
        let cell = |may, open, opened, refused| shown(Cell { may, open, opened, refused });
        let pair = |mark: &str, words: &str| (mark.to_owned(), words.to_owned());
        assert_eq!(cell(true, 3, 9, 0), pair("═ 3", "may call, 3 open"));
        assert_eq!(cell(true, 0, 9, 0), pair("─", "may call, and did"));
        assert_eq!(cell(true, 0, 0, 2), pair("┄ ✖ 2", "may call, unused, 2 refused"));
        assert_eq!(cell(false, 0, 0, 9), pair("✖ 9", "may not call, 9 refused"));
        assert_eq!(cell(false, 0, 0, 0), pair("–", "may not call"));
    }
}
