//! The deployments.

use maud::{Markup, html};

use super::{deployment_link, head};
use crate::{
    frame::{Frame, Seen},
    model::Deployments,
};

/// All deployments.
#[must_use]
pub fn deployments(frame: &Frame<'_>, deployments: &Deployments) -> Markup {
    let content = html! {
        table {
            caption { "Deployments, " (deployments.deployments.len()) }
            (head(&["Name", "Team", "Services", "Instances", "May be called by"]))
            tbody {
                @for deployment in &deployments.deployments {
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
    };
    frame.listed(Seen::Live, &content)
}
