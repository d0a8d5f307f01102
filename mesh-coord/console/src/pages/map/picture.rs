//! The map as a picture. What it shows, the tables beside it say too.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{Cell, shown};
use crate::{
    graph::{BOX, layout, path},
    words::part,
};

/// How much of a name fits a box.
const FITTING: usize = 17;

/// Draws deployments, and what is between them.
pub(super) fn picture(names: &[&str], cells: &BTreeMap<(&str, &str), Cell>) -> Markup {
    let place = |name: &str| names.iter().position(|other| *other == name);
    let drawn = cells.iter().filter(|((from, to), cell)| from != to && **cell != Cell::default());
    let arcs: Vec<_> = drawn.filter_map(|((from, to), cell)| Some((place(from)?, place(to)?, *cell))).collect();
    let layout = layout(names.len(), &arcs.iter().map(|(from, to, _)| (*from, *to)).collect::<Vec<_>>());
    let (width, height) = layout.size;
    html! {
        div.scroll tabindex="0" role="region" aria-label="Graph" {
            svg.graph width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } role="group" aria-label="Who calls whom" {
                defs {
                    marker #arrow viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" {
                        path d="M0 0L8 4L0 8z" {}
                    }
                }
                @for (from, to, cell) in &arcs {
                    (arc((names[*from], layout.corners[*from]), (names[*to], layout.corners[*to]), *cell))
                }
                @for (name, (x, y)) in names.iter().zip(&layout.corners) {
                    a.node href={ "/d/" (part(name)) } {
                        title { (name) }
                        rect x=(x) y=(y) width=(BOX.0) height=(BOX.1) rx="6" {}
                        text x=(x + BOX.0 / 2) y=(y + BOX.1 / 2 + 5) text-anchor="middle" { (fitting(name)) }
                    }
                }
            }
        }
    }
}

fn arc((from, start): (&str, (i32, i32)), (to, end): (&str, (i32, i32)), cell: Cell) -> Markup {
    let (line, middle) = path(start, end);
    let (mark, words) = shown(cell);
    let kind = match cell {
        Cell { may: false, open: 0, .. } => "refused",
        Cell { open: 1.., .. } => "open",
        Cell { opened: 1.., .. } => "used",
        _ => "may",
    };
    html! {
        a.arc data-kind=(kind) href={ "/d/" (part(to)) "#callers" } aria-label={ (from) " to " (to) ": " (words) } {
            path d=(line) marker-end="url(#arrow)" {}
            @if cell.open > 0 || cell.refused > 0 {
                text x=(middle.0) y=(middle.1 - 4) text-anchor="middle" { (mark) }
            }
        }
    }
}

/// As much of a name as fits a box.
fn fitting(name: &str) -> String {
    if name.chars().count() <= FITTING {
        return name.to_owned();
    }
    name.chars().take(FITTING - 1).chain(['…']).collect()
}
