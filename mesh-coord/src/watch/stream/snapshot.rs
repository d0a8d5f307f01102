//! The text of a snapshot. What it has in common with others is written once.

use std::sync::Arc;

use mesh_model::Sliced;
use mesh_proto::{
    Epoch, Revision, RunnerId,
    view::{Network, Record},
};
use serde::Serialize;
use serde_json::{Error, to_string};

/// A view on the wire but for its records.
#[derive(Serialize)]
struct Head {
    epoch: Epoch,
    revision: Revision,
    runner: RunnerId,
    network: Network,
}

/// The message [`mesh_proto::message::Down::Snapshot`] with the view.
pub(super) fn text(view: &Sliced) -> Result<String, Error> {
    let Sliced { epoch, revision, runner, network, .. } = *view;
    let head = to_string(&Head { epoch, revision, runner, network })?;
    let runners = view.runners().into_iter().map(|runner| Record::Runner(Arc::clone(runner)));
    let grants = view.grants().iter().map(|grant| Record::Grant(Arc::clone(grant)));
    let others = list(&runners.chain(grants).collect::<Vec<_>>())?;
    let mut parts = vec![&*others];
    for part in view.slices().iter().flat_map(|slice| slice.parts()) {
        parts.push(part.text(list)?);
    }
    let length = parts.iter().map(|part| part.len() + 1).sum::<usize>();
    let mut text = String::with_capacity(length + head.len() + 64);
    text.push_str(r#"{"type":"snapshot","view":"#);
    text.push_str(head.strip_suffix('}').unwrap_or_default());
    text.push_str(r#","records":["#);
    for (number, part) in parts.into_iter().enumerate() {
        text.push_str(if number == 0 { "" } else { "," });
        text.push_str(part);
    }
    text.push_str("]}}");
    Ok(text)
}

/// The records as a JSON array without its brackets.
fn list(records: &[Record]) -> Result<String, Error> {
    let mut text = to_string(records)?;
    text.pop();
    text.remove(0);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use mesh_model::Slices;
    use mesh_proto::message::Down;

    use super::*;
    use crate::testing::{World, contents};

    /// What an agent reads.
    async fn read(world: &World, runner: RunnerId) -> mesh_proto::View {
        let look = move |core: &mut crate::coordinator::Core| {
            Slices::default().view(&core.state, runner, core.sessions.epoch()).unwrap()
        };
        let view = world.coordinator.visit(look).await.unwrap();
        let (first, again) = (text(&view).unwrap(), text(&view).unwrap());
        assert_eq!(first, again, "from what was kept");
        match serde_json::from_str(&first).unwrap() {
            Down::Snapshot { view } => view,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_text_of_a_snapshot_is_the_view() {
        let world = World::new().await;
        let services: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        world.deploy("shop", "acme", &services.iter().map(String::as_str).collect::<Vec<_>>()).await;
        world.deploy("api", "acme", &["grpc"]).await;
        world.trust("api", "shop").await;
        let mut agent = world.agent("one").await;
        let runner = agent.view.as_ref().unwrap().runner;
        assert_eq!(read(&world, runner).await, world.truth(&agent).await, "with nothing but itself");
        agent.attach("shop/s7").await;
        let truth = world.truth(&agent).await;
        assert_eq!(read(&world, runner).await, truth);
        assert!(truth.grants().count() > 0 && truth.services().count() == 101);
        // It arrives in many frames.
        agent.say(&mesh_proto::message::Up::Resync).await;
        while agent.news().await {}
        assert_eq!(contents(agent.view.as_ref().unwrap()), contents(&truth));
    }
}
