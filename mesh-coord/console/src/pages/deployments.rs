//! The deployments.

use maud::{Markup, html};

use super::{deployment_link, head, leaves::Leaf};
use crate::{
    frame::{Frame, Seen},
    model::Deployments,
};

/// A page of the deployments, from 1.
#[must_use]
pub fn deployments(frame: &Frame<'_>, deployments: &Deployments, page: usize) -> Markup {
    let leaf = Leaf::of(&deployments.deployments, page);
    let content = html! {
        table {
            caption { "Deployments, " (deployments.deployments.len()) (leaf.number()) }
            (head(&["Name", "Team", "Services", "Instances", "May be called by"]))
            tbody {
                @for deployment in leaf.rows {
                    tr {
                        th scope="row" { (deployment_link(&deployment.deployment)) }
                        td { (deployment.team) }
                        td { (deployment.services) }
                        td { (deployment.instances) }
                        td { @if deployment.trusts.is_empty() { "–" } @else { (deployment.trusts.join(", ")) } }
                    }
                }
            }
        }
        (leaf.links("deployments", |page| format!("/deployments?page={page}")))
    };
    frame.listed(Seen::Live, &content)
}
