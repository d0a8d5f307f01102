//! Where a graph's boxes stand: callers left of whom they call, the same picture for the same graph.

use std::collections::BTreeMap;

/// The size of a box.
pub(crate) const BOX: (i32, i32) = (150, 36);
/// The space between columns and between rows.
const GAP: (i32, i32) = (90, 18);
/// The space around all.
const EDGE: i32 = 16;
/// The most boxes in a column: more go on in the next one.
const ROWS: usize = 10;
/// How often the order within columns is improved.
const SWEEPS: usize = 3;

/// Boxes with places.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The upper left corner of each box, in the order of the names.
    pub(crate) corners: Vec<(i32, i32)>,
    /// Width and height of all.
    pub(crate) size: (i32, i32),
}

/// Places `count` boxes, which `arcs` join from caller to callee.
pub(crate) fn layout(count: usize, arcs: &[(usize, usize)]) -> Layout {
    let mut columns: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (node, layer) in layers(count, arcs).into_iter().enumerate() {
        columns.entry(layer).or_default().push(node);
    }
    let mut columns: Vec<Vec<usize>> = columns.into_values().collect();
    for _ in 0..SWEEPS {
        improve(&mut columns, count, arcs);
    }
    let columns: Vec<&[usize]> = columns.iter().flat_map(|column| column.chunks(ROWS)).collect();
    let mut corners = vec![(0, 0); count];
    let tallest = columns.iter().map(|column| column.len()).max().unwrap_or_default();
    let (wide, high) = (BOX.0 + GAP.0, BOX.1 + GAP.1);
    let mut x = EDGE;
    for column in &columns {
        // Each column is in the middle.
        let mut y = EDGE + whole(tallest - column.len()) * high / 2;
        for node in *column {
            corners[*node] = (x, y);
            y += high;
        }
        x += wide;
    }
    let size = ((x - GAP.0 + EDGE).max(2 * EDGE), 2 * EDGE + (whole(tallest) * high - GAP.1).max(0));
    Layout { corners, size }
}

fn whole(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX / 1024)
}

/// The layer of each node: one more than its callers', but for those that call each other in a circle. Nodes without
/// arcs are in the last.
fn layers(count: usize, arcs: &[(usize, usize)]) -> Vec<usize> {
    let reach = reachable(count, arcs);
    let same = |a: usize, b: usize| reach[a][b] && reach[b][a];
    let mut layers = vec![0; count];
    // The longest path has fewer steps than there are nodes.
    for _ in 0..count {
        let before = layers.clone();
        for &(from, to) in arcs {
            if from != to && !same(from, to) {
                layers[to] = layers[to].max(layers[from] + 1);
            }
        }
        for node in 0..count {
            let circle = (0..count).filter(|other| same(node, *other)).map(|other| layers[other]).max();
            layers[node] = circle.unwrap_or_default().max(layers[node]);
        }
        if layers == before {
            break;
        }
    }
    let last = layers.iter().max().copied().unwrap_or_default() + 1;
    for (node, layer) in layers.iter_mut().enumerate() {
        if !arcs.iter().any(|&(from, to)| from != to && (from == node || to == node)) {
            *layer = last;
        }
    }
    layers
}

/// Which nodes lead to which.
fn reachable(count: usize, arcs: &[(usize, usize)]) -> Vec<Vec<bool>> {
    let mut reach = vec![vec![false; count]; count];
    for &(from, to) in arcs {
        reach[from][to] = true;
    }
    for middle in 0..count {
        let through = reach[middle].clone();
        for row in &mut reach {
            if row[middle] {
                row.iter_mut().zip(&through).for_each(|(reached, more)| *reached |= more);
            }
        }
    }
    reach
}

/// Orders each column by the middle of the neighbours' places, so that fewer arcs cross.
fn improve(columns: &mut [Vec<usize>], count: usize, arcs: &[(usize, usize)]) {
    let mut places = vec![0; count];
    for column in columns.iter() {
        column.iter().enumerate().for_each(|(place, node)| places[*node] = place);
    }
    for column in columns {
        let middle = |node: usize| {
            let around = arcs.iter().filter_map(|&(from, to)| match () {
                () if from == to => None,
                () if from == node => Some(places[to]),
                () if to == node => Some(places[from]),
                () => None,
            });
            let (sum, number) = around.fold((0, 0), |(sum, number), place| (sum + place, number + 1));
            (1000 * sum).checked_div(number).unwrap_or(1000 * places[node])
        };
        column.sort_by_key(|node| (middle(*node), *node));
        column.iter().enumerate().for_each(|(place, node)| places[*node] = place);
    }
}

/// The path of an arc between two boxes (SVG 2 §9.3), and the middle of it.
pub(crate) fn path(from: (i32, i32), to: (i32, i32)) -> (String, (i32, i32)) {
    let half = BOX.1 / 2;
    let (start, end, bend) = match () {
        () if to.0 > from.0 => ((from.0 + BOX.0, from.1 + half), (to.0, to.1 + half), GAP.0 / 2),
        () if to.0 < from.0 => ((from.0, from.1 + half + 6), (to.0 + BOX.0, to.1 + half + 6), -GAP.0 / 2),
        // Within a column: around its right side.
        () => {
            let (start, end) = ((from.0 + BOX.0, from.1 + half), (to.0 + BOX.0, to.1 + half));
            let out = start.0 + GAP.0 / 2;
            let middle = (start.0 + GAP.0 * 3 / 8, i32::midpoint(start.1, end.1));
            return (format!("M{} {}C{out} {} {out} {} {} {}", start.0, start.1, start.1, end.1, end.0, end.1), middle);
        }
    };
    let middle = (i32::midpoint(start.0, end.0), i32::midpoint(start.1, end.1));
    let (out, back) = (start.0 + bend, end.0 - bend);
    (format!("M{} {}C{out} {} {back} {} {} {}", start.0, start.1, start.1, end.1, end.0, end.1), middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arcs that look like nothing in particular, always the same.
    fn some_arcs(count: usize) -> Vec<(usize, usize)> {
        (0..2 * count).map(|n| (n * 7 % count, (n * n * 13 + 5) % count)).collect()
    }

    #[test]
    fn boxes_never_overlap_and_stand_within_the_picture() {
        for count in [0, 1, 2, 11, 60] {
            let layout = layout(count, &some_arcs(count.max(1)).into_iter().filter(|_| count > 0).collect::<Vec<_>>());
            for (number, (x, y)) in layout.corners.iter().enumerate() {
                assert!(*x >= EDGE && *y >= EDGE && x + BOX.0 <= layout.size.0 && y + BOX.1 <= layout.size.1);
                for (other_x, other_y) in &layout.corners[number + 1..] {
                    assert!((x - other_x).abs() >= BOX.0 + 9 || (y - other_y).abs() >= BOX.1 + 9, "{count}");
                }
            }
        }
    }

    #[test]
    fn callers_stand_left_of_whom_they_call_but_in_a_circle() {
        let layout = layout(5, &[(0, 1), (1, 2), (2, 1), (2, 3)]);
        let x = |node: usize| layout.corners[node].0;
        assert!(x(0) < x(1) && x(1) == x(2) && x(2) < x(3) && x(3) < x(4), "{layout:?}");
    }

    #[test]
    fn the_same_graph_is_the_same_picture_and_stays_small() {
        let arcs = some_arcs(60);
        assert_eq!(layout(60, &arcs), layout(60, &arcs));
        assert!(layout(60, &[]).size.1 <= 2 * EDGE + 10 * (BOX.1 + GAP.1));
    }
}
