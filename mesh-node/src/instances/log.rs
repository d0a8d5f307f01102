//! What people are told, in words.

use mesh_lifecycle::{EndReason, Notice};

/// Writes a notice into the log.
pub(super) fn log(notice: Notice) {
    match notice {
        Notice::Attached { instance, service, address } => {
            tracing::info!(%instance, %service, %address, "attached");
        }
        Notice::Detached { instance, service, reason } => match reason {
            EndReason::Asked => tracing::info!(%instance, %service, "detached"),
            EndReason::ProcessEnded => tracing::info!(%instance, %service, "its process has ended: detached"),
            EndReason::InterfaceGone => tracing::info!(%instance, %service, "its mesh0 is gone: detached"),
            EndReason::ContainerEnded => tracing::info!(%instance, %service, "its container has ended: detached"),
            EndReason::Unsaid => {}
        },
        Notice::TakingOver { instance, service } => {
            tracing::info!(%instance, %service, "the coordinator is away: taking over the instance that ended here");
        }
        Notice::DrainingSet { instance, service, draining: true } => {
            tracing::info!(%instance, %service, "drained: no new connections");
        }
        Notice::DrainingSet { instance, service, draining: false } => {
            tracing::info!(%instance, %service, "undrained: new connections again");
        }
        Notice::DrainLearned { instance, service, draining: true } => {
            tracing::info!(%instance, %service, "the coordinator has drained it: no new connections");
        }
        Notice::DrainLearned { instance, service, draining: false } => {
            tracing::info!(%instance, %service, "the coordinator has undrained it: new connections again");
        }
        Notice::Readdressed { instance, address } => tracing::info!(%instance, %address, "has other addresses now"),
        Notice::NotReaddressed { instance, why } => {
            tracing::warn!(%instance, error = %why, "cannot be given its new addresses");
        }
        Notice::NotGivenAnew { instance, service, why } => {
            tracing::warn!(%instance, %service, %why, "the coordinator does not have it any more: detached");
        }
        Notice::AttachedAnew { old, new, service, address } => {
            tracing::warn!(%old, %new, %service, %address, "the coordinator did not have it: attached anew");
        }
        Notice::NotAttachedAnew { old, service, why } => {
            tracing::warn!(%old, %service, why, "cannot be attached anew: detached");
        }
        Notice::DrainLost { instance, why } => {
            tracing::warn!(%instance, %why, "it was drained, and takes connections again");
        }
        Notice::NotSilenced { instance, why } => {
            tracing::warn!(%instance, error = %why, "programs in its namespace may wait on connections that are no more");
        }
        Notice::NotRemoved { instance, why } => {
            tracing::warn!(%instance, error = %why, "mesh0 could not be taken out of the namespace");
        }
        Notice::TakenUp { instance, service } => tracing::info!(%instance, %service, "taken up again"),
        Notice::NotTakenUp { instance, service, why } => {
            tracing::info!(%instance, %service, why, "not there any more: detached");
        }
        other => of_names(other),
    }
}

fn of_names(notice: Notice) {
    match notice {
        Notice::Unkept { service, why } => {
            let (error, hint) = (why.error, why.hint);
            tracing::warn!(%service, error, hint, "attached without its names in that hosts file");
        }
        Notice::NameLeftOut { instance, service, warning } => tracing::warn!(%instance, %service, "{warning}"),
        Notice::MoreNamesLeftOut { instance, service, more } => {
            tracing::warn!(%instance, %service, more, "more names are left out: `mesh-node hosts {service}` says all");
        }
        Notice::HostsLater { service, why } => {
            tracing::warn!(%service, error = %why, "its names aren't kept there until that one goes");
        }
        Notice::HostsUnkept { service, why } => {
            let (error, hint) = (&why, why.hint.as_deref());
            tracing::warn!(%service, %error, hint, "a hosts file of it does not follow changes any more");
        }
        Notice::HostsStale { service, place, why } => {
            tracing::warn!(%service, ?place, error = %why, "the names in a hosts file are out of date");
        }
        Notice::HostsNotCleared { place, why } => {
            tracing::warn!(?place, error = %why, "the names could not be taken out of the hosts file");
        }
        Notice::TakeUpSlow { left } => {
            let text = "instances or containers from before the restart are still looked for: they follow when the kernel \
                answers";
            tracing::warn!(left, "{text}");
        }
        Notice::HostsSlow => {
            tracing::warn!("a hosts file keeps us waiting: its names follow when its file system answers");
        }
        other => of_upkeep(other),
    }
}

fn of_upkeep(notice: Notice) {
    match notice {
        Notice::Mended { instance, what } => {
            let text = "something in its namespace had changed what the mesh set up there: put back";
            tracing::info!(%instance, what, "{text}");
        }
        Notice::Fights { instance, what } => {
            let text = "something in its namespace keeps changing what the mesh set up there: put back less and less often; \
                        `ip monitor` in there shows what it is";
            tracing::warn!(%instance, what, "{text}");
        }
        Notice::NotMended { instance, why } => {
            tracing::warn!(%instance, error = why, "its network is not as the mesh set it up");
        }
        other => tracing::info!(?other, "this has happened"),
    }
}
